/**
 * Changes of rules that wait for one switch, in the order in which they were stated.
 */
import type { Flow } from '../openflow/index.js';
import { afterOthers } from '../switch/index.js';
import { CoreError } from './errors.js';
import { type Identified, identify } from './flow-identity.js';
import type { AtSwitch } from './staged-change.js';
import type { FlowSweep } from './sweep.js';

/** Changes of one plugin that wait for one switch. */
const MAX_WAITING_CHANGES = 4_096;
/** Rules that are looked at in one go: a few ms of work. */
const PORTION = 256;

/** Rules by group. */
export type Groups<T> = ReadonlyMap<string, readonly T[]>;

export interface Change {
  readonly groups: Groups<Flow>;
  /** How rules that leave with it may be told from those that stay. */
  readonly sweeps: readonly FlowSweep[];
  /** What it needs, where the switch has been sent that before. */
  readonly atSwitch?: AtSwitch | undefined;
  /** Once: confirmed, or failed with this. */
  readonly settle: (error?: unknown) => void;
}

/** A change that can be carried out. */
export interface ReadyChange extends Change {
  readonly rules: Groups<Identified>;
}

export class ChangeQueue {
  readonly #waiting: Change[] = [];
  readonly #waitingOf = new Map<string, number>();
  /** So many go alone: together they were refused. */
  #alone = 0;

  get length(): number {
    return this.#waiting.length;
  }

  /** Changes of this owner that wait, or are under way. */
  waiting(owner: string): number {
    return this.#waitingOf.get(owner) ?? 0;
  }

  /** Settles as the change does. Fails with CoreError `busy` when too many wait. */
  add(owner: string, change: Omit<Change, 'settle'>): Promise<void> {
    const waiting = this.waiting(owner);
    if (waiting >= MAX_WAITING_CHANGES) {
      const words = `${waiting} changes of ${owner} wait for the switch: they come faster than it takes them`;
      return Promise.reject(new CoreError('busy', words));
    }
    this.#waitingOf.set(owner, waiting + 1);
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown): void => {
        const left = this.waiting(owner) - 1;
        if (left > 0) this.#waitingOf.set(owner, left);
        else this.#waitingOf.delete(owner);
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#waiting.push({ ...change, settle });
    });
  }

  /** Those that go next, together: all of them, but what the switch has been sent before goes alone, as it is. */
  takeNext(): Change[] {
    const staged = this.#waiting.findIndex(({ atSwitch }) => atSwitch !== undefined);
    const together = staged < 0 ? this.#waiting.length : Math.max(1, staged);
    const count = this.#alone > 0 ? 1 : together;
    this.#alone = Math.max(0, this.#alone - 1);
    return this.#waiting.splice(0, count);
  }

  /** Those from this place on. */
  takeFrom(place: number): Change[] {
    return this.#waiting.splice(place);
  }

  /** The first ones. */
  takeFirst(count: number): Change[] {
    return this.#waiting.splice(0, count);
  }

  /** Back to the front: they were refused together, and now go one after another. */
  eachAlone(changes: readonly Change[]): void {
    this.#waiting.unshift(...changes);
    this.#alone = changes.length;
  }

  /** Those that wait may go together again. */
  together(): void {
    this.#alone = 0;
  }
}

/** The changes whose rules can be sent; the others fail. Many rules are looked at in portions, between which everybody else has a turn. */
export async function ready(changes: readonly Change[]): Promise<ReadyChange[]> {
  const good: ReadyChange[] = [];
  const portions = new Portions();
  for (const change of changes) {
    try {
      const rules = change.atSwitch?.rules ?? (await identified(change.groups, portions));
      good.push({ ...change, rules });
    } catch (error) {
      change.settle(error);
    }
  }
  return good;
}

/** Throws an `OpenFlowEncodeError` for a flow that cannot be sent. */
export async function identified(
  groups: Groups<Flow>,
  portions = new Portions(),
): Promise<Groups<Identified>> {
  const rules = new Map<string, Identified[]>();
  for (const [group, flows] of groups) {
    const its: Identified[] = [];
    for (const flow of flows) {
      its.push(identify(flow));
      if (portions.isFull()) await afterOthers();
    }
    rules.set(group, its);
  }
  return rules;
}

class Portions {
  #count = 0;

  /** After each rule: is it time for the others? */
  isFull(): boolean {
    return ++this.#count % PORTION === 0;
  }
}
