/**
 * One instance's table `firewall`, before conntrack: what a terminal needs to have connections at all passes (ARP, neighbour discovery,
 * DHCP), the TCP, UDP and ICMP of its own addresses goes to conntrack, and everything else drops. Pure.
 */
import { linkLocalOf, type Terminal } from '../../shared/firewall/terminal.js';
import type { Rule } from '../core/rule.js';
import type { Match } from '../openflow/index.js';
import { packCookie } from './cookie.js';
import type { FirewallInstance } from './firewall.js';
import { lookingAgain, turnOf } from './looking-again.js';
import { policyInForce } from './opening.js';
import { FIREWALL } from './priority.js';
import { TRACKED } from './transports.js';
import {
  apply,
  ETH_TYPE,
  FIRST_FRAGMENT,
  goto,
  ICMPV4_REDIRECT,
  ICMPV6,
  IP_PROTO,
  SIDE,
  WHOLE,
} from './words.js';

/** All rules of the table. */
export function linkRules(instance: FirewallInstance): Rule[] {
  const { number, terminal, tables } = instance;
  const turn = turnOf(policyInForce(instance));
  const rule = (priority: number, match: Match, instructions: Rule['instructions']): Rule => ({
    table: 'firewall',
    priority,
    match: { reg1: number, ...match },
    instructions,
    cookie: packCookie({ kind: 'none', instance: number, policyRule: 0 }),
  });
  const pass = (match: Match): Rule => rule(FIREWALL.link, match, [goto(tables.deliver)]);
  const nd = (icmpv6_type: number): Match => ({
    eth_type: ETH_TYPE.ipv6,
    ip_proto: IP_PROTO.icmpv6,
    icmpv6_type,
    icmpv6_code: 0,
    nw_ttl: 255,
    nw_frag: WHOLE,
  });
  const dhcp = (eth_type: number, reg0: number, udp_src: number, udp_dst: number): Match => ({
    reg0,
    eth_type,
    ip_proto: IP_PROTO.udp,
    udp_src,
    udp_dst,
    nw_frag: WHOLE,
  });
  return [
    rule(
      FIREWALL.redirect,
      { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.icmp, icmpv4_type: ICMPV4_REDIRECT },
      [],
    ),
    rule(
      FIREWALL.redirect,
      { eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.icmpv6, icmpv6_type: ICMPV6.redirect },
      [],
    ),
    ...spoofedMatches(terminal).map((match) => rule(FIREWALL.spoofed, { reg0: SIDE.network, ...match }, [])),
    pass({ eth_type: ETH_TYPE.arp }),
    pass(nd(ICMPV6.neighborSolicitation)),
    pass(nd(ICMPV6.neighborAdvertisement)),
    pass({ reg0: SIDE.terminal, ...nd(ICMPV6.routerSolicitation) }),
    pass({ reg0: SIDE.network, ...nd(ICMPV6.routerAdvertisement) }),
    pass(dhcp(ETH_TYPE.ipv4, SIDE.terminal, 68, 67)),
    pass(dhcp(ETH_TYPE.ipv4, SIDE.network, 67, 68)),
    pass(dhcp(ETH_TYPE.ipv6, SIDE.terminal, 546, 547)),
    pass(dhcp(ETH_TYPE.ipv6, SIDE.network, 547, 546)),
    ...HIDDEN.map((match) => rule(FIREWALL.hidden, match, [])),
    ...ownMatches(terminal).flatMap((own) =>
      TRACKED.filter(({ eth_type }) => eth_type === own.eth_type).map((match) =>
        rule(FIREWALL.tracked, { ...own, ...match, ...lookingAgain(turn) }, [
          // A register is part of what the switch keeps while it tracks a packet: what it has cached behind, for another policy, is not met again.
          apply(
            { type: 'set_field', field: { reg5: turn } },
            { type: 'ct', zone: number, table: tables.firewallCt },
          ),
        ]),
      ),
    ),
  ];
}

/** Sources that only the terminal has: from the network they would pass for its own direction of a live connection. */
function spoofedMatches({ mac, ipv4, ipv6 }: Terminal): Match[] {
  return [
    ...ipv4.map((own) => ({ eth_type: ETH_TYPE.arp, arp_spa: own })),
    ...ipv4.map((own) => ({ eth_type: ETH_TYPE.ipv4, ipv4_src: own })),
    ...[...new Set([...ipv6, linkLocalOf(mac)])].map((own) => ({ eth_type: ETH_TYPE.ipv6, ipv6_src: own })),
  ];
}

/** What a connection's packets are from, and to: on each side the terminal's own addresses, not its link-local one. */
function ownMatches({ ipv4, ipv6 }: Terminal): Match[] {
  return [
    ...ipv4.flatMap((own): Match[] => [
      { reg0: SIDE.terminal, eth_type: ETH_TYPE.ipv4, ipv4_src: own },
      { reg0: SIDE.network, eth_type: ETH_TYPE.ipv4, ipv4_dst: own },
    ]),
    ...ipv6.flatMap((own): Match[] => [
      { reg0: SIDE.terminal, eth_type: ETH_TYPE.ipv6, ipv6_src: own },
      { reg0: SIDE.network, eth_type: ETH_TYPE.ipv6, ipv6_dst: own },
    ]),
  ];
}

/**
 * First IPv6 fragments whose extension headers leave no room for the transport header: the switch shows zeros for what the policy
 * is to decide on, while conntrack reads the true ports from the next fragment. (In IPv4 there is always room.)
 */
const HIDDEN: readonly Match[] = [
  { ip_proto: IP_PROTO.tcp, tcp_src: 0, tcp_dst: 0 },
  { ip_proto: IP_PROTO.udp, udp_src: 0, udp_dst: 0 },
  { ip_proto: IP_PROTO.icmpv6, icmpv6_type: 0 },
].map((match) => ({ eth_type: ETH_TYPE.ipv6, nw_frag: FIRST_FRAGMENT, ...match }));
