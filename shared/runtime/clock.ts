/**
 * Time as a thing that is handed in, so that a test decides when it passes.
 */

export interface Timer {
  /** Forgets the timer; the callback is not called any more. */
  close(): void;
}

export interface Clock {
  /** Milliseconds since 1970, for people and reports. */
  now(): number;
  /** Milliseconds from an arbitrary start that never go back, for durations. */
  monotonic(): number;
  /** Calls back once, `ms` from now. */
  after(ms: number, callback: () => void): Timer;
}

/** The machine's clock. */
export const realClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    const timeout = setTimeout(callback, ms);
    return { close: () => clearTimeout(timeout) };
  },
};

/** Settles after `ms`; rejects with the reason of the signal when that aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      timer.close();
      reject(signal?.reason);
    };
    const timer = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** A clock that stands still until `advance`. */
export class ManualClock implements Clock {
  #time: number;
  readonly #start: number;
  readonly #timers = new Set<{ readonly due: number; readonly callback: () => void }>();

  constructor(start = 0) {
    this.#time = start;
    this.#start = start;
  }

  now(): number {
    return this.#time;
  }

  monotonic(): number {
    return this.#time - this.#start;
  }

  after(ms: number, callback: () => void): Timer {
    const timer = { due: this.#time + Math.max(0, ms), callback };
    this.#timers.add(timer);
    return { close: () => void this.#timers.delete(timer) };
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Lets `ms` pass: timers that become due are called in the order of their times, also those set meanwhile. */
  advance(ms: number): void {
    const end = this.#time + ms;
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.due <= end);
      const [first, ...others] = due;
      if (first === undefined) break;
      const next = others.reduce((best, timer) => (timer.due < best.due ? timer : best), first);
      this.#timers.delete(next);
      this.#time = next.due;
      next.callback();
    }
    this.#time = end;
  }
}
