/**
 * Plugin: the personal firewalls. It owns the tables on the way through a firewall, notices where terminals are attached and which
 * addresses they learn, and hands copies of packets that change a connection to the SDN domain of that switch.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import { isEndPort } from '../../shared/domain/ends.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import type { InstanceNumbers } from '../core/instance-numbers.js';
import type { PacketIn, Plugin, PluginHost } from '../core/plugin.js';
import { OFPP } from '../openflow/index.js';
import { unpackLearning, useCookies } from '../pipeline/index.js';
import { unpackNotice } from '../steering/notices.js';
import { Steering } from '../steering/steering.js';
import type { Topology } from '../steering/topology.js';
import type { Attachment } from '../steering/view.js';
import type { Port, Switch } from '../switch/index.js';
import type { LearnRules } from '../terminals/address-book.js';
import { AddressLearning } from '../terminals/address-learning.js';
import type { AddressMemory } from '../terminals/address-outlet.js';
import { Registry } from '../terminals/registry.js';
import { Arrivals, type AttachmentEvents } from './arrivals.js';
import { Guards } from './guards.js';
import { setMeters } from './meters.js';

const ETHERNET_BYTES = 14;

export interface FirewallEvents extends AttachmentEvents {
  /** The terminal has other addresses; settles when its firewalls know. */
  addressed(terminal: Terminal): Promise<void>;
}

/** The part of an SDN domain that copies of packets go to. */
export interface CopyReader {
  readonly dpid: Dpid;
  packetIn(event: PacketIn): void;
}

export interface AttachmentMemory {
  /** As last saved. */
  load(terminal: string): readonly Attachment[];
  save(terminal: string, attachments: readonly Attachment[]): void;
}

export interface FirewallPluginOptions {
  readonly topology: Topology;
  /** With the addresses of their configuration, where they may learn others, and on how many ports they may be at once. */
  readonly terminals: readonly {
    readonly terminal: Terminal;
    readonly learn: LearnRules;
    readonly attachments?: number;
  }[];
  readonly numbers: InstanceNumbers;
  readonly events: FirewallEvents;
  /** Where learnt addresses outlive the controller. */
  readonly memory?: AddressMemory;
  /** Where it outlives the controller where terminals are attached. */
  readonly attachments?: AttachmentMemory;
  readonly clock: Clock;
  readonly log: Log;
}

interface Parts {
  readonly host: PluginHost;
  readonly steering: Steering;
  readonly guards: Guards;
  readonly arrivals: Arrivals;
}

export class FirewallPlugin implements Plugin {
  readonly name = 'firewall';
  readonly tables = [
    { name: 'classify', stage: 'classify' },
    { name: 'guard', stage: 'firewall' },
    { name: 'enter', stage: 'firewall' },
    { name: 'firewall', stage: 'firewall' },
    { name: 'firewall-ct', stage: 'firewall' },
    { name: 'admit', stage: 'firewall' },
    { name: 'deliver', stage: 'firewall' },
    { name: 'lead', stage: 'network' },
    { name: 'egress', stage: 'egress' },
  ] as const;
  readonly registry: Registry;
  readonly addresses: AddressLearning;
  readonly #options: FirewallPluginOptions;
  readonly #readers = new Map<Dpid, CopyReader>();
  #running: Parts | undefined;

  constructor(options: FirewallPluginOptions) {
    this.#options = options;
    const { terminals, clock, log, events, memory } = options;
    const limits = new Map(terminals.map(({ terminal, attachments = 1 }) => [terminal.name, attachments]));
    this.registry = new Registry(
      terminals.map(({ terminal }) => terminal),
      {
        limit: (name) => limits.get(name) ?? 1,
        onChange: (name, attachments) => options.attachments?.save(name, attachments),
      },
    );
    this.addresses = new AddressLearning({
      ...{ terminals, clock, log },
      ...(memory ? { memory } : {}),
      outlet: {
        guard: (name) => this.#parts().guards.bring(name),
        firewall: (terminal) => events.addressed(terminal),
        fromTerminal: (name, frame) => this.#fromTerminal(name, frame),
        toTerminal: (name, frame) => this.#toTerminal(name, frame),
        uses: (name) => this.#uses(name),
        changed: ({ name, ipv4, ipv6 }) => log.info({ terminal: name, ipv4, ipv6 }, 'addresses'),
      },
    });
  }

  start(host: PluginHost): void {
    const { topology, terminals, numbers, clock, events } = this.#options;
    const { log } = host;
    const tables = {
      guard: host.table('guard'),
      enter: host.table('enter'),
      firewall: host.table('firewall'),
      deliver: host.table('deliver'),
      lead: host.table('lead'),
      ingress: host.entry('ingress'),
      network: host.after('lead'),
      egress: host.table('egress'),
    };
    const known = terminals.map(({ terminal }) => terminal);
    const { registry, addresses } = this;
    const steering = new Steering({ topology, terminals: known, host, tables, numbers, clock, log });
    const guards = new Guards({
      ...{ host, steering, addresses, attachments: (name) => registry.attachments(name) },
      terminals: terminals.map(({ terminal: { name }, learn }) => ({ name, learn })),
    });
    const arrivals = new Arrivals({
      ...{ registry, guards, steering, addresses, events, clock, log },
      switch: (dpid) => host.switch(dpid),
    });
    this.#running = { host, steering, guards, arrivals };
    for (const { name } of known) this.#restore(name);
  }

  /** The terminal is where an earlier controller had seen it, until its switch says that the port is gone. */
  #restore(name: string): void {
    const attachments = this.#options.attachments?.load(name) ?? [];
    if (attachments.length === 0) return;
    const { guards, steering, host } = this.#parts();
    this.registry.restore(name, attachments);
    const restored = this.registry.attachments(name);
    Promise.all([guards.bring(name), steering.setAttachments(name, restored)]).catch((error: unknown) =>
      host.log.warn({ terminal: name, error }, 'rules of a terminal not restored'),
    );
  }

  close(): void {
    this.addresses.close();
    this.#running?.arrivals.close();
    this.#running?.steering.close();
  }

  get host(): PluginHost {
    return this.#parts().host;
  }

  get steering(): Steering {
    return this.#parts().steering;
  }

  /** Copies of packets of this domain's switch go to it. */
  addReader(reader: CopyReader): void {
    this.#readers.set(reader.dpid, reader);
  }

  switchUp(sw: Switch): void {
    setMeters(sw).catch((error: unknown) =>
      this.host.log.warn({ dpid: sw.dpid, error }, 'meters not set: rejected packets are not answered'),
    );
    for (const { terminal } of this.#options.terminals)
      for (const at of this.registry.attachments(terminal.name))
        if (at.dpid === sw.dpid && !isUp(sw.ports.get(at.port), at))
          this.#parts().arrivals.portGone(sw.dpid, at.port);
    this.#setPorts(sw);
  }

  switchDown(dpid: Dpid): void {
    for (const { terminal } of this.#options.terminals)
      if (this.registry.attachments(terminal.name).some((at) => at.dpid === dpid))
        this.addresses.interrupted(terminal.name);
  }

  portChange(sw: Switch, port: Port, reason: 'added' | 'modified' | 'deleted'): void {
    if (reason === 'deleted' || port.linkDown) this.#parts().arrivals.portGone(sw.dpid, port.number);
    this.#setPorts(sw);
  }

  packetIn(event: PacketIn): void {
    if (event.table === 'firewall-ct') this.#readers.get(event.switch.dpid)?.packetIn(event);
    else if (event.table === 'classify' || event.table === 'enter') this.#notice(event);
    else if (event.table === 'guard' || event.table === 'deliver') {
      const learning = unpackLearning(event.cookie);
      if (learning) this.addresses.packetIn(learning.reason, learning.terminal, event.message.data);
    }
  }

  /** What steering's rules sent. */
  #notice({ switch: { dpid, ports }, cookie, message }: PacketIn): void {
    const { arrivals, steering } = this.#parts();
    const notice = unpackNotice(cookie);
    const { data, match } = message;
    if (!notice || data.length < ETHERNET_BYTES) return;
    if (notice.kind === 'held') steering.heldFrame(dpid, notice.terminal, notice.side, data);
    const port = ports.get(typeof match.in_port === 'number' ? match.in_port : -1);
    if (!port || !this.#isHostPort(dpid, port.name)) return;
    const { number, name: portName } = port;
    if (notice.kind === 'seen') arrivals.seen({ dpid, port: number, portName }, data);
    const terminal = this.#options.terminals[notice.terminal]?.terminal;
    if (notice.kind === 'sender' && terminal) arrivals.sendsBy(terminal, dpid, number);
  }

  #fromTerminal(name: string, data: Uint8Array): boolean {
    const at = this.registry.attachment(name);
    const sw = at && this.host.switch(at.dpid);
    if (!sw) return false;
    sw.packetOut({ inPort: at.port, actions: [{ type: 'output', port: OFPP.TABLE }], data });
    return true;
  }

  /** What waited in the controller has been through the terminal's firewall. */
  #toTerminal(name: string, data: Buffer): void {
    const at = this.registry.attachment(name);
    if (!at) return;
    this.host
      .switch(at.dpid)
      ?.packetOut({ inPort: OFPP.CONTROLLER, actions: [{ type: 'output', port: at.port }], data });
  }

  async #uses(name: string): Promise<ReadonlyMap<number, number>> {
    const of = useCookies(this.#parts().guards.listening(name).index);
    const dpids = new Set(this.registry.attachments(name).map(({ dpid }) => dpid));
    const connected = [...dpids].filter((dpid) => this.host.switch(dpid));
    const uses = new Map<number, number>();
    for (const counts of await Promise.all(connected.map((dpid) => this.host.counters(dpid, 'guard', of))))
      for (const [cookie, { packets }] of counts) {
        const learning = unpackLearning(cookie);
        if (learning) uses.set(learning.slot, (uses.get(learning.slot) ?? 0) + packets);
      }
    return uses;
  }

  #setPorts(sw: Switch): void {
    const { host, steering } = this.#parts();
    const up = [...sw.ports.values()].filter((port) => !port.linkDown && port.number < OFPP.MAX);
    steering
      .setPorts(sw.dpid, new Map(up.map(({ name, number }) => [name, number])))
      .catch((error: unknown) => host.log.warn({ dpid: sw.dpid, error }, 'steering not brought up to date'));
  }

  #isHostPort(dpid: Dpid, name: string): boolean {
    return !isEndPort(name) && !this.#options.topology.trunkPorts(dpid).has(name);
  }

  #parts(): Parts {
    if (!this.#running) throw new Error('the firewall plugin has not been started');
    return this.#running;
  }
}

/** Is the port the one where the terminal was seen? */
function isUp(port: Port | undefined, { portName }: Attachment): boolean {
  return port !== undefined && !port.linkDown && port.name === portName;
}
