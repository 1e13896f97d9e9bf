/**
 * Plugin: a learning switch for hosts that are no terminals. It looks at sources in the table `learn` and chooses the port in `forward`
 * (register 2, or FLOOD); how the frame leaves is for the egress table. Frames wait for nobody: an unknown source is copied to us and
 * goes on.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { PacketIn, Plugin, PluginHost, Rule } from '../core/plugin.js';
import { OFPP } from '../openflow/index.js';
import { formatMac } from '../packet/address.js';
import type { Port, Switch } from '../switch/index.js';
import { FLOOD } from './flood.js';

/** Hosts remembered on one switch; the one learned longest ago goes first. */
const MAX_HOSTS_PER_SWITCH = 4096;

const PRIORITY = { known: 10, miss: 0 } as const;

export class LearningSwitch implements Plugin {
  readonly name = 'forwarding';
  readonly tables = [
    { name: 'learn', stage: 'ingress' },
    { name: 'forward', stage: 'forward' },
  ] as const;
  readonly #hosts = new Map<Dpid, Map<string, number>>();
  #host: PluginHost | undefined;

  start(host: PluginHost): void {
    this.#host = host;
  }

  switchUp(sw: Switch): void {
    if (!this.#hosts.has(sw.dpid)) this.#hosts.set(sw.dpid, new Map());
    for (const [mac, port] of this.#hosts.get(sw.dpid) ?? [])
      if (!sw.ports.has(port)) this.#forget(sw.dpid, mac);
    this.#state(sw.dpid, 'miss', this.#missRules());
  }

  /** Hosts that an earlier controller learned are where they were, until they send from elsewhere. */
  found(sw: Switch, rules: readonly Rule[]): void {
    const hosts = this.#hosts.get(sw.dpid);
    for (const { table, match } of rules) {
      const { in_port: port, eth_src: mac } = match;
      if (table !== 'learn' || typeof port !== 'number' || typeof mac !== 'string') continue;
      const up = sw.ports.get(port)?.linkDown === false;
      if (!hosts || !up || hosts.has(mac) || hosts.size >= MAX_HOSTS_PER_SWITCH) continue;
      hosts.set(mac, port);
      this.#state(sw.dpid, mac, this.#hostRules(mac, port));
    }
  }

  packetIn({ switch: sw, message }: PacketIn): void {
    const port = message.match.in_port;
    if (typeof port !== 'number' || message.data.length < 14) return;
    const mac = formatMac(message.data, 6);
    const hosts = this.#hosts.get(sw.dpid);
    const isGroup = ((message.data[6] ?? 0) & 1) === 1;
    if (!hosts || isGroup || hosts.get(mac) === port || !sw.ports.has(port)) return;
    hosts.delete(mac);
    hosts.set(mac, port);
    const oldest = hosts.size > MAX_HOSTS_PER_SWITCH ? hosts.keys().next().value : undefined;
    if (oldest !== undefined) this.#forget(sw.dpid, oldest);
    this.#state(sw.dpid, mac, this.#hostRules(mac, port));
  }

  portChange(sw: Switch, port: Port, reason: 'added' | 'modified' | 'deleted'): void {
    if (reason !== 'deleted' && !port.linkDown) return;
    for (const [mac, at] of this.#hosts.get(sw.dpid) ?? [])
      if (at === port.number) this.#forget(sw.dpid, mac);
  }

  #forget(dpid: Dpid, mac: string): void {
    this.#hosts.get(dpid)?.delete(mac);
    this.#state(dpid, mac, []);
  }

  #state(dpid: Dpid, group: string, rules: readonly Rule[]): void {
    this.#host?.setRules(dpid, group, rules).catch((error: Error) => {
      this.#host?.log.warn({ dpid, group, error: error.message }, 'rules not set');
    });
  }

  #missRules(): Rule[] {
    const host = this.#running();
    return [
      {
        table: 'learn',
        priority: PRIORITY.miss,
        match: {},
        instructions: [
          { type: 'apply_actions', actions: [{ type: 'output', port: OFPP.CONTROLLER, maxLen: 64 }] },
          { type: 'goto_table', table: host.entry('network') },
        ],
      },
      { table: 'forward', priority: PRIORITY.miss, match: {}, instructions: this.#choose(FLOOD) },
    ];
  }

  #hostRules(mac: string, port: number): Rule[] {
    return [
      {
        table: 'learn',
        priority: PRIORITY.known,
        match: { in_port: port, eth_src: mac },
        instructions: [{ type: 'goto_table', table: this.#running().entry('network') }],
      },
      {
        table: 'forward',
        priority: PRIORITY.known,
        match: { eth_dst: mac },
        instructions: this.#choose(port),
      },
    ];
  }

  #choose(port: number): Rule['instructions'] {
    return [
      { type: 'apply_actions', actions: [{ type: 'set_field', field: { reg2: port } }] },
      { type: 'goto_table', table: this.#running().entry('egress') },
    ];
  }

  #running(): PluginHost {
    if (!this.#host) throw new Error('the learning switch has not been started');
    return this.#host;
  }
}
