/**
 * The coordinator: sees to it that each terminal's firewall is active in one domain, ready in others, and moves. It knows the Domain interface and steering, and
 * nothing of how either works. How one handover goes is move.ts.
 */
import { randomUUID } from 'node:crypto';
import type { HandoverReport, StandbyStatus } from '../../shared/api/schema.js';
import type { Domain, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { FirewallState } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { tellAddresses } from './addresses.js';
import { added } from './counters.js';
import { Damping } from './damping.js';
import { FirewallRecord } from './firewall-record.js';
import { Instances } from './instances.js';
import { Leases } from './leases.js';
import { Move } from './move.js';
import { type CoordinatorOptions, HandoverError, type HandoverOrder } from './options.js';
import type { Placed } from './placed.js';
import { place } from './placing.js';
import { Pause } from './progress.js';
import type { Standby } from './standby.js';
import { Standbys, standbyStatus } from './standbys.js';
import { Strays } from './strays.js';
import { Takeovers } from './takeover.js';

export class Coordinator {
  readonly #records: ReadonlyMap<string, FirewallRecord>;
  readonly #instances: Instances;
  readonly #damping: Damping;
  readonly #takeovers: Takeovers;
  readonly #leases: Leases;
  readonly #strays: Strays;
  readonly #standbys: Standbys;
  readonly #pauses = new Map<FirewallRecord, Pause>();

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
    const parts = { options, instances: this.#instances, records: this.#records };
    this.#leases = new Leases(parts);
    this.#strays = new Strays(parts);
    this.#standbys = new Standbys({
      ...parts,
      strays: this.#strays,
      damping: this.#damping,
      domain: (name) => this.#domain(name),
      pause: (record) => this.#pauses.get(record),
    });
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
      this.#leases.begin(record);
      record.source = this.#instances.follow(record, placed, undefined, mirror);
      this.#standbys.refill(record);
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
      await place(record, domain, {
        options,
        instances: this.#instances,
        strays: this.#strays,
        leases: this.#leases,
      });
      this.#standbys.refill(record);
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
    return [...this.record(terminal).standbys.values()].map(standbyStatus);
  }

  /** A domain is silent. If it stays so, others take over what is active there. */
  domainAway(name: string): void {
    this.#damping.lost(name);
    this.#takeovers.away(name);
  }

  /** It can be reached again: what waits for it goes on, and what an earlier controller left there goes. */
  domainBack(name: string): void {
    this.#takeovers.back(name);
    const domain = this.options.domains.get(name);
    if (domain) this.#strays.back(domain);
    for (const record of this.#records.values()) {
      record.standbys.get(name)?.wake();
      if (record.active?.domain.name !== name) continue;
      record.source?.wake();
      void this.#leases.renew(record);
    }
  }

  /** Twice is once. What is under way ends first; instances stay as they are. */
  async close(): Promise<void> {
    this.#leases.close();
    this.#standbys.close();
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
    await this.#instances.close();
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
    const standby = (): Standby => this.#standbys.of(record, domain);
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
      if (record.active === from && order.cause !== 'takeover') void this.#leases.renew(record);
      this.#standbys.refill(record);
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
