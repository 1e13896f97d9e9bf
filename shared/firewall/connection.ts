/**
 * A connection: a live flow that the policy admitted, in words that no implementation owns.
 * `local` is always the terminal's end and `remote` the network's, whoever opened it.
 */
import { z } from 'zod';
import { familyOf, ipv4Schema, ipv6Schema } from './terminal.js';

export const protocolSchema = z.enum(['tcp', 'udp', 'icmp']);
/** `icmp` is ICMP in IPv4 and ICMPv6 in IPv6. */
export type Protocol = z.infer<typeof protocolSchema>;

const address = z.union([ipv4Schema, ipv6Schema]);
const port = z.int().min(0).max(65535);
const endpoint = z.strictObject({ address, port });
/** One end of a TCP or UDP connection. */
export type Endpoint = z.infer<typeof endpoint>;

/** Whole seconds the connection may still be idle; at most the five days of an established TCP connection. */
const timeLeftSeconds = z.int().min(0).max(432_000);
const opener = z.enum(['terminal', 'remote']);
export type Opener = z.infer<typeof opener>;

/** opening: SYN seen. answered: SYN-ACK seen. closing: at least one FIN. closed: both FINs acknowledged, or a RST. */
export const tcpStateSchema = z.enum(['opening', 'answered', 'established', 'closing', 'closed']);
export type TcpState = z.infer<typeof tcpStateSchema>;
/** How far each state is: a connection does not go back. */
export const TCP_PROGRESS: Readonly<Record<TcpState, number>> = {
  opening: 0,
  answered: 1,
  established: 2,
  closing: 3,
  closed: 4,
};

const sameFamily = (connection: { local: { address: string }; remote: { address: string } }): boolean =>
  familyOf(connection.local.address) === familyOf(connection.remote.address);

const tcp = z.strictObject({
  protocol: z.literal('tcp'),
  opener,
  local: endpoint,
  remote: endpoint,
  state: tcpStateSchema,
  timeLeftSeconds,
});
const udp = z.strictObject({
  protocol: z.literal('udp'),
  opener,
  local: endpoint,
  remote: endpoint,
  replied: z.boolean(),
  timeLeftSeconds,
});
const echoEnd = z.strictObject({ address });
const icmp = z.strictObject({
  protocol: z.literal('icmp'),
  opener,
  local: echoEnd,
  remote: echoEnd,
  /** The echo identifier (RFC 792, RFC 4443): the only ICMP exchanges that are connections are echoes. */
  id: z.int().min(0).max(65535),
  replied: z.boolean(),
  timeLeftSeconds,
});

export const connectionSchema = z
  .discriminatedUnion('protocol', [tcp, udp, icmp])
  .refine(sameFamily, { message: 'both ends of a connection are of one family' });

export type TcpConnection = z.infer<typeof tcp>;
export type UdpConnection = z.infer<typeof udp>;
export type EchoConnection = z.infer<typeof icmp>;
export type Connection = TcpConnection | UdpConnection | EchoConnection;

/** What makes two reports speak of one connection: protocol and both ends, not who opened it. */
export function connectionKey(connection: Connection): string {
  return connection.protocol === 'icmp'
    ? `icmp ${connection.local.address} ${connection.remote.address} ${connection.id}`
    : `${connection.protocol} ${connection.local.address} ${connection.local.port} ${connection.remote.address} ${connection.remote.port}`;
}
