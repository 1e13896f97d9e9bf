/**
 * The main job as a scenario: a terminal with live connections moves from the SDN domain to the edge domain and back; forbidden packets
 * are tried throughout; and the control: the same moves with the connections left out, after which every connection must be dead.
 * The demo prints what it returns; an end-to-end test runs the demo and asserts on that.
 */
import type { Mininet, Move } from '../../lab/index.js';
import { Datagrams, startPing, startTraffic, type Traffic } from '../hosts/index.js';
import { Paguro } from '../paguro.js';
import type { Order } from '../priorities.js';
import { count, type ForbiddenCount, WireRig } from '../rig.js';
import { control } from './control.js';
import type { HandoverResult, MainJobResult } from './result.js';
import { addressOf, judge, PORT, PORTS, targets } from './traffic.js';

/** Of each family in each direction. */
const DATAGRAMS_PER_SECOND = 500;

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
  let without: WithoutFirewall | undefined;
  onStep('starting Open vSwitch, Docker and Mininet');
  const paguro = await Paguro.start({
    priorities: true,
    beforeController: async (net, order) => {
      onStep('firewall taken away: every forbidden packet must be seen to arrive');
      without = await tryWithoutFirewall(net, order);
    },
  });
  onSystem?.(paguro);
  try {
    const job = new MainJob(paguro, onStep);
    const result = await job.run();
    if (!without) throw new Error('the trial without the firewall has not been run');
    const { move, ...withoutFirewall } = without;
    return { ...result, forbidden: { ...result.forbidden, withoutFirewall }, ordinaryMove: move };
  } finally {
    await paguro.close();
  }
}

type WithoutFirewall = MainJobResult['forbidden']['withoutFirewall'] & {
  readonly move: MainJobResult['ordinaryMove'];
};

/** With ordinary switches in place of the firewall, at both places of the terminal, and under the same datagrams while it moves. */
async function tryWithoutFirewall(net: Mininet, order: Order): Promise<WithoutFirewall> {
  const wire = await WireRig.start(net, PORTS);
  try {
    await net.bypass(true);
    await wire.settle();
    const atS1 = await wire.round();
    const { gapMs, move } = await underDatagrams(net, order, async () => {
      const move = await net.move('h1', 's2');
      await wire.settle();
      return { move };
    });
    const atS2 = await wire.round();
    await net.move('h1', 's1');
    await net.bypass(false);
    const missing = [...atS1.missing(), ...atS2.missing()].map(({ family, name }) => `${family}: ${name}`);
    const tried = atS1.tried.length + atS2.tried.length;
    const { linkDownMs } = move;
    return { tried, arrived: tried - missing.length, missing, move: { gapMs, linkDownMs } };
  } finally {
    await wire.close();
    // Some of the frames lied about who has which address.
    await Promise.all([...net.hosts.values()].map((host) => host.flushNeighbours()));
  }
}

/** Moves the terminal's link under datagrams in both directions and families. */
async function underDatagrams<T extends { readonly move: Move }>(
  net: Pick<Mininet, 'host'>,
  { asHost }: Order,
  work: () => Promise<T>,
): Promise<T & { readonly gapMs: number }> {
  const datagrams = await Datagrams.start({
    first: net.host('h1'),
    second: net.host('h2'),
    ports: [PORT.datagrams, PORT.datagrams],
    perSecond: DATAGRAMS_PER_SECOND,
    starter: asHost,
  });
  try {
    const done = await work();
    const gaps = await datagrams.collect();
    const since = done.move.downAt;
    return { ...done, gapMs: Math.max(0, ...gaps.flatMap(({ at, ms }) => (at + ms >= since ? [ms] : []))) };
  } finally {
    await datagrams.close();
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
      const dead = await control(paguro, client, server, this.onStep);
      return { connections, handovers, control: dead, forbidden: this.#forbidden() };
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
      return { connections: await judge(client, server, pings), handovers: [there, back] };
    } finally {
      for (const ping of pings) await ping.close();
    }
  }

  /** Moves the link, lets the controller notice by itself, and tries forbidden packets until the handover is over. */
  async #move(wire: WireRig, to: string, domain: string): Promise<HandoverResult> {
    const { paguro } = this;
    this.onStep(`alice's link moves to ${to}: the controller notices by itself`);
    const seen = (await paguro.api.handovers()).length;
    const { during, move, report, gapMs } = await underDatagrams(paguro, paguro.order, async () => {
      const moving = (async () => {
        const move = await paguro.move('h1', to);
        return { move, report: await paguro.handoverAfter('alice', seen) };
      })();
      return { during: await wire.during(moving), ...(await moving) };
    });
    const { linkDownMs } = move;
    if (report.outcome !== 'done' || report.to !== domain)
      throw new Error(`handover ${report.outcome}: ${report.error}`);
    await this.#stage(
      `during the move to the ${domain.startsWith('sdn') ? 'SDN' : 'edge'} domain`,
      during,
      wire,
    );
    const { from, phases, totalMs, stateBytes, deltaBytes, connections } = report;
    return {
      ...{ from, to: domain, phases, totalMs },
      ...{ gapMs, linkDownMs },
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
}
