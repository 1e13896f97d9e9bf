/**
 * The numbered changes of one instance: a bounded memory of them, and those who wait for the next.
 */
import { DomainError } from '../../../shared/domain/domain.js';
import type { Change, Delta } from '../../../shared/firewall/state.js';

/** So many changes are remembered for one who comes back. */
export const MAX_CHANGES = 65_536;
/** At most so many at a time go to one who follows. */
const MAX_BATCH = 1024;

export class ChangeLog {
  /** A ring: the change with sequence s is at s modulo its length. */
  readonly #ring: Delta[] = [];
  readonly #capacity: number;
  readonly #waiting = new Set<() => void>();
  #last: number;
  #oldest: number;
  #closed = false;

  /** `sequence`: that of the last change before the first. */
  constructor(sequence = 0, capacity = MAX_CHANGES) {
    this.#last = sequence;
    this.#oldest = sequence + 1;
    this.#capacity = capacity;
  }

  /** The sequence of the last change. */
  get sequence(): number {
    return this.#last;
  }

  append(change: Change): void {
    if (this.#closed) return;
    this.#last++;
    this.#ring[this.#last % this.#capacity] = { sequence: this.#last, change };
    this.#oldest = Math.max(this.#oldest, this.#last - this.#capacity + 1);
    this.#wake();
  }

  /** No more changes come. May be called twice. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Changes after `fromSequence`, until the log is closed or the signal aborts. */
  async *follow(fromSequence: number, signal: AbortSignal): AsyncGenerator<readonly Delta[], void> {
    let at = fromSequence;
    while (!signal.aborted) {
      const batch = this.#after(at);
      if (batch.length > 0) {
        at += batch.length;
        yield batch;
      } else if (this.#closed) {
        return;
      } else {
        await this.#next(signal);
      }
    }
  }

  #after(sequence: number): Delta[] {
    if (sequence + 1 < this.#oldest || sequence > this.#last) {
      throw new DomainError(
        'changes-lost',
        `changes after ${sequence} are not known (${this.#oldest} to ${this.#last} are): take a new snapshot`,
      );
    }
    const batch: Delta[] = [];
    for (let at = sequence + 1; at <= this.#last && batch.length < MAX_BATCH; at++) {
      const delta = this.#ring[at % this.#capacity];
      if (delta) batch.push(delta);
    }
    return batch;
  }

  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
