/**
 * Keeps a mirror: first as a whole, then change by change as its log grows. It never lags by more than a turn, because telling a store takes no time.
 */
import type { ChangeLog } from '../../shared/domain/change-log.js';
import type { Delta, Epoch, FirewallState } from '../../shared/firewall/state.js';
import type { Closable } from '../../shared/runtime/lifetime.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { TerminalKeeper } from './store.js';

/** What is kept, as far as keeping it goes. */
export interface KeptMirror {
  readonly log: ChangeLog;
  /** The whole state, as of the log's last change. */
  snapshot(epoch: Epoch): FirewallState;
}

export class MirrorMemory implements Closable {
  readonly #ending = new AbortController();
  readonly #done: Promise<void>;

  constructor(
    readonly keeper: TerminalKeeper,
    readonly mirror: KeptMirror,
    readonly epoch: Epoch,
    readonly log: Log,
  ) {
    this.#done = this.#run();
  }

  /** Settles when the store has been told of every change until now. Twice is once. What is kept stays. */
  close(): Promise<void> {
    this.#ending.abort();
    return this.#done;
  }

  /** Does not fail. */
  async #run(): Promise<void> {
    const { signal } = this.#ending;
    for (;;) {
      try {
        const state = this.mirror.snapshot(this.epoch);
        this.keeper.setState(state);
        const { log } = this.mirror;
        let last = state.sequence;
        const tell = (deltas: readonly Delta[]): void => {
          this.keeper.changes(deltas);
          last = deltas.at(-1)?.sequence ?? last;
        };
        for await (const deltas of log.follow(last, signal)) tell(deltas);
        while (last < log.sequence) tell(log.after(last));
        return;
      } catch (error) {
        // So many changes in one turn that the log no longer has them all: the whole is kept again.
        this.log.warn({ error: messageOf(error) }, 'a mirror is kept anew as a whole');
      }
    }
  }
}
