/**
 * The main job as a scenario: a terminal with live connections moves from the SDN domain to the edge domain and back; forbidden packets
 * are tried throughout; and the control: the same moves with the connections left out, after which every connection must be dead.
 * The demo prints what it returns; an end-to-end test runs the demo and asserts on that.
 */
import type { HandoverReport } from '../../shared/api/schema.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { realClock, sleep } from '../../shared/runtime/clock.js';
import type { Mininet, Move } from '../lab/index.js';
import { waitFor } from '../lab/wait.js';
import {
  Datagrams,
  type Fate,
  fates,
  monotonicMs,
  type Ping,
  startPing,
  startTraffic,
  type TcpMode,
  type TcpTarget,
  type Traffic,
} from './hosts/index.js';
import { Paguro } from './paguro.js';
import { count, type ForbiddenCount, WireRig } from './rig.js';

const PORT = { both: 5001, serverOnly: 5002, exchange: 5003, datagrams: 5004 } as const;
const PORTS = [PORT.both, PORT.serverOnly, PORT.exchange, PORT.datagrams] as const;
/** Of each family in each direction. */
const DATAGRAMS_PER_SECOND = 500;
/** After the switch, packets may still go the old way until the switch has looked at its cache again: 36 ms at most were measured. */
const REVALIDATION_MS = 200;
/** The control: without the state, not one byte in this time. */
const DEAD_MS = 5_000;
/** Traffic goes on for this long after a handover before it is judged: every connection sends ten times a second. */
const JUDGE_MS = 1_500;
const CONTROL_CONNECTIONS = 50;

export type Kind = 'tcp, both talk' | 'tcp, only the server talks' | 'udp' | 'ping';

export interface Survival {
  readonly opened: number;
  readonly survived: number;
  readonly reset: number;
}

export interface HandoverResult {
  readonly from: string;
  readonly to: string;
  readonly phases: HandoverReport['phases'];
  readonly totalMs: number;
  /** The longest time without a datagram at either end, in either family, beyond the interval in which they are sent. */
  readonly gapMs: number;
  /** What the moved link itself was away. */
  readonly linkDownMs: number;
  readonly stateBytes: number;
  readonly deltaBytes: number;
  readonly connections: number;
}

export interface MainJobResult {
  readonly connections: Survival & {
    readonly byFamily: Readonly<Record<Family, Survival>>;
    readonly byKind: Readonly<Record<Kind, Survival>>;
  };
  readonly forbidden: {
    readonly tried: number;
    readonly passed: number;
    readonly passedNames: readonly string[];
    /** The same frames with the firewall taken away: all must arrive, or the trial proves nothing. */
    readonly withoutFirewall: {
      readonly tried: number;
      readonly arrived: number;
      readonly missing: readonly string[];
    };
    readonly byStage: Readonly<Record<string, { readonly tried: number; readonly passed: number }>>;
  };
  /** Moves with the connections left out of the imported state. `aliveBefore`: they lived until then, also while hauled. */
  readonly control: {
    readonly opened: number;
    readonly aliveBefore: number;
    readonly survived: number;
    readonly byMove: readonly {
      readonly from: string;
      readonly to: string;
      readonly opened: number;
      readonly survived: number;
    }[];
  };
  readonly handovers: readonly HandoverResult[];
}

export interface MainJobOptions {
  /** Told of each step, for a person to read. */
  readonly onStep?: (text: string) => void;
  /** Told of the system as soon as it runs. */
  readonly onSystem?: (paguro: Paguro) => void;
}

/** Runs in a lab. Takes about half a minute. */
export async function runMainJob({
  onStep = () => {},
  onSystem,
}: MainJobOptions = {}): Promise<MainJobResult> {
  let withoutFirewall: MainJobResult['forbidden']['withoutFirewall'] | undefined;
  onStep('starting Open vSwitch, Docker and Mininet');
  const paguro = await Paguro.start({
    beforeController: async (net) => {
      onStep('firewall taken away: every forbidden packet must be seen to arrive');
      withoutFirewall = await tryWithoutFirewall(net);
    },
  });
  onSystem?.(paguro);
  try {
    const job = new MainJob(paguro, onStep);
    const result = await job.run();
    if (!withoutFirewall) throw new Error('the trial without the firewall has not been run');
    return { ...result, forbidden: { ...result.forbidden, withoutFirewall } };
  } finally {
    await paguro.close();
  }
}

/** With ordinary switches in place of the firewall, at both places of the terminal. */
async function tryWithoutFirewall(net: Mininet): Promise<MainJobResult['forbidden']['withoutFirewall']> {
  const wire = await WireRig.start(net, PORTS);
  try {
    await net.bypass(true);
    await wire.settle();
    const atS1 = await wire.round();
    await net.move('h1', 's2');
    await wire.settle();
    const atS2 = await wire.round();
    await net.move('h1', 's1');
    await net.bypass(false);
    const missing = [...atS1.missing(), ...atS2.missing()].map(({ family, name }) => `${family}: ${name}`);
    const tried = atS1.tried.length + atS2.tried.length;
    return { tried, arrived: tried - missing.length, missing };
  } finally {
    await wire.close();
    // Some of the frames lied about who has which address.
    await Promise.all([...net.hosts.values()].map((host) => host.flushNeighbours()));
  }
}

class MainJob {
  readonly #stages = new Map<string, ForbiddenCount>();

  constructor(
    readonly paguro: Paguro,
    readonly onStep: (text: string) => void,
  ) {}

  async run() {
    const { paguro } = this;
    const wire = await WireRig.start(paguro, PORTS);
    const [client, server] = [startTraffic(paguro.host('h1')), startTraffic(paguro.host('h2'))];
    try {
      await server.listen({
        tcp: [
          { port: PORT.both, mode: 'both' },
          { port: PORT.serverOnly, mode: 'server-only' },
        ],
        udp: [PORT.exchange],
      });
      this.onStep('alice attaches to s1: her firewall becomes flow rules there');
      await paguro.attach('alice', 'h1', 'sdn-1');
      const { connections, handovers } = await this.#thereAndBack(wire, client, server);
      await wire.close();
      const control = await this.#control(client, server);
      return { connections, handovers, control, forbidden: this.#forbidden() };
    } finally {
      await Promise.all([wire.close(), client.close(), server.close()]);
    }
  }

  async #thereAndBack(wire: WireRig, client: Traffic, server: Traffic) {
    const { paguro } = this;
    this.onStep('alice opens 50 TCP connections, 10 UDP exchanges and 2 pings');
    await client.connect(targets(paguro, 25, 25));
    await client.exchange(
      [...Array(10).keys()].map((n) => ({ address: addressOf(paguro, n), port: PORT.exchange })),
    );
    const pings = [
      startPing(paguro.host('h1'), paguro.host('h2').ipv4),
      startPing(paguro.host('h1'), paguro.host('h2').ipv6),
    ];
    try {
      await this.#stage('before, SDN domain', [await wire.round()]);
      const there = await this.#move(wire, 's2', 'edge-1');
      await this.#stage('after, edge domain', [await wire.round()]);
      this.onStep('alice opens 26 more TCP connections at the edge');
      await client.connect(targets(paguro, 13, 13));
      const back = await this.#move(wire, 's1', 'sdn-1');
      await this.#stage('after, SDN domain', [await wire.round()]);
      return { connections: await this.#judge(client, server, pings), handovers: [there, back] };
    } finally {
      for (const ping of pings) await ping.close();
    }
  }

  /** Moves the link, lets the controller notice by itself, and tries forbidden packets until the handover is over. */
  async #move(wire: WireRig, to: string, domain: string): Promise<HandoverResult> {
    const { paguro } = this;
    this.onStep(`alice's link moves to ${to}: the controller notices by itself`);
    const datagrams = await Datagrams.start({
      first: paguro.host('h1'),
      second: paguro.host('h2'),
      ports: [PORT.datagrams, PORT.datagrams],
      perSecond: DATAGRAMS_PER_SECOND,
    });
    const seen = (await paguro.api.handovers()).length;
    let move: Move | undefined;
    let report: HandoverReport | undefined;
    const moving = (async () => {
      move = await paguro.move('h1', to);
      report = await paguro.handoverAfter('alice', seen);
    })();
    const during = await wire.during(moving);
    const gaps = await datagrams.collect();
    await datagrams.close();
    if (!move || !report) throw new Error('no handover');
    if (report.outcome !== 'done' || report.to !== domain)
      throw new Error(`handover ${report.outcome}: ${report.error}`);
    const { downAt, linkDownMs } = move;
    await this.#stage(
      `during the move to the ${domain.startsWith('sdn') ? 'SDN' : 'edge'} domain`,
      during,
      wire,
    );
    const { from, phases, totalMs, stateBytes, deltaBytes, connections } = report;
    return {
      ...{ from, to: domain, phases, totalMs },
      gapMs: Math.max(0, ...gaps.flatMap(({ at, ms }) => (at + ms >= downAt ? [ms] : []))),
      linkDownMs,
      ...{ stateBytes, deltaBytes, connections },
    };
  }

  /** Counts a stage. Frames sent without waiting are looked for after one more round has settled. */
  async #stage(
    name: string,
    trials: Awaited<ReturnType<WireRig['during']>>,
    settleWith?: WireRig,
  ): Promise<void> {
    const all = settleWith ? [...trials, await settleWith.round()] : trials;
    this.#stages.set(name, count(all));
  }

  #forbidden() {
    const stages = [...this.#stages];
    return {
      tried: stages.reduce((sum, [, { tried }]) => sum + tried, 0),
      passed: stages.reduce((sum, [, { passed }]) => sum + passed.length, 0),
      passedNames: stages.flatMap(([stage, { passed }]) => passed.map((name) => `${stage}: ${name}`)),
      byStage: Object.fromEntries(
        stages.map(([name, { tried, passed }]) => [name, { tried, passed: passed.length }]),
      ),
    };
  }

  async #judge(
    client: Traffic,
    server: Traffic,
    pings: readonly Ping[],
  ): Promise<MainJobResult['connections']> {
    const since = monotonicMs();
    await pause(JUDGE_MS);
    const [ours, theirs] = await Promise.all([client.report(), server.report()]);
    const tcp = fates(ours.tcp, theirs.tcp, since);
    const judged: { kind: Kind; family: Family; fate: Fate }[] = [
      ...ours.tcp.map(({ mode, family }, index) => ({
        kind: kindOf(mode),
        family,
        fate: tcp[index] ?? 'unopened',
      })),
      ...ours.exchanges.map(({ family, lastAnsweredAt, garbled }) => ({
        kind: 'udp' as const,
        family,
        fate: (garbled > 0 ? 'garbled' : (lastAnsweredAt ?? 0) > since ? 'survived' : 'dead') as Fate,
      })),
      ...pings.map((ping) => {
        const { family, lastAnsweredAt } = ping.report();
        return {
          kind: 'ping' as const,
          family,
          fate: ((lastAnsweredAt ?? 0) > since ? 'survived' : 'dead') as Fate,
        };
      }),
    ];
    await client.end(ours.tcp.map(({ id }) => id));
    const of = (some: typeof judged): Survival => ({
      opened: some.length,
      survived: some.filter(({ fate }) => fate === 'survived').length,
      reset: some.filter(({ fate }) => fate === 'reset').length,
    });
    const family = (name: Family) => of(judged.filter((one) => one.family === name));
    const kind = (name: Kind) => of(judged.filter((one) => one.kind === name));
    return {
      ...of(judged),
      byFamily: { ipv4: family('ipv4'), ipv6: family('ipv6') },
      byKind: {
        'tcp, both talk': kind('tcp, both talk'),
        'tcp, only the server talks': kind('tcp, only the server talks'),
        udp: kind('udp'),
        ping: kind('ping'),
      },
    };
  }

  async #control(client: Traffic, server: Traffic): Promise<MainJobResult['control']> {
    await this.paguro.api.setPlacement('alice', 'stay');
    const there = await this.#withoutConnections(client, server, 's2', 'edge-1');
    const back = await this.#withoutConnections(client, server, 's1', 'sdn-1');
    const moves = [there, back];
    const sum = (key: 'opened' | 'aliveBefore' | 'survived') =>
      moves.reduce((total, move) => total + move[key], 0);
    return {
      opened: sum('opened'),
      aliveBefore: sum('aliveBefore'),
      survived: sum('survived'),
      byMove: moves.map(({ from, to, opened, survived }) => ({ from, to, opened, survived })),
    };
  }

  /** The same move; but the new domain gets the policy only. */
  async #withoutConnections(client: Traffic, server: Traffic, to: string, domain: string) {
    const { paguro } = this;
    this.onStep(`control: 50 new TCP connections, then the move to ${domain} with the connections left out`);
    const half = CONTROL_CONNECTIONS / 2;
    const opened = await client.connect(targets(paguro, half, half));
    const ids = new Set(opened.map(({ id }) => id));
    const survivors = async (since: number): Promise<number> => {
      const [ours, theirs] = await Promise.all([client.report(), server.report()]);
      const mine = ours.tcp.filter(({ id }) => ids.has(id));
      return fates(mine, theirs.tcp, since).filter((fate) => fate === 'survived').length;
    };
    await paguro.move('h1', to);
    const hauledAt = monotonicMs();
    const aliveBefore = await waitFor(
      'all connections live on while they are hauled',
      async () => {
        const alive = await survivors(hauledAt);
        return alive === ids.size && alive;
      },
      { timeoutMs: 10_000, intervalMs: 100 },
    );
    const report = await paguro.handover('alice', domain, { omitConnections: true });
    if (report.outcome !== 'done') throw new Error(`handover ${report.outcome}: ${report.error}`);
    const after = report.phases.filter(({ name }) => name === 'drain' || name === 'retire');
    const activatedAt = monotonicMs() - after.reduce((sum, { ms }) => sum + ms, 0);
    const since = activatedAt + REVALIDATION_MS;
    await pause(Math.max(0, activatedAt + DEAD_MS - monotonicMs()));
    const survived = await anyByte(client, server, ids, since);
    await client.end([...ids]);
    return { from: report.from, to: report.to, opened: ids.size, aliveBefore, survived };
  }
}

/** How many of these connections got a byte at either end after `since`. */
async function anyByte(
  client: Traffic,
  server: Traffic,
  ids: ReadonlySet<number>,
  since: number,
): Promise<number> {
  const [ours, theirs] = await Promise.all([client.report(), server.report()]);
  const late = (report: { lastReceivedAt: number | null }): boolean => (report.lastReceivedAt ?? 0) > since;
  return ours.tcp.filter(
    (one) =>
      ids.has(one.id) &&
      (late(one) ||
        theirs.tcp.some(
          (other) =>
            other.family === one.family &&
            other.clientPort === one.clientPort &&
            other.serverPort === one.serverPort &&
            late(other),
        )),
  ).length;
}

/** Half over IPv4, half over IPv6. */
function targets(paguro: Paguro, both: number, serverOnly: number): TcpTarget[] {
  const some = (howMany: number, mode: TcpMode, port: number): TcpTarget[] =>
    [...Array(howMany).keys()].map((n) => ({ address: addressOf(paguro, n), port, mode }));
  return [...some(both, 'both', PORT.both), ...some(serverOnly, 'server-only', PORT.serverOnly)];
}

function addressOf(paguro: Paguro, n: number): string {
  const { ipv4, ipv6 } = paguro.host('h2');
  return n % 2 === 0 ? ipv4 : ipv6;
}

function kindOf(mode: TcpMode): Kind {
  return mode === 'both' ? 'tcp, both talk' : 'tcp, only the server talks';
}

/** Not a wait for something to happen: the time over which nothing may happen, or over which traffic is judged. */
function pause(ms: number): Promise<void> {
  return sleep(realClock, ms);
}
