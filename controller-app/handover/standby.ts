/**
 * A standby of one terminal in one domain: built, kept like the active firewall, built again when it is lost, until it is taken to be active or is not wanted any
 * more. A domain that comes and goes is left alone for a while (damping.ts).
 */
import type { Domain, Ends } from '../../shared/domain/domain.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import { type Clock, sleep } from '../../shared/runtime/clock.js';
import type { Damping } from './damping.js';
import type { Feed } from './feed.js';
import { isAway, type Placed } from './placed.js';

/**
 * building: not there yet. ready: it follows the active firewall. away: its domain does not answer, or could not build it.
 */
export type StandbyState = 'building' | 'ready' | 'away';

/** An instance that could be activated at any moment. */
export interface Ready {
  readonly placed: Placed;
  readonly ends: Ends;
  readonly feed: Feed;
  /** The rules' counters that it began with. */
  readonly counters: readonly RuleCounter[];
}

export interface StandbyParts {
  readonly clock: Clock;
  readonly damping: Damping;
  /** Between two tries, the domain being silent about why it can't. */
  readonly retryMs: number;
  /** Builds an instance and begins to feed it. Undoes what fails. */
  build(domain: Domain): Promise<Ready>;
  /** Goes on feeding an instance that may still be there. */
  feedAgain(ready: Ready): Ready;
  /** Sees to it that nothing is left of it. */
  discard(placed: Placed): Promise<void>;
  onProblem(domain: Domain, error: unknown): void;
}

interface Waiter {
  readonly resolve: (ready: Ready) => void;
  readonly reject: (error: unknown) => void;
}

export class Standby {
  /** Why it is not there. */
  problem: unknown;
  readonly done: Promise<void>;
  #state: StandbyState = 'building';
  #ready: Ready | undefined;
  #end: 'taken' | 'closed' | undefined;
  readonly #waiters = new Set<Waiter>();
  #nap = new AbortController();

  constructor(
    readonly domain: Domain,
    readonly parts: StandbyParts,
  ) {
    this.done = this.#run();
  }

  get state(): StandbyState {
    return this.#state;
  }

  /** The instance, as soon as there is one. */
  get ready(): Ready | undefined {
    return this.#state === 'ready' ? this.#ready : undefined;
  }

  /** The instance as last known, also when its domain is silent. */
  get known(): Placed | undefined {
    return this.#ready?.placed;
  }

  /** Waits for the instance; when there is none, it is tried at once. Fails with what the next try fails with. */
  obtain(): Promise<Ready> {
    if (this.ready) return Promise.resolve(this.ready);
    return new Promise((resolve, reject) => {
      this.#waiters.add({ resolve, reject });
      this.wake();
    });
  }

  /** What it waits for may have happened. */
  wake(): void {
    this.#nap.abort();
  }

  /** From now on the instance is somebody else's. */
  take(): void {
    this.#end ??= 'taken';
    this.wake();
  }

  /** It stays where it is, and is fed no more. */
  async leave(): Promise<void> {
    this.take();
    await this.#ready?.feed.end();
  }

  /** It is not wanted any more; settles when nothing is left of it, or what is left is seen to. May be called twice. */
  async close(): Promise<void> {
    this.#end ??= 'closed';
    this.wake();
    await this.#ready?.feed.end();
    await this.done;
  }

  async #run(): Promise<void> {
    while (!this.#end) {
      try {
        await this.#allowed();
        if (this.#end) break;
        this.#ready = this.#ready ? this.parts.feedAgain(this.#ready) : await this.parts.build(this.domain);
        this.#became(this.#ready);
        const { feed } = this.#ready;
        await feed.done;
        if (!this.#end) throw feed.problem;
      } catch (error) {
        this.problem = error;
        this.#state = 'away';
        this.parts.onProblem(this.domain, error);
        if (this.#ready && !isAway(error)) await this.#discard();
        for (const { reject } of this.#settled()) reject(error);
        if (!this.#end) await this.#pause(this.parts.retryMs);
      }
    }
    for (const { reject } of this.#settled()) reject(new Error('the standby is not wanted any more'));
    if (this.#end === 'closed') await this.#discard();
  }

  #became(ready: Ready): void {
    this.problem = undefined;
    this.#state = 'ready';
    for (const { resolve } of this.#settled()) resolve(ready);
  }

  /** Somebody who waits for it does not ask how often the domain came and went. */
  async #allowed(): Promise<void> {
    const ms = this.parts.damping.heldFor(this.domain.name);
    if (ms > 0 && this.#waiters.size === 0) await this.#pause(ms);
  }

  async #discard(): Promise<void> {
    const ready = this.#ready;
    this.#ready = undefined;
    if (ready) await this.parts.discard(ready.placed);
  }

  #settled(): readonly Waiter[] {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    return waiters;
  }

  async #pause(ms: number): Promise<void> {
    this.#nap = new AbortController();
    if (this.#end || this.#waiters.size > 0) return;
    await sleep(this.parts.clock, ms, this.#nap.signal).catch(() => {});
  }
}
