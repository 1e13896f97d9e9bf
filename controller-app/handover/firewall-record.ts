/**
 * What the coordinator knows of one terminal's firewall: where it is active, what it holds, its standbys, and the queue of what happens to it.
 */
import type { Policy } from '../../shared/firewall/policy.js';
import { type Epoch, epoch, type FirewallState, type RuleCounter } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Mirror } from './mirror.js';
import type { Placed } from './placed.js';
import type { Source } from './source.js';
import type { Standby } from './standby.js';

export interface FirewallOptions {
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** The names of the domains that hold a standby, wherever the firewall is active. */
  readonly standbys: readonly string[];
}

export class FirewallRecord {
  /** With its present addresses. */
  terminal: Terminal;
  policy: Policy;
  active: Placed | undefined;
  /** What the firewall holds; there from its first instance on, also when that is gone. */
  mirror: Mirror | undefined;
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

  constructor(
    readonly options: FirewallOptions,
    firstEpoch: number,
  ) {
    this.terminal = options.terminal;
    this.policy = options.policy;
    this.#lastEpoch = firstEpoch - 1;
  }

  /** Epochs that a domain has seen, for instance before a restart of the controller: ours come after them. */
  noteEpoch(seen: number): void {
    this.#lastEpoch = Math.max(this.#lastEpoch, seen);
  }

  nextEpoch(): Epoch {
    this.#lastEpoch += 1;
    return epoch(this.#lastEpoch);
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
