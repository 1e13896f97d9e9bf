/**
 * One handover, from its beginning to its report.
 *
 *   prepare  a standby in the new domain, with a path to it, that has every change; one that is kept ready needs nothing
 *   switch   the new instance admits; steering leads everything through it, confirmed by the switches
 *   drain    packets still under way pass the old instance, and its changes still flow
 *   retire   the old instance and its path are removed
 *
 * Whatever fails before the switch is undone: the old instance stays active. After it, what fails is repeated until it is done. In a takeover the old
 * instance is lost already: nothing is led back to it, and nobody waits for it.
 */
import type { HandoverReport } from '../../shared/api/schema.js';
import type { Domain, Ends } from '../../shared/domain/domain.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { mendAddresses } from './addresses.js';
import { added, beyond } from './counters.js';
import type { Feed } from './feed.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { Mirror } from './mirror.js';
import type { CoordinatorOptions, HandoverOrder } from './options.js';
import { isUnconfirmed, type Placed } from './placed.js';
import { type Pause, Progress } from './progress.js';
import type { Standby } from './standby.js';
import { Stopwatch } from './stopwatch.js';

/** The kernel that ends an instance's lease counts in seconds. */
const LEASE_GRAIN_MS = 1_000;
/** How long changes may take to a standby that is about to be active. */
const FOLLOW_MS = 1_000;

export interface MoveParts {
  readonly id: string;
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly record: FirewallRecord;
  readonly mirror: Mirror;
  readonly from: Placed;
  readonly domain: Domain;
  readonly order: HandoverOrder;
  readonly pause: Pause;
  /** The standby in the domain, one for the purpose if there was none. */
  standby(): Standby;
}

/** The instance that is to be active. */
interface Next {
  readonly placed: Placed;
  readonly ends: Ends;
  /** What brings it changes; without one it has been given none on purpose. */
  readonly feed: Feed | undefined;
  readonly counters: readonly RuleCounter[];
  /** The number of its own last change. */
  readonly sequence: number;
}

export class Move {
  readonly #progress = new Progress();
  readonly #watch: Stopwatch;
  readonly #names: Pick<HandoverReport, 'from' | 'to'> & {
    readonly handover: string;
    readonly terminal: string;
  };
  #next: Next | undefined;
  #connections = 0;
  #stateBytes = 0;

  constructor(readonly parts: MoveParts) {
    const { id, options, record, from, domain } = parts;
    const terminal = record.terminal.name;
    this.#names = { handover: id, terminal, from: from.domain.name, to: domain.name };
    const before = options.transfers.read(terminal);
    this.#watch = new Stopwatch(
      () => options.clock.monotonic(),
      ({ name, ms }) => {
        const bytes = name === 'prepare' ? options.transfers.read(terminal).snapshot - before.snapshot : 0;
        this.#stateBytes += bytes;
        const startedAt = options.clock.now() - ms;
        options.onEvent({ kind: 'phase', ...this.#names, phase: name, startedAt, ms, bytes });
      },
    );
  }

  /** Runs it; what goes wrong is in the report. */
  async run(): Promise<HandoverReport> {
    const { options, record, order } = this.parts;
    const terminal = record.terminal.name;
    const before = options.transfers.read(terminal);
    const watch = this.#watch;
    for (const { name, ms } of order.before ?? []) watch.add(name, ms);
    let problem: string | undefined;
    try {
      const next = await watch.measure('prepare', () => this.#prepare());
      this.#next = next;
      this.#progress.to('switching');
      await watch.measure('switch', () => this.#switch(next));
      const wasSource = await this.#becameActive(next);
      this.#progress.to('draining');
      await watch.measure('drain', () => this.#drain(next, wasSource));
      this.#progress.to('retiring');
      await watch.measure('retire', () => this.#retire());
      this.#progress.to('done');
    } catch (error) {
      problem = messageOf(error);
      options.log.error({ ...this.#names, stage: this.#progress.stage, error: problem }, 'handover failed');
      if (this.#progress.stage === 'preparing' || this.#progress.stage === 'switching')
        await watch.measure('undo', () => this.#undo());
    }
    const bytes = options.transfers.read(terminal);
    const { stage } = this.#progress;
    const report: HandoverReport = {
      id: this.parts.id,
      terminal,
      from: this.#names.from,
      to: this.#names.to,
      fromEpoch: this.parts.from.id.epoch,
      toEpoch: (this.#next?.placed ?? this.parts.from).id.epoch,
      cause: order.cause,
      outcome: stage === 'done' ? 'done' : stage === 'undone' ? 'undone' : 'failed',
      ...(problem === undefined ? {} : { error: problem }),
      phases: watch.phases,
      totalMs: watch.phases.reduce((sum, phase) => sum + phase.ms, 0),
      stateBytes: this.#stateBytes,
      deltaBytes: bytes.delta - before.delta,
      connections: this.#connections,
    };
    options.onEvent({ kind: 'handover', report });
    return report;
  }

  async #prepare(): Promise<Next> {
    const { options, record, mirror, instances, domain, order, pause } = this.parts;
    if (order.omitConnections) {
      const standby = record.standbys.get(domain.name);
      record.standbys.delete(domain.name);
      await standby?.close();
      const { placed, ends, counters } = await instances.buildEmpty(record, mirror, domain);
      return { placed, ends, counters, feed: undefined, sequence: await sequenceOf(placed) };
    }
    const standby = this.parts.standby();
    const { placed, ends, feed, counters } = await standby.obtain();
    await pause.at('catch-up');
    await feed.caughtUp(mirror.sequence, FOLLOW_MS);
    const [sequence] = await Promise.all([sequenceOf(placed), options.steering.stage(placed.id)]);
    if (feed.problem) throw feed.problem;
    feed.stopComparing();
    standby.take();
    record.standbys.delete(domain.name);
    this.#connections = mirror.connections;
    return { placed, ends, feed, counters, sequence };
  }

  async #switch(next: Next): Promise<void> {
    const { domain, id } = next.placed;
    const { options, instances, record, from, order, pause } = this.parts;
    if (order.breakBeforeMake) await instances.remove(from);
    await pause.at('activate');
    await domain.activate(id, options.timings.leaseMs);
    await pause.at('steer');
    await this.#lead(next);
    record.leaseEnd = options.clock.monotonic() + options.timings.leaseMs;
  }

  /**
   * Fences the old instance: by steering, when every switch that is concerned confirms it. Where one can't, a lost instance is not taken for silent before
   * its lease has run out.
   */
  async #lead({ placed: { domain, id } }: Next): Promise<void> {
    const { options, instances, record, order } = this.parts;
    const { steering, clock, timings, log } = options;
    try {
      await steering.setActive(id);
    } catch (error) {
      if (order.cause !== 'takeover' || !isUnconfirmed(error)) throw error;
      const waitMs = Math.max(0, record.leaseEnd + LEASE_GRAIN_MS - clock.monotonic());
      log.warn({ ...id, domain: domain.name, waitMs, error: messageOf(error) }, 'fenced by the lease');
      await instances.pause(waitMs);
      await domain.activate(id, timings.leaseMs);
      await steering.takeOver(id);
    }
  }

  /** What told of the old instance tells less from now on. */
  async #becameActive(next: Next): Promise<FirewallRecord['source']> {
    const { record, mirror, instances } = this.parts;
    const wasSource = record.source;
    wasSource?.drain();
    record.activate(next.placed, next.ends);
    const { terminal } = record;
    record.told = (await next.feed?.carried(terminal, 0)) ? terminal : undefined;
    if (!next.feed) mirror.replace({ ...mirror.snapshot(next.placed.id.epoch), connections: [] });
    record.source = instances.follow(record, next.placed, next.sequence, mirror);
    return wasSource;
  }

  async #drain({ feed, counters }: Next, wasSource: FirewallRecord['source']): Promise<void> {
    const { options, record, mirror, instances, from, pause } = this.parts;
    await mendAddresses(record, instances.complain);
    await pause.at('drain');
    if (this.#isLost) record.carried = [];
    else {
      await from.domain
        .drain(from.id, options.timings.drainMs)
        .catch((error: unknown) => instances.complain(from, error));
      await instances.pause(options.timings.drainMs);
      record.carried = await this.#counted(counters);
    }
    await wasSource?.end();
    await feed?.caughtUp(mirror.sequence, FOLLOW_MS);
    await feed?.end();
    if (feed?.problem) instances.complain(feed.to, feed.problem);
    await mendAddresses(record, instances.complain);
    await this.#kept();
  }

  /** A controller that begins anew must not lead to an instance that is removed next. */
  async #kept(): Promise<void> {
    const { record, options } = this.parts;
    try {
      await record.keeper.flushed();
    } catch (error) {
      options.log.error({ ...this.#names, error: messageOf(error) }, 'not kept where the firewall is');
    }
  }

  /** What the old instance has counted since the new one was given its counters. */
  async #counted(base: readonly RuleCounter[]): Promise<readonly RuleCounter[]> {
    const { record, from, instances } = this.parts;
    try {
      const { counters } = await from.domain.export(from.id);
      return beyond(added(counters, record.carried), base);
    } catch (error) {
      instances.complain(from, error);
      return [];
    }
  }

  async #retire(): Promise<void> {
    const { instances, from, pause } = this.parts;
    await pause.at('retire');
    if (this.#isLost) instances.removeInBackground(from);
    else await instances.removeSurely(from);
  }

  /** The old instance is there no more, or of no use. */
  get #isLost(): boolean {
    const { cause, breakBeforeMake } = this.parts.order;
    return cause === 'takeover' || breakBeforeMake === true;
  }

  /** The switch itself may have failed half-way: then everything is led back through the old instance first. */
  async #undo(): Promise<void> {
    const { options, from, instances } = this.parts;
    const wasSwitching = this.#progress.stage === 'switching';
    try {
      if (wasSwitching && !this.#isLost) await options.steering.setActive(from.id);
      this.#progress.to('undoing');
    } catch (error) {
      this.#progress.to('failed');
      instances.complain(from, error);
    }
    if (this.#next) {
      await this.#next.feed?.end();
      await instances.removeSurely(this.#next.placed);
    }
    if (this.#progress.stage === 'undoing') this.#progress.to('undone');
  }
}

async function sequenceOf({ domain, id }: Placed): Promise<number> {
  return (await domain.digest(id)).sequence;
}
