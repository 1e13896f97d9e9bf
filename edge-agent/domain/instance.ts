/**
 * One instance: a compartment with its rules, its connections and its two ends, and the role it plays.
 *
 * Roles:  standby -> active -> draining, and retired from each of them. Calls come one after another: the domain queues them.
 * Who closes what: the instance owns compartment, wires, event stream, timers and change log; `close` ends them all.
 */
import { ChangeLog } from '../../shared/domain/change-log.js';
import { DomainError, type Ends, type InstanceId, type Role } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Change, Delta, FirewallState, RuleCounter, Snapshot } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { EventStream } from '../conntrack/events.js';
import { type OwnAddresses, ownAddresses, type ParsedEvent } from '../conntrack/parse.js';
import { ConnectionTable } from '../conntrack/table.js';
import { applyRuleset, applyStop, readCounters } from '../iptables/apply.js';
import { gateSeconds, setGate } from '../iptables/gate.js';
import type { Compartment, InstanceRuntime } from '../runtime/runtime.js';
import type { Wires, Wiring } from '../wiring/wiring.js';
import { ConnectionMirror } from './connection-mirror.js';
import { withDeadline } from './timer.js';

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
}

/** How often the stream of events may break and be mended before the instance gives up reporting changes. */
const MAX_RESYNCS_IN_A_ROW = 5;
const RESYNC_CALM_MS = 10_000;

export class Instance {
  role: Role = 'standby';
  /** Why the instance is of no use any more. */
  broken: string | undefined;
  /** Its drain has ended: nothing passes any more. */
  stopped = false;
  readonly ends: Ends;
  readonly #own: OwnAddresses;
  readonly #table: ConnectionTable;
  readonly #mirror: ConnectionMirror;
  readonly #changes = new ChangeLog();
  #policy: Policy;
  /** What the rules in the compartment say of the gate. */
  #gateSeconds: number;
  /** The last change of the instance that this one was prepared from. */
  #applied: number;
  #stream: EventStream | undefined;
  #resyncs = 0;
  #lease: NodeJS.Timeout | undefined;
  #drainEnd: NodeJS.Timeout | undefined;
  #calm: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    readonly id: InstanceId,
    private readonly terminal: Terminal,
    snapshot: Snapshot,
    private readonly compartment: Compartment,
    private readonly wires: Wires,
    private readonly parts: InstanceParts,
  ) {
    this.ends = wires.ends;
    this.#policy = snapshot.policy;
    this.#gateSeconds = gateSeconds(parts.leaseMs);
    this.#applied = snapshot.sequence;
    this.#own = ownAddresses(terminal);
    this.#table = new ConnectionTable(compartment, this.#own, parts.standbySeconds);
    this.#mirror = new ConnectionMirror(snapshot.connections);
    void compartment.ended.then(() => this.#break('its container has ended'));
  }

  /** Builds a standby instance. Whatever goes wrong is undone before the promise settles. */
  static async create(id: InstanceId, snapshot: Snapshot, parts: InstanceParts): Promise<Instance> {
    const [compartment, wires] = await Promise.allSettled([parts.runtime.create(id), parts.wiring.create()]);
    const closeAll = async (): Promise<void> => {
      await Promise.allSettled([
        ...(compartment.status === 'fulfilled' ? [compartment.value.close()] : []),
        ...(wires.status === 'fulfilled' ? [wires.value.close()] : []),
      ]);
    };
    if (compartment.status === 'rejected' || wires.status === 'rejected') {
      await closeAll();
      throw compartment.status === 'rejected'
        ? compartment.reason
        : wires.status === 'rejected' && wires.reason;
    }
    const instance = new Instance(id, snapshot.terminal, snapshot, compartment.value, wires.value, parts);
    try {
      await instance.#build(snapshot);
      return instance;
    } catch (error) {
      await instance
        .close()
        .catch((cause: unknown) => parts.log.error({ err: cause, ...id }, 'an instance could not be undone'));
      throw error;
    }
  }

  /** Rules and connections first; only when all are there the ends are joined. */
  async #build(snapshot: Snapshot): Promise<void> {
    const steps = await Promise.allSettled([
      this.#applyRules(snapshot.counters),
      this.#listen().then(() => this.#table.load(snapshot.connections)),
      this.wires.enter(this.compartment),
    ]);
    const failed = steps.find((step) => step.status === 'rejected');
    if (failed) throw failed.reason;
    await this.wires.join(this.compartment, this.terminal);
  }

  async apply(deltas: readonly Delta[]): Promise<void> {
    this.#mustWork();
    const changes: Change[] = [];
    let applied = this.#applied;
    for (const { sequence, change } of deltas) {
      if (sequence <= applied) continue;
      if (sequence !== applied + 1) {
        throw new DomainError(
          'changes-lost',
          `changes ${applied + 1} to ${sequence - 1} are missing: take a new snapshot`,
        );
      }
      applied = sequence;
      changes.push(change);
    }
    if (changes.length === 0) return;
    const result = this.#mirror.apply(changes, this.role !== 'standby');
    await this.#table.change(result.table);
    const policy = changes.findLast((change) => change.kind === 'policy');
    this.#changes.append(result.changes);
    if (policy) await this.setPolicy(policy.policy);
    this.#applied = applied;
  }

  async setTerminal(_terminal: Terminal): Promise<void> {
    throw new DomainError('refused', 'the addresses of a terminal cannot be changed here yet');
  }

  /** New rules, the counters of those that stay. Connections that were admitted go on, as the reference verdict has it. */
  async setPolicy(policy: Policy): Promise<void> {
    this.#mustWork();
    if (isDeepEqual(policy, this.#policy)) return;
    const counters = await readCounters(this.compartment, this.#policy);
    const before = this.#policy;
    this.#policy = policy;
    try {
      await this.#applyRules(counters);
    } catch (error) {
      this.#policy = before;
      // One family may have taken the new rules already.
      await this.#applyRules(counters).catch((cause: unknown) =>
        this.parts.log.error({ err: cause, ...this.id }, 'the old policy could not be put back'),
      );
      throw error;
    }
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
    await this.#setGateSeconds(gateSeconds(leaseMs));
    await setGate(this.compartment, this.terminal, true);
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
    await setGate(this.compartment, this.terminal, false);
  }

  async export(): Promise<FirewallState> {
    this.#mustWork();
    // The number first: what happens from here on may be in the dump already, and is harmless to repeat.
    const { sequence } = this.#changes;
    const [connections, counters] = await Promise.all([
      this.#table.dump(),
      readCounters(this.compartment, this.#policy),
    ]);
    return {
      terminal: this.terminal,
      epoch: this.id.epoch,
      sequence,
      policy: this.#policy,
      earlier: [],
      connections,
      counters,
    };
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
    for (const timer of [this.#lease, this.#drainEnd, this.#calm]) clearTimeout(timer);
    this.#stream?.close();
    this.#changes.end();
    const results = await Promise.allSettled([this.wires.close(), this.compartment.close()]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #setGateSeconds(seconds: number): Promise<void> {
    if (seconds === this.#gateSeconds) return;
    const before = this.#gateSeconds;
    this.#gateSeconds = seconds;
    try {
      await this.#applyRules(await readCounters(this.compartment, this.#policy));
    } catch (error) {
      // Whatever the rules say now, the next activation renders them again.
      this.#gateSeconds = before;
      throw error;
    }
  }

  #applyRules(counters: readonly RuleCounter[]): Promise<void> {
    return applyRuleset(this.compartment, {
      terminal: this.terminal,
      policy: this.#policy,
      counters,
      gateSeconds: this.#gateSeconds,
    });
  }

  async #leaseExpired(): Promise<void> {
    if (this.role !== 'active' || this.broken !== undefined) return;
    this.parts.log.warn(this.id, 'the lease has expired: no new connections until it is renewed');
    await setGate(this.compartment, this.terminal, false);
  }

  async #stop(): Promise<void> {
    if (this.role !== 'draining' || this.broken !== undefined) return;
    await applyStop(this.compartment);
    this.stopped = true;
  }

  async #listen(): Promise<void> {
    this.#stream = await EventStream.start(this.compartment, this.#own, {
      events: (events) => this.#observe(events),
      lost: (reason) => this.#eventsLost(reason),
    });
  }

  #observe(events: readonly ParsedEvent[]): void {
    this.#changes.append(events.flatMap((event) => this.#mirror.observe(event) ?? []));
  }

  #eventsLost(reason: string): void {
    if (this.role === 'retired' || this.broken !== undefined) return;
    this.#resyncs += 1;
    clearTimeout(this.#calm);
    this.#calm = withDeadline(RESYNC_CALM_MS, () => {
      this.#resyncs = 0;
    });
    this.parts.log.warn({ ...this.id, reason }, 'conntrack events were lost: comparing with the whole table');
    this.parts.enqueue(() => this.#resync(reason));
  }

  /** Listens anew first, then takes the whole table: what happens in between is reported, too. */
  async #resync(reason: string): Promise<void> {
    if (this.role === 'retired' || this.broken !== undefined) return;
    if (this.#resyncs > MAX_RESYNCS_IN_A_ROW) {
      this.#changes.end(
        new DomainError('changes-lost', `conntrack events are lost again and again: ${reason}`),
      );
      return;
    }
    await this.#listen();
    this.#changes.append(this.#mirror.replace(await this.#table.dump()));
  }

  #break(reason: string): void {
    if (this.role === 'retired') return;
    this.broken = reason;
    this.parts.log.error({ ...this.id, reason }, 'an instance is broken');
    for (const timer of [this.#lease, this.#drainEnd, this.#calm]) clearTimeout(timer);
    this.#stream?.close();
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

function isDeepEqual(a: Policy, b: Policy): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
