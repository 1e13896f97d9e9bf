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
import { differences } from '../../../shared/firewall/differences.js';
import { ConnectionsDigest } from '../../../shared/firewall/digest.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { isSamePolicy, PolicyHistory } from '../../../shared/firewall/policy-history.js';
import { StateError } from '../../../shared/firewall/reduce.js';
import type { Delta, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Match } from '../../openflow/index.js';
import { type FirewallInstance, GENERATIONS, type Kind } from '../../pipeline/index.js';
import { Connections } from './connections.js';
import { CountedPolicy } from './counters.js';
import type { FirewallHost } from './host.js';
import { Rejections } from './rejections.js';
import { RulesInSwitch } from './rules-in-switch.js';
import type { Timings } from './timings.js';

export interface InstanceParts {
  readonly id: InstanceId;
  readonly number: number;
  readonly dpid: Dpid;
  readonly host: FirewallHost;
  readonly timings: Timings;
  /** Monotonic ms. */
  readonly now: () => number;
}

export class Instance {
  readonly parts: InstanceParts;
  readonly log: ChangeLog;
  readonly #connections: Connections;
  readonly #rules: RulesInSwitch;
  readonly #history: PolicyHistory;
  readonly #counters: CountedPolicy;
  readonly #rejections: Rejections;
  #terminal: Terminal;
  #role: Role = 'standby';
  /** False once the lease has run out. */
  #admits = true;
  /** True when a drain is over: nothing passes any more. */
  #drained = false;
  #generation = 0;
  /** The sequence of the last change taken over from the instance before. */
  #imported: number;

  constructor(parts: InstanceParts, snapshot: Snapshot) {
    const now = parts.now();
    this.parts = parts;
    this.log = new ChangeLog(snapshot.sequence);
    this.#connections = new Connections(parts.timings);
    this.#rules = new RulesInSwitch(parts, this.#connections.adoption);
    this.#history = new PolicyHistory(snapshot.policy, snapshot.earlier, now);
    this.#counters = new CountedPolicy(parts, snapshot.policy, snapshot.counters);
    this.#rejections = new Rejections(parts, now);
    this.#terminal = snapshot.terminal;
    this.#imported = snapshot.sequence;
    for (const connection of snapshot.connections)
      this.#connections.take({ kind: 'connection', connection }, now);
  }

  get role(): Role {
    return this.#role;
  }

  get hasConnections(): boolean {
    return this.#connections.tracked > 0;
  }

  /** The rules of a fresh instance into an empty zone. */
  async install(): Promise<void> {
    const { host, dpid, number } = this.parts;
    await host.flushZone(dpid, number);
    await this.#state();
  }

  /** Takes its rules out and forgets what the switch tracked. May be repeated. */
  async remove(): Promise<void> {
    const { host, dpid, number } = this.parts;
    this.#role = 'retired';
    this.log.end();
    await this.#rules.remove();
    if (host.connected(dpid)) await host.flushZone(dpid, number);
  }

  /**
   * Changes of the instance before, in order; what is known already is passed over. Throws StateError `changes-lost` on a gap, and DomainError
   * `invalid` when one of them can't be: then none is taken.
   */
  async apply(deltas: readonly Delta[]): Promise<void> {
    const fresh = deltas.filter(({ sequence }) => sequence > this.#imported);
    for (const [index, { sequence }] of fresh.entries()) {
      const expected = this.#imported + 1 + index;
      if (sequence === expected) continue;
      const what = `change ${expected} of ${this.parts.id.terminal} is missing, ${sequence} came: take a new snapshot`;
      throw new StateError('changes-lost', what);
    }
    const changes = fresh.map(({ change }) => change);
    const problem = problemOfChanges(this.#terminal, this.#policies(), changes);
    if (problem)
      throw new DomainError('invalid', `the changes are refused: ${problem}; take a new snapshot of it`);
    const now = this.parts.now();
    for (const { sequence, change } of fresh) {
      if (change.kind === 'policy') await this.setPolicy(change.policy);
      else if (change.kind === 'terminal') await this.setTerminal(change.terminal);
      else if (this.#connections.take(change, now)) this.log.append([change]);
      this.#imported = sequence;
    }
    if (this.#connections.adoption.stale) await this.#state();
  }

  /** Takes a whole state over in place of what it holds; what is the same stays as it is. */
  async sync(snapshot: Snapshot): Promise<void> {
    if (this.#role !== 'standby') {
      const what = `the firewall of ${this.parts.id.terminal} in epoch ${this.parts.id.epoch} is ${this.#role}: only a standby takes a whole state over`;
      throw new DomainError('refused', what);
    }
    const now = this.parts.now();
    for (const policy of snapshot.earlier.toReversed()) this.#history.replace(policy, now);
    for (const change of differences(await this.export(), snapshot)) {
      if (change.kind === 'policy') await this.setPolicy(change.policy);
      else if (change.kind === 'terminal') await this.setTerminal(change.terminal);
      else if (this.#connections.take(change, now)) this.log.append([change]);
    }
    this.#imported = snapshot.sequence;
    if (this.#connections.adoption.stale) await this.#state();
  }

  digest(): InstanceDigest {
    const digest = new ConnectionsDigest(this.#connections.export(this.parts.now()));
    return { sequence: this.log.sequence, connections: digest.count, digest: digest.value };
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
    await this.settle();
  }

  /** The policy for connections from now on; those that live go on. When the switch refuses it, the old one stays. */
  async setPolicy(policy: Policy): Promise<void> {
    if (isSamePolicy(policy, this.#history.policy)) return;
    const counts = this.#countsNow();
    if (counts) await this.#counters.read();
    await this.#state({ policy });
    this.#history.replace(policy, this.parts.now());
    this.log.append([{ kind: 'policy', policy }]);
    await this.#counters.replace(policy, counts);
  }

  /** Admits, from now on or again. */
  async activate(): Promise<void> {
    if (this.#role === 'standby') this.#role = 'active';
    await this.#become('active', true);
    this.#connections.adoption.start(this.parts.now());
  }

  /** The lease has run out: no new connections. */
  async refuseNew(): Promise<void> {
    if (this.#role === 'active') await this.#become('active', false);
  }

  async drain(): Promise<void> {
    if (this.#role !== 'draining') await this.#become('draining', false);
  }

  /** The drain is over: nothing passes. */
  async stop(): Promise<void> {
    this.#drained = true;
    await this.#rules.remove();
  }

  /** Another role, and its rules; without them it stays what it was. */
  async #become(role: 'active' | 'draining', admits: boolean): Promise<void> {
    if (this.#role === role && this.#admits === admits) return;
    if (this.#countsNow() && !admits) {
      // The rules of the policy are about to go: what they counted stays.
      await this.#counters.read();
      await this.#state({ role, admits });
      this.#counters.fold();
    } else await this.#state({ role, admits });
    this.#role = role;
    this.#admits = admits;
  }

  /** A copy of a packet. */
  packetIn(kind: Kind, match: Match, data: Uint8Array): void {
    if (this.#role === 'retired' || this.#drained) return;
    const now = this.parts.now();
    if (kind === 'rejected') {
      this.#rejections.answer(match, data, now);
      return;
    }
    const change = this.#connections.packetIn(kind, match, data, now, (one) => this.#couldBe(one));
    if (change) this.log.append([change]);
  }

  /** Forgets what is over. Returns whether there is something to do in the switch: `settle` does it. */
  tick(): boolean {
    if (this.#role === 'standby') return false;
    const ended = this.#connections.sweep(this.parts.now());
    this.log.append(ended.map((key) => ({ kind: 'ended', key })));
    return this.#connections.stale;
  }

  /** Adoption rules as they should be, and what is over flushed from the switch's conntrack: rules first, they would let it in again. */
  async settle(): Promise<void> {
    const { host, dpid, number } = this.parts;
    if (this.#drained) return;
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
    this.#generation = (this.#generation + 1) % GENERATIONS;
    await this.#state();
  }

  async export(): Promise<FirewallState> {
    if (this.#countsNow()) await this.#counters.read();
    const now = this.parts.now();
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

  /** States the rules as they are to be. */
  async #state(change: Partial<FirewallInstance> = {}): Promise<void> {
    if (this.#drained) return;
    const { host, number } = this.parts;
    await this.#rules.state({
      number,
      terminal: this.#terminal,
      policy: this.#history.policy,
      generation: this.#generation,
      role: this.#role === 'draining' || this.#role === 'active' ? this.#role : 'standby',
      admits: this.#admits,
      adoption: [],
      tables: {
        firewallCt: host.table('firewall-ct'),
        admit: host.table('admit'),
        deliver: host.table('deliver'),
      },
      ...change,
    });
  }

  /** Are the rules of the policy in the switch? */
  #countsNow(): boolean {
    return this.#admits && (this.#role === 'active' || this.#role === 'standby');
  }

  #policies(): readonly Policy[] {
    return [this.#history.policy, ...this.#history.earlier];
  }

  #couldBe(connection: Connection): boolean {
    return connectionCheck(this.#terminal, this.#policies())(connection) === undefined;
  }
}
