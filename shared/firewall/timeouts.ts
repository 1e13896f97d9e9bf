/**
 * How long a connection may be idle before it is forgotten: one set of times for every implementation, so that a
 * connection neither dies of a handover nor outlives itself by one.
 *
 * They are those of Linux conntrack (net/netfilter/nf_conntrack_proto_tcp.c, _udp.c and Documentation/networking/nf_conntrack-sysctl.rst) where nothing
 * speaks against them. A switch can't be told others than its own (Open vSwitch, lib/conntrack-tp.c), so what is no better longer is as there:
 *   tcpOpening, tcpAnswered   30      Linux: SYN_SENT 120, SYN_RECV 60. A SYN that is sent again later opens anew.
 *   tcpEstablished            24 h    Linux: 5 d. RFC 5382, 5, wants no less than 2 h 4 min.
 *   tcpClosing               120      FIN_WAIT; Linux has CLOSE_WAIT 60 and LAST_ACK 30 beside it
 *   tcpClosed                 10      CLOSE; TIME_WAIT's 120 is not taken: a closed connection only has to wait for late
 *                                     retransmissions, and 120 s of them fill tables
 *   icmp                      60      Linux: 30. RFC 5508, 3.2, wants no less than 60.
 */
import { z } from 'zod';
import type { Connection } from './connection.js';

/** The longest idle time that a connection may have left, in seconds: five days. */
export const MAX_IDLE_SECONDS = 432_000;

const seconds = (value: number) => z.int().min(1).max(MAX_IDLE_SECONDS).default(value);

export const idleTimesSchema = z.strictObject({
  tcpOpening: seconds(30),
  tcpAnswered: seconds(30),
  tcpEstablished: seconds(86_400),
  tcpClosing: seconds(120),
  tcpClosed: seconds(10),
  /** UDP of which only one direction was seen (nf_conntrack_udp_timeout). */
  udp: seconds(30),
  /** UDP in both directions (nf_conntrack_udp_timeout_stream). */
  udpReplied: seconds(120),
  /** An echo, replied or not. */
  icmp: seconds(60),
});

/** Idle times in whole seconds. */
export type IdleTimes = z.infer<typeof idleTimesSchema>;

export const DEFAULT_IDLE_TIMES: IdleTimes = idleTimesSchema.parse({});

const TCP_TIMES = {
  opening: 'tcpOpening',
  answered: 'tcpAnswered',
  established: 'tcpEstablished',
  closing: 'tcpClosing',
  closed: 'tcpClosed',
} as const;

/** What tells the idle time of a connection. */
export type IdleKind =
  | { readonly protocol: 'tcp'; readonly state: Extract<Connection, { protocol: 'tcp' }>['state'] }
  | { readonly protocol: 'udp'; readonly replied: boolean }
  | { readonly protocol: 'icmp' };

/** Whole seconds that a connection in this state may be idle, counted from its last packet. */
export function idleSeconds(kind: IdleKind, times: IdleTimes = DEFAULT_IDLE_TIMES): number {
  switch (kind.protocol) {
    case 'tcp':
      return times[TCP_TIMES[kind.state]];
    case 'udp':
      return kind.replied ? times.udpReplied : times.udp;
    case 'icmp':
      return times.icmp;
  }
}
