/**
 * A packet between terminal and network, as far as a firewall looks at it.
 * ARP, neighbour discovery and DHCP are not here: they are the guard's, not the policy's.
 */
import type { Connection, Endpoint, Opener } from './connection.js';
import type { Direction } from './policy.js';
import type { Family } from './terminal.js';

export interface TcpFlags {
  readonly syn?: boolean;
  readonly ack?: boolean;
  readonly fin?: boolean;
  readonly rst?: boolean;
  readonly psh?: boolean;
  readonly urg?: boolean;
}

interface Ip {
  /** outbound: sent by the terminal. */
  readonly direction: Direction;
  readonly family: Family;
}

export interface TcpPacket extends Ip {
  readonly protocol: 'tcp';
  readonly source: Endpoint;
  readonly destination: Endpoint;
  readonly flags: TcpFlags;
}
export interface UdpPacket extends Ip {
  readonly protocol: 'udp';
  readonly source: Endpoint;
  readonly destination: Endpoint;
}
export interface IcmpPacket extends Ip {
  readonly protocol: 'icmp';
  readonly source: { readonly address: string };
  readonly destination: { readonly address: string };
  readonly type: number;
  readonly code: number;
  /** The echo identifier, of an echo request or reply. */
  readonly id?: number;
  /** The packet that an ICMP error quotes, as far as it is quoted. */
  readonly relatedTo?: QuotedPacket;
}
/** Any other IP protocol, by number. */
export interface OtherPacket extends Ip {
  readonly protocol: 'other';
  readonly number: number;
  readonly source: { readonly address: string };
  readonly destination: { readonly address: string };
}

export type Packet = TcpPacket | UdpPacket | IcmpPacket | OtherPacket;

/** The packet in an ICMP error: sent the other way than the error, by the one who now gets the error. */
export type QuotedPacket =
  | { readonly protocol: 'tcp' | 'udp'; readonly source: Endpoint; readonly destination: Endpoint }
  | {
      readonly protocol: 'icmp';
      readonly source: { readonly address: string };
      readonly destination: { readonly address: string };
      readonly id: number;
    };

/** The ICMP types that a firewall tells apart (RFC 792, RFC 4443, RFC 4861). */
export const ICMP_TYPES = {
  ipv4: { echoRequest: 8, echoReply: 0, redirect: 5, errors: [3, 4, 11, 12] },
  ipv6: { echoRequest: 128, echoReply: 129, redirect: 137, errors: [1, 2, 3, 4] },
} as const satisfies Record<
  Family,
  { echoRequest: number; echoReply: number; redirect: number; errors: readonly number[] }
>;

/** Who sends packets of a direction. */
export function senderOf(direction: Direction): Opener {
  return direction === 'outbound' ? 'terminal' : 'remote';
}

export function opposite(direction: Direction): Direction {
  return direction === 'outbound' ? 'inbound' : 'outbound';
}

/**
 * The connection that this packet would open in its direction, with `timeLeftSeconds` 0; undefined when packets like it are
 * of no connection. Its `connectionKey` is that of the connection which the packet is of, whoever opened that.
 */
export function connectionOf(
  packet: QuotedPacket | TcpPacket | UdpPacket | IcmpPacket,
  direction: Direction,
): Connection | undefined {
  const opener = senderOf(direction);
  const outbound = direction === 'outbound';
  if (packet.protocol === 'icmp') {
    if (packet.id === undefined) return undefined;
    const [local, remote] = outbound
      ? [packet.source, packet.destination]
      : [packet.destination, packet.source];
    const ends = { local: { address: local.address }, remote: { address: remote.address } };
    return { protocol: 'icmp', opener, ...ends, id: packet.id, replied: false, timeLeftSeconds: 0 };
  }
  const [local, remote] = outbound
    ? [packet.source, packet.destination]
    : [packet.destination, packet.source];
  return packet.protocol === 'tcp'
    ? { protocol: 'tcp', opener, local, remote, state: 'opening', timeLeftSeconds: 0 }
    : { protocol: 'udp', opener, local, remote, replied: false, timeLeftSeconds: 0 };
}
