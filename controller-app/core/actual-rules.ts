/**
 * What a switch really has of our rules, as far as is known: so that a change can be computed without asking. Pure.
 */
import type { Flow, FlowMod } from '../openflow/index.js';
import { OUR_COOKIES } from './cookies.js';
import { flowContent, flowKey } from './flow-identity.js';
import type { Plan, RuleSet, Stated } from './rule-set.js';
import { covers, type FlowSweep, sweepMod } from './sweep.js';

/** What a change needs in a switch. */
export interface Needed {
  readonly sweeps: readonly FlowSweep[];
  /** Rules that are there and go. */
  readonly leaving: readonly Stated[];
  /** Rules that are not there, or not so. */
  readonly coming: readonly Stated[];
  /** All of it as messages. */
  readonly mods: readonly FlowMod[];
  /** To be called when the switch has confirmed it. */
  done(): void;
}

/** Do both come to the same messages? Not asked of those with sweeps: then false. */
export function sameNeeds(a: Needed, b: Needed): boolean {
  if (a.sweeps.length + b.sweeps.length > 0) return false;
  if (a.leaving.length !== b.leaving.length || a.coming.length !== b.coming.length) return false;
  return (
    a.leaving.every(({ key }, place) => key === b.leaving[place]?.key) &&
    a.coming.every(({ key, content }, place) => {
      const other = b.coming[place];
      return key === other?.key && content === other.content;
    })
  );
}

export class ActualRules {
  /** By key: everything else of the flow. */
  readonly #contents = new Map<string, string>();

  get size(): number {
    return this.#contents.size;
  }

  /** The switch has this rule: it was seen, or its adding was confirmed. */
  has({ key, content }: Pick<Stated, 'key' | 'content'>): boolean {
    return this.#contents.get(key) === content;
  }

  knows(key: string): boolean {
    return this.#contents.has(key);
  }

  set({ key, content }: Pick<Stated, 'key' | 'content'>): void {
    this.#contents.set(key, content);
  }

  delete(key: string): void {
    this.#contents.delete(key);
  }

  /**
   * What a plan needs here, removals first: a rule may make room for another. `sweeps` cover rules that leave, and none that stays.
   */
  changesFor(plan: Plan, sweeps: readonly FlowSweep[]): Needed {
    const leaving = plan.leaving.filter(({ key }) => this.knows(key));
    const single = leaving.filter(({ flow }) => !sweeps.some((sweep) => covers(sweep, flow)));
    const coming = plan.stating.filter((stated) => !this.has(stated));
    return {
      sweeps,
      leaving,
      coming,
      mods: [
        ...sweeps.map(sweepMod),
        ...single.map(({ flow }) => deletion(flow)),
        ...coming.map(({ flow }) => addition(flow)),
      ],
      done: () => {
        for (const { key } of leaving) this.delete(key);
        for (const stated of coming) this.set(stated);
      },
    };
  }
}

/**
 * The comparison of what a switch has with what it should have. It is shown our flows as the switch tells them, some at a time, and keeps of each only what
 * is needed.
 */
export class Comparison {
  readonly actual = new ActualRules();
  readonly #rules: RuleSet;
  /** Those that were not stated, or not so, when they were seen. */
  readonly #others = new Map<string, Flow>();

  constructor(rules: RuleSet) {
    this.#rules = rules;
  }

  /** How many flows have been seen. */
  get seen(): number {
    return this.actual.size;
  }

  see(flow: Flow): void {
    const key = flowKey(flow);
    const stated = this.#rules.get(key);
    const content = flowContent(flow);
    // Equal strings are kept once.
    this.actual.set({ key, content: stated?.content === content ? stated.content : content });
    if (stated?.content !== content) this.#others.set(key, flow);
  }

  /** Rules that are there and that nobody states now. */
  strangers(): Flow[] {
    return [...this.#others].flatMap(([key, flow]) => (this.#rules.get(key) ? [] : [flow]));
  }

  /** When all flows have been seen: rules that are stated, and not there. */
  missing(): Stated[] {
    return [...this.#rules.values()].filter(({ key }) => !this.actual.knows(key));
  }

  /**
   * When all flows have been seen: what the switch needs by what is stated now. Rules that are as they should be are not touched: their counters
   * and their age go on.
   */
  difference(): Difference {
    const changed = [...this.#others.keys()].flatMap((key) => {
      const stated = this.#rules.get(key);
      return stated && !this.actual.has(stated) ? [stated] : [];
    });
    return { missing: this.missing(), changed, strangers: this.strangers().map(deletion) };
  }

  /** The switch has been given that. */
  done({ missing, changed, strangers }: Difference): void {
    for (const mod of strangers) this.actual.delete(flowKey(mod));
    for (const stated of [...changed, ...missing]) this.actual.set(stated);
  }
}

export interface Difference {
  /** Stated, and not there. */
  readonly missing: readonly Stated[];
  /** There with another cookie, other instructions, time-outs or flags. */
  readonly changed: readonly Stated[];
  /** There under our cookies, and not stated: removals. */
  readonly strangers: readonly FlowMod[];
}

const addition = (flow: Flow): FlowMod => ({ ...flow, type: 'flow_mod', command: 'add' });

/**
 * Of a flow of ours: somebody else's with the same match stays. The whole cookie is not asked for: Open vSwitch then looks through all rules with
 * that cookie for each one, and takes over 20 s for 20,000 of them.
 */
const deletion = ({ table, priority, match }: Pick<Flow, 'table' | 'priority' | 'match'>): FlowMod => ({
  type: 'flow_mod',
  command: 'delete_strict',
  table,
  priority,
  ...OUR_COOKIES,
  match,
  instructions: [],
});

/** Removals first. */
export function modsOf({ missing, changed, strangers }: Difference): FlowMod[] {
  return [...strangers, ...[...changed, ...missing].map(({ flow }) => addition(flow))];
}
