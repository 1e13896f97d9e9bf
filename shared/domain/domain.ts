/**
 * The Domain interface: all that a handover knows of a place that can run firewalls. Nothing in it says how.
 *
 * Every call names a terminal and an epoch and may be repeated: a repetition has the effect of one call.
 * A call for an epoch older than one the domain has seen for that terminal fails with `stale-epoch`.
 */

import type { Policy } from '../firewall/policy.js';
import type { Delta, Epoch, FirewallState, Snapshot } from '../firewall/state.js';
import type { Terminal } from '../firewall/terminal.js';
import { CodedError } from '../runtime/coded-error.js';

export type Role = 'standby' | 'active' | 'draining' | 'retired';

/** A switch's datapath id: 16 lower-case hexadecimal digits. */
export type Dpid = string & { readonly __brand: 'Dpid' };

/**
 * Where steering reaches an instance.
 * `ports`: frames go out of and come back in at two ports of one switch.
 * `pipeline`: the instance is in the tables of that switch itself, known by its instance number.
 */
export type Ends =
  | {
      readonly kind: 'ports';
      readonly dpid: Dpid;
      readonly terminalSide: string;
      readonly networkSide: string;
    }
  | { readonly kind: 'pipeline'; readonly dpid: Dpid; readonly instance: number };

export interface Capabilities {
  /** `openflow-ct`, `iptables`, … */
  readonly implementation: string;
  /** The switches whose attachments this domain serves best: where a handover leads on re-attachment. */
  readonly serves: readonly Dpid[];
}

/** One instance, named. */
export interface InstanceId {
  readonly terminal: string;
  readonly epoch: Epoch;
}

/** What an instance holds, in brief: by it two copies of one state are compared. */
export interface InstanceDigest {
  /** The number of the last change in it, of the instance's own changes. */
  readonly sequence: number;
  readonly connections: number;
  /** Of the connections that it would export now: see shared/firewall/digest.ts. */
  readonly digest: string;
}

export interface Health {
  readonly ok: boolean;
  /** What a person should do, when not ok. */
  readonly problem?: string;
  readonly instances: readonly (InstanceId & { readonly role: Role })[];
}

/** A change as an instance tells it. */
export interface ToldDelta extends Delta {
  /** How many ms ago it was when it was told, where that is known; the way to here is not in it. */
  readonly ageMs?: number;
}

export interface Domain {
  /** Unique in the system, as in the configuration: `sdn-1`, `edge-1`. */
  readonly name: string;
  capabilities(): Promise<Capabilities>;
  /**
   * Builds a standby instance with this state and returns its ends. Nothing leads to it yet. Whatever goes wrong is undone
   * before the call fails. A state with connections that are not the terminal's, or that none of its policies allowed, is refused whole
   * (`invalid`; see shared/firewall/admission.ts), and so is such a change in `apply`. `epoch` is the new instance's; `snapshot.epoch` is that of the instance it was taken from.
   */
  prepare(snapshot: Snapshot, epoch: Epoch): Promise<Ends>;
  /** Brings a standby (or active, while the old one drains) instance up to date; in order, by sequence. */
  apply(id: InstanceId, deltas: readonly Delta[]): Promise<void>;
  /**
   * Makes a standby hold this state and nothing else, touching only what differs: how a copy that fell behind catches up. Changes after
   * `snapshot.sequence` may follow by `apply`. Fails with `refused` for an instance that is no standby; checked as `prepare` is.
   */
  sync(id: InstanceId, snapshot: Snapshot): Promise<void>;
  /** What the instance really holds, cheap enough to be asked every few seconds. */
  digest(id: InstanceId): Promise<InstanceDigest>;
  setPolicy(id: InstanceId, policy: Policy): Promise<void>;
  /**
   * The terminal has other addresses: name and MAC must be those of the instance (`invalid` otherwise). Connections of addresses
   * that it has no more are over.
   */
  setTerminal(id: InstanceId, terminal: Terminal): Promise<void>;
  /** From now on the instance admits new connections, for `leaseMs` from now unless repeated. */
  activate(id: InstanceId, leaseMs: number): Promise<void>;
  /** From now on the instance admits nothing new; it forwards packets of connections it knows for `drainMs` more. */
  drain(id: InstanceId, drainMs: number): Promise<void>;
  /** Removes the instance and everything it left. */
  retire(id: InstanceId): Promise<void>;
  /** The state as it is now; `sequence` is that of the last change in it. */
  export(id: InstanceId): Promise<FirewallState>;
  /**
   * Changes after `fromSequence`, as they happen, until the instance is retired or `signal` aborts.
   * Fails with `changes-lost` when that far back is no longer known: take a new snapshot. Fails with `no-instance` as soon as the domain
   * notices that the instance is of no use any more (its container has ended).
   */
  changes(id: InstanceId, fromSequence: number, signal: AbortSignal): AsyncIterable<readonly ToldDelta[]>;
  health(): Promise<Health>;
}

export type DomainErrorCode =
  | 'stale-epoch'
  | 'no-instance'
  | 'changes-lost'
  | 'unreachable'
  | 'not-ready'
  | 'refused'
  | 'invalid';

/** `message` says what went wrong and what to do. The codes travel over the channel unchanged. */
export class DomainError extends CodedError<DomainErrorCode> {
  override readonly name = 'DomainError';
}

export function dpid(value: string | number | bigint): Dpid {
  const text = typeof value === 'string' ? value.replaceAll(':', '').toLowerCase() : value.toString(16);
  if (!/^[0-9a-f]{1,16}$/.test(text)) throw new DomainError('invalid', `not a datapath id: ${value}`);
  return text.padStart(16, '0') as Dpid;
}
