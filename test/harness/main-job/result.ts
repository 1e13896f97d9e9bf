/**
 * What the main job tells.
 */
import type { HandoverReport } from '../../../shared/api/schema.js';
import type { Family } from '../../../shared/firewall/terminal.js';

export type Kind = 'tcp, both talk' | 'tcp, only the server talks' | 'udp' | 'ping';

export interface Survival {
  readonly opened: number;
  readonly survived: number;
  readonly reset: number;
}

export interface HandoverResult {
  readonly from: string;
  readonly to: string;
  readonly phases: HandoverReport['phases'];
  readonly totalMs: number;
  /** The longest time without a datagram at either end, in either family, beyond the interval in which they are sent. */
  readonly gapMs: number;
  /** What the moved link itself was away. */
  readonly linkDownMs: number;
  readonly stateBytes: number;
  readonly deltaBytes: number;
  readonly connections: number;
}

export interface MainJobResult {
  readonly connections: Survival & {
    readonly byFamily: Readonly<Record<Family, Survival>>;
    readonly byKind: Readonly<Record<Kind, Survival>>;
  };
  readonly forbidden: {
    readonly tried: number;
    readonly passed: number;
    readonly passedNames: readonly string[];
    /** The same frames with the firewall taken away: all must arrive, or the trial proves nothing. */
    readonly withoutFirewall: {
      readonly tried: number;
      readonly arrived: number;
      readonly missing: readonly string[];
    };
    readonly byStage: Readonly<Record<string, { readonly tried: number; readonly passed: number }>>;
  };
  /** Moves with the connections left out of the imported state. `aliveBefore`: they lived until then, also while hauled. */
  readonly control: {
    readonly opened: number;
    readonly aliveBefore: number;
    readonly survived: number;
    readonly byMove: readonly {
      readonly from: string;
      readonly to: string;
      readonly opened: number;
      readonly survived: number;
    }[];
  };
  readonly handovers: readonly HandoverResult[];
  /** A move with ordinary switches in place of the firewall: what it costs that is not ours. */
  readonly ordinaryMove: Pick<HandoverResult, 'gapMs' | 'linkDownMs'>;
}
