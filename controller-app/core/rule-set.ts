/**
 * The rules that one switch should have: groups by name, and in each its flows. Pure.
 */
import type { Flow } from '../openflow/index.js';
import { OFPFF } from '../openflow/index.js';
import { cookieClass } from './cookies.js';
import { describeFlow, type Identified } from './flow-identity.js';
import type { Rule } from './plugin.js';

/**
 * A rule as it goes to the switch. The end of one with a time-out is told by the switch: other rules end only when somebody removes them, and 20,000
 * messages about our own removals would help nobody.
 */
export function toFlow(rule: Rule, plugin: number, table: number): Flow {
  const { priority, match, instructions, cookie = 0, idleTimeout = 0, hardTimeout = 0 } = rule;
  return {
    table,
    priority,
    cookie: cookieClass(plugin).cookie | BigInt(cookie),
    match,
    instructions,
    ...(idleTimeout > 0 ? { idleTimeout } : {}),
    ...(hardTimeout > 0 ? { hardTimeout } : {}),
    ...(idleTimeout > 0 || hardTimeout > 0 ? { flags: OFPFF.SEND_FLOW_REM } : {}),
  };
}

/** True of a rule that the switch ends by itself. */
export function endsByItself(flow: Flow): boolean {
  return (flow.idleTimeout ?? 0) > 0 || (flow.hardTimeout ?? 0) > 0;
}

/** A rule of a group. */
export interface Stated extends Identified {
  readonly group: string;
}

/** What a change of groups means, and how to make it so. */
export interface Plan {
  /** Rules that are stated no more. */
  readonly leaving: readonly Stated[];
  /** Rules of the groups as they will be, also those that stay as they are. */
  readonly stating: readonly Stated[];
  /** How many rules there will be. */
  readonly size: number;
  commit(): void;
}

export class RuleSet {
  readonly #groups = new Map<string, Map<string, Stated>>();
  readonly #rules = new Map<string, Stated>();

  get size(): number {
    return this.#rules.size;
  }

  get(key: string): Stated | undefined {
    return this.#rules.get(key);
  }

  values(): Iterable<Stated> {
    return this.#rules.values();
  }

  /**
   * From the present groups to these; an empty one goes. A rule may move from one of them to another. Throws when two groups state the
   * same rule.
   */
  plan(groups: ReadonlyMap<string, readonly Identified[]>): Plan {
    const stating = new Map<string, Stated>();
    const next = new Map<string, Map<string, Stated>>();
    for (const [group, rules] of groups) {
      const byKey = new Map<string, Stated>();
      for (const rule of rules) {
        const stated = { ...rule, group };
        const owner = this.#rules.get(stated.key)?.group;
        const rival =
          stating.get(stated.key)?.group ?? (owner !== undefined && !groups.has(owner) ? owner : undefined);
        if (rival !== undefined)
          throw new Error(`the groups ${rival} and ${group} state the same rule: ${describeFlow(rule.flow)}`);
        byKey.set(stated.key, stated);
        stating.set(stated.key, stated);
      }
      next.set(group, byKey);
    }
    const leaving: Stated[] = [];
    let present = 0;
    for (const group of groups.keys())
      for (const stated of this.#groups.get(group)?.values() ?? []) {
        present++;
        if (!stating.has(stated.key)) leaving.push(stated);
      }
    const commit = (): void => {
      for (const { key } of leaving) this.#rules.delete(key);
      for (const [group, flows] of next) {
        if (flows.size === 0) this.#groups.delete(group);
        else this.#groups.set(group, flows);
      }
      for (const [key, stated] of stating) this.#rules.set(key, stated);
    };
    return { leaving, stating: [...stating.values()], size: this.size - present + stating.size, commit };
  }

  /** States a rule no more that has ended by itself. */
  forget({ key, group }: Stated): void {
    this.#rules.delete(key);
    const others = this.#groups.get(group);
    others?.delete(key);
    if (others?.size === 0) this.#groups.delete(group);
  }
}
