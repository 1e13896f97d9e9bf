/**
 * Connections of all kinds between the terminal h1 and the server h2, opened when a scenario says so and judged together: TCP where both
 * ends talk and where only the server does, UDP exchanges and pings, each over IPv4 and IPv6.
 */
import type { Family } from '../../shared/firewall/terminal.js';
import { waitFor } from '../lab/wait.js';
import {
  type Fate,
  fates,
  monotonicMs,
  type Ping,
  startPing,
  startTraffic,
  type Traffic,
} from './hosts/index.js';
import type { Paguro } from './paguro.js';

const PORT = { both: 5001, serverOnly: 5002, exchange: 5003 } as const;
/** To be left out of captures. */
export const LIFE_PORTS: readonly number[] = Object.values(PORT);
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
/** Every connection sends ten times a second, a ping five times; TCP may first have to wait for its retransmission. */
const PATIENCE_MS = 12_000;
/** The control: without the state, not one byte in this time, which is longer than any pause between two sends. */
export const DEAD_MS = 3_000;

export interface Judged {
  /** Where it was opened, and what it is: `edge-1: udp, ipv6`. */
  readonly name: string;
  readonly fate: Fate;
}

type Reports = readonly [
  client: Awaited<ReturnType<Traffic['report']>>,
  server: Awaited<ReturnType<Traffic['report']>>,
];

export class Life {
  readonly #names = { tcp: [] as string[], udp: [] as string[] };
  readonly #pings: { readonly name: string; readonly ping: Ping }[] = [];
  /** TCP connections and exchanges that are none of the scenario's business any more. */
  readonly #over = { tcp: 0, udp: 0 };

  private constructor(
    private readonly paguro: Pick<Paguro, 'host'>,
    private readonly client: Traffic,
    private readonly server: Traffic,
  ) {}

  static async start(paguro: Pick<Paguro, 'host'>): Promise<Life> {
    const [client, server] = [startTraffic(paguro.host('h1')), startTraffic(paguro.host('h2'))];
    await server.listen({
      tcp: [
        { port: PORT.both, mode: 'both' },
        { port: PORT.serverOnly, mode: 'server-only' },
      ],
      udp: [PORT.exchange],
    });
    return new Life(paguro, client, server);
  }

  /** How many it watches. */
  get size(): number {
    const { tcp, udp } = this.#names;
    return tcp.length + udp.length - this.#over.tcp - this.#over.udp + this.#pings.length;
  }

  /** Opens one connection of each kind and family. Settles when each TCP connection is open or has failed. */
  async open(where: string): Promise<void> {
    const address = (family: Family): string => this.paguro.host('h2')[family];
    const kinds = [
      { kind: 'tcp, both talk', mode: 'both', port: PORT.both },
      { kind: 'tcp, only the server talks', mode: 'server-only', port: PORT.serverOnly },
    ] as const;
    const tcp = FAMILIES.flatMap((family) =>
      kinds.map(({ kind, mode, port }) => ({
        name: `${where}: ${kind}, ${family}`,
        target: { address: address(family), port, mode },
      })),
    );
    for (const { name } of tcp) this.#names.tcp.push(name);
    for (const family of FAMILIES) {
      this.#names.udp.push(`${where}: udp, ${family}`);
      const ping = startPing(this.paguro.host('h1'), address(family));
      this.#pings.push({ name: `${where}: ping, ${family}`, ping });
    }
    await Promise.all([
      this.client.connect(tcp.map(({ target }) => target)),
      this.client.exchange(FAMILIES.map((family) => ({ address: address(family), port: PORT.exchange }))),
    ]);
  }

  /** The fate of each from now on: settles as soon as each has moved bytes or ended, or after 12 s. */
  async judge(): Promise<readonly Judged[]> {
    const since = monotonicMs();
    let last: readonly Judged[] = [];
    await waitFor(
      'bytes in every connection',
      async () => {
        last = this.#judged(await this.#reports(), since);
        return last.every(({ fate }) => fate !== 'dead');
      },
      { timeoutMs: PATIENCE_MS, intervalMs: 50 },
    ).catch(() => {});
    return last;
  }

  /** The names of those in which a byte arrived at either end after `since` (monotonic ms). */
  async anyByteSince(since: number): Promise<readonly string[]> {
    const reports = await this.#reports();
    return this.#judged(reports, since, true).flatMap(({ name, fate }) =>
      fate === 'survived' ? [name] : [],
    );
  }

  /** The names of those that got an answer twice, ever. */
  async doubled(): Promise<readonly string[]> {
    const { exchanges } = await this.client.report();
    return [
      ...this.#names.udp.filter((_, index) => (exchanges[index]?.doubled ?? 0) > 0),
      ...this.#pings.filter(({ ping }) => ping.report().doubled > 0).map(({ name }) => name),
    ];
  }

  /** Closes what there is, and watches it no more. */
  async end(): Promise<void> {
    const { tcp } = await this.client.report();
    await this.client.end(tcp.slice(this.#over.tcp).map(({ id }) => id));
    await Promise.all(this.#pings.splice(0).map(({ ping }) => ping.close()));
    this.#over.tcp = this.#names.tcp.length;
    this.#over.udp = this.#names.udp.length;
  }

  async close(): Promise<void> {
    await Promise.all([
      ...this.#pings.splice(0).map(({ ping }) => ping.close()),
      this.client.close(),
      this.server.close(),
    ]);
  }

  #reports(): Promise<Reports> {
    return Promise.all([this.client.report(), this.server.report()]);
  }

  /** `either`: a byte at one end is a sign of life. */
  #judged([ours, theirs]: Reports, since: number, either = false): readonly Judged[] {
    const heard = (at: number | null | undefined): boolean => (at ?? 0) > since;
    const ends = fates(ours.tcp, theirs.tcp, since);
    const tcp = this.#names.tcp.map((name, index): Judged => {
      const one = ours.tcp[index];
      const other = theirs.tcp.findLast(
        ({ family, clientPort, serverPort }) =>
          one?.family === family && one.clientPort === clientPort && one.serverPort === serverPort,
      );
      const sign = either && (heard(one?.lastReceivedAt) || heard(other?.lastReceivedAt));
      return { name, fate: sign ? 'survived' : (ends[index] ?? 'unopened') };
    });
    const udp = this.#names.udp.map((name, index): Judged => {
      const { garbled = 0, lastAnsweredAt = null } = ours.exchanges[index] ?? {};
      return { name, fate: garbled > 0 ? 'garbled' : heard(lastAnsweredAt) ? 'survived' : 'dead' };
    });
    const pings = this.#pings.map(({ name, ping }): Judged => {
      return { name, fate: heard(ping.report().lastAnsweredAt) ? 'survived' : 'dead' };
    });
    return [...tcp.slice(this.#over.tcp), ...udp.slice(this.#over.udp), ...pings];
  }
}

/** Those that did not survive, each with what became of it: for a test's message. */
export function casualties(judged: readonly Judged[]): readonly string[] {
  return judged.flatMap(({ name, fate }) => (fate === 'survived' ? [] : [`${name}: ${fate}`]));
}
