/**
 * Keeps one instance like the mirror: brings it the mirror's changes in their order, one call under way at a time. What comes meanwhile waits in the mirror's log,
 * so a slow instance falls behind by itself; when it is too far behind, or its digest is not the mirror's, it is given the whole state.
 */
import { DomainError } from '../../shared/domain/domain.js';
import type { Delta } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import { type Lag, LagMeter } from './lag.js';
import type { Mirror } from './mirror.js';
import type { Placed } from './placed.js';

export interface FeedOptions {
  readonly clock: Clock;
  /** The digests are compared this often. */
  readonly digestMs: number;
  /** The instance had to be given the whole state: why. */
  readonly onSync: (to: Placed, reason: string) => void;
}

export class Feed {
  /** Settles when the feed has ended: told to, or by itself. Never fails; `problem` says what ended it. */
  readonly done: Promise<void>;
  problem: unknown;
  readonly #lag = new LagMeter();
  readonly #waiting = new Set<() => void>();
  readonly #ending = new AbortController();
  #digestTimer: Timer | undefined;
  #acknowledged: number;
  /** Whether it is time to compare digests. */
  #compareDue = false;
  #comparing = true;
  #over = false;
  #nap: AbortController | undefined;

  /** `from`: the number of the mirror's last change that the instance has. */
  constructor(
    readonly to: Placed,
    readonly mirror: Mirror,
    from: number,
    readonly options: FeedOptions,
  ) {
    this.#acknowledged = from;
    this.#scheduleComparison();
    this.done = this.#run()
      .catch((error: unknown) => {
        if (!this.#ending.signal.aborted) this.problem = error;
      })
      .finally(() => {
        this.#over = true;
        this.#digestTimer?.close();
        this.#wake();
      });
  }

  /** The last change that the instance is known to have. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  get lag(): Lag {
    return this.#lag.read(this.mirror.sequence - this.#acknowledged);
  }

  /** Ends it; settles when nothing more is carried. May be called twice. */
  end(): Promise<void> {
    this.#ending.abort();
    this.#nap?.abort();
    return this.done;
  }

  /** The instance is to be active: what it holds is its own from now on, and only told what another one still says. */
  stopComparing(): void {
    this.#comparing = false;
  }

  /** Does the instance have all changes up to `sequence`? Waits for it, `ms` at most, or until the feed ends. */
  async caughtUp(sequence: number, ms: number): Promise<boolean> {
    const { clock } = this.options;
    const deadline = clock.monotonic() + ms;
    while (this.#acknowledged < sequence) {
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

  /** Does the instance have the terminal with these addresses? Waits for it, `ms` at most, or until the feed ends. */
  async carried(terminal: Terminal, ms: number): Promise<boolean> {
    return isSameTerminal(this.mirror.terminal, terminal) && (await this.caughtUp(this.mirror.sequence, ms));
  }

  async #run(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      if (this.#compareDue && this.#comparing) await this.#compare();
      const deltas = this.#next();
      if (deltas === 'lost') await this.#sync('it was too far behind');
      else if (deltas.length > 0) await this.#apply(deltas);
      else await this.#change();
    }
  }

  #next(): readonly Delta[] | 'lost' {
    try {
      return this.mirror.log.after(this.#acknowledged);
    } catch (error) {
      if (error instanceof DomainError && error.code === 'changes-lost') return 'lost';
      throw error;
    }
  }

  async #apply(deltas: readonly Delta[]): Promise<void> {
    const { domain, id } = this.to;
    try {
      await domain.apply(id, deltas);
    } catch (error) {
      const mendable = error instanceof DomainError && ['changes-lost', 'invalid'].includes(error.code);
      if (!mendable || !this.#comparing) throw error;
      await this.#sync(error.message);
      return;
    }
    this.#acknowledge(deltas.at(-1)?.sequence ?? this.#acknowledged);
  }

  async #compare(): Promise<void> {
    this.#compareDue = false;
    const { domain, id } = this.to;
    const { digest, connections } = await domain.digest(id);
    const mine = this.mirror.mark(this.#acknowledged);
    if (mine && mine.digest !== digest && this.#comparing) {
      const held = `it held ${connections} connections where ${this.mirror.connections} were to be, or others`;
      await this.#sync(`as of change ${this.#acknowledged} ${held}`);
    }
    this.#scheduleComparison();
  }

  async #sync(reason: string): Promise<void> {
    const { domain, id } = this.to;
    this.options.onSync(this.to, reason);
    const snapshot = this.mirror.snapshot(id.epoch);
    await domain.sync(id, snapshot);
    this.#acknowledge(snapshot.sequence);
  }

  #acknowledge(sequence: number): void {
    const now = this.options.clock.monotonic();
    for (let each = this.#acknowledged + 1; each <= sequence; each += 1) {
      const mark = this.mirror.mark(each);
      if (mark) this.#lag.add(now - mark.at);
    }
    this.#acknowledged = sequence;
    this.#wake();
  }

  /** Settles with the next change, when digests are to be compared, or with the end. */
  async #change(): Promise<void> {
    this.#nap = new AbortController();
    if (this.#ending.signal.aborted || this.#compareDue) return;
    await this.mirror.log.changed(this.#nap.signal);
  }

  #scheduleComparison(): void {
    const { clock, digestMs } = this.options;
    this.#digestTimer = clock.after(digestMs, () => {
      if (!this.#comparing) return;
      this.#compareDue = true;
      this.#nap?.abort();
    });
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}
