/**
 * What could not be undone at once: it is kept, and tried again until it is done, so that a machine that is short of something for a while has
 * nothing of ours left when it is well again. What is left when the agent ends, its next life removes.
 */
import type { Log } from '../shared/runtime/log.js';

const RETRY_MS = 1000;
/** More than the instances that an agent can be making. What is beyond is left for the agent's next life. */
const MAX_KEPT = 1000;

export class Unfinished {
  readonly #kept = new Map<() => Promise<void>, string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly log: Log) {}

  /** Undoes something now, or else later. Never fails. `act` may be called again when it has failed. */
  async undo(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.log.error({ err: error }, `${what} could not be removed: it is tried again`);
      if (this.#kept.size < MAX_KEPT) this.#kept.set(act, what);
      this.#schedule();
    }
  }

  /** Tries everything once more, now. Fails with the first failure when something is left all the same. */
  async finish(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const acts = [...this.#kept.keys()];
    const results = await Promise.allSettled(acts.map((act) => act()));
    acts.forEach((act, index) => {
      if (results[index]?.status === 'fulfilled') this.#kept.delete(act);
    });
    this.#schedule();
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  #schedule(): void {
    if (this.#kept.size === 0) return;
    this.#timer ??= setTimeout(() => void this.#again(), RETRY_MS).unref();
  }

  async #again(): Promise<void> {
    for (const [act, what] of [...this.#kept]) {
      try {
        await act();
        this.#kept.delete(act);
        this.log.info(`${what}: removed at last`);
      } catch {
        // Said once; the machine is not well yet.
      }
    }
    this.#timer = undefined;
    this.#schedule();
  }
}
