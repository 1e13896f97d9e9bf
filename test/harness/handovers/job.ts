/**
 * The measurement of loss-freedom: many handovers, one after another, under steady traffic, and what was lost, doubled, turned round or held up by
 * them; then the control. `npm run handovers` prints what it returns.
 */
import type { HandoverReport, TerminalStatus } from '../../../shared/api/schema.js';
import { realClock, sleep } from '../../../shared/runtime/clock.js';
import { waitFor } from '../../lab/index.js';
import { type FlowReport, monotonicMs } from '../hosts/index.js';
import { Paguro } from '../paguro.js';
import { type Quantiles, quantiles } from '../quantiles.js';
import { machineNoise } from './machine-noise.js';
import { type MoveKind, moveKind, moveLink, moveRole } from './moves.js';
import { type Drops, SwitchDrops } from './switch-drops.js';
import { MeasuredTraffic, type TrafficOutcome, type TrafficPorts } from './traffic.js';
import { flowName, type Place, WINDOW_MS, Windows } from './windows.js';

const TERMINAL = 'alice';
const DOMAINS = ['sdn-1', 'edge-1'] as const;
const PORTS: TrafficPorts = { datagrams: [5_010, 5_011], push: 5_012, echo: 5_013 };
const CONTROL_PORTS: TrafficPorts = { datagrams: [5_020, 5_021], push: 5_022, echo: 5_023 };
/** The terminal has a link to each domain's switch. */
const HOSTS = [
  { name: 'h1', switch: 's1', also: 's2', mac: '02:00:00:00:00:01', ipv4: '10.0.0.1/24', ipv6: 'fd00::1/64' },
  { name: 'h2', switch: 's3', mac: '02:00:00:00:00:02', ipv4: '10.0.0.2/24', ipv6: 'fd00::2/64' },
];
/** What is received at the end of a window is recorded by then. */
const RECORDED_MS = 50;
const READY_MS = 60_000;
/** Windows without a handover: as many as handovers, but no more than these. */
const MAX_QUIET = 200;
/** Windows of the machine alone. */
const LEAST_SPINS = 10;
const MAX_SPINS = 100;

/** The last line of the program. */
export interface HandoversResult {
  readonly handovers: number;
  /** Datagrams of all flows. */
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly reordered: number;
  /** Received and checked at both ends. */
  readonly tcpBytes: number;
  readonly resets: number;
  readonly retransmits: number;
  /** The worst gap beyond the sending interval around each handover. */
  readonly gapMs: Quantiles;
  /** The phase `switch` of each handover. */
  readonly switchMs: Quantiles;
  readonly control: { readonly handovers: number; readonly lost: number };
}

export interface Loss {
  readonly flow: string;
  readonly lost: number;
  readonly first: Place;
  readonly last: Place;
}

/** What else there is to say. */
export interface HandoversDetails {
  /** Whether the lab's programs had an order: see priorities.ts. */
  readonly priorities: boolean;
  /** The longest time in which a program that did nothing but look at the clock got no processor, in windows of the same length, before anything ran. */
  readonly machineGapMs: Quantiles;
  readonly machineWindows: number;
  /** The same as `gapMs`, in windows of the same length in which nothing moved. */
  readonly quietGapMs: Quantiles;
  readonly quietWindows: number;
  readonly gapMsByKind: Readonly<Record<MoveKind, Quantiles>>;
  readonly gapMsByFlow: Readonly<Record<string, Quantiles>>;
  readonly movesByKind: Readonly<Record<MoveKind, number>>;
  /** What the switches say that they dropped: those that were datagrams are among the lost. */
  readonly drops: Drops;
  /** At any time, in a window or not. */
  readonly longestGaps: Windows['longest'];
  /** Datagrams that were lost, by flow and handover: how many, and when the first and the last were sent. */
  readonly losses: readonly Loss[];
  readonly phaseMs: Readonly<Record<string, Quantiles>>;
  readonly flows: readonly Omit<FlowReport, 'missingSince'>[];
  /** Whatever else is not as it should be, for a person. */
  readonly problems: readonly string[];
}

export interface Progress {
  readonly done: number;
  readonly kind: MoveKind;
  readonly report: Pick<HandoverReport, 'to' | 'phases'>;
  /** Until now; what is under way counts as lost. */
  readonly flows: readonly Omit<FlowReport, 'missingSince'>[];
  /** Of this handover. */
  readonly gapMs: number;
}

export interface HandoversOptions {
  readonly handovers: number;
  readonly control: number;
  /** Datagrams a second, of each family in each direction. */
  readonly perSecond: number;
  /** Whether switches and hosts go before other programs: see priorities.ts. */
  readonly priorities: boolean;
  readonly onStep?: (text: string) => void;
  readonly onProgress?: (progress: Progress) => void;
}

/** Runs in a lab. A handover takes about a second and a half, windows without one included. */
export async function runHandovers(
  options: HandoversOptions,
): Promise<{ readonly result: HandoversResult; readonly details: HandoversDetails }> {
  const { handovers, priorities, onStep = () => {} } = options;
  const spins = Math.min(Math.max(handovers, LEAST_SPINS), MAX_SPINS);
  onStep(
    `what this machine does alone: ${Math.round((spins * WINDOW_MS) / 1_000)} s of looking at the clock`,
  );
  const alone = await machineNoise(spins, WINDOW_MS);
  onStep('starting Open vSwitch, Docker, Mininet, controller and agent');
  const paguro = await Paguro.start({
    ...{ network: { hosts: HOSTS }, standbys: DOMAINS, attachments: 2, priorities },
  });
  try {
    onStep('alice attaches to s1, to s2 as well, and sends by s1');
    await paguro.attach(TERMINAL, 'h1', 'sdn-1');
    for (const [to, domain] of [
      ['s2', 'edge-1'],
      ['s1', 'sdn-1'],
    ] as const) {
      await paguro.sendBy('h1', to);
      await paguro.attach(TERMINAL, 'h1', domain);
    }
    const job = new Job(paguro, options);
    await job.move();
    const control = await job.control();
    return job.conclude(control, alone);
  } finally {
    await paguro.close();
  }
}

class Job {
  readonly #windows = new Windows();
  readonly #switches = new SwitchDrops();
  readonly #reports: { readonly kind: MoveKind; readonly report: HandoverReport }[] = [];
  readonly #problems: string[] = [];
  #outcome: TrafficOutcome | undefined;

  constructor(
    readonly paguro: Paguro,
    readonly options: HandoversOptions,
  ) {}

  async move(): Promise<void> {
    const { handovers, onStep = () => {}, onProgress = () => {} } = this.options;
    await this.#switches.look();
    const traffic = await this.#traffic(PORTS);
    onStep(`${handovers} handovers`);
    const quietEvery = Math.ceil(handovers / MAX_QUIET);
    try {
      for (let number = 0; number < handovers; number++) {
        await this.#ready();
        if (number % quietEvery === 0) await this.#window('quiet', traffic, async () => {});
        const kind = moveKind(number);
        let report: HandoverReport | undefined;
        const gapMs = await this.#window(kind, traffic, async () => {
          report = await this.#moved(kind);
        });
        if (!report) throw new Error('no handover');
        this.#reports.push({ kind, report });
        const { flows } = traffic.datagrams.report();
        onProgress({ done: number + 1, kind, report, flows, gapMs });
      }
      onStep('the last datagrams are waited for');
      this.#outcome = await traffic.finish();
      this.#windows.note(this.#outcome.gaps);
      await this.#switches.look();
    } finally {
      await traffic.close();
    }
  }

  /** How many datagrams were lost, of handovers that break before they make. */
  async control(): Promise<HandoversResult['control']> {
    const { control, onStep = () => {} } = this.options;
    if (control === 0) return { handovers: 0, lost: 0 };
    onStep(`control, break before make: ${control} handovers`);
    const traffic = await this.#traffic(CONTROL_PORTS);
    try {
      for (let number = 0; number < control; number++) {
        await this.#ready();
        this.#check(await moveRole(this.paguro, TERMINAL, { breakBeforeMake: true }));
        await traffic.collect();
      }
      await traffic.datagrams.stop();
      const { flows } = traffic.datagrams.report();
      return { handovers: control, lost: sum(flows, 'lost') };
    } finally {
      await traffic.close();
    }
  }

  conclude(control: HandoversResult['control'], alone: readonly number[]) {
    if (!this.#outcome) throw new Error('nothing was measured');
    const { datagrams, tcp } = this.#outcome;
    const { flows } = datagrams;
    const windows = this.#windows;
    const phase = (name: string): Quantiles =>
      quantiles(
        this.#reports.flatMap(({ report }) =>
          report.phases.flatMap((one) => (one.name === name ? [one.ms] : [])),
        ),
      );
    const result: HandoversResult = {
      handovers: this.#reports.length,
      sent: sum(flows, 'sent'),
      received: sum(flows, 'received'),
      lost: sum(flows, 'lost'),
      duplicated: sum(flows, 'duplicated'),
      reordered: sum(flows, 'reordered'),
      tcpBytes: tcp.bytes,
      resets: tcp.fates.filter((fate) => fate === 'reset').length,
      retransmits: tcp.retransmits,
      gapMs: quantiles(windows.worst(['role', 'link'])),
      switchMs: phase('switch'),
      control,
    };
    const ofKind = (kind: MoveKind): number => this.#reports.filter((one) => one.kind === kind).length;
    const phases = new Set(this.#reports.flatMap(({ report }) => report.phases.map(({ name }) => name)));
    const details: HandoversDetails = {
      priorities: this.paguro.order.given,
      machineGapMs: quantiles(alone),
      machineWindows: alone.length,
      quietGapMs: quantiles(windows.worst(['quiet'])),
      quietWindows: windows.worst(['quiet']).length,
      gapMsByKind: {
        role: quantiles(windows.worst(['role'])),
        link: quantiles(windows.worst(['link'])),
      },
      gapMsByFlow: Object.fromEntries(
        windows.flows.map((flow) => [flow, quantiles(windows.worst(['role', 'link'], flow))]),
      ),
      movesByKind: { role: ofKind('role'), link: ofKind('link') },
      drops: this.#switches.drops,
      longestGaps: windows.longest,
      losses: flows.flatMap((flow) => lossesOf(flow, windows)),
      phaseMs: Object.fromEntries([...phases].map((name) => [name, phase(name)])),
      flows: flows.map(({ missingSince: _, ...flow }) => flow),
      problems: [...this.#problems, ...problemsOf(this.#outcome)],
    };
    return { result, details };
  }

  #traffic(ports: TrafficPorts): Promise<MeasuredTraffic> {
    const { paguro, options } = this;
    const how = { perSecond: options.perSecond, starter: paguro.order.asHost };
    return MeasuredTraffic.start(paguro.host('h1'), paguro.host('h2'), ports, how);
  }

  async #moved(kind: MoveKind): Promise<HandoverReport> {
    const report = await (kind === 'role'
      ? moveRole(this.paguro, TERMINAL)
      : moveLink(this.paguro, TERMINAL, 'h1'));
    this.#check(report);
    return report;
  }

  #check({ from, to, outcome, error }: HandoverReport): void {
    if (outcome !== 'done') this.#problems.push(`a handover from ${from} to ${to} was ${outcome}: ${error}`);
  }

  /** No handover is under way, and the next will find its standby. */
  #ready(): Promise<TerminalStatus> {
    return waitFor(
      `${TERMINAL} is settled and has a standby`,
      async () => {
        const status = await this.paguro.terminal(TERMINAL);
        const ready = status.standbys.length > 0 && status.standbys.every(({ state }) => state === 'ready');
        return status.active !== null && status.handover === null && ready && status;
      },
      { timeoutMs: READY_MS, intervalMs: 10 },
    );
  }

  /** One window: `work`, and what is left of its time. Returns the worst gap in it. */
  async #window(
    kind: MoveKind | 'quiet',
    traffic: MeasuredTraffic,
    work: () => Promise<void>,
  ): Promise<number> {
    const from = monotonicMs();
    this.#windows.open(kind, from);
    await work();
    // Not a wait for something to happen: the time over which gaps are looked for.
    await sleep(realClock, Math.max(0, from + WINDOW_MS + RECORDED_MS - monotonicMs()));
    this.#windows.note(await traffic.collect());
    await this.#switches.look();
    return this.#windows.worst([kind]).at(-1) ?? 0;
  }
}

function sum<K extends string>(flows: readonly Readonly<Record<K, number>>[], key: K): number {
  return flows.reduce((total, flow) => total + flow[key], 0);
}

function lossesOf(flow: FlowReport, windows: Windows): readonly Loss[] {
  const byHandover = new Map<number, Place[]>();
  for (const at of flow.missingSince) {
    const place = windows.place(at);
    byHandover.set(place.handover, [...(byHandover.get(place.handover) ?? []), place]);
  }
  return [...byHandover.values()].flatMap((places): Loss[] => {
    const [first, last] = [places[0], places.at(-1)];
    return first && last ? [{ flow: flowName(flow), lost: places.length, first, last }] : [];
  });
}

function problemsOf({ datagrams, tcp }: TrafficOutcome): readonly string[] {
  const { foreign, overflows, refused, flows } = datagrams;
  const unknown = sum(flows, 'unknown');
  const ended = tcp.fates.filter((fate) => fate !== 'survived' && fate !== 'reset');
  return [
    ...(overflows > 0 ? [`${overflows} datagrams were received, but not read in time: measure again`] : []),
    ...(refused > 0 ? [`${refused} datagrams were not sent by the kernel`] : []),
    ...(foreign + unknown > 0 ? [`${foreign + unknown} datagrams came that were never sent`] : []),
    ...ended.map((fate) => `a TCP connection is ${fate}`),
  ];
}
