/**
 * The time, as something that can be given: so that time-outs can be tested without waiting.
 */

export interface Clock {
  /** Calls `then` once, after `ms`, unless the returned function is called before. */
  after(ms: number, then: () => void): () => void;
}

export const systemClock: Clock = {
  after: (ms, then) => {
    const timer = setTimeout(then, ms);
    return () => clearTimeout(timer);
  },
};
