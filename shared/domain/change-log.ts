/**
 * The numbered changes of one instance: the last of them are kept for whoever follows.
 */
import type { Change, Delta } from '../firewall/state.js';
import { DomainError, type ToldDelta } from './domain.js';

/** How far back a follower may fall. */
export const CHANGES_KEPT = 65_536;
/** The most that one step of a follower brings. */
const MAX_BATCH = 1024;

export class ChangeLog {
  /** A ring: the change with sequence s is at s modulo its size. */
  readonly #ring: Delta[] = [];
  /** When each of them was appended, if anybody wants to know. */
  readonly #times: number[] = [];
  readonly #waiting = new Set<() => void>();
  /** The sequence of the last change before the log begins. */
  readonly #before: number;
  #sequence: number;
  #ended: { readonly error?: DomainError } | undefined;
  #interruption: DomainError | undefined;

  /**
   * `before`: the sequence of the last change before the first; `kept`: how many are remembered; `now`: monotonic ms, by which followers are told how
   * long ago each was.
   */
  constructor(
    before = 0,
    private readonly kept: number = CHANGES_KEPT,
    private readonly now?: () => number,
  ) {
    this.#before = before;
    this.#sequence = before;
  }

  /** The number of the last change. */
  get sequence(): number {
    return this.#sequence;
  }

  append(changes: readonly Change[]): void {
    if (changes.length === 0 || this.#ended) return;
    for (const change of changes) {
      this.#sequence += 1;
      const place = this.#sequence % this.kept;
      this.#ring[place] = { sequence: this.#sequence, change };
      if (this.now) this.#times[place] = this.now();
    }
    this.#wake();
  }

  /** Followers get what there is, and then the end, or this error. May be called twice. */
  end(error?: DomainError): void {
    this.#ended ??= error ? { error } : {};
    this.#wake();
  }

  /** Those who follow now get this error, after what there is; the log goes on, and may be followed again. */
  interrupt(error: DomainError): void {
    this.#interruption = error;
    this.#wake();
  }

  /** Batches of changes after `from`, until the log ends or `signal` aborts. Fails with `changes-lost`. */
  async *follow(from: number, signal: AbortSignal): AsyncGenerator<readonly ToldDelta[], void, undefined> {
    let last = from;
    const interruption = this.#interruption;
    while (!signal.aborted) {
      const batch = this.after(last);
      const newest = batch.at(-1);
      if (newest) {
        last = newest.sequence;
        yield batch;
      } else if (this.#ended) {
        if (this.#ended.error) throw this.#ended.error;
        return;
      } else if (this.#interruption && this.#interruption !== interruption) {
        throw this.#interruption;
      } else {
        await this.changed(signal);
      }
    }
  }

  /** What follows change `from`, as much of it as one step brings; nothing when it is the last. Fails with `changes-lost`. */
  after(from: number): readonly ToldDelta[] {
    const oldest = Math.max(this.#before + 1, this.#sequence - this.kept + 1);
    if (from > this.#sequence || from < oldest - 1) {
      throw new DomainError(
        'changes-lost',
        `changes after ${from} are not known here (${oldest} to ${this.#sequence} are): take a new snapshot`,
      );
    }
    const batch: ToldDelta[] = [];
    const now = this.now?.();
    for (let sequence = from + 1; sequence <= this.#sequence && batch.length < MAX_BATCH; sequence += 1) {
      const place = sequence % this.kept;
      const delta = this.#ring[place];
      if (delta)
        batch.push(now === undefined ? delta : { ...delta, ageMs: now - (this.#times[place] ?? now) });
    }
    return batch;
  }

  /** Settles with the next change, or when `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}
