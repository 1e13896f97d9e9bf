/**
 * A system to break: the network of `places.ts`, with a faulty link in each agent's channel and in each switch's connection, and every fault of
 * the matrix by a call. A fault is over when what it returned is called.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { run } from '../../../shared/runtime/command.js';
import { waitFor } from '../../lab/index.js';
import { Paguro } from '../paguro.js';
import { PLACES, type Place, places, SWITCH_OF } from '../places.js';
import type { Fault } from './cells.js';
import { FaultyLink } from './faulty-link.js';

const OPENFLOW_PORT = 6653;
const CHANNEL_PORT = 7653;
/** A switch looks for its controller again after this, at most. */
const BACKOFF_MS = 1_000;
const STOPPED_MS = 5_000;

/** Ends a fault: what was killed is started again, as an init system would. */
export type Heal = () => Promise<void>;

const containerSchema = z.object({ ID: z.string() });

export interface FaultLabOptions {
  readonly standbys: readonly Place[];
  readonly timings: Readonly<Record<string, number>>;
}

export class FaultLab {
  #standbys: readonly Place[];

  private constructor(
    readonly paguro: Paguro,
    readonly channels: ReadonlyMap<string, FaultyLink>,
    readonly switches: ReadonlyMap<string, FaultyLink>,
    standbys: readonly Place[],
  ) {
    this.#standbys = standbys;
  }

  static async start(options: FaultLabOptions): Promise<FaultLab> {
    const edges = PLACES.filter((place) => place.startsWith('edge'));
    const channels = new Map<string, FaultyLink>();
    for (const edge of edges) channels.set(edge, await FaultyLink.start(CHANNEL_PORT));
    const switches = new Map<string, FaultyLink>();
    for (const name of Object.values(SWITCH_OF)) switches.set(name, await FaultyLink.start(OPENFLOW_PORT));
    const base = places(options);
    const paguro = await Paguro.start({
      ...base,
      agents: base.agents.map((agent) => {
        const dials = channels.get(agent.name)?.port;
        return dials === undefined ? agent : { ...agent, dials };
      }),
      beforeController: () => dialFaultyLinks(switches),
    });
    return new FaultLab(paguro, channels, switches, options.standbys);
  }

  async close(): Promise<void> {
    await this.paguro.close();
    for (const link of [...this.channels.values(), ...this.switches.values()]) await link.close();
  }

  /** These domains keep a standby from now on. A change of it is one of the controller's configuration, which begins anew with it. */
  async keepStandbys(standbys: readonly Place[]): Promise<void> {
    if (String(standbys) === String(this.#standbys)) return;
    const file = join(this.paguro.folder, 'controller.yaml');
    const before = await readFile(file, 'utf8');
    await writeFile(file, before.replace(/standbys: \[.*\]/, `standbys: [${standbys.join(', ')}]`));
    await this.paguro.killController();
    await this.paguro.startController();
    this.#standbys = standbys;
  }

  /** What is broken, and where: a domain for agents, containers and channels, else a switch. */
  async break(fault: Fault, where: Place): Promise<Heal> {
    const { paguro } = this;
    switch (fault) {
      case 'controller killed':
        await paguro.killController();
        return () => paguro.startController();
      case 'agent killed':
        await paguro.killAgent(where);
        return () => paguro.startAgent(where);
      case 'controller stopped':
        return this.#stop(paguro.pids().controller, 'the controller');
      case 'agent stopped':
        return this.#stop(paguro.pids().agents.get(where), `the agent of ${where}`);
      case 'container killed':
        await run('docker', ['kill', await containerOf(where)]);
        return async () => {};
      case "switch's connection cut":
        return interrupt(this.#link(this.switches, SWITCH_OF[where]), 'cut');
      case 'channel cut':
        return interrupt(this.#link(this.channels, where), 'cut');
      case 'channel stalled':
        return interrupt(this.#link(this.channels, where), 'stall');
    }
  }

  /** Whether a domain's agent has a container that could be killed. */
  async hasContainer(agent: Place): Promise<boolean> {
    return (await containersOf(agent)).length > 0;
  }

  #link(among: ReadonlyMap<string, FaultyLink>, name: string): FaultyLink {
    const found = among.get(name);
    if (!found) throw new Error(`there is no link of ${name}`);
    return found;
  }

  async #stop(pid: number | undefined, what: string): Promise<Heal> {
    if (pid === undefined) throw new Error(`${what} does not run`);
    process.kill(pid, 'SIGSTOP');
    await waitFor(`${what} stands still`, () => stateOf(pid).then((state) => state === 'T'), {
      timeoutMs: STOPPED_MS,
    });
    return async () => {
      process.kill(pid, 'SIGCONT');
    };
  }
}

async function interrupt(link: FaultyLink, how: 'cut' | 'stall'): Promise<Heal> {
  link[how]();
  return async () => link.resume();
}

/** Each switch dials its link as it would dial the controller. */
async function dialFaultyLinks(switches: ReadonlyMap<string, FaultyLink>): Promise<void> {
  for (const [name, { port }] of switches) {
    const { stdout } = await run('ovs-vsctl', ['get-controller', name]);
    const target = stdout.trim().replace(/:\d+$/, `:${port}`);
    await run('ovs-vsctl', ['set-controller', name, target]);
    await run('ovs-vsctl', ['set', 'controller', name, `max_backoff=${BACKOFF_MS}`]);
  }
}

/** As `ps` has it: T when it is stopped. */
async function stateOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).at(0);
}

/** The running containers of a domain's agent, the newest first. */
async function containersOf(agent: string): Promise<readonly string[]> {
  const { stdout } = await run('docker', [
    ...['ps', '--no-trunc', '--format', '{{json .}}', '--filter', `label=paguro.agent=${agent}`],
  ]);
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => containerSchema.parse(JSON.parse(line)).ID);
}

async function containerOf(agent: string): Promise<string> {
  const [newest] = await containersOf(agent);
  if (newest === undefined) throw new Error(`the agent of ${agent} has no container`);
  return newest;
}
