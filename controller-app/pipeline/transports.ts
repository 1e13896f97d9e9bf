/**
 * What the firewall knows connections of, as matches: the packets that go to conntrack, and those that come from it. Pure.
 */
import type { Match } from '../openflow/index.js';
import { ETH_TYPE, IP_PROTO, LATER_FRAGMENT, LATER_IPV6_PROTO } from './words.js';

export const TRANSPORTS: readonly Match[] = [
  { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.tcp },
  { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.udp },
  { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.icmp },
  { eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.tcp },
  { eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.udp },
  { eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.icmpv6 },
];
const LATER_IPV6: Match = {
  eth_type: ETH_TYPE.ipv6,
  ip_proto: LATER_IPV6_PROTO,
  nw_frag: LATER_FRAGMENT,
};
/** What goes to conntrack. */
export const TRACKED: readonly Match[] = [...TRANSPORTS, LATER_IPV6];
/** What comes from conntrack, by protocol: all pieces of a packet must meet rules that do the same. */
export const KNOWN: readonly Match[] = [
  ...TRANSPORTS,
  ...[IP_PROTO.tcp, IP_PROTO.udp, IP_PROTO.icmpv6].map((ct_nw_proto) => ({ ...LATER_IPV6, ct_nw_proto })),
];
export const isTcp = (match: Match): boolean => (match.ct_nw_proto ?? match.ip_proto) === IP_PROTO.tcp;
