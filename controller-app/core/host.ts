/**
 * The plugin host: numbers the tables, keeps what each plugin wants on each switch, brings the switches there, and hands events to the
 * plugin they belong to. It touches flows with our own cookies only: another controller's rules stay.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Log } from '../../shared/runtime/log.js';
import type { Flow } from '../openflow/index.js';
import type { Switch } from '../switch/index.js';
import { type Plugin, type PluginHost, type Rule, STAGES, type Stage } from './plugin.js';
import { cookieClass, OUR_COOKIES, RuleSet, readCookie, toFlow } from './rule-set.js';

/** A bundle is split no further: this many flow mods of one switch are the most that a plugin may state. */
const MAX_RULES_PER_SWITCH = 200_000;
const BUNDLE_TIMEOUT_MS = 20_000;

interface SwitchState {
  readonly rules: RuleSet;
  /** Connected, with its pipeline in place. */
  live: Switch | undefined;
  /** The end of the queue: changes of one switch go out one after another. */
  tail: Promise<void>;
}

interface Owned {
  readonly plugin: Plugin;
  readonly number: number;
}

export class Core {
  readonly #plugins: readonly Owned[];
  readonly #tables: readonly { name: string; stage: Stage; plugin: Owned }[];
  readonly #switches = new Map<Dpid, SwitchState>();
  readonly #log: Log;
  #closed = false;

  /** Throws when two plugins or two tables have the same name. */
  constructor(plugins: readonly Plugin[], log: Log) {
    this.#log = log;
    this.#plugins = plugins.map((plugin, index) => ({ plugin, number: index + 1 }));
    const names = plugins.flatMap((plugin) => [
      plugin.name,
      ...plugin.tables.map((table) => `table ${table.name}`),
    ]);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice)
      throw new Error(`two plugins have the same name, or two tables: ${twice}; rename one in its plugin`);
    this.#tables = STAGES.flatMap((stage) =>
      this.#plugins.flatMap((owned) =>
        owned.plugin.tables
          .filter((table) => table.stage === stage)
          .map(({ name }) => ({ name, stage, plugin: owned })),
      ),
    );
  }

  async start(): Promise<void> {
    for (const owned of this.#plugins) await owned.plugin.start(this.#hostFor(owned));
  }

  /** Table names in the order of their numbers. */
  tableNames(): readonly string[] {
    return this.#tables.map((table) => table.name);
  }

  switches(): readonly Switch[] {
    return [...this.#switches.values()].flatMap((state) => (state.live ? [state.live] : []));
  }

  switch(dpid: Dpid): Switch | undefined {
    return this.#switches.get(dpid)?.live;
  }

  /** Takes a switch that has just connected into the core's care; settles when its pipeline is in place. */
  async adopt(sw: Switch): Promise<void> {
    const state = this.#state(sw.dpid);
    state.live = undefined;
    sw.on('close', (reason) => {
      if (state.live !== sw) return;
      state.live = undefined;
      this.#log.warn({ dpid: sw.dpid, reason: reason?.message }, 'switch gone');
      for (const { plugin } of this.#plugins) plugin.switchDown?.(sw.dpid);
    });
    sw.on('error', (error) => this.#log.warn({ dpid: sw.dpid, error: error.message }, 'error from switch'));
    sw.on('packetIn', (message) => this.#packetIn(sw, message));
    sw.on('flowRemoved', (message) => {
      const cookie = readCookie(message.cookie);
      this.#plugins[(cookie?.plugin ?? 0) - 1]?.plugin.flowRemoved?.(sw, message);
    });
    sw.on('portStatus', (port, reason) => {
      for (const { plugin } of this.#plugins) plugin.portChange?.(sw, port, reason);
    });
    for (const { plugin } of this.#plugins) plugin.switchUp?.(sw);
    await this.#enqueue(state, async () => {
      const actual = await sw.flowStats(OUR_COOKIES);
      await sw.bundle(state.rules.reconcile(actual), { timeoutMs: BUNDLE_TIMEOUT_MS });
      if (!sw.closed) state.live = sw;
      this.#log.info({ dpid: sw.dpid, rules: state.rules.size, found: actual.length }, 'switch ready');
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { plugin } of [...this.#plugins].reverse()) await plugin.close?.();
  }

  #state(dpid: Dpid): SwitchState {
    let state = this.#switches.get(dpid);
    if (!state) {
      state = { rules: new RuleSet(), live: undefined, tail: Promise.resolve() };
      this.#switches.set(dpid, state);
    }
    return state;
  }

  #enqueue(state: SwitchState, task: () => Promise<void>): Promise<void> {
    const done = state.tail.then(task);
    state.tail = done.catch(() => {});
    return done;
  }

  #setGroups(owned: Owned, dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<void> {
    const state = this.#state(dpid);
    const flows = new Map<string, Flow[]>();
    for (const [group, rules] of groups) {
      flows.set(
        `${owned.plugin.name}/${group}`,
        rules.map((rule) => toFlow(rule, owned.number, this.#ownTable(owned, rule.table))),
      );
    }
    return this.#enqueue(state, async () => {
      const { mods, commit } = state.rules.plan(flows);
      if (state.rules.size + mods.length > MAX_RULES_PER_SWITCH) {
        throw new Error(
          `more than ${MAX_RULES_PER_SWITCH} rules for switch ${dpid}: use fewer policy rules or terminals`,
        );
      }
      const sw = state.live;
      if (sw && mods.length > 0) await sw.bundle(mods, { timeoutMs: BUNDLE_TIMEOUT_MS });
      commit();
    });
  }

  #ownTable(owned: Owned, name: string): number {
    const number = this.#tables.findIndex((table) => table.name === name && table.plugin === owned);
    if (number < 0)
      throw new Error(`plugin ${owned.plugin.name} has no table ${name}: name it in its "tables"`);
    return number;
  }

  #tableNumber(name: string): number {
    const number = this.#tables.findIndex((table) => table.name === name);
    if (number < 0) throw new Error(`there is no table ${name}; there are ${this.tableNames().join(', ')}`);
    return number;
  }

  #packetIn(sw: Switch, message: Parameters<NonNullable<Plugin['packetIn']>>[0]['message']): void {
    const cookie = readCookie(message.cookie);
    const owned = cookie && this.#plugins[cookie.plugin - 1];
    const table = this.#tables[message.tableId];
    if (!cookie || !owned || !table) return;
    try {
      owned.plugin.packetIn?.({ switch: sw, table: table.name, cookie: cookie.own, message });
    } catch (error) {
      this.#log.error({ plugin: owned.plugin.name, error }, 'a plugin failed on a packet');
    }
  }

  #hostFor(owned: Owned): PluginHost {
    return {
      log: this.#log.child({ plugin: owned.plugin.name }),
      table: (name) => this.#tableNumber(name),
      entry: (stage) => {
        const number = this.#tables.findIndex(
          (table) => STAGES.indexOf(table.stage) >= STAGES.indexOf(stage),
        );
        if (number < 0) throw new Error(`no plugin has a table at or after the stage ${stage}`);
        return number;
      },
      after: (name) => {
        const number = this.#tableNumber(name) + 1;
        if (number >= this.#tables.length) throw new Error(`${name} is the last table`);
        return number;
      },
      switches: () => this.switches(),
      switch: (dpid) => this.switch(dpid),
      setRules: (dpid, group, rules) => this.#setGroups(owned, dpid, new Map([[group, rules]])),
      setGroups: (dpid, groups) => this.#setGroups(owned, dpid, groups),
      counters: async (dpid, table, of = { value: 0, mask: 0 }) => {
        const sw = this.switch(dpid);
        if (!sw) throw new Error(`switch ${dpid} is not connected`);
        const totals = new Map<number, { packets: number; bytes: number }>();
        const { cookie, cookieMask } = cookieClass(owned.number);
        const filter = {
          table: this.#tableNumber(table),
          cookie: cookie | BigInt(of.value >>> 0),
          cookieMask: cookieMask | BigInt(of.mask >>> 0),
        };
        for (const flow of await sw.flowStats(filter)) {
          const own = Number(flow.cookie & 0xffff_ffffn);
          const total = totals.get(own) ?? { packets: 0, bytes: 0 };
          totals.set(own, {
            packets: total.packets + Number(flow.packetCount),
            bytes: total.bytes + Number(flow.byteCount),
          });
        }
        return totals;
      },
    };
  }
}
