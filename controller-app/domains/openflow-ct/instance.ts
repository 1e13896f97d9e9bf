/**
 * One terminal's firewall in the switch: what it means (policy, connections, role), and when the switch is told. The domain calls it one
 * call after another; copies of packets and the tick come in between, and change nothing in the switch by themselves.
 */
import type { ChangeLog } from '../../../shared/domain/change-log.js';
import {
  DomainError,
  type Ends,
  type InstanceDigest,
  type InstanceId,
  type Role,
} from '../../../shared/domain/domain.js';
import { mustBeSame } from '../../../shared/domain/valid.js';
import { connectionDifferences } from '../../../shared/firewall/differences.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { isSamePolicy } from '../../../shared/firewall/policy-history.js';
import type { Change, Delta, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock } from '../../../shared/runtime/clock.js';
import type { Match } from '../../openflow/index.js';
import type { Kind } from '../../pipeline/index.js';
import { Contents } from './contents.js';
import type { Place } from './host.js';
import { Keeping } from './keeping.js';
import type { InstanceHead, InstanceKeeper, InstanceRecord } from './record.js';
import { Rejections } from './rejections.js';
import { type RuleModel, RulesInSwitch } from './rules-in-switch.js';
import { Standing } from './standing.js';
import type { Timings } from './timings.js';

export interface InstanceParts extends Place {
  readonly domain: string;
  readonly id: InstanceId;
  readonly timings: Timings;
  readonly clock: Clock;
  /** Undefined: nothing is kept. */
  readonly keeper: InstanceKeeper | undefined;
  readonly onKeepFailure: (error: unknown) => void;
}

export class Instance {
  readonly parts: InstanceParts;
  readonly #contents: Contents;
  readonly #rules: RulesInSwitch;
  readonly #rejections: Rejections;
  readonly #keeping: Keeping | undefined;
  readonly #standing = new Standing();

  /** A standby with a state, or what an earlier controller kept of an instance. */
  constructor(parts: InstanceParts, from: Snapshot | InstanceRecord) {
    const resumed = 'number' in from;
    this.parts = parts;
    this.#contents = new Contents(parts, from);
    const { connections } = this.#contents;
    this.#rules = new RulesInSwitch(parts, connections.adoption);
    this.#rejections = new Rejections(parts, parts.clock.monotonic());
    if (resumed) this.#standing.resume(from);
    const kept = {
      head: () => this.#head(),
      connections: () => connections.kept(),
      takeUnkept: () => connections.takeUnkept(),
      unkept: () => connections.unkept,
    };
    const { keeper, clock, onKeepFailure: onFailure } = parts;
    this.#keeping = keeper && new Keeping(parts.id, { keeper, clock, onFailure }, kept, resumed);
  }

  get ends(): Ends {
    const { dpid, number } = this.parts;
    return { kind: 'pipeline', dpid, instance: number };
  }

  /** The changes that it tells. */
  get log(): ChangeLog {
    return this.#contents.log;
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
   * Changes of the instance before, in order; what is known already is passed over. Throws DomainError `changes-lost` on a gap, and
   * `invalid` when one of them can't be: then none is taken. `inSwitch` settles when the switch has their rules: more changes may come before that, and go
   * together in the bundle after. Time: the changes.
   */
  async apply(deltas: readonly Delta[]): Promise<{ readonly inSwitch: Promise<void> }> {
    for (const { sequence, change } of this.#contents.fresh(deltas)) {
      await this.#take(change);
      this.#contents.imported = sequence;
    }
    return { inSwitch: this.#adopt() };
  }

  /** Takes a whole state over in place of what it holds; what is the same stays as it is. */
  async sync(snapshot: Snapshot): Promise<void> {
    if (this.#standing.role !== 'standby') {
      const what = `the firewall of ${this.parts.id.terminal} in epoch ${this.parts.id.epoch} is ${this.#standing.role}: only a standby takes a whole state over`;
      throw new DomainError('refused', what);
    }
    this.#contents.history.remember(snapshot.earlier, this.parts.clock.monotonic());
    await this.setTerminal(snapshot.terminal);
    await this.setPolicy(snapshot.policy);
    for (const change of connectionDifferences(this.#contents.connections.all(), snapshot.connections))
      await this.#take(change);
    this.#contents.imported = snapshot.sequence;
    await this.#keeping?.change({ earlier: this.#contents.history.earlier });
    await this.#adopt();
  }

  digest(): InstanceDigest {
    return this.#contents.digest;
  }

  /**
   * Other addresses of the same terminal; connections of those that it has no more are over. What can't be done in the switch at once is done by
   * `settle`, later.
   */
  async setTerminal(terminal: Terminal): Promise<void> {
    mustBeSame(this.#contents.terminal, terminal);
    if (isSameTerminal(terminal, this.#contents.terminal)) return;
    await this.#state({ terminal });
    this.#contents.setTerminal(terminal);
    await this.#keeping?.change({ terminal });
    await this.settle();
  }

  /** The policy for connections from now on; those that live go on. When the switch refuses it, the old one stays. */
  async setPolicy(policy: Policy): Promise<void> {
    if (isSamePolicy(policy, this.#contents.history.policy)) return;
    const counts = this.#standing.hasPolicy;
    if (counts) await this.#contents.counters.read();
    await this.#state({ policy });
    this.#contents.setPolicy(policy);
    await this.#contents.counters.replace(policy, counts);
    const { earlier } = this.#contents.history;
    await this.#keeping?.change({ policy, earlier, ...this.#contents.counters.kept });
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
    this.#contents.connections.adoption.start(this.parts.clock.monotonic());
    if (!kept) void this.#keeping?.change({ role: 'active', admits: true, leaseMs });
  }

  /** The lease has run out: no new connections. */
  async refuseNew(): Promise<void> {
    if (this.#standing.role !== 'active') return;
    await this.#become('active', false);
    await this.#keeping?.change({ admits: false, ...this.#contents.counters.kept });
  }

  async drain(drainMs: number): Promise<void> {
    if (this.#standing.role === 'draining') return;
    await this.#become('draining', false);
    this.#standing.drainMs = drainMs;
    await this.#keeping?.change({
      role: 'draining',
      admits: false,
      drainMs,
      ...this.#contents.counters.kept,
    });
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
      await this.#contents.counters.read();
      await this.#state({ role, admits });
      this.#contents.counters.fold();
    } else await this.#state({ role, admits });
    this.#standing.role = role;
    this.#standing.admits = admits;
  }

  /** A copy of a packet. */
  packetIn(kind: Kind, match: Match, data: Uint8Array): void {
    if (this.#standing.role === 'retired' || this.#standing.drained) return;
    if (kind === 'rejected') {
      this.#rejections.answer(match, data, this.parts.clock.monotonic());
      return;
    }
    this.#contents.packetIn(kind, match, data);
    this.#keeping?.soon();
  }

  /** Forgets what is over. Returns whether there is something to do in the switch: `settle` does it. */
  tick(): boolean {
    if (this.#standing.role === 'standby') return false;
    this.#contents.sweep();
    this.#keeping?.soon();
    return this.#contents.connections.stale;
  }

  /** Adoption rules as they should be, and what is over flushed from the switch's conntrack: rules first, they would let it in again. */
  async settle(): Promise<void> {
    const { host, dpid, number } = this.parts;
    if (this.#standing.drained) return;
    await this.#state();
    const ended = this.#contents.connections.takeEnded();
    try {
      if (ended.length > 0) await host.flushConnections(dpid, number, ended);
    } catch (error) {
      this.#contents.connections.giveBack(ended);
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
    if (this.#standing.hasPolicy) await this.#contents.counters.read();
    return this.#contents.export(this.parts.id.epoch);
  }

  /** One change that another instance tells. The switch gets the rules of connections later, by `#adopt`. */
  async #take(change: Change): Promise<void> {
    if (change.kind === 'policy') await this.setPolicy(change.policy);
    else if (change.kind === 'terminal') await this.setTerminal(change.terminal);
    else this.#contents.take(change);
  }

  /** Adoption rules as they are to be. */
  async #adopt(): Promise<void> {
    this.#keeping?.soon();
    if (!this.#standing.drained && this.#contents.connections.adoption.stale)
      await this.#rules.adopt(this.#model());
  }

  /** States the rules as they are to be. */
  async #state(change: Partial<RuleModel> = {}): Promise<void> {
    if (!this.#standing.drained) await this.#rules.state({ ...this.#model(), ...change });
  }

  #model(): RuleModel {
    const { terminal, history } = this.#contents;
    const { generation, ofRules: role, admits } = this.#standing;
    return { terminal, policy: history.policy, generation, role, admits };
  }

  #head(): InstanceHead {
    const { domain, id, number } = this.parts;
    return { domain, number, epoch: id.epoch, ...this.#standing.kept, ...this.#contents.kept };
  }
}
