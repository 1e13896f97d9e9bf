/**
 * How a switch is told to forget a connection (NXT_CT_FLUSH). Pure.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { familyOf } from '../../shared/firewall/terminal.js';
import type { MessageBody } from '../openflow/index.js';
import { IP_PROTO } from './words.js';

/**
 * The message for one connection. Open vSwitch 3.1 finds the five parts of a TCP or UDP connection either way round; an echo over IPv4 only by
 * numbers that are ports elsewhere, and at the price of a look at all connections. Nothing for an echo over IPv6, which makes it abort.
 */
export function flushOf(zone: number, connection: Connection): MessageBody | undefined {
  const { protocol, local, remote } = connection;
  const ends = { src: local.address, dst: remote.address };
  if (protocol === 'icmp') {
    if (familyOf(local.address) === 'ipv6') return undefined;
    return { type: 'ct_flush', zone, original: { ...ends, srcPort: connection.id } };
  }
  const ports = { srcPort: connection.local.port, dstPort: connection.remote.port };
  return { type: 'ct_flush', zone, protocol: IP_PROTO[protocol], original: { ...ends, ...ports } };
}
