/**
 * What the coordinator is given: domains, steering, times, and whom it tells.
 */

import type { ApiEvent, HandoverReport, HandoverStep } from '../../shared/api/schema.js';
import type { Domain, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock } from '../../shared/runtime/clock.js';
import { CodedError } from '../../shared/runtime/coded-error.js';
import type { Log } from '../../shared/runtime/log.js';
import type { FirewallOptions } from './firewall-record.js';

/** What the coordinator needs of steering. Every promise settles when the switches have confirmed. */
export interface HandoverSteering {
  addPath(id: InstanceId, ends: Ends): Promise<void>;
  /** The instance is about to be active: what can be done towards it without effect is done. Never fails. */
  stage(id: InstanceId): Promise<void>;
  /** Fails with the code `not-connected` when a switch that is concerned could not confirm it. */
  setActive(id: InstanceId): Promise<void>;
  /**
   * The same without those switches, which may lead to the instance before until they are back: that one must be known to admit nothing
   * any more.
   */
  takeOver(id: InstanceId): Promise<unknown>;
  removePath(id: InstanceId): Promise<void>;
  /**
   * Nothing leads to any instance of the terminal until `setActive`: what arrives meanwhile is held, within bounds, and goes through the
   * instance that is active then, in the order in which it came.
   */
  hold(terminal: string): Promise<void>;
}

/** Bytes between domains on behalf of a terminal, counted where they are sent and received. */
export interface TransferMeter {
  read(terminal: string): { readonly snapshot: number; readonly delta: number };
}

export interface CoordinatorTimings {
  readonly drainMs: number;
  readonly leaseMs: number;
  /** A domain that is silent for this long is taken for dead. */
  readonly takeoverMs: number;
  /** Between two comparisons of digests. */
  readonly digestMs: number;
  /** Between two tries to build a standby. */
  readonly retryMs: number;
}

export interface CoordinatorOptions {
  readonly domains: ReadonlyMap<string, Domain>;
  readonly steering: HandoverSteering;
  readonly firewalls: readonly FirewallOptions[];
  readonly timings: CoordinatorTimings;
  /**
   * Epochs begin here. A controller that has been restarted must begin after all that an earlier one used: domains would take the new
   * ones for repetitions.
   */
  readonly firstEpoch: number;
  readonly transfers: TransferMeter;
  readonly log: Log;
  readonly clock: Clock;
  readonly onEvent: (event: ApiEvent) => void;
  /** The terminal's active instance is there no more, and no standby could take over: it needs another. */
  readonly onLost: (terminal: string) => void;
  /** A firewall that outlived an earlier controller has the terminal with these addresses: which does it have now? */
  readonly reclaim: (found: Terminal) => Terminal;
}

export interface HandoverOrder {
  readonly to: string;
  readonly cause: HandoverReport['cause'];
  /** For experiments: the connections are left out of what the new domain gets. */
  readonly omitConnections?: boolean;
  /** For experiments: the old instance goes before the new one is active. */
  readonly breakBeforeMake?: boolean;
  /** For experiments: it waits before this step until `continue` is called. */
  readonly pauseBefore?: HandoverStep;
  /** Phases that went before: how long the terminal was away, and how long its traffic took to be hauled. */
  readonly before?: readonly { readonly name: 'detect' | 'haul'; readonly ms: number }[];
}

export class HandoverError extends CodedError<
  'unknown-terminal' | 'unknown-domain' | 'no-instance' | 'busy' | 'already-there'
> {
  override readonly name = 'HandoverError';
}
