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
import { formatMac } from '../packet/address.js';
import { guardRules, unpackLearning, useCookies } from '../pipeline/index.js';
import { Steering } from '../steering/steering.js';
import type { Topology } from '../steering/topology.js';
import type { Attachment, Listening } from '../steering/view.js';
import type { Port, Switch } from '../switch/index.js';
import type { LearnRules } from '../terminals/address-book.js';
import { AddressLearning, type AddressMemory } from '../terminals/address-learning.js';
import { Registry } from '../terminals/registry.js';
import { setMeters } from './meters.js';

/** First frames of a terminal that wait for its rules; more are dropped, as they would be without us. */
const MAX_WAITING_FRAMES = 64;
/** A contested address is told of once in this many ms. */
const CONTESTED_LOG_INTERVAL_MS = 10_000;

export interface AttachmentEvents {
  /**
   * The terminal is attached here and its traffic is steered from here. `awayMs`: since its last attachment ended, if it had one;
   * `haulMs`: from its first frame until the switches had confirmed.
   */
  attached(terminal: Terminal, at: Attachment, times: { awayMs: number | undefined; haulMs: number }): void;
  detached(terminal: Terminal): void;
  /** The terminal has other addresses; settles when its firewalls know. */
  addressed(terminal: Terminal): Promise<void>;
}

/** The part of an SDN domain that copies of packets go to. */
export interface CopyReader {
  readonly dpid: Dpid;
  packetIn(event: PacketIn): void;
}

export interface FirewallPluginOptions {
  readonly topology: Topology;
  /** With the addresses of their configuration, and where they may learn others. */
  readonly terminals: readonly { readonly terminal: Terminal; readonly learn: LearnRules }[];
  readonly numbers: InstanceNumbers;
  readonly events: AttachmentEvents;
  /** Where learnt addresses outlive the controller. */
  readonly memory?: AddressMemory;
  readonly clock: Clock;
  readonly log: Log;
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
  readonly #leftAt = new Map<string, number>();
  /** Frames of a terminal that wait for its rules; no entry once they are in place. */
  readonly #waiting = new Map<string, Uint8Array[]>();
  readonly #contestedAt = new Map<string, number>();
  #running: { host: PluginHost; steering: Steering } | undefined;

  constructor(options: FirewallPluginOptions) {
    this.#options = options;
    const { terminals, clock, log, events, memory } = options;
    this.registry = new Registry(terminals.map(({ terminal }) => terminal));
    this.addresses = new AddressLearning({
      ...{ terminals, clock, log },
      ...(memory ? { memory } : {}),
      outlet: {
        guard: (name) => this.#guard(name),
        firewall: (terminal) => events.addressed(terminal),
        fromTerminal: (name, frame) => this.#fromTerminal(name, frame),
        toTerminal: (name, frame) => this.#toTerminal(name, frame),
        uses: (name) => this.#uses(name),
        changed: ({ name, ipv4, ipv6 }) => log.info({ terminal: name, ipv4, ipv6 }, 'addresses'),
      },
    });
  }

  start(host: PluginHost): void {
    const { topology, terminals, numbers } = this.#options;
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
    this.#running = { host, steering: new Steering(topology, known, host, tables, numbers) };
  }

  close(): void {
    this.addresses.close();
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
    for (const { terminal } of this.#options.terminals) {
      const at = this.registry.attachment(terminal.name);
      if (at?.dpid === sw.dpid && !sw.ports.has(at.port)) this.#portGone(sw.dpid, at.port);
    }
    this.#setPorts(sw);
  }

  switchDown(dpid: Dpid): void {
    for (const { terminal } of this.#options.terminals)
      if (this.registry.attachment(terminal.name)?.dpid === dpid) this.addresses.interrupted(terminal.name);
  }

  portChange(sw: Switch, port: Port, reason: 'added' | 'modified' | 'deleted'): void {
    if (reason === 'deleted' || port.linkDown) this.#portGone(sw.dpid, port.number);
    this.#setPorts(sw);
  }

  packetIn(event: PacketIn): void {
    if (event.table === 'firewall-ct') this.#readers.get(event.switch.dpid)?.packetIn(event);
    else if (event.table === 'classify') this.#terminalSeen(event);
    else if (event.table === 'guard' || event.table === 'deliver') {
      const learning = unpackLearning(event.cookie);
      if (learning) this.addresses.packetIn(learning.reason, learning.terminal, event.message.data);
    }
  }

  #terminalSeen({ switch: sw, message }: PacketIn): void {
    const port = sw.ports.get(typeof message.match.in_port === 'number' ? message.match.in_port : -1);
    const { data } = message;
    if (!port || data.length < 14 || !this.#isHostPort(sw.dpid, port.name)) return;
    const mac = formatMac(data, 6);
    const at: Attachment = { dpid: sw.dpid, port: port.number, portName: port.name };
    const sighting = this.registry.seen(mac, at);
    if (sighting.kind === 'contested') this.#contested(sighting.terminal, at);
    else if (sighting.kind === 'known') this.#reinject(sighting.terminal, data);
    else if (sighting.kind === 'attached') void this.#attach(sighting.terminal, at, data);
  }

  async #attach(terminal: Terminal, at: Attachment, first: Uint8Array): Promise<void> {
    const { clock, events } = this.#options;
    const { host, steering } = this.#parts();
    const start = clock.monotonic();
    const left = this.#leftAt.get(terminal.name);
    this.#waiting.set(terminal.name, [first]);
    try {
      await Promise.all([this.#guard(terminal.name), steering.setAttachment(terminal.name, at)]);
    } catch (error) {
      host.log.error(
        { terminal: terminal.name, error },
        'the terminal is not steered: its port stays closed',
      );
      this.registry.portGone(at.dpid, at.port);
      this.#waiting.delete(terminal.name);
      return;
    }
    if (this.registry.attachment(terminal.name) !== at) return;
    const haulMs = clock.monotonic() - start;
    events.attached(terminal, at, { awayMs: left === undefined ? undefined : start - left, haulMs });
    const frames = this.#waiting.get(terminal.name) ?? [];
    this.#waiting.delete(terminal.name);
    for (const frame of frames) this.#reinject(terminal, frame);
  }

  /** Back into the pipeline where the frame came from: it meets the guard like any other. */
  #reinject(terminal: Terminal, data: Uint8Array): void {
    const waiting = this.#waiting.get(terminal.name);
    if (waiting) {
      if (waiting.length < MAX_WAITING_FRAMES) waiting.push(data);
      return;
    }
    this.#fromTerminal(terminal.name, data);
  }

  /** Brings the guard of the terminal's port, and what is heard on the way to it, in line with its addresses. */
  async #guard(name: string): Promise<void> {
    const { host, steering } = this.#parts();
    const { book } = this.addresses;
    const at = this.registry.attachment(name);
    const listening = this.#listening(name);
    const rules =
      at &&
      guardRules(book.present(name), at.port, host.table('enter'), {
        ...{ index: listening.index, dhcp: listening.dhcp, prefixes: this.#learn(name).ipv6 },
        ...{ tentative: book.tentative(name), slots: book.slots(name) },
      });
    await Promise.all([
      rules && host.setRules(at.dpid, `guard ${name}`, rules),
      this.addresses.learns(name) && steering.setListening(name, listening),
    ]);
  }

  #listening(name: string): Listening {
    const index = this.#options.terminals.findIndex(({ terminal }) => terminal.name === name);
    return { index, dhcp: this.#learn(name).ipv4.length > 0, claims: this.addresses.book.tentative(name) };
  }

  #learn(name: string): LearnRules {
    const configured = this.#options.terminals.find(({ terminal }) => terminal.name === name);
    return configured?.learn ?? { ipv4: [], ipv6: [] };
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
    const at = this.registry.attachment(name);
    if (!at || !this.host.switch(at.dpid)) return new Map();
    const counts = await this.host.counters(at.dpid, 'guard', useCookies(this.#listening(name).index));
    return new Map(
      [...counts].flatMap(([cookie, { packets }]): [number, number][] => {
        const learning = unpackLearning(cookie);
        return learning ? [[learning.slot, packets]] : [];
      }),
    );
  }

  #portGone(dpid: Dpid, port: number): void {
    const { host, steering } = this.#parts();
    for (const terminal of this.registry.portGone(dpid, port)) {
      this.#leftAt.set(terminal.name, this.#options.clock.monotonic());
      this.#waiting.delete(terminal.name);
      const cleared = Promise.all([
        host.setRules(dpid, `guard ${terminal.name}`, []),
        steering.setAttachment(terminal.name, undefined),
      ]);
      cleared.catch((error: unknown) =>
        host.log.warn({ terminal: terminal.name, error }, 'rules not removed'),
      );
      this.addresses.interrupted(terminal.name);
      this.#options.events.detached(terminal);
    }
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

  #contested(terminal: Terminal, at: Attachment): void {
    const now = this.#options.clock.monotonic();
    if (now - (this.#contestedAt.get(terminal.name) ?? Number.NEGATIVE_INFINITY) < CONTESTED_LOG_INTERVAL_MS)
      return;
    this.#contestedAt.set(terminal.name, now);
    const where = { terminal: terminal.name, dpid: at.dpid, port: at.portName };
    this.#parts().host.log.warn(
      where,
      'somebody uses the address of a terminal that is attached elsewhere: dropped',
    );
  }

  #parts(): { host: PluginHost; steering: Steering } {
    if (!this.#running) throw new Error('the firewall plugin has not been started');
    return this.#running;
  }
}
