/**
 * Timers as a value, so that tests can turn the clock by hand.
 */

export interface Timers {
  /** Calls `callback` once, `ms` from now; the function that comes back cancels it and may be called at any time. */
  after(ms: number, callback: () => void): () => void;
}

export const systemTimers: Timers = {
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
