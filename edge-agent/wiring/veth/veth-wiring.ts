/**
 * Ends that are veth pairs: the outer sides are ports of the agent's Open vSwitch bridge, the inner sides go into the compartment.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { DomainError, type Dpid, dpid } from '../../../shared/domain/domain.js';
import { END_PORT_PREFIX } from '../../../shared/domain/ends.js';
import { CommandError, run } from '../../../shared/runtime/command.js';
import type { Log } from '../../../shared/runtime/log.js';
import type { Compartment } from '../../runtime/runtime.js';
import { Unfinished } from '../../unfinished.js';
import { INNER, MTU } from '../inner.js';
import type { Wires, Wiring } from '../wiring.js';
import { LinkWatch } from './link-watch.js';
import { removeLinks, vethLinks } from './links.js';

export interface VethWiringOptions {
  /** The agent's name: its ports are known by it. */
  readonly agent: string;
  /** The Open vSwitch bridge whose ports the ends become. */
  readonly bridge: string;
  /** Where ovs-vsctl finds the database, when it is not the default place: `unix:/run/…/db.sock`. */
  readonly database?: string | undefined;
  readonly log: Log;
}

const OVS_TIMEOUT_SECONDS = 10;
/** The database has an empty set, `[]`, in its place until ovs-vswitchd has made the bridge. */
const DATAPATH_ID = /^[0-9a-f]{16}$/;

const rowsSchema = z.object({ data: z.array(z.array(z.unknown())) });

export class VethWiring implements Wiring {
  readonly #prefix: string;
  readonly #unfinished: Unfinished;
  readonly #watch: LinkWatch;
  #dpid: Dpid | undefined;
  #next = 1;

  constructor(private readonly options: VethWiringOptions) {
    this.#unfinished = new Unfinished(options.log);
    this.#watch = new LinkWatch(options.log);
    this.#prefix = namePrefix(options.agent);
  }

  get #alias(): string {
    return `paguro-agent/${this.options.agent}`;
  }

  async check(): Promise<Dpid> {
    // A bridge that is deleted and made again may have another datapath id.
    const text = await this.#ovs(['get', 'bridge', this.options.bridge, 'datapath_id']);
    const id = text.trim().replaceAll('"', '');
    if (!DATAPATH_ID.test(id)) {
      const { bridge } = this.options;
      throw new DomainError(
        'not-ready',
        `the bridge ${bridge} has no datapath yet: Open vSwitch has it in its database, but ovs-vswitchd has not made it. See that ovs-vswitchd runs, what "ovs-vsctl get bridge ${bridge} datapath_type" names, and which bridges "ovs-vsctl list-br" shows`,
      );
    }
    this.#dpid = dpid(id);
    return this.#dpid;
  }

  async create(): Promise<Wires> {
    const datapath = this.#dpid ?? (await this.check());
    const number = this.#next++;
    const names = { terminalSide: `${this.#prefix}t${number}`, networkSide: `${this.#prefix}n${number}` };
    const wires = new VethWires(this, datapath, names, this.#watch);
    try {
      await run('ip', ['-batch', '-'], { input: wires.outerLinks(this.#alias) });
      await Promise.all([wires.watch(), this.addPorts(wires.names)]);
      return wires;
    } catch (error) {
      await this.#unfinished.undo('the ends of an instance', () => wires.close());
      throw explain(error);
    }
  }

  async removeLeftovers(): Promise<void> {
    const rows = await this.#ovs([
      '--format=json',
      '--columns=name',
      'find',
      'port',
      `external_ids:paguro-agent="${this.options.agent}"`,
    ]);
    const ports = rowsSchema
      .parse(JSON.parse(rows))
      .data.flatMap(([name]) => (typeof name === 'string' ? [name] : []));
    if (ports.length > 0) await this.removePorts(ports);
    const links = (await vethLinks()).filter(({ ifname, ifalias }) => this.#isOurs(ifname, ifalias));
    await removeLinks(links.map(({ ifname }) => ifname));
    if (ports.length + links.length > 0) {
      this.options.log.info({ ports: ports.length, links: links.length }, 'removed ends of an earlier run');
    }
  }

  async addPorts(names: readonly string[]): Promise<void> {
    await this.#ovs(
      names.flatMap((name, index) => [
        ...(index === 0 ? [] : ['--']),
        ...['--may-exist', 'add-port', this.options.bridge, name],
        ...['--', 'set', 'port', name, `external_ids:paguro-agent="${this.options.agent}"`],
      ]),
    );
  }

  async removePorts(names: readonly string[]): Promise<void> {
    await this.#ovs(
      names.flatMap((name, index) => [...(index === 0 ? [] : ['--']), '--if-exists', 'del-port', name]),
    );
  }

  /** Another agent's name may have the same digits; one that was killed may not have come to the alias. */
  #isOurs(name: string, alias: string = this.#alias): boolean {
    return (
      name.startsWith(this.#prefix) &&
      /^[tn]\d+$/.test(name.slice(this.#prefix.length)) &&
      alias === this.#alias
    );
  }

  async #ovs(args: readonly string[]): Promise<string> {
    const { database, bridge } = this.options;
    const place = database === undefined ? [] : [`--db=${database}`];
    try {
      return (await run('ovs-vsctl', [`--timeout=${OVS_TIMEOUT_SECONDS}`, ...place, ...args])).stdout;
    } catch (error) {
      if (error instanceof CommandError && /no (row|bridge)/.test(error.stderr)) {
        throw new DomainError(
          'not-ready',
          `Open vSwitch has no bridge ${bridge}: create it ("ovs-vsctl add-br ${bridge}"), or name one of those that "ovs-vsctl list-br" shows in the agent's configuration`,
          { cause: error },
        );
      }
      if (error instanceof CommandError && error.code === 'failed') {
        throw new DomainError(
          'not-ready',
          `Open vSwitch did not do what was asked: see that ovsdb-server and ovs-vswitchd run (${error.message})`,
          { cause: error },
        );
      }
      throw explain(error);
    }
  }
}

class VethWires implements Wires {
  readonly ends: Wires['ends'];
  readonly names: readonly [terminalSide: string, networkSide: string];
  readonly lost: Promise<void>;
  #lose = (): void => {};
  #closing: Promise<void> | undefined;

  constructor(
    private readonly wiring: VethWiring,
    private readonly datapath: Dpid,
    { terminalSide, networkSide }: { readonly terminalSide: string; readonly networkSide: string },
    private readonly links: LinkWatch,
  ) {
    this.ends = { kind: 'ports', dpid: datapath, terminalSide, networkSide };
    this.names = [terminalSide, networkSide];
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
  }

  /** Both pairs; the inner sides wait under names of their own for the compartment to be there. */
  outerLinks(alias: string): string {
    return this.names
      .flatMap((name) => [
        `link add ${name} mtu ${MTU} type veth peer name ${waiting(name)} mtu ${MTU}`,
        `link set ${name} alias ${alias} addrgenmode none`,
        `link set ${name} up`,
      ])
      .join('\n');
  }

  async watch(): Promise<void> {
    await Promise.all(this.names.map((name) => this.links.watch(name, this.#lose)));
  }

  async enter({ pid }: Compartment): Promise<void> {
    const inner = [INNER.terminalSide, INNER.networkSide];
    const input = this.names
      .map((name, side) => `link set ${waiting(name)} netns ${pid} name ${inner[side]}\n`)
      .join('');
    await run('ip', ['-batch', '-'], { input }).catch((error: unknown) => {
      throw explain(error);
    });
  }

  async confirm(): Promise<void> {
    const [now] = await Promise.all([this.wiring.check(), this.wiring.addPorts(this.names)]);
    if (now !== this.datapath)
      throw new DomainError('not-ready', `the bridge is another one now: ${now}, not ${this.datapath}`);
  }

  async detach(): Promise<void> {
    this.#forget();
    await this.wiring.removePorts(this.names);
  }

  close(): Promise<void> {
    this.#closing ??= this.#remove().catch((error: unknown) => {
      this.#closing = undefined;
      throw error;
    });
    return this.#closing;
  }

  async #remove(): Promise<void> {
    this.#forget();
    // The switch lets go of its ports first: it would complain of devices that vanish.
    const ports = await this.wiring.removePorts(this.names).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    await removeLinks(this.names).catch((error: unknown) => {
      throw explain(error);
    });
    if (ports) throw ports.error;
  }

  #forget(): void {
    for (const name of this.names) this.links.forget(name);
  }
}

const waiting = (outer: string): string => `${outer}i`;

/** `pg`, four hexadecimal digits of the agent's name: two agents on one machine don't take each other's ports. At most 15 characters with side and number. */
function namePrefix(agent: string): string {
  return `${END_PORT_PREFIX}${createHash('sha256').update(agent).digest('hex').slice(0, 4)}`;
}

function explain(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof CommandError) {
    return new DomainError('refused', `the firewall's ends could not be wired: ${error.message}`, {
      cause: error,
    });
  }
  return new DomainError('refused', `the firewall's ends could not be wired: ${String(error)}`, {
    cause: error,
  });
}
