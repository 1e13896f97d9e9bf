/**
 * What the controller must not lose, and the interface by which its parts keep it. How it is kept is the business of the files beside this one.
 *
 * Two kinds of things are kept, and they differ in what happens when they cannot be:
 *   orders  what somebody asked for (a policy, a placement) or what must be known before it is used (an epoch). The call settles when the order would
 *           survive `kill -9`; when it fails, the order is not kept and must not be carried out.
 *   facts   what has happened already (an instance is active, a connection has begun). The call returns at once; `flushed` waits for it. When facts
 *           cannot be written they are remembered, and written as soon as that is possible again: forwarding does not wait for a disk.
 */

import type { PlacementMode } from '../../shared/api/schema.js';
import type { Dpid, Ends } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Delta, Epoch, FirewallState } from '../../shared/firewall/state.js';
import { CodedError } from '../../shared/runtime/coded-error.js';
import type { Closable } from '../../shared/runtime/lifetime.js';
import type { InstanceKeeper, InstanceRecord } from '../domains/openflow-ct/record.js';

/** The active instance of a terminal's firewall: the name of its domain, its instance number, and where steering reaches it. */
export interface StoredActive {
  readonly domain: string;
  readonly epoch: Epoch;
  readonly number: number;
  readonly ends: Ends;
}

/** An address that a terminal has learnt. Fixed ones are in the configuration. */
export interface StoredAddress {
  readonly address: string;
  readonly origin: 'dhcp' | 'slaac' | 'kept';
  /** Ms since 1970; there when a lease ends. */
  readonly until?: number;
}

/** Where a terminal is plugged in. */
export interface StoredAttachment {
  readonly dpid: Dpid;
  /** OpenFlow's number of the port. */
  readonly port: number;
  readonly portName: string;
}

/** A policy that was put in force while the controller ran. */
export interface StoredPolicy {
  readonly policy: Policy;
  /** `policyDigest` of the policy that the terminal's file had then: when the file says something else by now, the file holds. */
  readonly fileDigest: string;
}

/** All that is kept of one terminal. */
export interface StoredTerminal {
  /** The highest epoch that was ever given to an instance of it; 0: none. */
  readonly lastEpoch: number;
  readonly placement: PlacementMode;
  readonly policy: StoredPolicy | undefined;
  readonly active: StoredActive | undefined;
  readonly addresses: readonly StoredAddress[];
  readonly attachments: readonly StoredAttachment[];
  /** The mirror: its firewall as the controller knows it, connections included. The times left are those of when each change was told. */
  readonly state: FirewallState | undefined;
}

/** Keeps what concerns one terminal. */
export interface TerminalKeeper {
  /** What is kept now; after opening: what an earlier controller left. `state` takes time when it is looked at: copy it once. */
  read(): StoredTerminal;

  /** An order. Undefined: the policy of its file holds. */
  setPolicy(policy: StoredPolicy | undefined): Promise<void>;
  /** An order. */
  setPlacement(placement: PlacementMode): Promise<void>;
  /** An order: await it before the epoch goes to any domain. Epochs may be taken in advance, so that a handover does not wait. */
  setEpoch(lastEpoch: number): Promise<void>;

  /** A fact, as are all that follow. */
  setActive(instance: StoredActive | undefined): void;
  setAddresses(addresses: readonly StoredAddress[]): void;
  setAttachments(attachments: readonly StoredAttachment[]): void;
  /** The whole mirror; undefined: there is none any more. */
  setState(state: FirewallState | undefined): void;
  /** Changes of the mirror, by its own numbers: as `applyDeltas`, what it holds already is passed over and a gap throws `changes-lost`. */
  changes(deltas: readonly Delta[]): void;
}

/** What can be said of a store while it runs. */
export interface StoreHealth {
  /** Why nothing is kept at present, and what to do. */
  readonly problem?: string;
  /** Bytes on disk. */
  readonly bytes: number;
}

export interface ControllerStore extends Closable {
  /** The terminals of which something is kept. */
  terminals(): readonly string[];
  terminal(name: string): TerminalKeeper;
  /** Forgets all that is kept of a terminal, for instance because the configuration does not have it any more. */
  forget(terminal: string): void;
  /** Keeps the instances of all domains in switches. */
  readonly instances: InstanceKeeper;
  /** The instances that are kept now; after opening: those that an earlier controller left. Time: their connections. */
  instanceRecords(): readonly InstanceRecord[];
  /** Settles when all that was said until now would survive `kill -9`. Fails with a StoreError when it would not. */
  flushed(): Promise<void>;
  health(): StoreHealth;
  /** Writes what is left. May be called twice. */
  close(): Promise<void>;
}

/**
 * full        the disk, or the store's own bound: nothing is kept until there is room
 * unwritable  the folder cannot be written to, for another reason
 * in-use      another process has the store
 * damaged     what is on disk is not what was written
 * unreadable  a backup is not there, or may not be read
 * version     another version of the program wrote it
 * closed      the store is closed already
 */
export type StoreErrorCode =
  | 'full'
  | 'unwritable'
  | 'in-use'
  | 'damaged'
  | 'unreadable'
  | 'version'
  | 'closed';

/** `message` says what to do. */
export class StoreError extends CodedError<StoreErrorCode> {
  override readonly name = 'StoreError';
}
