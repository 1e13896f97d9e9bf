/**
 * Carries the changes of one instance to another, in their order, while a handover is under way. Whoever must know that a change of the
 * terminal's addresses has arrived there waits for it here.
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import { isSameTerminal } from '../../shared/firewall/terminal.js';
import { type Clock, realClock } from '../../shared/runtime/clock.js';
import type { Placed } from './firewall-record.js';

export class Feed {
  /** Settles when the feed has ended: told to, or by itself. Never fails; `problem` says what ended it. */
  readonly done: Promise<void>;
  problem: unknown;
  readonly #ending = new AbortController();
  readonly #waiting = new Set<() => void>();
  #terminal: Terminal;
  #over = false;

  /** `terminal`: as the state had it that ends with change `sequence`. */
  constructor(
    readonly from: Placed,
    readonly to: Placed,
    sequence: number,
    terminal: Terminal,
  ) {
    this.#terminal = terminal;
    this.done = this.#run(sequence)
      .catch((error: unknown) => {
        if (!this.#ending.signal.aborted) this.problem = error;
      })
      .finally(() => {
        this.#over = true;
        this.#wake();
      });
  }

  /** Ends it; settles when nothing more is carried. May be called twice. */
  end(): Promise<void> {
    this.#ending.abort();
    return this.done;
  }

  /** Does the new instance have the terminal with these addresses? Waits for it, `ms` at most, or until the feed ends. */
  async carried(terminal: Terminal, ms: number, clock: Clock = realClock): Promise<boolean> {
    const deadline = clock.monotonic() + ms;
    while (!isSameTerminal(this.#terminal, terminal)) {
      const left = deadline - clock.monotonic();
      if (this.#over || left <= 0) return false;
      await new Promise<void>((resolve) => {
        const timer = clock.after(left, () => wake());
        const wake = (): void => {
          timer.close();
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
    return true;
  }

  async #run(sequence: number): Promise<void> {
    const { from, to } = this;
    for await (const deltas of from.domain.changes(from.id, sequence, this.#ending.signal)) {
      await to.domain.apply(to.id, deltas);
      for (const { change } of deltas) if (change.kind === 'terminal') this.#terminal = change.terminal;
      this.#wake();
    }
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}
