/**
 * The agent's ports of its Open vSwitch bridge, by ovs-vsctl.
 */
import { z } from 'zod';
import { DomainError, type Dpid, dpid } from '../../../shared/domain/domain.js';
import { CommandError, run } from '../../../shared/runtime/command.js';
import { explain } from './explain.js';

export interface SwitchPortsOptions {
  /** The agent's name: its ports are known by it. */
  readonly agent: string;
  readonly bridge: string;
  /** Where ovs-vsctl finds the database, when it is not the default place: `unix:/run/…/db.sock`. */
  readonly database?: string | undefined;
}

/**
 * The port numbers of ends begin here, and no agent has more than so many. Open vSwitch gives low numbers to ports that ask for none, and lets a port that asks for
 * the number of one that did not ask push that one out: the number of an end would become a host's, and until the controller hears of it what the
 * host sends would count as filtered. So each end asks for its own number, where nobody else does.
 */
const FIRST_NUMBER = 0x8000;
const NUMBERS_OF_AN_AGENT = 512;
/** So that all is below OFPP_MAX, 0xff00. */
const AGENTS = 63;

const OVS_TIMEOUT_SECONDS = 10;
/** The database has an empty set, `[]`, in its place until ovs-vswitchd has made the bridge. */
const DATAPATH_ID = /^[0-9a-f]{16}$/;

const rowsSchema = z.object({ data: z.array(z.array(z.unknown())) });

export class SwitchPorts {
  constructor(private readonly options: SwitchPortsOptions) {}

  /** The bridge's datapath id, now: one that is deleted and made again may have another. Fails with `not-ready`. */
  async dpid(): Promise<Dpid> {
    const { bridge } = this.options;
    const text = await this.#ovs(['get', 'bridge', bridge, 'datapath_id']);
    const id = text.trim().replaceAll('"', '');
    if (!DATAPATH_ID.test(id)) {
      throw new DomainError(
        'not-ready',
        `the bridge ${bridge} has no datapath yet: Open vSwitch has it in its database, but ovs-vswitchd has not made it. See that ovs-vswitchd runs, what "ovs-vsctl get bridge ${bridge} datapath_type" names, and which bridges "ovs-vsctl list-br" shows`,
      );
    }
    return dpid(id);
  }

  /** Those that are there already stay as they are. */
  async add(names: readonly string[]): Promise<void> {
    const { bridge, agent } = this.options;
    await this.#each(names, (name) => [
      ...['--may-exist', 'add-port', bridge, name],
      ...['--', 'set', 'port', name, `external_ids:paguro-agent="${agent}"`],
      ...['--', 'set', 'interface', name, `ofport_request=${numberOf(name)}`],
    ]);
  }

  /** Those that are there no more are passed over. */
  async remove(names: readonly string[]): Promise<void> {
    await this.#each(names, (name) => ['--if-exists', 'del-port', name]);
  }

  /** The names of all of the agent's. */
  async all(): Promise<readonly string[]> {
    const owned = `external_ids:paguro-agent="${this.options.agent}"`;
    const rows = await this.#ovs(['--format=json', '--columns=name', 'find', 'port', owned]);
    return rowsSchema
      .parse(JSON.parse(rows))
      .data.flatMap(([name]) => (typeof name === 'string' ? [name] : []));
  }

  async #each(names: readonly string[], words: (name: string) => readonly string[]): Promise<void> {
    if (names.length === 0) return;
    await this.#ovs(names.flatMap((name, index) => [...(index === 0 ? [] : ['--']), ...words(name)]));
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

/** Of `pg`, four hexadecimal digits of the agent, the side and the number of the pair: the number of the port. */
function numberOf(name: string): number {
  const [, agent = '0', side, pair = '0'] = /([0-9a-f]{4})([nt])(\d+)$/.exec(name) ?? [];
  const within = (2 * Number(pair) + (side === 'n' ? 1 : 0)) % NUMBERS_OF_AN_AGENT;
  return FIRST_NUMBER + (Number.parseInt(agent, 16) % AGENTS) * NUMBERS_OF_AN_AGENT + within;
}
