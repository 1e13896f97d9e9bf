/**
 * The plugin host: numbers the tables, keeps what each plugin wants on each switch, brings the switches there, and hands events to the
 * plugin they belong to. It touches flows with our own cookies only: another controller's rules stay.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import { type Clock, realClock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { type Level, QuietLog } from '../../shared/runtime/quiet-log.js';
import type { Flow, FlowRemovedMessage, PacketInMessage } from '../openflow/index.js';
import type { Switch } from '../switch/index.js';
import { cookieClass, readCookie } from './cookies.js';
import { type Plugin, type PluginHost, type Rule, STAGES, type Stage, type Sweep } from './plugin.js';
import { toFlow } from './rule-set.js';
import { SwitchRules } from './switch-rules.js';

/**
 * With so many changes of a plugin waiting for a switch, the plugin gets no packets of that switch: it would answer them with more. Packets may
 * be lost, rules may not.
 */
const MAX_CHANGES_FOR_PACKETS = 1_024;
/** Lines of one kind about one switch, before they are only counted for a while. */
const LINES_AT_ONCE = 10;

interface SwitchState {
  readonly rules: SwitchRules;
  /** Connected, with its pipeline in place. */
  live: Switch | undefined;
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
  readonly #quiet: QuietLog;
  #closed = false;

  /** Throws when two plugins or two tables have the same name. */
  constructor(plugins: readonly Plugin[], log: Log, clock: Clock = realClock) {
    this.#log = log;
    this.#quiet = new QuietLog(log, clock);
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

  /**
   * Takes a switch that has just connected into the core's care; settles when its pipeline is in place. Fails when it goes before that,
   * and when it can't be brought to what it should have: it is then hung up, and the log says why.
   */
  async adopt(sw: Switch): Promise<void> {
    const { dpid } = sw;
    const state = this.#state(dpid);
    state.live = undefined;
    sw.on('close', (reason) => {
      state.rules.disconnect(sw, reason ?? new Error(`switch ${dpid} was disconnected`));
      if (state.live === sw) state.live = undefined;
      this.#say('warn', { dpid, reason: reason?.message }, 'switch gone');
      this.#tell('switchDown', ({ plugin }) => plugin.switchDown?.(dpid));
    });
    sw.on('error', (error) => this.#say('warn', { dpid, error: error.message }, 'error from switch'));
    sw.on('packetIn', (message) => this.#packetIn(sw, message));
    sw.on('flowRemoved', (message) => this.#flowRemoved(sw, message));
    sw.on('portStatus', (port, reason) =>
      this.#tell('portChange', ({ plugin }) => plugin.portChange?.(sw, port, reason)),
    );
    try {
      // One that fails has not stated what must be there: without it the others' rules may let too much pass.
      for (const { plugin } of this.#plugins) plugin.switchUp?.(sw);
      const reconciled = await state.rules.connect(sw, (flows) => this.#offer(sw, flows));
      if (sw.closed) return;
      state.live = sw;
      this.#say('info', { dpid, ...reconciled }, 'switch ready');
    } catch (cause) {
      this.#say(
        'error',
        { dpid, error: messageOf(cause) },
        'the pipeline could not be put in place: hung up',
      );
      sw.close(cause instanceof Error ? cause : undefined);
      throw cause;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { plugin } of [...this.#plugins].reverse()) await plugin.close?.();
    this.#quiet.close();
  }

  #state(dpid: Dpid): SwitchState {
    let state = this.#switches.get(dpid);
    if (!state) {
      state = { rules: new SwitchRules(), live: undefined };
      this.#switches.set(dpid, state);
    }
    return state;
  }

  /** Into the log, but a switch that makes the same thing happen again and again does not fill it. */
  #say(level: Level, fields: Readonly<Record<string, unknown>>, words: string): void {
    this.#quiet.say(`${words} ${fields.dpid ?? fields.plugin}`, level, fields, words, LINES_AT_ONCE);
  }

  /** A plugin that fails on an event harms nobody else. */
  #tell(event: string, call: (owned: Owned) => void, plugins = this.#plugins): void {
    for (const owned of plugins) {
      try {
        call(owned);
      } catch (error) {
        const context = { plugin: owned.plugin.name, event, error: messageOf(error) };
        this.#say('error', context, 'a plugin failed on an event');
      }
    }
  }

  /** Shows each plugin those of its rules that an earlier controller left, as far as they are in one of its tables still. */
  #offer(sw: Switch, flows: readonly Flow[]): void {
    const found = new Map<Owned, Rule[]>();
    for (const { cookie = 0n, table: number, priority, match, instructions } of flows) {
      const read = readCookie(cookie);
      const owned = read && this.#plugins[read.plugin - 1];
      const table = this.#tables[number];
      if (!owned || table?.plugin !== owned) continue;
      const rules = found.get(owned) ?? [];
      rules.push({ table: table.name, priority, match, instructions, cookie: read.own });
      found.set(owned, rules);
    }
    for (const [owned, rules] of found)
      this.#tell('found', ({ plugin }) => plugin.found?.(sw, rules), [owned]);
  }

  #setGroups(
    owned: Owned,
    dpid: Dpid,
    groups: ReadonlyMap<string, readonly Rule[]>,
    sweeps: readonly Sweep[] = [],
  ): Promise<void> {
    const { cookie, cookieMask } = cookieClass(owned.number);
    const ofFlows = sweeps.map(({ table, value, mask }) => ({
      table: this.#ownTable(owned, table),
      cookie: cookie | BigInt(value >>> 0),
      cookieMask: cookieMask | BigInt(mask >>> 0),
    }));
    return this.#state(dpid).rules.change(owned.plugin.name, this.#flows(owned, groups), ofFlows);
  }

  #flows(owned: Owned, groups: ReadonlyMap<string, readonly Rule[]>): Map<string, Flow[]> {
    const flows = new Map<string, Flow[]>();
    for (const [group, rules] of groups) {
      flows.set(
        `${owned.plugin.name}/${group}`,
        rules.map((rule) => toFlow(rule, owned.number, this.#ownTable(owned, rule.table))),
      );
    }
    return flows;
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

  #packetIn(sw: Switch, message: PacketInMessage): void {
    const cookie = readCookie(message.cookie);
    const owned = cookie && this.#plugins[cookie.plugin - 1];
    const table = this.#tables[message.tableId];
    if (!cookie || !owned?.plugin.packetIn || !table) return;
    const { name } = owned.plugin;
    if (this.#state(sw.dpid).rules.waiting(name) >= MAX_CHANGES_FOR_PACKETS) {
      this.#say(
        'warn',
        { dpid: sw.dpid, plugin: name },
        'a plugin is behind with its rules: packets dropped',
      );
      return;
    }
    const event = { switch: sw, table: table.name, cookie: cookie.own, message };
    this.#tell('packetIn', ({ plugin }) => plugin.packetIn?.(event), [owned]);
  }

  #flowRemoved(sw: Switch, message: FlowRemovedMessage): void {
    const owned = this.#plugins[(readCookie(message.cookie)?.plugin ?? 0) - 1];
    if (!owned) return;
    this.#state(sw.dpid).rules.removed(message);
    this.#tell('flowRemoved', ({ plugin }) => plugin.flowRemoved?.(sw, message), [owned]);
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
      setGroups: (dpid, groups, sweeps) => this.#setGroups(owned, dpid, groups, sweeps),
      stageGroups: (dpid, groups) =>
        this.#state(dpid).rules.stage(owned.plugin.name, this.#flows(owned, groups)),
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
