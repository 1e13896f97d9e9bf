/**
 * A bundle that a switch has read and not done: what is left is to say when. It waits for a bounded time, because a switch forgets bundles of which it hears
 * nothing.
 */
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import type { Bundle } from './bundle.js';

export class StagedBundle {
  readonly #bundle: Bundle;
  readonly #timeoutMs: number;
  readonly #timer: Timer;
  readonly #onEnd: () => void;
  #over = false;

  /** `timeoutMs`: for an answer to its discarding. `onEnd`: once, when it is committed or discarded. */
  constructor(
    bundle: Bundle,
    times: { readonly clock: Clock; readonly keptMs: number; readonly timeoutMs: number },
    onEnd: () => void,
  ) {
    this.#bundle = bundle;
    this.#timeoutMs = times.timeoutMs;
    this.#onEnd = onEnd;
    this.#timer = times.clock.after(times.keptMs, () => this.discard());
  }

  /** False when it was committed or discarded, has waited for too long, or its connection is gone. */
  get usable(): boolean {
    return !this.#over && !this.#bundle.isLost;
  }

  /**
   * Does all of its changes, or none, at once: bundles that wait for each other are not waited for. Fails as `Switch.bundle` does. Only while it is usable, and
   * once.
   */
  commit(timeoutMs: number): Promise<void> {
    if (this.#over) throw new Error('the bundle has been committed or discarded');
    this.#end();
    return this.#bundle.commit(timeoutMs);
  }

  /** Nothing of it is done. May be called twice, and does nothing after `commit`. */
  discard(): void {
    if (this.#over) return;
    this.#end();
    this.#bundle.discard(this.#timeoutMs);
  }

  #end(): void {
    this.#over = true;
    this.#timer.close();
    this.#onEnd();
  }
}
