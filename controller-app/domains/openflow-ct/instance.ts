/**
 * One terminal's firewall in the switch: what it means (policy, connections), and the rules that this comes to. The domain calls it one
 * call after another; copies of packets and the tick come in between, and change nothing in the switch by themselves.
 */
import { ChangeLog } from '../../../shared/domain/change-log.js';
import type { Dpid, InstanceId, Role } from '../../../shared/domain/domain.js';
import { connectionKey } from '../../../shared/firewall/connection.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { StateError } from '../../../shared/firewall/reduce.js';
import type { Delta, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Match } from '../../openflow/index.js';
import {
  adoptionRules,
  type FirewallInstance,
  firewallRules,
  GENERATIONS,
  type Kind,
  policyCookies,
  type Rule,
} from '../../pipeline/index.js';
import { AdoptionSet } from './adoption-set.js';
import { ConnectionTable } from './connection-table.js';
import { PolicyCounters, policyCounts } from './counters.js';
import type { FirewallHost } from './host.js';
import { observe } from './observation.js';
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
  readonly terminal: Terminal;
  readonly log: ChangeLog;
  readonly #table: ConnectionTable;
  readonly #adoption: AdoptionSet;
  readonly #counters: PolicyCounters;
  #policy: Policy;
  #role: Role = 'standby';
  /** False once the lease has run out. */
  #admits = true;
  /** True when a drain is over: nothing passes any more. */
  #drained = false;
  #generation = 0;
  /** The groups of adoption rules that the core has. */
  readonly #adoptionGroups = new Set<string>();
  /** The sequence of the last change taken over from the instance before. */
  #imported: number;

  constructor(parts: InstanceParts, snapshot: Snapshot) {
    const { idleTimes, generationMs, settleMs } = parts.timings;
    this.parts = parts;
    this.terminal = snapshot.terminal;
    this.log = new ChangeLog(snapshot.sequence);
    this.#table = new ConnectionTable(idleTimes, generationMs);
    this.#adoption = new AdoptionSet(settleMs);
    this.#counters = new PolicyCounters(snapshot.policy, snapshot.counters);
    this.#policy = snapshot.policy;
    this.#imported = snapshot.sequence;
    for (const connection of snapshot.connections) this.#adoption.put(connection, parts.now());
  }

  get role(): Role {
    return this.#role;
  }

  get drained(): boolean {
    return this.#drained;
  }

  get hasConnections(): boolean {
    return this.#table.size > 0;
  }

  /** The rules of a fresh instance into an empty zone. */
  async install(): Promise<void> {
    const { host, dpid, number } = this.parts;
    await host.flushZone(dpid, number);
    await this.#setRules();
  }

  /** Takes its rules out and forgets what the switch tracked. May be repeated. */
  async remove(): Promise<void> {
    const { host, dpid, number } = this.parts;
    this.#role = 'retired';
    this.log.end();
    await host.setGroups(dpid, this.#noRules());
    if (host.connected(dpid)) await host.flushZone(dpid, number);
  }

  /** Changes of the instance before, in order; what is known already is passed over. Throws StateError `changes-lost` on a gap. */
  async apply(deltas: readonly Delta[]): Promise<void> {
    const fresh = deltas.filter(({ sequence }) => sequence > this.#imported);
    for (const [index, { sequence }] of fresh.entries()) {
      const expected = this.#imported + 1 + index;
      if (sequence === expected) continue;
      const what = `change ${expected} of ${this.parts.id.terminal} is missing, ${sequence} came: take a new snapshot`;
      throw new StateError('changes-lost', what);
    }
    const now = this.parts.now();
    for (const { sequence, change } of fresh) {
      if (change.kind === 'policy') {
        await this.setPolicy(change.policy);
        this.#imported = sequence;
        continue;
      }
      this.#imported = sequence;
      // What the switch tracks here by now is known better here.
      const key = change.kind === 'ended' ? change.key : connectionKey(change.connection);
      if (this.#table.get(key)) continue;
      const changed =
        change.kind === 'ended' ? this.#adoption.end(key) : this.#adoption.put(change.connection, now);
      if (!changed) continue;
      this.log.append([change]);
    }
    if (this.#adoption.stale) await this.#setRules();
  }

  /** The policy for connections from now on; those that live go on. When the switch refuses it, the old one stays. */
  async setPolicy(policy: Policy): Promise<void> {
    if (JSON.stringify(policy) === JSON.stringify(this.#policy)) return;
    const before = this.#policy;
    await this.#readCounters();
    this.#policy = policy;
    try {
      await this.#setRules();
    } catch (error) {
      this.#policy = before;
      throw error;
    }
    this.#counters.fold(policy);
    if (this.#hasPolicyRules()) this.#counters.begin(await this.#policyCounts());
    this.log.append([{ kind: 'policy', policy }]);
  }

  /** Admits, from now on or again. */
  async activate(): Promise<void> {
    const same = this.#role === 'standby' || (this.#role === 'active' && this.#admits);
    if (same) this.#role = 'active';
    else await this.#become({ role: 'active', admits: true });
    this.#adoption.start(this.parts.now());
  }

  /** The lease has run out: no new connections. */
  async refuseNew(): Promise<void> {
    if (this.#role !== 'active' || !this.#admits) return;
    await this.#stopCounting();
    await this.#become({ role: 'active', admits: false });
  }

  async drain(): Promise<void> {
    if (this.#role === 'draining') return;
    await this.#stopCounting();
    await this.#become({ role: 'draining', admits: false });
  }

  /** The drain is over: nothing passes. */
  async stop(): Promise<void> {
    this.#drained = true;
    await this.#setRules();
  }

  /** Another role, and its rules; without them it stays what it was. */
  async #become(next: { role: Role; admits: boolean }): Promise<void> {
    const before = { role: this.#role, admits: this.#admits };
    this.#role = next.role;
    this.#admits = next.admits;
    try {
      await this.#setRules();
    } catch (error) {
      this.#role = before.role;
      this.#admits = before.admits;
      throw error;
    }
  }

  /** A copy of a packet. */
  packetIn(kind: Kind, match: Match, data: Uint8Array): void {
    const seen = observe(kind, match, data);
    if (!seen) return;
    const now = this.parts.now();
    const changed = this.#table.observe(seen, now, this.#adoption.origin(seen.key, now));
    const connection = this.#table.get(seen.key);
    this.#adoption.seen(
      seen.key,
      {
        bothWays: kind === 'reply',
        closed: connection?.protocol === 'tcp' && connection.state === 'closed',
      },
      now,
    );
    if (changed) this.log.append([{ kind: 'connection', connection: changed }]);
  }

  /** Forgets what is over. Returns whether rules of adoption have to go: `setAdoption` does it. */
  tick(): boolean {
    if (this.#role === 'standby') return false;
    const now = this.parts.now();
    const idle = this.#table.expire(now);
    const ended = this.#adoption.sweep(now, (key) => this.#table.get(key) !== undefined);
    this.log.append([...idle, ...ended].map((key) => ({ kind: 'ended', key })));
    return this.#adoption.stale;
  }

  /** States the rules again, without those of connections that need not be adopted any more. */
  setAdoption(): Promise<void> {
    return this.#setRules();
  }

  /** Every live connection that sends announces itself once more. */
  async nextGeneration(): Promise<void> {
    this.#generation = (this.#generation + 1) % GENERATIONS;
    await this.#setRules();
  }

  async export(): Promise<FirewallState> {
    if (this.#hasPolicyRules()) await this.#readCounters();
    const now = this.parts.now();
    return {
      terminal: this.terminal,
      epoch: this.parts.id.epoch,
      sequence: this.log.sequence,
      policy: this.#policy,
      connections: [...this.#table.export(now), ...this.#adoption.export(now)],
      counters: this.#counters.total(),
    };
  }

  /** States the rules; those of adoption, of which there may be many, only where they have changed. */
  async #setRules(): Promise<void> {
    const { host, dpid } = this.parts;
    if (this.#drained) {
      await host.setGroups(dpid, this.#noRules());
      this.#adoptionGroups.clear();
      return;
    }
    const model = this.#model();
    const groups = new Map<string, readonly Rule[]>([[this.#group('rules'), firewallRules(model)]]);
    const stale = this.#adoption.takeStale();
    for (const key of stale) {
      groups.set(
        this.#group(`adoption ${key}`),
        adoptionRules({ ...model, adoption: this.#adoption.needing(key) }),
      );
    }
    try {
      await host.setGroups(dpid, groups);
    } catch (error) {
      this.#adoption.giveBack(stale);
      throw error;
    }
    for (const key of stale) {
      const group = this.#group(`adoption ${key}`);
      if (groups.get(group)?.length) this.#adoptionGroups.add(group);
      else this.#adoptionGroups.delete(group);
    }
  }

  #noRules(): Map<string, readonly Rule[]> {
    return new Map([this.#group('rules'), ...this.#adoptionGroups].map((group) => [group, []]));
  }

  #model(): FirewallInstance {
    const { host, number } = this.parts;
    return {
      number,
      terminal: this.terminal,
      policy: this.#policy,
      generation: this.#generation,
      role: this.#role === 'draining' ? 'draining' : this.#role === 'active' ? 'active' : 'standby',
      admits: this.#admits,
      adoption: [],
      tables: { firewallCt: host.table('firewall-ct'), deliver: host.table('deliver') },
    };
  }

  #group(part: string): string {
    const { terminal, epoch } = this.parts.id;
    return `${terminal} ${epoch} ${part}`;
  }

  #hasPolicyRules(): boolean {
    return this.#admits && (this.#role === 'active' || this.#role === 'standby');
  }

  /** Before the rules of the policy go: keeps what they counted. */
  async #stopCounting(): Promise<void> {
    if (!this.#hasPolicyRules()) return;
    await this.#readCounters();
    this.#counters.fold(this.#policy);
  }

  /** Counters are worth no failure: without the switch they are what they were. */
  async #readCounters(): Promise<void> {
    const { host, dpid } = this.parts;
    if (!this.#hasPolicyRules() || !host.connected(dpid)) return;
    this.#counters.read(await this.#policyCounts());
  }

  async #policyCounts(): Promise<ReturnType<typeof policyCounts>> {
    const { host, dpid, number } = this.parts;
    return policyCounts(
      this.#policy,
      number,
      await host.counters(dpid, 'firewall-ct', policyCookies(number)),
    );
  }
}
