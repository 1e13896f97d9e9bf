/**
 * What the coordinator knows of one terminal's firewall: where it is active, and what may become of a handover under way.
 */
import type { Domain, InstanceId } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { type Epoch, epoch } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Feed } from './feed.js';

/** An instance and the domain that runs it. */
export interface Placed {
  readonly domain: Domain;
  readonly id: InstanceId;
}

/**
 * The stages of a handover. Until `switching` everything can be undone, and the old instance is active; from then on everything can be
 * repeated, and the new one is.
 */
export type Stage =
  | 'preparing'
  | 'switching'
  | 'draining'
  | 'retiring'
  | 'done'
  | 'undoing'
  | 'undone'
  | 'failed';

const NEXT: Readonly<Record<Stage, readonly Stage[]>> = {
  preparing: ['switching', 'undoing', 'failed'],
  switching: ['draining', 'undoing', 'failed'],
  draining: ['retiring'],
  retiring: ['done'],
  undoing: ['undone'],
  done: [],
  undone: [],
  failed: [],
};

export class Progress {
  #stage: Stage = 'preparing';

  get stage(): Stage {
    return this.#stage;
  }

  /** Throws on a transition that is not in the table: a fault of the program. */
  to(stage: Stage): void {
    if (!NEXT[this.#stage].includes(stage))
      throw new Error(`a handover does not go from ${this.#stage} to ${stage}`);
    this.#stage = stage;
  }
}

export class FirewallRecord {
  active: Placed | undefined;
  /** The id of the handover under way. */
  handover: string | undefined;
  /** What carries changes to the other instance of that handover, while it does. */
  feed: Feed | undefined;
  /** The addresses that the active instance is known to have; undefined: they must be told (again). */
  told: Terminal | undefined;
  /** The end of the queue: whatever happens to one terminal's firewall happens one after another. */
  tail: Promise<unknown> = Promise.resolve();
  /** The end of the queue of address changes: they wait for no handover. */
  addressTail: Promise<unknown> = Promise.resolve();
  #lastEpoch: number;

  /** `terminal` has its present addresses. */
  constructor(
    public terminal: Terminal,
    public policy: Policy,
    firstEpoch: number,
  ) {
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
}
