/**
 * One terminal's firewall in the switch: what it means (policy, connections, role), and when the switch is told. The domain calls it one
 * call after another; copies of packets and the tick come in between, and change nothing in the switch by themselves.
 */
import { ChangeLog } from '../../../shared/domain/change-log.js';
import {
  DomainError,
  type Dpid,
  type InstanceDigest,
  type InstanceId,
  type Role,
} from '../../../shared/domain/domain.js';
import { connectionCheck, problemOfChanges } from '../../../shared/firewall/admission.js';
import type { Connection } from '../../../shared/firewall/connection.js';
import { connectionDifferences } from '../../../shared/firewall/differences.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { isSamePolicy, PolicyHistory } from '../../../shared/firewall/policy-history.js';
import { StateError } from '../../../shared/firewall/reduce.js';
import type { Change, Delta, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock } from '../../../shared/runtime/clock.js';
import type { Match } from '../../openflow/index.js';
import type { FirewallInstance, Kind } from '../../pipeline/index.js';
import { Connections } from './connections.js';
import { CountedPolicy } from './counters.js';
import type { FirewallHost } from './host.js';
import { Keeping } from './keeping.js';
import type { InstanceHead, InstanceKeeper, InstanceRecord } from './record.js';
import { Rejections } from './rejections.js';
import { RulesInSwitch } from './rules-in-switch.js';
import { Standing } from './standing.js';
import type { Timings } from './timings.js';

export interface InstanceParts {
  readonly domain: string;
  readonly id: InstanceId;
  readonly number: number;
  readonly dpid: Dpid;
  readonly host: FirewallHost;
  readonly timings: Timings;
  readonly clock: Clock;
  /** Undefined: nothing is kept. */
  readonly keeper: InstanceKeeper | undefined;
  readonly onKeepFailure: (error: unknown) => void;
}

/**
 * Changes that an instance told before the controller began anew are not known any more, nor how many of them were not kept: its next ones are numbered
 * from so much higher that whoever followed must take a new snapshot.
 */
const RESUMED_AFTER = 2 ** 32;

export class Instance {
  readonly parts: InstanceParts;
  readonly log: ChangeLog;
  readonly #connections: Connections;
  readonly #rules: RulesInSwitch;
  readonly #history: PolicyHistory;
  readonly #counters: CountedPolicy;
  readonly #rejections: Rejections;
  readonly #keeping: Keeping | undefined;
  readonly #standing = new Standing();
  #terminal: Terminal;
  /** The sequence of the last change taken over from the instance before. */
  #imported: number;

  /** A standby with a state, or what an earlier controller kept of an instance. */
  constructor(parts: InstanceParts, from: Snapshot | InstanceRecord) {
    const now = parts.clock.monotonic();
    const resumed = 'number' in from;
    this.parts = parts;
    this.log = new ChangeLog(from.sequence + (resumed ? RESUMED_AFTER : 0));
    this.#connections = new Connections(parts.timings, parts.keeper !== undefined);
    this.#rules = new RulesInSwitch(parts, this.#connections.adoption);
    this.#history = new PolicyHistory(from.policy, from.earlier, now);
    this.#counters = new CountedPolicy(parts, from.policy, resumed ? from.counted : from.counters);
    this.#rejections = new Rejections(parts, now);
    this.#terminal = from.terminal;
    this.#imported = resumed ? from.imported : from.sequence;
    if (resumed) this.#resume(from, now);
    else
      for (const connection of from.connections)
        this.#connections.take({ kind: 'connection', connection }, now);
    const kept = {
      head: () => this.#head(),
      connections: () => this.#connections.kept(),
      takeUnkept: () => this.#connections.takeUnkept(),
      unkept: () => this.#connections.unkept,
    };
    const { keeper, clock, onKeepFailure: onFailure } = parts;
    this.#keeping = keeper && new Keeping(parts.id, { keeper, clock, onFailure }, kept, resumed);
  }

  get role(): Role {
    return this.#standing.role;
  }

  /** ms, as last given. */
  get leaseMs(): number {
    return this.#standing.leaseMs;
  }

  get drainMs(): number {
    return this.#standing.drainMs;
  }

  get admits(): boolean {
    return this.role === 'active' && this.#standing.admits;
  }

  /** The rules of a fresh instance into an empty zone. */
  async install(): Promise<void> {
    const { host, dpid, number } = this.parts;
    await host.flushZone(dpid, number);
    await this.#state();
    await this.#keeping?.put();
  }

  /**
   * The rules that an earlier controller left are those of this instance: stated again, they stay as they are, but that every live connection
   * that sends announces itself once more, also those that nobody has heard of.
   */
  async resume(): Promise<void> {
    if (this.#standing.role === 'active') await this.nextGeneration();
    else await this.#state();
  }

  /** Takes its rules out and forgets what the switch tracked. May be repeated. */
  async remove(): Promise<void> {
    const { host, dpid, number } = this.parts;
    this.#standing.role = 'retired';
    this.log.end();
    await this.#rules.remove();
    if (host.connected(dpid)) await host.flushZone(dpid, number);
    await this.#keeping?.remove();
  }

  /** The controller ends, the instance does not. May be repeated. */
  close(): void {
    this.log.end();
    this.#keeping?.close();
  }

  /**
   * Changes of the instance before, in order; what is known already is passed over. Throws StateError `changes-lost` on a gap, and DomainError
   * `invalid` when one of them can't be: then none is taken. `inSwitch` settles when the switch has their rules: more changes may come before that, and go
   * together in the bundle after. Time: the changes.
   */
  async apply(deltas: readonly Delta[]): Promise<{ readonly inSwitch: Promise<void> }> {
    const fresh = inOrder(this.parts.id, deltas, this.#imported);
    const changes = fresh.map(({ change }) => change);
    const problem = problemOfChanges(this.#terminal, this.#policies(), changes);
    if (problem)
      throw new DomainError('invalid', `the changes are refused: ${problem}; take a new snapshot of it`);
    for (const { sequence, change } of fresh) {
      await this.#take(change);
      this.#imported = sequence;
    }
    return { inSwitch: this.#adopt() };
  }

  /** Takes a whole state over in place of what it holds; what is the same stays as it is. */
  async sync(snapshot: Snapshot): Promise<void> {
    if (this.#standing.role !== 'standby') {
      const what = `the firewall of ${this.parts.id.terminal} in epoch ${this.parts.id.epoch} is ${this.#standing.role}: only a standby takes a whole state over`;
      throw new DomainError('refused', what);
    }
    this.#history.remember(snapshot.earlier, this.parts.clock.monotonic());
    await this.setTerminal(snapshot.terminal);
    await this.setPolicy(snapshot.policy);
    for (const change of connectionDifferences(this.#connections.all(), snapshot.connections))
      await this.#take(change);
    this.#imported = snapshot.sequence;
    await this.#keeping?.change({ earlier: this.#history.earlier });
    await this.#adopt();
  }

  digest(): InstanceDigest {
    return { sequence: this.log.sequence, ...this.#connections.digest };
  }

  /**
   * Other addresses of the same terminal; connections of those that it has no more are over. What can't be done in the switch at once is done by
   * `settle`, later.
   */
  async setTerminal(terminal: Terminal): Promise<void> {
    const { name, mac } = this.#terminal;
    if (terminal.name !== name || terminal.mac !== mac) {
      const what = `${terminal.name} (${terminal.mac}) is not ${name} (${mac}), whose firewall this is: only its addresses may change`;
      throw new DomainError('invalid', what);
    }
    if (JSON.stringify(terminal) === JSON.stringify(this.#terminal)) return;
    await this.#state({ terminal });
    this.#terminal = terminal;
    // Nothing of the others reaches conntrack any more; what it knows of them goes, lest it live when an address comes back.
    this.#connections.keepOnly(new Set([...terminal.ipv4, ...terminal.ipv6]));
    this.log.append([{ kind: 'terminal', terminal }]);
    await this.#keeping?.change({ terminal });
    await this.settle();
  }

  /** The policy for connections from now on; those that live go on. When the switch refuses it, the old one stays. */
  async setPolicy(policy: Policy): Promise<void> {
    if (isSamePolicy(policy, this.#history.policy)) return;
    const counts = this.#standing.hasPolicy;
    if (counts) await this.#counters.read();
    await this.#state({ policy });
    this.#history.replace(policy, this.parts.clock.monotonic());
    this.log.append([{ kind: 'policy', policy }]);
    await this.#counters.replace(policy, counts);
    const { earlier } = this.#history;
    await this.#keeping?.change({ policy, earlier, ...this.#counters.kept });
  }

  /**
   * Admits, from now on or again. It does not wait until that is kept: a standby's rules are those of an active instance, and whoever activates it keeps by
   * himself which one is active.
   */
  async activate(leaseMs: number): Promise<void> {
    const kept =
      this.#standing.role === 'active' && this.#standing.admits && this.#standing.leaseMs === leaseMs;
    this.#standing.leaseMs = leaseMs;
    if (this.#standing.role === 'standby') this.#standing.role = 'active';
    await this.#become('active', true);
    this.#connections.adoption.start(this.parts.clock.monotonic());
    if (!kept) void this.#keeping?.change({ role: 'active', admits: true, leaseMs });
  }

  /** The lease has run out: no new connections. */
  async refuseNew(): Promise<void> {
    if (this.#standing.role !== 'active') return;
    await this.#become('active', false);
    await this.#keeping?.change({ admits: false, ...this.#counters.kept });
  }

  async drain(drainMs: number): Promise<void> {
    if (this.#standing.role === 'draining') return;
    await this.#become('draining', false);
    this.#standing.drainMs = drainMs;
    await this.#keeping?.change({ role: 'draining', admits: false, drainMs, ...this.#counters.kept });
  }

  /** The drain is over: nothing passes. */
  async stop(): Promise<void> {
    this.#standing.drained = true;
    await this.#rules.remove();
    await this.#keeping?.change({ role: 'drained' });
  }

  /** Another role, and its rules; without them it stays what it was. */
  async #become(role: 'active' | 'draining', admits: boolean): Promise<void> {
    if (this.#standing.role === role && this.#standing.admits === admits) return;
    if (this.#standing.hasPolicy && !admits) {
      // The rules of the policy are about to go: what they counted stays.
      await this.#counters.read();
      await this.#state({ role, admits });
      this.#counters.fold();
    } else await this.#state({ role, admits });
    this.#standing.role = role;
    this.#standing.admits = admits;
  }

  /** A copy of a packet. */
  packetIn(kind: Kind, match: Match, data: Uint8Array): void {
    if (this.#standing.role === 'retired' || this.#standing.drained) return;
    const now = this.parts.clock.monotonic();
    if (kind === 'rejected') {
      this.#rejections.answer(match, data, now);
      return;
    }
    const change = this.#connections.packetIn(kind, match, data, now, (one) => this.#couldBe(one));
    if (change) this.log.append([change]);
    this.#keeping?.soon();
  }

  /** Forgets what is over. Returns whether there is something to do in the switch: `settle` does it. */
  tick(): boolean {
    if (this.#standing.role === 'standby') return false;
    const ended = this.#connections.sweep(this.parts.clock.monotonic());
    this.log.append(ended.map((key) => ({ kind: 'ended', key })));
    this.#keeping?.soon();
    return this.#connections.stale;
  }

  /** Adoption rules as they should be, and what is over flushed from the switch's conntrack: rules first, they would let it in again. */
  async settle(): Promise<void> {
    const { host, dpid, number } = this.parts;
    if (this.#standing.drained) return;
    await this.#state();
    const ended = this.#connections.takeEnded();
    try {
      if (ended.length > 0) await host.flushConnections(dpid, number, ended);
    } catch (error) {
      this.#connections.giveBack(ended);
      throw error;
    }
  }

  /** Every live connection that sends announces itself once more. */
  async nextGeneration(): Promise<void> {
    this.#standing.generation = this.#standing.nextGeneration;
    // Before the switch has it: one that it has already would make nothing announce itself.
    await this.#keeping?.change({ generation: this.#standing.generation });
    await this.#state();
  }

  async export(): Promise<FirewallState> {
    if (this.#standing.hasPolicy) await this.#counters.read();
    const now = this.parts.clock.monotonic();
    const { earlier, connections } = this.#history.forExport(this.#connections.export(now), now);
    return {
      terminal: this.#terminal,
      epoch: this.parts.id.epoch,
      sequence: this.log.sequence,
      policy: this.#history.policy,
      earlier,
      connections,
      counters: this.#counters.total(),
    };
  }

  /** One change that another instance tells. The switch gets the rules of connections later, by `#adopt`. */
  async #take(change: Change): Promise<void> {
    if (change.kind === 'policy') await this.setPolicy(change.policy);
    else if (change.kind === 'terminal') await this.setTerminal(change.terminal);
    else if (this.#connections.take(change, this.parts.clock.monotonic())) this.log.append([change]);
  }

  /** Adoption rules as they are to be. */
  async #adopt(): Promise<void> {
    this.#keeping?.soon();
    if (!this.#standing.drained && this.#connections.adoption.stale) await this.#rules.adopt(this.#model());
  }

  /** States the rules as they are to be. */
  async #state(change: Partial<FirewallInstance> = {}): Promise<void> {
    if (!this.#standing.drained) await this.#rules.state({ ...this.#model(), ...change });
  }

  #model(): FirewallInstance {
    const { host, number } = this.parts;
    return {
      number,
      terminal: this.#terminal,
      policy: this.#history.policy,
      generation: this.#standing.generation,
      role: this.#standing.ofRules,
      admits: this.#standing.admits,
      adoption: [],
      tables: {
        firewallCt: host.table('firewall-ct'),
        admit: host.table('admit'),
        deliver: host.table('deliver'),
      },
    };
  }

  #resume(record: InstanceRecord, now: number): void {
    this.#standing.resume(record);
    this.#counters.resume(record.offset);
    if (this.role !== 'standby') this.#connections.adoption.start(now);
    for (const kept of record.connections) this.#connections.resume(kept, now);
  }

  #head(): InstanceHead {
    const { domain, id, number } = this.parts;
    return {
      domain,
      number,
      terminal: this.#terminal,
      epoch: id.epoch,
      ...this.#standing.kept,
      sequence: this.log.sequence,
      imported: this.#imported,
      policy: this.#history.policy,
      earlier: this.#history.earlier,
      ...this.#counters.kept,
    };
  }

  #policies(): readonly Policy[] {
    return [this.#history.policy, ...this.#history.earlier];
  }

  #couldBe(connection: Connection): boolean {
    return connectionCheck(this.#terminal, this.#policies())(connection) === undefined;
  }
}

/** Those that come after `last`. Throws StateError `changes-lost` on a gap. */
function inOrder({ terminal }: InstanceId, deltas: readonly Delta[], last: number): readonly Delta[] {
  const fresh = deltas.filter(({ sequence }) => sequence > last);
  for (const [index, { sequence }] of fresh.entries()) {
    const expected = last + 1 + index;
    if (sequence === expected) continue;
    const what = `change ${expected} of ${terminal} is missing, ${sequence} came: take a new snapshot`;
    throw new StateError('changes-lost', what);
  }
  return fresh;
}
