/**
 * The coordinator: moves the active role of a terminal's firewall from one domain to another. It knows the Domain interface and
 * steering, and nothing of how either works.
 *
 *   prepare  snapshot of the old instance → a standby in the new domain, with a path to it; the old one's deltas follow
 *   switch   the new instance admits; steering leads everything through it, confirmed by the switches; the old one drains
 *   drain    packets still under way pass the old instance, and its deltas still flow
 *   retire   the old instance and its path are removed
 *
 * Whatever fails before the switch is undone: the old instance stays active. After it, what fails is repeated until it is done.
 */
import { randomUUID } from 'node:crypto';
import type { ApiEvent, HandoverReport } from '../../shared/api/schema.js';
import { type Domain, DomainError, type Ends, type InstanceId } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Epoch, FirewallState } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import { realClock, sleep } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import {
  type Complain,
  endFeed,
  FOLLOW_MS,
  mendAddresses,
  tellAddresses,
  withTerminal,
} from './addresses.js';
import { Feed } from './feed.js';
import { FirewallRecord, type Placed, Progress } from './firewall-record.js';
import { Stopwatch } from './stopwatch.js';

/** What the coordinator needs of steering. Every promise settles when the switches have confirmed. */
export interface HandoverSteering {
  addPath(id: InstanceId, ends: Ends): Promise<void>;
  setActive(id: InstanceId): Promise<void>;
  removePath(id: InstanceId): Promise<void>;
  /**
   * Nothing leads to any instance of the terminal until `setActive`: what arrives meanwhile is held, within bounds, and goes through the
   * instance that is active then, in the order in which it came.
   */
  hold(terminal: string): Promise<void>;
}

/** Bytes between domains on behalf of a terminal, counted where they are sent and received. */
export interface TransferMeter {
  read(terminal: string): { readonly snapshot: number; readonly delta: number };
}

export interface CoordinatorOptions {
  readonly domains: ReadonlyMap<string, Domain>;
  readonly steering: HandoverSteering;
  readonly firewalls: readonly { readonly terminal: Terminal; readonly policy: Policy }[];
  readonly timings: { readonly drainMs: number; readonly leaseMs: number };
  /**
   * Epochs begin here. A controller that has been restarted must begin after all that an earlier one used: domains would take the new
   * ones for repetitions.
   */
  readonly firstEpoch: number;
  readonly transfers: TransferMeter;
  readonly log: Log;
  /** Monotonic ms. */
  readonly now: () => number;
  readonly onEvent: (event: ApiEvent) => void;
  /** The terminal's active instance is there no more: it needs another. */
  readonly onLost: (terminal: string) => void;
  /** A firewall that outlived an earlier controller has the terminal with these addresses: which does it have now? */
  readonly reclaim: (found: Terminal) => Terminal;
}

export interface HandoverOrder {
  readonly to: string;
  readonly cause: HandoverReport['cause'];
  /** For experiments: the connections are left out of what the new domain gets. */
  readonly omitConnections?: boolean;
  /** Phases that went before: how long the terminal was away, and how long its traffic took to be hauled. */
  readonly before?: readonly { readonly name: 'detect' | 'haul'; readonly ms: number }[];
}

export class HandoverError extends Error {
  override readonly name = 'HandoverError';
  constructor(
    readonly code: 'unknown-terminal' | 'unknown-domain' | 'no-instance' | 'busy' | 'already-there',
    message: string,
  ) {
    super(message);
  }
}

/** Between two tries of a removal: doubled each time up to the most. */
const REPEAT_MS = { first: 250, most: 10_000 } as const;
/** The lease is renewed this many times before it would run out. */
const RENEWALS_PER_LEASE = 3;

export class Coordinator {
  readonly #records: ReadonlyMap<string, FirewallRecord>;
  readonly #closing = new AbortController();
  readonly #renewals: NodeJS.Timeout;
  readonly #background = new Set<Promise<void>>();
  readonly #complain: Complain = ({ domain, id }, error) => {
    const message = messageOf(error);
    this.options.log.warn({ domain: domain.name, ...id, error: message }, 'a call of a domain failed');
  };

  constructor(readonly options: CoordinatorOptions) {
    this.#records = new Map(
      options.firewalls.map(({ terminal, policy }) => [
        terminal.name,
        new FirewallRecord(terminal, policy, options.firstEpoch),
      ]),
    );
    this.#renewals = setInterval(() => {
      for (const record of this.#records.values()) void this.#renewLease(record);
    }, options.timings.leaseMs / RENEWALS_PER_LEASE);
  }

  record(terminal: string): FirewallRecord {
    const record = this.#records.get(terminal);
    if (record) return record;
    const names = [...this.#records.keys()].join(', ') || 'none';
    throw new HandoverError('unknown-terminal', `there is no terminal ${terminal}; there are: ${names}`);
  }

  /** The terminal's first instance, if it has none. Fails with a DomainError; then it has none still, and nothing passes. */
  place(terminal: string, to: string): Promise<void> {
    const record = this.record(terminal);
    const domain = this.#domain(to);
    return record.enqueue(async () => {
      if (record.active) return;
      const strays = await this.#strays(record);
      const id = { terminal, epoch: record.nextEpoch() };
      const snapshot = (await this.#inherited(record, strays)) ?? nothingYet(record, id.epoch);
      const placed = { domain, id };
      try {
        await this.options.steering.addPath(id, await domain.prepare(snapshot, id.epoch));
        await domain.activate(id, this.options.timings.leaseMs);
        await this.options.steering.setActive(id);
      } catch (error) {
        await this.#removeSurely(placed);
        throw error;
      }
      record.active = placed;
      record.told = snapshot.terminal;
      if (!isSameTerminal(snapshot.terminal, record.terminal)) await tellAddresses(record, this.#complain);
      this.options.log.info({ terminal, domain: to, epoch: id.epoch }, 'firewall placed');
      for (const stray of strays) this.#removeInBackground(stray);
    });
  }

  /**
   * Begins a handover. Throws a HandoverError when it cannot begin; `report` always settles, with whatever outcome.
   */
  handover(terminal: string, order: HandoverOrder): { id: string; report: Promise<HandoverReport> } {
    const record = this.record(terminal);
    const domain = this.#domain(order.to);
    const from = record.active;
    if (record.handover)
      throw new HandoverError('busy', `a handover of ${terminal} is under way: wait for its end`);
    if (!from) {
      const what = `${terminal} has no active firewall yet: attach it to a switch that a domain serves`;
      throw new HandoverError('no-instance', what);
    }
    if (from.domain === domain) {
      throw new HandoverError(
        'already-there',
        `the firewall of ${terminal} is active in ${order.to} already`,
      );
    }
    const id = randomUUID();
    record.handover = id;
    const report = record.enqueue(() => this.#run(id, record, from, domain, order));
    return { id, report };
  }

  /** Puts a policy in force in the active instance. A handover under way goes first. */
  setPolicy(terminal: string, policy: Policy): Promise<void> {
    const record = this.record(terminal);
    this.#activeOf(record);
    return record.enqueue(async () => {
      const { domain, id } = this.#activeOf(record);
      await domain.setPolicy(id, policy);
      record.policy = policy;
    });
  }

  /**
   * The terminal has these addresses now. Settles when its firewall knows; one that is placed later will. It waits for no handover: what the
   * old instance is told goes to the new one with all other changes.
   */
  setTerminal(terminal: Terminal): Promise<void> {
    const record = this.record(terminal.name);
    record.terminal = terminal;
    return tellAddresses(record, this.#complain);
  }

  /** Throws a HandoverError when there is no such terminal, or no firewall of it. */
  state(terminal: string): Promise<FirewallState> {
    const { domain, id } = this.#activeOf(this.record(terminal));
    return domain.export(id);
  }

  /** Removes from a domain what an earlier controller left there, once it is of no use any more: a newer instance is active. */
  async sweep(domainName: string): Promise<void> {
    const domain = this.#domain(domainName);
    const { instances } = await domain.health();
    for (const { terminal, epoch } of instances) {
      const record = this.#records.get(terminal);
      const stray = { domain, id: { terminal, epoch } };
      const active = record?.active;
      if (record && (!active || record.handover !== undefined || epoch >= active.id.epoch)) continue;
      this.#removeInBackground(stray);
    }
  }

  /** Twice is once. What is under way ends first; instances stay as they are. */
  async close(): Promise<void> {
    clearInterval(this.#renewals);
    this.#closing.abort();
    await Promise.allSettled([
      ...this.#background,
      ...[...this.#records.values()].map((record) => record.tail),
    ]);
  }

  async #run(
    handoverId: string,
    record: FirewallRecord,
    from: Placed,
    domain: Domain,
    order: HandoverOrder,
  ): Promise<HandoverReport> {
    const { log, now, steering, timings, transfers, onEvent } = this.options;
    const terminal = record.terminal.name;
    const to: Placed = { domain, id: { terminal, epoch: record.nextEpoch() } };
    const before = transfers.read(terminal);
    const names = { handover: handoverId, terminal, from: from.domain.name, to: domain.name };
    const watch = new Stopwatch(now, ({ name, ms }) => {
      const bytes = name === 'prepare' ? transfers.read(terminal).snapshot - before.snapshot : 0;
      onEvent({ kind: 'phase', ...names, phase: name, startedAt: Date.now() - ms, ms, bytes });
    });
    for (const { name, ms } of order.before ?? []) watch.add(name, ms);
    const progress = new Progress();
    let feed: Feed | undefined;
    let connections = 0;
    let problem: string | undefined;
    try {
      await watch.measure('prepare', async () => {
        const snapshot = await from.domain.export(from.id);
        const imported = order.omitConnections ? { ...snapshot, connections: [] } : snapshot;
        connections = imported.connections.length;
        const ends = await domain.prepare(imported, to.id.epoch);
        record.told = snapshot.terminal;
        if (!order.omitConnections) {
          feed = new Feed(from, to, snapshot.sequence, snapshot.terminal);
          record.feed = feed;
        }
        await steering.addPath(to.id, ends);
        await feed?.carried(record.terminal, FOLLOW_MS);
        if (feed?.problem) throw feed.problem;
      });
      progress.to('switching');
      await watch.measure('switch', async () => {
        await domain.activate(to.id, timings.leaseMs);
        await steering.setActive(to.id);
      });
      record.active = to;
      progress.to('draining');
      await watch.measure('drain', async () => {
        if (!feed) {
          record.told = undefined;
          await mendAddresses(record, this.#complain);
        }
        await from.domain
          .drain(from.id, timings.drainMs)
          .catch((error: unknown) => this.#complain(from, error));
        await this.#pause(timings.drainMs);
        await endFeed(record, feed, this.#complain);
        await mendAddresses(record, this.#complain);
      });
      progress.to('retiring');
      await watch.measure('retire', () => this.#removeSurely(from));
      progress.to('done');
    } catch (error) {
      problem = messageOf(error);
      await endFeed(record, feed, this.#complain);
      log.error({ ...names, stage: progress.stage, error: problem }, 'handover failed');
      if (progress.stage === 'preparing' || progress.stage === 'switching') {
        await watch.measure('undo', () => this.#undo(from, to, progress));
      }
      // It may have failed because the old instance is there no more.
      void this.#renewLease(record);
    } finally {
      record.handover = undefined;
    }
    const bytes = transfers.read(terminal);
    const report: HandoverReport = {
      id: handoverId,
      terminal,
      from: from.domain.name,
      to: domain.name,
      fromEpoch: from.id.epoch,
      toEpoch: to.id.epoch,
      cause: order.cause,
      outcome: progress.stage === 'done' ? 'done' : progress.stage === 'undone' ? 'undone' : 'failed',
      ...(problem === undefined ? {} : { error: problem }),
      phases: watch.phases,
      totalMs: watch.phases.reduce((sum, phase) => sum + phase.ms, 0),
      stateBytes: bytes.snapshot - before.snapshot,
      deltaBytes: bytes.delta - before.delta,
      connections,
    };
    onEvent({ kind: 'handover', report });
    return report;
  }

  /** The switch itself may have failed half-way: then everything is led back through the old instance first. */
  async #undo(from: Placed, to: Placed, progress: Progress): Promise<void> {
    try {
      if (progress.stage === 'switching') await this.options.steering.setActive(from.id);
      progress.to('undoing');
    } catch (error) {
      progress.to('failed');
      this.#complain(from, error);
    }
    await this.#removeSurely(to);
    if (progress.stage === 'undoing') progress.to('undone');
  }

  /** Removes an instance; what cannot be done now is repeated in the background. */
  async #removeSurely(placed: Placed): Promise<void> {
    try {
      await this.#remove(placed);
    } catch (error) {
      this.#complain(placed, error);
      this.#removeInBackground(placed);
    }
  }

  async #remove({ domain, id }: Placed): Promise<void> {
    await this.options.steering.removePath(id);
    try {
      await domain.retire(id);
    } catch (error) {
      // As good as retired.
      if (!isGone(error)) throw error;
    }
  }

  /** Instances that a domain still has from before this controller started. */
  async #strays(record: FirewallRecord): Promise<Placed[]> {
    const strays: Placed[] = [];
    for (const domain of this.options.domains.values()) {
      const health = await domain.health().catch(() => undefined);
      for (const { terminal, epoch: seen } of health?.instances ?? []) {
        if (terminal !== record.terminal.name) continue;
        record.noteEpoch(seen);
        strays.push({ domain, id: { terminal, epoch: seen } });
      }
    }
    return strays;
  }

  /**
   * The state of an instance that outlived an earlier controller, with the policy that holds now: its connections go on, and the addresses that
   * the terminal had learnt are its own as far as they are still allowed. A switch's instance is not among them, because its rules are gone by then.
   */
  async #inherited(record: FirewallRecord, strays: readonly Placed[]): Promise<FirewallState | undefined> {
    const latest = strays.toSorted((a, b) => b.id.epoch - a.id.epoch)[0];
    try {
      if (!latest) return undefined;
      const found = await latest.domain.export(latest.id);
      record.terminal = this.options.reclaim(found.terminal);
      return { ...withTerminal(found, record.terminal), policy: record.policy };
    } catch (error) {
      if (latest) this.#complain(latest, error);
      return undefined;
    }
  }

  /** Notices also that an instance is there no more: its agent has begun anew, or its container has ended. */
  async #renewLease(record: FirewallRecord): Promise<void> {
    const { active } = record;
    try {
      await active?.domain.activate(active.id, this.options.timings.leaseMs);
      if (active && !record.feed) await mendAddresses(record, this.#complain);
    } catch (error) {
      if (!active) return;
      this.#complain(active, error);
      if (isGone(error)) await record.enqueue(() => this.#lost(record, active)).catch(() => {});
    }
  }

  /** Nothing passes until there is another instance, and its connections are gone with it. */
  async #lost(record: FirewallRecord, active: Placed): Promise<void> {
    if (record.active !== active) return;
    record.active = undefined;
    const { domain, id } = active;
    this.options.log.error(
      { domain: domain.name, ...id },
      'the firewall is gone: a new one is placed, its connections are lost',
    );
    this.#removeInBackground(active);
    this.options.onLost(id.terminal);
  }

  #removeInBackground(placed: Placed): void {
    const work = this.#untilRemoved(placed).finally(() => this.#background.delete(work));
    this.#background.add(work);
  }

  /** Repeats the removal, which must be done, until it is or the coordinator closes. */
  async #untilRemoved(placed: Placed): Promise<void> {
    let waitMs: number = REPEAT_MS.first;
    while (!this.#closing.signal.aborted) {
      try {
        return await this.#remove(placed);
      } catch (error) {
        this.#complain(placed, error);
        await this.#pause(waitMs);
        waitMs = Math.min(waitMs * 2, REPEAT_MS.most);
      }
    }
  }

  /** Ends early when the coordinator closes. */
  #pause(ms: number): Promise<void> {
    return sleep(realClock, ms, this.#closing.signal).catch(() => {});
  }

  #domain(name: string): Domain {
    const domain = this.options.domains.get(name);
    if (domain) return domain;
    const names = [...this.options.domains.keys()].join(', ');
    throw new HandoverError('unknown-domain', `there is no domain ${name}; there are: ${names}`);
  }

  #activeOf(record: FirewallRecord): Placed {
    if (record.active) return record.active;
    throw new HandoverError('no-instance', `${record.terminal.name} has no active firewall yet`);
  }
}

/** The domain does not have the instance, or has fenced it off for good by a newer one. */
function isGone(error: unknown): boolean {
  return error instanceof DomainError && (error.code === 'no-instance' || error.code === 'stale-epoch');
}

/** The state of a firewall that has not seen a packet. */
function nothingYet({ terminal, policy }: FirewallRecord, epoch: Epoch): FirewallState {
  return { terminal, epoch, sequence: 0, policy, earlier: [], connections: [], counters: [] };
}
