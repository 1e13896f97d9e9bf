/**
 * How a switch is told to forget a connection (NXT_CT_FLUSH). Pure.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { familyOf } from '../../shared/firewall/terminal.js';
import type { Message } from '../openflow/index.js';
import { IP_PROTO } from './rule.js';

/** Both ways round: an adopted connection may have its ends exchanged in the switch. */
export function flushesOf(zone: number, connection: Connection): Message[] {
  const { protocol, local, remote } = connection;
  if (protocol === 'icmp') {
    const icmp = familyOf(local.address) === 'ipv4' ? IP_PROTO.icmp : IP_PROTO.icmpv6;
    return [
      { src: local.address, dst: remote.address },
      { src: remote.address, dst: local.address },
    ].map((ends) => ({
      ...{ type: 'ct_flush', zone, protocol: icmp },
      original: { ...ends, icmpId: connection.id },
    }));
  }
  const near = { address: local.address, port: connection.local.port };
  const far = { address: remote.address, port: connection.remote.port };
  return [
    [near, far],
    [far, near],
  ].map(([from = near, to = far]) => ({
    ...{ type: 'ct_flush', zone, protocol: IP_PROTO[protocol] },
    original: { src: from.address, srcPort: from.port, dst: to.address, dstPort: to.port },
  }));
}
