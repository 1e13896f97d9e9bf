/**
 * Says things of one kind only so often, so that nobody outside can fill the log: the first few at once, then at the end of the interval
 * the last of those that came after them, with their number.
 */
import type { Clock, Timer } from './clock.js';

export interface SeldomOptions<T> {
  readonly clock: Clock;
  /** Default 10,000. */
  readonly intervalMs?: number;
  /** How many of one kind are said at once in each interval. Default 1. */
  readonly burst?: number;
  /** Kinds that are told apart; what comes beyond them is one kind together. Default 256. */
  readonly maxKinds?: number;
  /** `more`: how many others of this kind were not said before this one. */
  readonly say: (what: T, more: number) => void;
}

interface Kind<T> {
  timer: Timer;
  said: number;
  /** Not said. */
  count: number;
  last: T | undefined;
}

const OTHERS = Symbol('others');

export class Seldom<T> {
  readonly #kinds = new Map<string | typeof OTHERS, Kind<T>>();
  readonly #options: Required<SeldomOptions<T>>;
  #closed = false;

  constructor(options: SeldomOptions<T>) {
    this.#options = { intervalMs: 10_000, burst: 1, maxKinds: 256, ...options };
  }

  note(kind: string, what: T): void {
    if (this.#closed) return;
    const key = this.#kinds.has(kind) || this.#kinds.size < this.#options.maxKinds ? kind : OTHERS;
    let known = this.#kinds.get(key);
    if (!known) {
      known = { timer: this.#wait(key), said: 0, count: 0, last: undefined };
      this.#kinds.set(key, known);
    }
    if (known.said < this.#options.burst) {
      known.said++;
      this.#options.say(what, 0);
    } else {
      known.count++;
      known.last = what;
    }
  }

  /** What was not said yet is said. May be called twice. */
  close(): void {
    this.#closed = true;
    for (const kind of this.#kinds.values()) {
      kind.timer.close();
      this.#tell(kind);
    }
    this.#kinds.clear();
  }

  #wait(key: string | typeof OTHERS): Timer {
    return this.#options.clock.after(this.#options.intervalMs, () => {
      const kind = this.#kinds.get(key);
      if (!kind) return;
      if (kind.count === 0) {
        this.#kinds.delete(key);
        return;
      }
      this.#tell(kind);
      kind.said = 1;
      kind.timer = this.#wait(key);
    });
  }

  #tell(kind: Kind<T>): void {
    const { count, last } = kind;
    kind.count = 0;
    kind.last = undefined;
    if (count > 0 && last !== undefined) this.#options.say(last, count - 1);
  }
}
