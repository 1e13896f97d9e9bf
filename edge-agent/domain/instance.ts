/**
 * One instance: a lodging with its rules, its connections and its two ends, and the role it plays.
 *
 * Roles:  standby -> active -> draining, and retired from each of them. Calls come one after another: the domain queues them.
 * Who closes what: the instance owns its lodging, tracked connections, timers and change log; `close` ends them all.
 */
import { CHANGES_KEPT, ChangeLog } from '../../shared/domain/change-log.js';
import {
  DomainError,
  type Ends,
  type InstanceDigest,
  type InstanceId,
  type Role,
  type ToldDelta,
} from '../../shared/domain/domain.js';
import { freshDeltas } from '../../shared/domain/fresh-deltas.js';
import { mustBeSame } from '../../shared/domain/valid.js';
import { problemOfChanges } from '../../shared/firewall/admission.js';
import { connectionDifferences } from '../../shared/firewall/differences.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { isSamePolicy, PolicyHistory } from '../../shared/firewall/policy-history.js';
import type { Delta, FirewallState, RuleCounter, Snapshot } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { Once } from '../../shared/runtime/once.js';
import { type BridgeLimits, openBridge, settleTerminal } from '../bridge/inner-bridge.js';
import { gateSeconds } from '../iptables/gate.js';

import type { Lodging } from './lodging.js';
import { InstalledRules } from './rules.js';
import { inOrder } from './steps.js';
import { withDeadline } from './timer.js';
import { TrackedConnections } from './tracked-connections.js';

export interface InstanceParts {
  readonly log: Log;
  /** Runs an action of a timer's or an event's in the terminal's queue, where no call is under way. */
  readonly enqueue: (act: () => Promise<void>) => void;
  /** The least time that connections have at activation. */
  readonly leastSeconds: number | undefined;
  /** The lease that is to be expected, in ms: activation with another one renders the rules anew. */
  readonly leaseMs: number;
  /** The socket's buffer for conntrack's events, in bytes. */
  readonly eventBufferBytes: number | undefined;
}

export class Instance {
  role: Role = 'standby';
  /** Why the instance is of no use any more. */
  broken: string | undefined;
  /** Its drain has ended: nothing passes any more. */
  stopped = false;
  readonly ends: Ends;
  readonly #rules: InstalledRules;
  #policies: PolicyHistory;
  readonly #connections: TrackedConnections;
  readonly #changes = new ChangeLog(0, CHANGES_KEPT, () => performance.now());
  #limits: BridgeLimits = { rejects: undefined };
  /** The last change of the instance that this one was prepared from. */
  #applied: number;
  #lease: NodeJS.Timeout | undefined;
  #drainEnd: NodeJS.Timeout | undefined;
  readonly #closed = new Once(() => this.#close());

  private constructor(
    readonly id: InstanceId,
    snapshot: Snapshot,
    private readonly lodging: Lodging,
    private readonly parts: InstanceParts,
  ) {
    const { terminal, policy, earlier, sequence } = snapshot;
    const { log, enqueue, leastSeconds, eventBufferBytes } = parts;
    const { compartment } = lodging;
    this.ends = lodging.wires.ends;
    this.#applied = sequence;
    this.#policies = new PolicyHistory(policy, earlier, performance.now());
    const contents = { terminal, policy, gateSeconds: gateSeconds(parts.leaseMs) };
    this.#rules = new InstalledRules(compartment, contents, log);
    this.#connections = new TrackedConnections({
      ...{ id, compartment, terminal, changes: this.#changes, log, enqueue, leastSeconds, eventBufferBytes },
    });
    void lodging.lost.then((reason) => this.#break(reason));
  }

  /** Builds a standby instance in a lodging that is its own from now on. Whatever goes wrong is undone before the promise settles. */
  static async create(
    id: InstanceId,
    snapshot: Snapshot,
    lodging: Lodging,
    parts: InstanceParts,
  ): Promise<Instance> {
    const instance = new Instance(id, snapshot, lodging, parts);
    try {
      await instance.#build(snapshot);
      return instance;
    } catch (error) {
      instance.#end();
      await lodging.removed();
      throw error;
    }
  }

  /** What a person should know although the instance works. */
  get limit(): string | undefined {
    return rejectsAny(this.#policies.policy) ? this.#limits.rejects : undefined;
  }

  /** Rules and connections first; only when all are there the bridge is opened. */
  async #build({ terminal, counters, connections }: Snapshot): Promise<void> {
    const { compartment, limits } = this.lodging;
    const settled = settleTerminal(compartment, terminal);
    const steps = await Promise.allSettled([
      this.#rules.install(counters),
      this.#connections.start(connections),
      settled,
    ]);
    const failed = steps.find((step) => step.status === 'rejected');
    if (failed) throw failed.reason;
    this.#limits = { rejects: limits.rejects ?? (await settled).rejects };
    await openBridge(compartment);
    // It may have been lost while it was being built, and told nobody yet.
    if (this.lodging.broken !== undefined) this.#break(this.lodging.broken);
    this.#mustWork();
  }

  async apply(deltas: readonly Delta[]): Promise<void> {
    this.#mustWork();
    const fresh = freshDeltas(deltas, this.#applied);
    const last = fresh.at(-1);
    if (!last) return;
    const changes = fresh.map(({ change }) => change);
    const { policy, earlier } = this.#policies;
    const problem = problemOfChanges(this.#rules.contents.terminal, [policy, ...earlier], changes);
    if (problem !== undefined) {
      throw new DomainError('invalid', `these changes were not applied, none of them: ${problem}`);
    }
    for (const part of inOrder(changes)) {
      if (part.kind === 'policy') await this.setPolicy(part.policy);
      else if (part.kind === 'terminal') await this.setTerminal(part.terminal);
      else await this.#connections.apply(part.changes, this.role !== 'standby');
    }
    this.#applied = last.sequence;
  }

  /** Takes a whole state over in place of what it holds; what is the same stays as it is. */
  async sync(snapshot: Snapshot): Promise<void> {
    this.#mustWork();
    if (this.role !== 'standby') {
      const what = `the instance of epoch ${this.id.epoch} is ${this.role}: only a standby takes a whole state over`;
      throw new DomainError('refused', what);
    }
    const { terminal, policy, earlier, counters, connections, sequence } = snapshot;
    await this.setTerminal(terminal);
    if (!isSamePolicy(policy, this.#policies.policy)) await this.setPolicy(policy, counters);
    else if (counters.length > 0) await this.#rules.recount(counters);
    this.#policies = new PolicyHistory(policy, earlier, performance.now());
    await this.#connections.apply(connectionDifferences(await this.#connections.known(), connections), false);
    this.#applied = sequence;
  }

  /** Of what the kernel holds, as its events keep it known. */
  async digest(): Promise<InstanceDigest> {
    this.#mustWork();
    const held = await this.#connections.digest();
    return { sequence: this.#changes.sequence, ...held };
  }

  /** Other rules first: what is told of connections that they admit comes after the change. */
  async setTerminal(terminal: Terminal): Promise<void> {
    this.#mustWork();
    const before = this.#rules.contents.terminal;
    mustBeSame(before, terminal);
    if (isSameTerminal(terminal, before)) return;
    await this.#rules.setTerminal(terminal, () => this.#connections.setTerminal(terminal));
    this.#changes.append([{ kind: 'terminal', terminal }]);
  }

  /**
   * New rules, the counters of those that stay. Connections that were admitted go on, as the reference verdict has it. The change is told before
   * the rules are in force, because connections that they admit may be told at once.
   */
  async setPolicy(policy: Policy, counters?: readonly RuleCounter[]): Promise<void> {
    this.#mustWork();
    const before = this.#policies.policy;
    if (isSamePolicy(policy, before)) return;
    this.#replacePolicy(policy);
    try {
      await this.#rules.change({ policy }, counters);
    } catch (error) {
      this.#replacePolicy(before);
      throw error;
    }
  }

  #replacePolicy(policy: Policy): void {
    this.#policies.replace(policy, performance.now());
    this.#changes.append([{ kind: 'policy', policy }]);
  }

  /**
   * Starts no process: rules and connections are in already, and only the gate opens. A lease of another length than the rules were
   * made for is the exception: what the kernel counts to is part of them. Fails with `not-ready` when the monotonic clock is past `notAfter`: whoever
   * asked does not count with it any more.
   */
  async activate(leaseMs: number, notAfter: number): Promise<void> {
    this.#mustWork();
    if (this.role === 'draining') {
      throw new DomainError(
        'refused',
        `the instance of epoch ${this.id.epoch} drains already: prepare one of a new epoch`,
      );
    }
    const seconds = gateSeconds(leaseMs);
    if (seconds !== this.#rules.contents.gateSeconds) await this.#rules.change({ gateSeconds: seconds });
    if (performance.now() > notAfter) {
      throw new DomainError(
        'not-ready',
        `activation came too late, after ${Math.round(performance.now() - notAfter)} ms too many: ask again`,
      );
    }
    await this.#rules.openGate(leaseMs);
    this.role = 'active';
    this.#connections.begin();
    clearTimeout(this.#lease);
    this.#lease = withDeadline(leaseMs, () => this.parts.enqueue(() => this.#leaseExpired()));
  }

  async drain(drainMs: number): Promise<void> {
    if (this.role === 'draining') return;
    this.#mustWork();
    this.role = 'draining';
    clearTimeout(this.#lease);
    this.#drainEnd = withDeadline(drainMs, () => this.parts.enqueue(() => this.#stop()));
    await this.#rules.closeGate();
  }

  async export(): Promise<FirewallState> {
    this.#mustWork();
    // The number first: what happens from here on may be among the connections already, and is harmless to repeat.
    const { sequence } = this.#changes;
    const { terminal, policy } = this.#rules.contents;
    const [connections, counters] = await Promise.all([this.#connections.timed(), this.#rules.counters()]);
    const proven = this.#policies.forExport(connections, performance.now());
    return { terminal, epoch: this.id.epoch, sequence, policy, ...proven, counters };
  }

  changes(fromSequence: number, signal: AbortSignal): AsyncIterable<readonly ToldDelta[]> {
    return this.#changes.follow(fromSequence, signal);
  }

  /** When the promise settles nothing of it forwards any more; the rest is removed behind it. May be called twice, and again when it failed. */
  close(): Promise<void> {
    return this.#closed.run();
  }

  async #close(): Promise<void> {
    this.#end();
    await this.lodging.close();
  }

  #end(): void {
    this.role = 'retired';
    for (const timer of [this.#lease, this.#drainEnd]) clearTimeout(timer);
    this.#connections.close();
    this.#changes.end();
  }

  /** Settles when a closed instance has left nothing. Never fails: what can't be removed now is tried again. */
  removed(): Promise<void> {
    return this.lodging.removed();
  }

  async #leaseExpired(): Promise<void> {
    if (this.role !== 'active' || this.broken !== undefined) return;
    this.parts.log.warn(this.id, 'the lease has expired: no new connections until it is renewed');
    await this.#rules.closeGate();
  }

  async #stop(): Promise<void> {
    if (this.role !== 'draining' || this.broken !== undefined) return;
    await this.#rules.stop();
    this.stopped = true;
  }

  #break(reason: string): void {
    if (this.role === 'retired') return;
    this.broken = reason;
    this.parts.log.error({ ...this.id, reason }, 'an instance is broken');
    for (const timer of [this.#lease, this.#drainEnd]) clearTimeout(timer);
    this.#connections.close();
    this.#changes.end(new DomainError('no-instance', this.#brokenMessage(reason)));
  }

  #mustWork(): void {
    const reason = this.role === 'retired' ? 'its removal has begun' : this.broken;
    if (reason !== undefined) throw new DomainError('no-instance', this.#brokenMessage(reason));
  }

  #brokenMessage(reason: string): string {
    return `the instance of ${this.id.terminal} is of no use any more, ${reason}: retire it and prepare a new one`;
  }
}

function rejectsAny({ defaults, rules }: Policy): boolean {
  return [defaults.outbound, defaults.inbound, ...rules.map(({ action }) => action)].includes('reject');
}
