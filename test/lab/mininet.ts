/**
 * Mininet in a lab: scripts/topology.py as a child process. Switches, hosts, moving a host's link, taking the firewall away.
 */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { Host, hostSchema } from '../harness/hosts/host.js';
import { JsonLines } from '../harness/hosts/json-lines.js';
import { LabError } from './error.js';
import { prepareLab } from './prepare.js';
import { sourceFile } from './project.js';

/** Debian's own Python: another one first on the path would not have Mininet. */
const PYTHON = '/usr/bin/python3';

export interface HostSpec {
  readonly name: string;
  readonly switch: string;
  readonly mac: string;
  /** With the prefix length: `10.0.0.1/24`. */
  readonly ipv4: string;
  readonly ipv6?: string;
  /** A second switch: the host receives on both links and sends on one, the first until `sendBy`. */
  readonly also?: string;
}

/** What is left out is the demo's: s1, s2, s3, the trunks s1–s3 and s2–s3, h1 on s1, h2 and h3 on s3. */
export interface NetworkSpec {
  readonly switches?: readonly { readonly name: string; readonly dpid: number }[];
  readonly links?: readonly (readonly [string, string])[];
  readonly hosts?: readonly HostSpec[];
  /** OpenFlow controllers of every switch: `tcp:127.0.0.1:6653`. Default: none; then nothing is forwarded. */
  readonly controllers?: readonly string[];
}

const switchSchema = z.object({ dpid: z.number(), ports: z.record(z.string(), z.string()) });
const descriptionSchema = z.object({
  hosts: z.record(z.string(), hostSchema),
  switches: z.record(z.string(), switchSchema),
});
const movedSchema = z.object({ host: hostSchema, from: z.string(), downAt: z.number(), upAt: z.number() });

const sentSchema = z.object({
  host: hostSchema,
  from: z.string(),
  startedAt: z.number(),
  doneAt: z.number(),
});

/** A switch: its datapath id, and for each port of this network the name of the node at the other end. */
export type SwitchDescription = z.infer<typeof switchSchema>;

/** Times are CLOCK_MONOTONIC in ms, the same in every process of the machine (`process.hrtime`). */
export interface Move {
  readonly host: string;
  readonly from: string;
  readonly to: string;
  readonly fromPort: string;
  readonly toPort: string;
  readonly downAt: number;
  readonly upAt: number;
  readonly linkDownMs: number;
}

/** The host's frames leave by the other link from a moment between `startedAt` and `doneAt` on: none by both, none by neither. */
export interface SendingLink {
  readonly host: string;
  readonly from: string;
  readonly to: string;
  readonly fromPort: string;
  readonly toPort: string;
  readonly startedAt: number;
  readonly doneAt: number;
}

export interface Mininet {
  /** Of the program that moves links. */
  readonly pid: number;
  readonly hosts: ReadonlyMap<string, Host>;
  /** A host by name. Fails with `refused` when there is none. */
  host(name: string): Host;
  /** Switches and their ports now. */
  switches(): Promise<Readonly<Record<string, SwitchDescription>>>;
  /** Moves a host's link to another switch. The host sees no more than its carrier go and come. */
  move(host: string, to: string, port?: number): Promise<Move>;
  /** A host with two links sends by the one to this switch from now on. It goes on receiving on both. */
  sendBy(host: string, to: string): Promise<SendingLink>;
  addHost(spec: HostSpec): Promise<Host>;
  /** True: no controller, every switch an ordinary learning one. False: no rules, and the controllers again. */
  bypass(on: boolean): Promise<void>;
  /** Takes hosts and switches away. May be called twice. */
  close(): Promise<void>;
}

/** Starts the network; Open vSwitch must run. Fails with `missing-program` or a HelperError that holds what Mininet said. */
export async function startMininet(network: NetworkSpec = {}): Promise<Mininet> {
  prepareLab();
  if (!existsSync(PYTHON)) throw new LabError('missing-program', `${PYTHON} is missing: run "npm run setup"`);
  const server = new JsonLines('Mininet', PYTHON, [sourceFile('scripts', 'topology.py')]);
  let described: z.infer<typeof descriptionSchema>;
  try {
    described = await server.greet(network, descriptionSchema);
  } catch (error) {
    await server.close();
    throw error;
  }
  const hosts = new Map(Object.entries(described.hosts).map(([name, host]) => [name, new Host(name, host)]));
  const host = (name: string): Host => {
    const found = hosts.get(name);
    if (found) return found;
    throw new LabError('refused', `there is no host ${name}: there are ${[...hosts.keys()].join(', ')}`);
  };
  return {
    pid: server.pid,
    hosts,
    host,
    switches: async () => (await server.request({ do: 'describe' }, descriptionSchema)).switches,
    move: async (name, to, port) => {
      const moved = host(name);
      const from = moved.attachment.switch;
      const request = { do: 'move', host: name, switch: to, ...(port === undefined ? {} : { port }) };
      const answer = await server.request(request, movedSchema);
      moved.attached(answer.host);
      const { downAt, upAt } = answer;
      return {
        ...{ host: name, from, to, fromPort: answer.from, toPort: answer.host.port },
        ...{ downAt, upAt, linkDownMs: upAt - downAt },
      };
    },
    sendBy: async (name, to) => {
      const sender = host(name);
      const from = sender.attachment.switch;
      const answer = await server.request({ do: 'send', host: name, link: to }, sentSchema);
      sender.attached(answer.host);
      const { startedAt, doneAt } = answer;
      return {
        ...{ host: name, from, to, fromPort: answer.from, toPort: answer.host.port },
        ...{ startedAt, doneAt },
      };
    },
    addHost: async (spec) => {
      const answer = await server.request({ do: 'addHost', ...spec }, z.object({ host: hostSchema }));
      const added = new Host(spec.name, answer.host);
      hosts.set(spec.name, added);
      return added;
    },
    bypass: async (on) => {
      await server.request({ do: 'bypass', on }, z.looseObject({}));
    },
    close: () => server.close(),
  };
}
