/**
 * One instance: a compartment with its rules, its connections and its two ends, and the role it plays.
 *
 * Roles:  standby -> active -> draining, and retired from each of them. Calls come one after another: the domain queues them.
 * Who closes what: the instance owns compartment, wires, tracked connections, timers and change log; `close` ends them all.
 */
import { ChangeLog } from '../../shared/domain/change-log.js';
import {
  DomainError,
  type Ends,
  type InstanceDigest,
  type InstanceId,
  type Role,
} from '../../shared/domain/domain.js';
import { problemOfChanges } from '../../shared/firewall/admission.js';
import { differences } from '../../shared/firewall/differences.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { isSamePolicy, PolicyHistory } from '../../shared/firewall/policy-history.js';
import type { Delta, FirewallState, Snapshot } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { type BridgeLimits, joinEnds, makeBridge } from '../bridge/inner-bridge.js';
import { gateSeconds } from '../iptables/gate.js';
import type { Compartment, InstanceRuntime } from '../runtime/runtime.js';
import type { Unfinished } from '../unfinished.js';
import type { Wires, Wiring } from '../wiring/wiring.js';
import { freshChanges, inOrder } from './incoming-changes.js';
import { InstalledRules } from './rules.js';
import { withDeadline } from './timer.js';
import { TrackedConnections } from './tracked-connections.js';

export interface InstanceParts {
  readonly runtime: InstanceRuntime;
  readonly wiring: Wiring;
  readonly log: Log;
  /** Runs an action of a timer's or an event's in the terminal's queue, where no call is under way. */
  readonly enqueue: (act: () => Promise<void>) => void;
  /** The least time that loaded entries begin with. */
  readonly standbySeconds: number;
  /** The lease that is to be expected, in ms: activation with another one renders the rules anew. */
  readonly leaseMs: number;
  /** Where what could not be undone goes. */
  readonly unfinished: Unfinished;
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
  readonly #policies: PolicyHistory;
  readonly #connections: TrackedConnections;
  readonly #changes = new ChangeLog();
  #limits: BridgeLimits = { rejects: undefined };
  /** The last change of the instance that this one was prepared from. */
  #applied: number;
  #lease: NodeJS.Timeout | undefined;
  #drainEnd: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    readonly id: InstanceId,
    snapshot: Snapshot,
    private readonly compartment: Compartment,
    private readonly wires: Wires,
    private readonly parts: InstanceParts,
  ) {
    const { terminal, policy, earlier, connections, sequence } = snapshot;
    const { log, enqueue, standbySeconds, eventBufferBytes } = parts;
    this.ends = wires.ends;
    this.#applied = sequence;
    this.#policies = new PolicyHistory(policy, earlier, performance.now());
    const contents = { terminal, policy, gateSeconds: gateSeconds(parts.leaseMs) };
    this.#rules = new InstalledRules(compartment, contents, log);
    this.#connections = new TrackedConnections(
      { id, compartment, terminal, changes: this.#changes, log, enqueue, standbySeconds, eventBufferBytes },
      connections,
    );
    void compartment.ended.then(() => this.#break('its container has ended'));
  }

  /** Builds a standby instance. Whatever goes wrong is undone before the promise settles. */
  static async create(id: InstanceId, snapshot: Snapshot, parts: InstanceParts): Promise<Instance> {
    const [compartment, wires] = await Promise.allSettled([parts.runtime.create(id), parts.wiring.create()]);
    const closeBoth = async (): Promise<void> => {
      for (const part of [compartment, wires]) {
        if (part.status === 'fulfilled')
          await parts.unfinished.undo('a part of an instance', () => part.value.close());
      }
    };
    if (compartment.status === 'rejected' || wires.status === 'rejected') {
      await closeBoth();
      throw compartment.status === 'rejected'
        ? compartment.reason
        : wires.status === 'rejected' && wires.reason;
    }
    const instance = new Instance(id, snapshot, compartment.value, wires.value, parts);
    try {
      await instance.#build(snapshot);
      return instance;
    } catch (error) {
      await parts.unfinished.undo('a half-made instance', () => instance.close());
      throw error;
    }
  }

  /** What a person should know although the instance works. */
  get limit(): string | undefined {
    return rejectsAny(this.#policies.policy) ? this.#limits.rejects : undefined;
  }

  /** Rules and connections first; only when all are there the ends are joined. */
  async #build({ terminal, counters, connections }: Snapshot): Promise<void> {
    const bridge = makeBridge(this.compartment, terminal);
    const steps = await Promise.allSettled([
      this.#rules.install(counters),
      this.#connections.start(connections),
      this.wires.enter(this.compartment),
      bridge,
    ]);
    const failed = steps.find((step) => step.status === 'rejected');
    if (failed) throw failed.reason;
    this.#limits = await bridge;
    await joinEnds(this.compartment, terminal);
  }

  async apply(deltas: readonly Delta[]): Promise<void> {
    this.#mustWork();
    const { applied, changes } = freshChanges(deltas, this.#applied);
    if (changes.length === 0) return;
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
    this.#applied = applied;
  }

  /** Takes a whole state over in place of what it holds; what is the same stays as it is. */
  async sync(snapshot: Snapshot): Promise<void> {
    this.#mustWork();
    if (this.role !== 'standby') {
      const what = `the instance of epoch ${this.id.epoch} is ${this.role}: only a standby takes a whole state over`;
      throw new DomainError('refused', what);
    }
    for (const policy of snapshot.earlier.toReversed()) this.#policies.replace(policy, performance.now());
    for (const part of inOrder(differences(await this.export(), snapshot))) {
      if (part.kind === 'policy') await this.setPolicy(part.policy);
      else if (part.kind === 'terminal') await this.setTerminal(part.terminal);
      else await this.#connections.apply(part.changes, false);
    }
    this.#applied = snapshot.sequence;
  }

  async digest(): Promise<InstanceDigest> {
    const { connections, sequence } = await this.export();
    const digest = new ConnectionsDigest(connections);
    return { sequence, connections: digest.count, digest: digest.value };
  }

  /** Other rules first: what is told of connections that they admit comes after the change. */
  async setTerminal(terminal: Terminal): Promise<void> {
    this.#mustWork();
    const before = this.#rules.contents.terminal;
    if (terminal.name !== before.name || terminal.mac !== before.mac) {
      throw new DomainError(
        'invalid',
        `${terminal.name} (${terminal.mac}) is another terminal than ${before.name} (${before.mac}): only addresses can change`,
      );
    }
    if (isSameJson(terminal, before)) return;
    await this.#rules.setTerminal(terminal, () => this.#connections.setTerminal(terminal));
    this.#changes.append([{ kind: 'terminal', terminal }]);
  }

  /**
   * New rules, the counters of those that stay. Connections that were admitted go on, as the reference verdict has it. The change is told before
   * the rules are in force, because connections that they admit may be told at once.
   */
  async setPolicy(policy: Policy): Promise<void> {
    this.#mustWork();
    const before = this.#policies.policy;
    if (isSamePolicy(policy, before)) return;
    this.#replacePolicy(policy);
    try {
      await this.#rules.change({ policy });
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
   * made for is the exception: what the kernel counts to is part of them.
   */
  async activate(leaseMs: number): Promise<void> {
    this.#mustWork();
    if (this.role === 'draining') {
      throw new DomainError(
        'refused',
        `the instance of epoch ${this.id.epoch} drains already: prepare one of a new epoch`,
      );
    }
    const seconds = gateSeconds(leaseMs);
    if (seconds !== this.#rules.contents.gateSeconds) await this.#rules.change({ gateSeconds: seconds });
    await this.#rules.openGate(true);
    this.role = 'active';
    clearTimeout(this.#lease);
    this.#lease = withDeadline(leaseMs, () => this.parts.enqueue(() => this.#leaseExpired()));
  }

  async drain(drainMs: number): Promise<void> {
    if (this.role === 'draining') return;
    this.#mustWork();
    this.role = 'draining';
    clearTimeout(this.#lease);
    this.#drainEnd = withDeadline(drainMs, () => this.parts.enqueue(() => this.#stop()));
    await this.#rules.openGate(false);
  }

  async export(): Promise<FirewallState> {
    this.#mustWork();
    // The number first: what happens from here on may be in the dump already, and is harmless to repeat.
    const { sequence } = this.#changes;
    const { terminal, policy } = this.#rules.contents;
    const [connections, counters] = await Promise.all([this.#connections.dump(), this.#rules.counters()]);
    const proven = this.#policies.forExport(connections, performance.now());
    return { terminal, epoch: this.id.epoch, sequence, policy, ...proven, counters };
  }

  changes(fromSequence: number, signal: AbortSignal): AsyncIterable<readonly Delta[]> {
    return this.#changes.follow(fromSequence, signal);
  }

  /** Removes everything: what can't be removed does not keep the rest. May be called twice, and again when it failed. */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error: unknown) => {
      this.#closing = undefined;
      throw error;
    });
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.role = 'retired';
    for (const timer of [this.#lease, this.#drainEnd]) clearTimeout(timer);
    this.#connections.close();
    this.#changes.end();
    const results = await Promise.allSettled([this.wires.close(), this.compartment.close()]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #leaseExpired(): Promise<void> {
    if (this.role !== 'active' || this.broken !== undefined) return;
    this.parts.log.warn(this.id, 'the lease has expired: no new connections until it is renewed');
    await this.#rules.openGate(false);
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

function isSameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
