/**
 * The coordinator: sees to it that each terminal's firewall is active in one domain, ready in others, and moves. It knows the Domain interface and steering, and
 * nothing of how either works. How one handover goes is move.ts.
 */
import { randomUUID } from 'node:crypto';
import type { HandoverReport, StandbyStatus } from '../../shared/api/schema.js';
import type { Domain, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Epoch, FirewallState } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { mendAddresses, tellAddresses, withTerminal } from './addresses.js';
import { added } from './counters.js';
import { Damping } from './damping.js';
import { FirewallRecord } from './firewall-record.js';
import { Instances } from './instances.js';
import { Move } from './move.js';
import { type CoordinatorOptions, HandoverError, type HandoverOrder } from './options.js';
import { isGone, type Placed } from './placed.js';
import { Pause } from './progress.js';
import { Standby } from './standby.js';
import { Takeovers } from './takeover.js';

/** The lease is renewed this many times before it would run out. */
const RENEWALS_PER_LEASE = 3;

export class Coordinator {
  readonly #records: ReadonlyMap<string, FirewallRecord>;
  readonly #instances: Instances;
  readonly #damping: Damping;
  readonly #renewals: NodeJS.Timeout;
  readonly #takeovers: Takeovers;
  readonly #pauses = new Map<FirewallRecord, Pause>();
  #closed = false;

  constructor(readonly options: CoordinatorOptions) {
    this.#damping = new Damping(() => options.clock.monotonic());
    this.#instances = new Instances(options, (record, placed, error) =>
      this.#takeovers.gone(record, placed, error),
    );
    this.#records = new Map(
      options.firewalls.map((firewall) => [
        firewall.terminal.name,
        new FirewallRecord(firewall, options.firstEpoch),
      ]),
    );
    this.#takeovers = new Takeovers({
      options,
      instances: this.#instances,
      records: this.#records,
      move: (record, lost, to) => {
        record.handover = randomUUID();
        return this.#move(record.handover, record, lost, to, { to: to.name, cause: 'takeover' });
      },
    });
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

  /**
   * Goes on where an earlier controller ended: to be called before switches and agents connect, when domains in switches have taken their instances up.
   * `lead`: has steering lead to an instance as it did. An instance that is there no more is noticed when its domain can say so.
   */
  restore(lead: (id: InstanceId, ends: Ends) => void): void {
    for (const record of this.#records.values()) {
      const { active, state } = record.keeper.read();
      if (!state) continue;
      const mirror = record.mirrorOf(state, () => this.options.clock.monotonic());
      const domain = active && this.options.domains.get(active.domain);
      if (!domain) continue;
      const placed = { domain, id: { terminal: record.terminal.name, epoch: active.epoch } };
      try {
        lead(placed.id, active.ends);
      } catch (error) {
        this.#instances.complain(placed, error);
        record.lose();
        continue;
      }
      record.activate(placed, active.ends);
      // As the earlier controller may have renewed it just before its end.
      record.leaseEnd = this.options.clock.monotonic() + this.options.timings.leaseMs;
      record.source = this.#instances.follow(record, placed, undefined, mirror);
      this.#refill(record);
    }
  }

  /**
   * The terminal's first instance, if it has none, or one with what a lost one held. Fails with a DomainError; then it has none still, and
   * nothing passes.
   */
  place(terminal: string, to: string): Promise<void> {
    const record = this.record(terminal);
    const domain = this.#domain(to);
    return record.enqueue(async () => {
      if (record.active) return;
      const { options } = this;
      const strays = await this.#instances.strays(record);
      const placed: Placed = { domain, id: { terminal, epoch: await record.nextEpoch() } };
      const { id } = placed;
      const state = await this.#lastKnown(record, strays, placed);
      let sequence: number;
      let ends: Ends;
      try {
        ends = await domain.prepare(state, id.epoch);
        await options.steering.addPath(id, ends);
        ({ sequence } = await domain.digest(id));
        await domain.activate(id, options.timings.leaseMs);
        await options.steering.setActive(id);
      } catch (error) {
        await this.#instances.removeSurely(placed);
        throw error;
      }
      const mirror = record.mirrorOf(state, () => options.clock.monotonic());
      record.activate(placed, ends);
      record.carried = [];
      record.leaseEnd = options.clock.monotonic() + options.timings.leaseMs;
      record.source = this.#instances.follow(record, placed, sequence, mirror);
      record.told = state.terminal;
      if (!isSameTerminal(state.terminal, record.terminal)) await tellAddresses(record);
      const { connections } = state;
      options.log.info(
        { terminal, domain: to, epoch: id.epoch, connections: connections.length },
        'firewall placed',
      );
      for (const stray of strays) this.#instances.removeInBackground(stray);
      this.#refill(record);
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
    const report = record.enqueue(async () => {
      if (record.active === from) return this.#move(id, record, from, domain, order);
      if (record.handover === id) record.handover = undefined;
      return this.#overtaken(id, from, order);
    });
    return { id, report };
  }

  /** A handover that waits before a step goes on. Whether one was waiting. */
  continue(terminal: string): boolean {
    return this.#pauses.get(this.record(terminal))?.goOn() ?? false;
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
    return tellAddresses(record);
  }

  /** Throws a HandoverError when there is no such terminal, or no firewall of it. */
  async state(terminal: string): Promise<FirewallState> {
    const record = this.record(terminal);
    const { domain, id } = this.#activeOf(record);
    const state = await domain.export(id);
    return { ...state, counters: added(state.counters, record.carried) };
  }

  standbys(terminal: string): StandbyStatus[] {
    return [...this.record(terminal).standbys.values()].map((standby): StandbyStatus => {
      const { domain, state, problem, known, ready } = standby;
      const { changes = 0, p50Ms, p99Ms, maxMs } = ready?.feed.lag ?? {};
      const measured = p50Ms !== undefined && p99Ms !== undefined && maxMs !== undefined;
      return {
        domain: domain.name,
        epoch: known?.id.epoch ?? null,
        state,
        ...(state === 'away' && problem !== undefined ? { problem: messageOf(problem) } : {}),
        behind: changes,
        ...(measured ? { lagMs: { p50: p50Ms, p99: p99Ms, max: maxMs } } : {}),
      };
    });
  }

  /** A domain is silent. If it stays so, others take over what is active there. */
  domainAway(name: string): void {
    this.#damping.lost(name);
    this.#takeovers.away(name);
  }

  /** It can be reached again: what waits for it goes on, and what an earlier controller left there goes. */
  domainBack(name: string): void {
    this.#takeovers.back(name);
    for (const record of this.#records.values()) {
      record.cleared.delete(name);
      record.standbys.get(name)?.wake();
      if (record.active?.domain.name !== name) continue;
      record.source?.wake();
      void this.#renewLease(record);
    }
    this.#instances.inBackground(
      this.sweep(name).catch((error: unknown) => {
        this.options.log.warn({ domain: name, error: messageOf(error) }, 'not looked through');
      }),
    );
  }

  /** Removes from a domain what an earlier controller left there, once it is of no use any more: another instance is active, and none is being built there. */
  async sweep(domainName: string): Promise<void> {
    const domain = this.#domain(domainName);
    const { instances } = await domain.health();
    for (const { terminal, epoch } of instances) {
      const record = this.#records.get(terminal);
      if (record && !isStray(record, domain, epoch)) continue;
      this.#instances.removeInBackground({ domain, id: { terminal, epoch } });
    }
  }

  /** Twice is once. What is under way ends first; instances stay as they are. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#renewals);
    this.#takeovers.close();
    for (const pause of this.#pauses.values()) pause.goOn();
    this.#instances.stop();
    const records = [...this.#records.values()];
    await Promise.allSettled(records.map((record) => record.tail));
    for (const record of records) {
      const { standbys, source } = record;
      await source?.end();
      for (const standby of standbys.values()) {
        await standby.leave();
      }
      await record.close();
    }
    await this.#instances.idle();
  }

  async #move(
    id: string,
    record: FirewallRecord,
    from: Placed,
    domain: Domain,
    order: HandoverOrder,
  ): Promise<HandoverReport> {
    const { options } = this;
    const { mirror } = record;
    if (!mirror) throw new Error(`the firewall of ${record.terminal.name} holds nothing`);
    const terminal = record.terminal.name;
    const pause = new Pause(order.pauseBefore, options.clock, (step) =>
      options.onEvent({ kind: 'paused', handover: id, terminal, step }),
    );
    this.#pauses.set(record, pause);
    const standby = (): Standby => this.#standby(record, domain);
    try {
      return await new Move({
        id,
        options,
        instances: this.#instances,
        record,
        mirror,
        from,
        domain,
        order,
        pause,
        standby,
      }).run();
    } finally {
      this.#pauses.delete(record);
      if (record.handover === id) record.handover = undefined;
      // It may have failed because the old instance is there no more.
      if (record.active === from && order.cause !== 'takeover') void this.#renewLease(record);
      this.#refill(record);
    }
  }

  /** The firewall was lost, and another took over, before the handover's turn came. */
  #overtaken(id: string, { domain, id: { terminal, epoch } }: Placed, order: HandoverOrder): HandoverReport {
    const report: HandoverReport = {
      ...{ id, terminal, from: domain.name, to: order.to, fromEpoch: epoch, toEpoch: epoch },
      ...{ cause: order.cause, outcome: 'undone', phases: [], totalMs: 0 },
      ...{ stateBytes: 0, deltaBytes: 0, connections: 0 },
      error: `the firewall of ${terminal} in ${domain.name} was lost before: look where it is now, and ask again`,
    };
    this.options.onEvent({ kind: 'handover', report });
    return report;
  }

  /** What a firewall that is placed begins with: what a lost one held, what outlived an earlier controller, or nothing. */
  async #lastKnown(
    record: FirewallRecord,
    strays: readonly Placed[],
    { id }: Placed,
  ): Promise<FirewallState> {
    if (!record.mirror)
      return (await this.#instances.inherited(record, strays)) ?? record.nothingYet(id.epoch);
    record.mirror.absorb({ kind: 'terminal', terminal: record.terminal });
    return withTerminal(record.mirror.snapshot(id.epoch), record.terminal);
  }

  #standby(record: FirewallRecord, domain: Domain): Standby {
    const known = record.standbys.get(domain.name);
    if (known) return known;
    const { clock, timings, log } = this.options;
    const standby = new Standby(domain, {
      clock,
      damping: this.#damping,
      retryMs: timings.retryMs,
      build: async (where) => {
        const { mirror } = record;
        if (!mirror) throw new Error(`the firewall of ${record.terminal.name} holds nothing`);
        await this.#clear(record, where);
        return this.#instances.build(record, mirror, where, async (step) =>
          this.#pauses.get(record)?.at(step),
        );
      },
      feedAgain: ({ placed, ends, feed, counters }) => ({
        placed,
        ends,
        feed: this.#instances.feed(placed, feed.mirror, feed.acknowledged),
        counters,
      }),
      discard: (placed) => this.#instances.removeSurely(placed),
      onProblem: (where, error) =>
        log.warn(
          { terminal: record.terminal.name, domain: where.name, error: messageOf(error) },
          'no standby there at present',
        ),
    });
    record.standbys.set(domain.name, standby);
    return standby;
  }

  /** What an earlier controller left of this terminal goes before something new comes: a domain refuses calls for it afterwards. */
  async #clear(record: FirewallRecord, domain: Domain): Promise<void> {
    if (record.cleared.has(domain.name)) return;
    const { instances } = await domain.health();
    const { active } = record;
    for (const { terminal, epoch } of instances) {
      if (terminal !== record.terminal.name) continue;
      record.noteEpoch(epoch);
      if (active?.domain === domain && active.id.epoch === epoch) continue;
      await this.#instances.remove({ domain, id: { terminal, epoch } });
    }
    record.cleared.add(domain.name);
  }

  /** Standbys where they are wanted, and nowhere else. */
  #refill(record: FirewallRecord): void {
    if (this.#closed || !record.active || record.handover !== undefined) return;
    const wanted = record.options.standbys.filter((name) => name !== record.active?.domain.name);
    for (const name of wanted) this.#standby(record, this.#domain(name));
    for (const [name, standby] of record.standbys) {
      if (wanted.includes(name)) continue;
      record.standbys.delete(name);
      this.#instances.inBackground(standby.close());
    }
  }

  /** Notices also that an instance is there no more: its agent has begun anew, or its container has ended. */
  async #renewLease(record: FirewallRecord): Promise<void> {
    const { active } = record;
    try {
      if (!active) return;
      await active.domain.activate(active.id, this.options.timings.leaseMs);
      if (record.active !== active) return;
      record.leaseEnd = this.options.clock.monotonic() + this.options.timings.leaseMs;
      await mendAddresses(record, this.#instances.complain);
    } catch (error) {
      if (!active) return;
      this.#instances.complain(active, error);
      if (isGone(error)) this.#takeovers.gone(record, active, error);
    }
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

/** An instance that nobody counts with. */
function isStray({ active, handover, standbys }: FirewallRecord, domain: Domain, epoch: Epoch): boolean {
  if (!active || handover !== undefined) return false;
  if (active.domain === domain && active.id.epoch === epoch) return false;
  const standby = standbys.get(domain.name);
  return !standby || (standby.known !== undefined && standby.known.id.epoch !== epoch);
}
