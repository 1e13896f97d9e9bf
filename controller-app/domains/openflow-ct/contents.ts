/**
 * What one instance in the switch holds: its terminal, its policies, its connections, what its rules have counted, and the changes that it has told. What
 * the switch is to do about it is the instance's affair.
 */
import { ChangeLog } from '../../../shared/domain/change-log.js';
import { DomainError, type InstanceDigest } from '../../../shared/domain/domain.js';
import { freshDeltas } from '../../../shared/domain/fresh-deltas.js';
import { connectionCheck, problemOfChanges } from '../../../shared/firewall/admission.js';
import type { Connection } from '../../../shared/firewall/connection.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { PolicyHistory } from '../../../shared/firewall/policy-history.js';
import type { Change, Delta, Epoch, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock } from '../../../shared/runtime/clock.js';
import type { Match } from '../../openflow/index.js';
import type { Kind } from '../../pipeline/index.js';
import { Connections } from './connections.js';
import { CountedPolicy } from './counters.js';
import type { Place } from './host.js';
import type { InstanceHead, InstanceRecord } from './record.js';
import type { Timings } from './timings.js';

/**
 * Changes that an instance told before the controller began anew are not known any more, nor how many of them were not kept: its next ones are numbered
 * from so much higher that whoever followed must take a new snapshot.
 */
const RESUMED_AFTER = 2 ** 32;

export interface ContentsParts extends Place {
  readonly clock: Clock;
  readonly timings: Timings;
  /** Undefined: nobody asks what is to be kept. */
  readonly keeper: object | undefined;
}

export class Contents {
  #terminal: Terminal;
  /** The sequence of the last change taken over from the instance before. */
  imported: number;
  readonly log: ChangeLog;
  readonly history: PolicyHistory;
  readonly connections: Connections;
  readonly counters: CountedPolicy;
  readonly #clock: Clock;

  /** Those of a state, or what an earlier controller kept. */
  constructor(parts: ContentsParts, from: Snapshot | InstanceRecord) {
    const resumed = 'number' in from;
    this.#clock = parts.clock;
    const now = this.#now;
    this.#terminal = from.terminal;
    this.imported = resumed ? from.imported : from.sequence;
    this.log = new ChangeLog(from.sequence + (resumed ? RESUMED_AFTER : 0));
    this.history = new PolicyHistory(from.policy, from.earlier, now);
    this.connections = new Connections(parts.timings, parts.keeper !== undefined);
    this.counters = new CountedPolicy(parts, from.policy, resumed ? from.counted : from.counters);
    if (resumed) this.#resume(from, now);
    else
      for (const connection of from.connections)
        this.connections.take({ kind: 'connection', connection }, now);
  }

  #resume({ offset, role, connections }: InstanceRecord, nowMs: number): void {
    this.counters.resume(offset);
    if (role !== 'standby') this.connections.adoption.start(nowMs);
    for (const kept of connections) this.connections.resume(kept, nowMs);
  }

  get terminal(): Terminal {
    return this.#terminal;
  }

  get digest(): InstanceDigest {
    return { sequence: this.log.sequence, ...this.connections.digest };
  }

  /** Those of the changes of the instance before that are new. Throws DomainError `changes-lost` on a gap, and `invalid` when one of them can't be. */
  fresh(deltas: readonly Delta[]): readonly Delta[] {
    const fresh = freshDeltas(deltas, this.imported);
    const changes = fresh.map(({ change }) => change);
    const problem = problemOfChanges(this.terminal, this.#policies, changes);
    if (problem === undefined) return fresh;
    throw new DomainError('invalid', `the changes are refused: ${problem}; take a new snapshot of it`);
  }

  /** A copy of a packet. */
  packetIn(kind: Kind, match: Match, data: Uint8Array): void {
    const couldBe = (one: Connection): boolean =>
      connectionCheck(this.terminal, this.#policies)(one) === undefined;
    const change = this.connections.packetIn(kind, match, data, this.#now, couldBe);
    if (change) this.log.append([change]);
  }

  /** What another instance tells of a connection. */
  take(change: Extract<Change, { kind: 'connection' | 'ended' }>): void {
    if (this.connections.take(change, this.#now)) this.log.append([change]);
  }

  /** Forgets what is over. */
  sweep(): void {
    const ended = this.connections.sweep(this.#now);
    this.log.append(ended.map((key) => ({ kind: 'ended', key })));
  }

  /** Other addresses; connections of those that the terminal has no more are over. */
  setTerminal(terminal: Terminal): void {
    this.#terminal = terminal;
    // Nothing of the others reaches conntrack any more; what it knows of them goes, lest it live when an address comes back.
    this.connections.keepOnly(new Set([...terminal.ipv4, ...terminal.ipv6]));
    this.log.append([{ kind: 'terminal', terminal }]);
  }

  setPolicy(policy: Policy): void {
    this.history.replace(policy, this.#now);
    this.log.append([{ kind: 'policy', policy }]);
  }

  export(epoch: Epoch): FirewallState {
    const now = this.#now;
    const { earlier, connections } = this.history.forExport(this.connections.export(now), now);
    return {
      terminal: this.terminal,
      epoch,
      sequence: this.log.sequence,
      policy: this.history.policy,
      earlier,
      connections,
      counters: this.counters.total(),
    };
  }

  /** What is kept of it beside connections. */
  get kept(): Pick<
    InstanceHead,
    'terminal' | 'sequence' | 'imported' | 'policy' | 'earlier' | 'counted' | 'offset'
  > {
    const { terminal, imported, log, history, counters } = this;
    const { policy, earlier } = history;
    return { terminal, sequence: log.sequence, imported, policy, earlier, ...counters.kept };
  }

  /** Monotonic ms. */
  get #now(): number {
    return this.#clock.monotonic();
  }

  get #policies(): readonly Policy[] {
    return [this.history.policy, ...this.history.earlier];
  }
}
