/**
 * The rules a switch should have, by plugin and group, and the flow mods that lead from one set to another. Pure.
 */
import { type Flow, type FlowMod, instructionsKey, type Match, matchKey } from '../openflow/index.js';
import type { Rule } from './plugin.js';

/** The top 16 bits of every cookie of ours ("PG"); the next 16 are the plugin's number, the low 32 its own. */
const COOKIE_MARK = 0x5047n;
/** All cookies of all our plugins: what a reconciliation may touch. */
export const OUR_COOKIES = { cookie: COOKIE_MARK << 48n, cookieMask: 0xffffn << 48n } as const;

export function cookieClass(plugin: number): { cookie: bigint; cookieMask: bigint } {
  return { cookie: (COOKIE_MARK << 48n) | (BigInt(plugin) << 32n), cookieMask: 0xffff_ffffn << 32n };
}

/** The plugin's number and own bits, or nothing when the cookie is not one of ours. */
export function readCookie(cookie: bigint): { plugin: number; own: number } | undefined {
  if (cookie >> 48n !== COOKIE_MARK) return undefined;
  return { plugin: Number((cookie >> 32n) & 0xffffn), own: Number(cookie & 0xffff_ffffn) };
}

const canonical = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint'
    ? `${value}n`
    : value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;

/**
 * What makes two flows one flow to a switch (OpenFlow 1.3.5, 6.4): table, priority and match. The key is not for people. Throws an
 * `OpenFlowEncodeError` for a match that cannot be sent.
 */
export function flowKey(flow: { table: number; priority: number; match: Match }): string {
  return `${flow.table} ${flow.priority} ${matchKey(flow.match)}`;
}

function describe(flow: Flow): string {
  return `table ${flow.table}, priority ${flow.priority}, match ${JSON.stringify(flow.match, canonical)}`;
}

/** Equal for flows that do the same, however their instructions are spelled: a switch says them in its own words. */
function flowContent({ cookie, instructions, idleTimeout = 0, hardTimeout = 0 }: Flow): string {
  return `${cookie} ${idleTimeout} ${hardTimeout} ${instructionsKey(instructions)}`;
}

export function toFlow(rule: Rule, plugin: number, table: number): Flow {
  return {
    table,
    priority: rule.priority,
    cookie: cookieClass(plugin).cookie | BigInt(rule.cookie ?? 0),
    match: rule.match,
    instructions: rule.instructions,
    ...(rule.idleTimeout === undefined ? {} : { idleTimeout: rule.idleTimeout }),
    ...(rule.hardTimeout === undefined ? {} : { hardTimeout: rule.hardTimeout }),
  };
}

/** The rules of one switch: `name` of a group → its flows by key. */
export class RuleSet {
  readonly #groups = new Map<string, ReadonlyMap<string, Flow>>();
  readonly #owner = new Map<string, string>();

  get size(): number {
    return this.#owner.size;
  }

  flows(): Flow[] {
    return [...this.#groups.values()].flatMap((flows) => [...flows.values()]);
  }

  has(key: string): boolean {
    return this.#owner.has(key);
  }

  /**
   * The flow mods that bring a switch from the present groups to these, and a function that makes them the present ones.
   * Removals come first: a rule may move from one group to another. Throws when two groups state the same rule.
   */
  plan(groups: ReadonlyMap<string, readonly Flow[]>): { mods: FlowMod[]; commit: () => void } {
    const removed = new Map<string, Flow>();
    const added = new Map<string, { flow: Flow; group: string }>();
    const next = new Map<string, Map<string, Flow>>();
    for (const [group, flows] of groups) {
      for (const [key, flow] of this.#groups.get(group) ?? []) removed.set(key, flow);
      const byKey = new Map<string, Flow>();
      for (const flow of flows) {
        const key = flowKey(flow);
        const owner = this.#owner.get(key);
        const rival =
          added.get(key)?.group ?? (owner !== undefined && !groups.has(owner) ? owner : undefined);
        if (rival !== undefined)
          throw new Error(`the groups ${rival} and ${group} state the same rule: ${describe(flow)}`);
        byKey.set(key, flow);
        added.set(key, { flow, group });
      }
      next.set(group, byKey);
    }
    const mods: FlowMod[] = [];
    for (const [key, flow] of removed) if (!added.has(key)) mods.push(deletion(flow));
    for (const [key, { flow }] of added) {
      const before = removed.get(key);
      if (!before || flowContent(before) !== flowContent(flow)) mods.push(addition(flow));
    }
    const commit = (): void => {
      for (const key of removed.keys()) this.#owner.delete(key);
      for (const [group, flows] of next) {
        if (flows.size === 0) this.#groups.delete(group);
        else this.#groups.set(group, flows);
        for (const key of flows.keys()) this.#owner.set(key, group);
      }
    };
    return { mods, commit };
  }

  /**
   * What a switch that has `actual` of our flows needs: strangers out, everything of ours (again) in. Adding a flow that is there keeps
   * its counters (OpenFlow 1.3.5, 6.4: they are reset only with OFPFF_RESET_COUNTS).
   */
  reconcile(actual: readonly Flow[]): FlowMod[] {
    return [
      ...actual.filter((flow) => !this.has(flowKey(flow))).map(deletion),
      ...this.flows().map(addition),
    ];
  }
}

const addition = (flow: Flow): FlowMod => ({ ...flow, type: 'flow_mod', command: 'add' });
const deletion = (flow: Flow): FlowMod => ({
  type: 'flow_mod',
  command: 'delete_strict',
  table: flow.table,
  priority: flow.priority,
  cookie: flow.cookie,
  cookieMask: (1n << 64n) - 1n,
  match: flow.match,
  instructions: [],
});
