/**
 * The times of the SDN domain, with what they are for.
 */
import { DEFAULT_IDLE_TIMES, type IdleTimes } from '../../../shared/firewall/timeouts.js';

export interface Timings {
  /** Every so often, live connections announce themselves once: what was missed is made good, what is silent ages. */
  readonly generationMs: number;
  /** How long adoption rules stay after the switch tracks a connection: longer than any packet is under way. */
  readonly settleMs: number;
  /** How often is looked for what is over. */
  readonly tickMs: number;
  /** How long an instance of an older epoch may finish what it knows, once a newer one is active in this domain. */
  readonly fencedMs: number;
  readonly idleTimes: IdleTimes;
}

export const DEFAULT_TIMINGS: Timings = {
  generationMs: 15_000,
  settleMs: 1_000,
  tickMs: 250,
  fencedMs: 1_000,
  idleTimes: DEFAULT_IDLE_TIMES,
};
