/**
 * How long a connection may be idle before it is forgotten: one set of times for every implementation, so that a
 * connection neither dies of a handover nor outlives itself by one.
 *
 * The numbers are the defaults of Linux conntrack (net/netfilter/nf_conntrack_proto_tcp.c, _udp.c, _icmp.c and
 * Documentation/networking/nf_conntrack-sysctl.rst). Linux knows more states of TCP than a connection here has:
 *   opening      SYN_SENT      120    (nf_conntrack_tcp_timeout_syn_sent)
 *   answered     SYN_RECV       60    (…_syn_recv)
 *   established  ESTABLISHED    5 d   (…_established)
 *   closing      FIN_WAIT      120    (…_fin_wait; CLOSE_WAIT 60 and LAST_ACK 30 count as closing, too)
 *   closed       CLOSE          10    (…_close; TIME_WAIT's 120 is not taken: a closed connection only has to wait
 *                                      for late retransmissions, and 120 s of them fill tables)
 */
import { z } from 'zod';
import type { Connection } from './connection.js';

/** The longest idle time that a connection may have left, in seconds: five days. */
export const MAX_IDLE_SECONDS = 432_000;

const seconds = (value: number) => z.int().min(1).max(MAX_IDLE_SECONDS).default(value);

export const idleTimesSchema = z.strictObject({
  tcpOpening: seconds(120),
  tcpAnswered: seconds(60),
  tcpEstablished: seconds(432_000),
  tcpClosing: seconds(120),
  tcpClosed: seconds(10),
  /** UDP of which only one direction was seen (nf_conntrack_udp_timeout). */
  udp: seconds(30),
  /** UDP in both directions (nf_conntrack_udp_timeout_stream). */
  udpReplied: seconds(120),
  /** An echo, replied or not (nf_conntrack_icmp_timeout, nf_conntrack_icmpv6_timeout). */
  icmp: seconds(30),
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
