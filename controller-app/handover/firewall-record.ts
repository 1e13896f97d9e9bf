/**
 * What the coordinator knows of one terminal's firewall: where it is active, what it holds, its standbys, and the queue of what happens to it.
 */
import type { Ends } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { type Epoch, epoch, type FirewallState, type RuleCounter } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { type FirewallKeeper, KEEP_NOTHING, keepMirror } from './keeping.js';
import { Mirror } from './mirror.js';
import type { Placed } from './placed.js';
import type { Source } from './source.js';
import type { Standby } from './standby.js';

export interface FirewallOptions {
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** The names of the domains that hold a standby, wherever the firewall is active. */
  readonly standbys: readonly string[];
  /** Default: nothing outlives the controller. */
  readonly keeper?: FirewallKeeper;
}

/** Epochs are taken in advance, so that who needs one need not wait until that is kept. */
const EPOCHS_AT_ONCE = 64;

export class FirewallRecord {
  /** With its present addresses. */
  terminal: Terminal;
  policy: Policy;
  #active: Placed | undefined;
  #mirror: Mirror | undefined;
  #kept: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();
  readonly keeper: FirewallKeeper;
  /** What brings the active instance's changes into the mirror. */
  source: Source | undefined;
  /** By domain. */
  readonly standbys = new Map<string, Standby>();
  /** What the active instance does not know of the rules' counters. */
  carried: readonly RuleCounter[] = [];
  /** Until when the active instance admits new connections by what it was last told; monotonic ms. */
  leaseEnd = 0;
  /** The id of the handover under way. */
  handover: string | undefined;
  /** The addresses that the active instance is known to have; undefined: they must be told (again). */
  told: Terminal | undefined;
  /** The end of the queue: whatever happens to one terminal's firewall happens one after another. */
  tail: Promise<unknown> = Promise.resolve();
  /** The end of the queue of address changes: they wait for no handover. */
  addressTail: Promise<unknown> = Promise.resolve();
  #lastEpoch: number;
  /** Up to here epochs may be given. */
  #keptEpoch: number;

  constructor(
    readonly options: FirewallOptions,
    firstEpoch: number,
  ) {
    this.terminal = options.terminal;
    this.policy = options.policy;
    this.keeper = options.keeper ?? KEEP_NOTHING;
    const { lastEpoch } = this.keeper.read();
    this.#lastEpoch = Math.max(firstEpoch - 1, lastEpoch);
    this.#keptEpoch = lastEpoch;
  }

  get active(): Placed | undefined {
    return this.#active;
  }

  /** What the firewall holds; there from its first instance on, also when that is gone. */
  get mirror(): Mirror | undefined {
    return this.#mirror;
  }

  /** Another instance is active: where steering reaches it. */
  activate(placed: Placed, ends: Ends): void {
    this.#active = placed;
    this.keeper.setActive({ domain: placed.domain.name, epoch: placed.id.epoch, ends });
  }

  /** None is active. */
  lose(): void {
    this.#active = undefined;
    this.keeper.setActive(undefined);
  }

  /** Begins the mirror with this state, unless there is one. `now`: monotonic ms. */
  mirrorOf(state: FirewallState, now: () => number): Mirror {
    if (this.#mirror) return this.#mirror;
    this.#mirror = new Mirror(state, now);
    this.#kept = keepMirror(
      this.#mirror,
      this.keeper,
      () => this.#active?.id.epoch ?? state.epoch,
      this.#closing.signal,
    );
    return this.#mirror;
  }

  /** Settles when all of it has been told to the keeper. Nothing more is after that. */
  close(): Promise<void> {
    this.#closing.abort();
    return this.#kept;
  }

  /** Epochs that a domain has seen, for instance before a restart of the controller: ours come after them. */
  noteEpoch(seen: number): void {
    this.#lastEpoch = Math.max(this.#lastEpoch, seen);
  }

  /** Fails when it can't be kept that it was given: after a restart it might be given again. */
  async nextEpoch(): Promise<Epoch> {
    this.#lastEpoch += 1;
    const next = this.#lastEpoch;
    if (next > this.#keptEpoch) {
      const kept = next + EPOCHS_AT_ONCE;
      await this.keeper.setEpoch(kept);
      this.#keptEpoch = Math.max(this.#keptEpoch, kept);
    }
    return epoch(next);
  }

  enqueue<T>(task: () => Promise<T>): Promise<T> {
    const done = this.tail.then(task);
    this.tail = done.catch(() => {});
    return done;
  }

  /** The state of a firewall that has not seen a packet. */
  nothingYet(id: Epoch): FirewallState {
    const { terminal, policy } = this;
    return { terminal, epoch: id, sequence: 0, policy, earlier: [], connections: [], counters: [] };
  }
}
