/**
 * An entry: one thing that the store is told to remember. Each says what is from now on, never what is added to what was: entries may be applied again
 * to contents that hold them already, as long as all that come after them are, too. A snapshot may therefore be taken while entries come.
 */
import type { PlacementMode } from '../../shared/api/schema.js';
import type { Connection } from '../../shared/firewall/connection.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Epoch, FirewallState } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { InstanceHead, KeptConnection } from '../domains/openflow-ct/record.js';
import type { StoredActive, StoredAddress, StoredAttachment, StoredPolicy } from './store.js';

/** A mirror without its connections. */
export type MirrorHead = Omit<FirewallState, 'connections'>;

/** Connections by their `connectionKey`: those that are new or other than they were, and those that are no more. No key is in both. */
export interface Connections<C> {
  readonly put: ReadonlyMap<string, C>;
  readonly ended: ReadonlySet<string>;
}

/** Of which instance in a switch. */
export interface InstanceRef {
  readonly terminal: string;
  readonly epoch: Epoch;
}

export type Entry =
  | { readonly kind: 'epoch'; readonly terminal: string; readonly lastEpoch: number }
  | { readonly kind: 'placement'; readonly terminal: string; readonly placement: PlacementMode }
  | { readonly kind: 'policy'; readonly terminal: string; readonly policy: StoredPolicy | null }
  | { readonly kind: 'active'; readonly terminal: string; readonly instance: StoredActive | null }
  | { readonly kind: 'addresses'; readonly terminal: string; readonly addresses: readonly StoredAddress[] }
  | {
      readonly kind: 'attachments';
      readonly terminal: string;
      readonly attachments: readonly StoredAttachment[];
    }
  /** The mirror is this, and has no connections yet. */
  | { readonly kind: 'mirror'; readonly terminal: string; readonly head: MirrorHead | null }
  | ({
      readonly kind: 'connections';
      readonly terminal: string;
      readonly sequence: number;
    } & Connections<Connection>)
  | {
      readonly kind: 'mirror-policy';
      readonly terminal: string;
      readonly sequence: number;
      readonly policy: Policy;
      readonly earlier: readonly Policy[];
    }
  /** The mirror's terminal has these addresses: connections of others are over. */
  | {
      readonly kind: 'mirror-terminal';
      readonly terminal: string;
      readonly sequence: number;
      readonly present: Terminal;
    }
  | { readonly kind: 'forget'; readonly terminal: string }
  /** An instance in a switch is this, and has no connections yet. */
  | { readonly kind: 'instance'; readonly terminal: string; readonly head: InstanceHead }
  | { readonly kind: 'instance-head'; readonly terminal: string; readonly head: InstanceHead }
  | ({ readonly kind: 'instance-connections' } & InstanceRef & Connections<KeptConnection>)
  | ({ readonly kind: 'instance-gone' } & InstanceRef);

export type MirrorConnections = Extract<Entry, { kind: 'connections' }>;
export type InstanceConnections = Extract<Entry, { kind: 'instance-connections' }>;

/** How entries are kept: see `store.ts`. A fact that somebody waits for is told at once; others may wait a few ms for more of their kind. */
export type Manner = 'order' | 'fact' | 'awaited fact';
/** Where entries go. Those of one call are kept together or not at all; the promise settles when they are safe, and need not be looked at. */
export type Keep = (entries: readonly Entry[], manner: Manner) => Promise<void>;

/** Changes of connections in one entry: encoding them takes a few milliseconds. */
export const MAX_CHANGES = 4_000;
