/**
 * Brings what an instance tells into the mirror: the active one, and one that drains, which may still have something to tell. What was missed is mended by
 * its whole state; and its digest says whether anything was.
 */
import { DomainError, type Role, type ToldDelta } from '../../shared/domain/domain.js';
import { problemOfState } from '../../shared/firewall/admission.js';
import type { Change } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import { type Clock, sleep, type Timer } from '../../shared/runtime/clock.js';
import type { Mirror } from './mirror.js';
import { isGone, type Placed } from './placed.js';

export interface SourceOptions {
  readonly clock: Clock;
  readonly digestMs: number;
  /** The addresses that the terminal has now. */
  readonly terminal: () => Terminal;
  /** The instance is of no use any more. */
  readonly onGone: (from: Placed, error: unknown) => void;
  readonly onTrouble: (from: Placed, error: unknown) => void;
  /** The mirror differed from the instance, and was mended. */
  readonly onMended: (from: Placed, differences: number) => void;
}

/** For so many of the last changes the digest after them is known. */
const DIGESTS = 4_096;
/** Between two tries to follow an instance that can't be followed: doubled each time up to the most. */
const RETRY_MS = { first: 100, most: 2_000 } as const;

export class Source {
  readonly done: Promise<void>;
  #role: Extract<Role, 'active' | 'draining'> = 'active';
  readonly #ending = new AbortController();
  /** The mirror's digest, by the number of the instance's change after which it was that. */
  readonly #digests = new Map<number, string>();
  #sequence: number;
  #timer: Timer | undefined;
  /** Ends the following under way, for the whole state to be taken. */
  #following = new AbortController();
  #differs = false;
  #nap = new AbortController();

  /** `sequence`: of the instance's last change that is in the mirror; undefined: that is not known, and its whole state is taken first. */
  constructor(
    readonly from: Placed,
    sequence: number | undefined,
    readonly mirror: Mirror,
    readonly options: SourceOptions,
  ) {
    this.#sequence = sequence ?? 0;
    this.#differs = sequence === undefined;
    this.#scheduleComparison();
    this.done = this.#run().finally(() => this.#timer?.close());
  }

  /** The last of the instance's changes that is in the mirror. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Another instance is active: this one only tells what it still sees, and no end is told by its not seeing. */
  drain(): void {
    this.#role = 'draining';
    this.#timer?.close();
  }

  /** The instance can be reached again: what waits for that goes on at once. */
  wake(): void {
    this.#nap.abort();
  }

  /** Ends it; settles when nothing more comes from it. May be called twice. */
  end(): Promise<void> {
    this.#ending.abort();
    this.#following.abort();
    this.#nap.abort();
    this.#timer?.close();
    return this.done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    let waitMs: number = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        await this.#follow();
        if (!this.#differs) return;
        await this.#mend();
        this.#differs = false;
        waitMs = RETRY_MS.first;
      } catch (error) {
        if (signal.aborted) return;
        if (isGone(error)) {
          this.options.onGone(this.from, error);
          return;
        }
        if (error instanceof DomainError && error.code === 'changes-lost') {
          this.#differs = true;
          continue;
        }
        this.options.onTrouble(this.from, error);
        this.#nap = new AbortController();
        await sleep(this.options.clock, waitMs, this.#nap.signal).catch(() => {});
        waitMs = Math.min(waitMs * 2, RETRY_MS.most);
      }
    }
  }

  /** Until the instance ends, or something makes its whole state necessary. */
  async #follow(): Promise<void> {
    if (this.#differs) return;
    const { domain, id } = this.from;
    this.#following = new AbortController();
    for await (const deltas of domain.changes(id, this.#sequence, this.#following.signal)) {
      const problem = this.mirror.problemOf(deltas.map(({ change }) => change));
      if (problem) throw new DomainError('invalid', `what ${domain.name} tells is refused: ${problem}`);
      for (const delta of deltas) this.#take(delta);
    }
    if (this.#following.signal.aborted) return;
    const what = `the instance of ${id.terminal} in epoch ${id.epoch} has ended in ${domain.name}`;
    throw new DomainError('no-instance', what);
  }

  #take({ sequence, change, ageMs }: ToldDelta): void {
    if (this.#isToldNow(change)) this.mirror.absorb(change, ageMs);
    this.#sequence = sequence;
    this.#digests.set(sequence, this.mirror.digest);
    const [oldest] = this.#digests.keys();
    if (this.#digests.size > DIGESTS && oldest !== undefined) this.#digests.delete(oldest);
  }

  #isToldNow(change: Change): boolean {
    if (this.#role === 'active' || change.kind === 'connection') return true;
    return change.kind === 'terminal' && isSameTerminal(change.terminal, this.options.terminal());
  }

  async #mend(): Promise<void> {
    if (this.#role !== 'active') return;
    const state = await this.from.domain.export(this.from.id);
    const problem = problemOfState(state);
    if (problem) throw new DomainError('invalid', `the state is refused: ${problem}`);
    if (this.#role !== 'active' || this.#ending.signal.aborted) return;
    const differences = this.mirror.replace(state);
    this.#sequence = state.sequence;
    this.#digests.clear();
    this.options.onMended(this.from, differences);
  }

  /** As the active instance and the mirror are at the same change only now and then, it is compared when they happen to be. */
  async #compare(): Promise<void> {
    const { domain, id } = this.from;
    const { sequence, digest } = await domain.digest(id);
    const mine = sequence === this.#sequence ? this.mirror.digest : this.#digests.get(sequence);
    if (mine === undefined || mine === digest || this.#role !== 'active') return;
    this.#differs = true;
    this.#following.abort();
  }

  #scheduleComparison(): void {
    const { clock, digestMs } = this.options;
    this.#timer = clock.after(digestMs, () => {
      this.#compare()
        .catch((error: unknown) => {
          if (!this.#ending.signal.aborted) this.options.onTrouble(this.from, error);
        })
        .finally(() => {
          if (!this.#ending.signal.aborted && this.#role === 'active') this.#scheduleComparison();
        });
    });
  }
}
