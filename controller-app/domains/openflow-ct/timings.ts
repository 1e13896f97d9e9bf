/**
 * The times of the SDN domain, with what they are for.
 */
import type { Connection } from '../../../shared/firewall/connection.js';
import { DEFAULT_IDLE_TIMES, type IdleTimes, idleSeconds } from '../../../shared/firewall/timeouts.js';

/** How long the switch's own conntrack keeps an idle connection, in seconds. It tells echoes with and without a reply apart. */
export interface SwitchTimes extends IdleTimes {
  readonly icmpReplied: number;
}

/** Open vSwitch's userspace conntrack without a timeout policy (its lib/conntrack-tp.c). */
export const OPEN_VSWITCH_TIMES: SwitchTimes = {
  tcpOpening: 30,
  tcpAnswered: 30,
  tcpEstablished: 86_400,
  tcpClosing: 900,
  tcpClosed: 30,
  udp: 60,
  udpReplied: 30,
  icmp: 60,
  icmpReplied: 30,
};

export function switchIdleSeconds(connection: Connection, times: SwitchTimes): number {
  return connection.protocol === 'icmp' && connection.replied
    ? times.icmpReplied
    : idleSeconds(connection, times);
}

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
  readonly switchTimes: SwitchTimes;
  /** How long before the switch forgets a silent connection it gets adoption rules. */
  readonly aheadMs: number;
  /** The most silent connections of an instance that have adoption rules. */
  readonly maxSilent: number;
}

export const DEFAULT_TIMINGS: Timings = {
  generationMs: 15_000,
  settleMs: 1_000,
  tickMs: 250,
  fencedMs: 1_000,
  idleTimes: DEFAULT_IDLE_TIMES,
  switchTimes: OPEN_VSWITCH_TIMES,
  aheadMs: 5_000,
  maxSilent: 1_000,
};
