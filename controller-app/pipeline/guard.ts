/**
 * The guard on a terminal's port: what leaves it is untagged, from its own MAC and from its own addresses, and no station pretends
 * to be another, a router or a DHCP server. Everything that no rule names drops. Pure.
 *
 * Where addresses may be learnt, the controller gets copies of what the terminal says to DHCP servers. A probe for an address within an allowed
 * prefix waits in the controller, and so does what the terminal sends from an address while it is being probed.
 *
 * What the switch can't see: the link-layer option of a router solicitation (Open vSwitch reads it in neighbour
 * solicitations and advertisements only).
 */
import { prefixOf } from '../../shared/firewall/policy.js';
import { linkLocalOf, type Terminal } from '../../shared/firewall/terminal.js';
import type { Rule } from '../core/rule.js';
import type { Match } from '../openflow/index.js';
import { packLearning, type Reason, TO_CONTROLLER } from './learning.js';
import { prefixMatch } from './policy-rules.js';
import { apply, ETH_TYPE, goto, ICMPV6, IP_PROTO, WHOLE } from './words.js';

const PRIORITY = {
  reservedMulticast: 400,
  unread: 310,
  allowed: 300,
  probe: 295,
  forbidden: 290,
  own: 200,
} as const;
/** What Open vSwitch shows for a link-layer option that is not there. */
const NO_OPTION = '00:00:00:00:00:00';
const UNSPECIFIED = { ipv4: '0.0.0.0', ipv6: '::' } as const;
/** Neighbour discovery counts only when no router has touched it (RFC 4861, 6.1 and 7.1). */
const ND_HOP_LIMIT = 255;
const DHCP = { client: 68, server: 67, clientV6: 546, serverV6: 547 } as const;

/** What a terminal may learn, and what it has learnt or is about to. */
export interface GuardLearning {
  /** Of the terminal in the configuration. */
  readonly index: number;
  /** May it learn IPv4 addresses? From DHCP only. */
  readonly dhcp: boolean;
  /** Prefixes, `address/length`, within which it may announce IPv6 addresses. */
  readonly prefixes: readonly string[];
  /** Addresses that are being probed: not the terminal's yet. */
  readonly tentative: readonly string[];
  /** The slots of learnt addresses. */
  readonly slots: ReadonlyMap<string, number>;
}

const NOTHING: GuardLearning = { index: 0, dhcp: false, prefixes: [], tentative: [], slots: new Map() };

/** The rules of the table `guard` for one port; what they let pass goes to `gotoTable`. `terminal` has its present addresses. */
export function guardRules(
  terminal: Terminal,
  port: number,
  gotoTable: number,
  learning: GuardLearning = NOTHING,
): Rule[] {
  const { mac } = terminal;
  const linkLocal = linkLocalOf(mac);
  const ipv6 = [...new Set([...terminal.ipv6, linkLocal])];
  const from: Match = { in_port: port, eth_src: mac, vlan_vid: 0 };
  const pass = (priority: number, match: Match): Rule => ({
    table: 'guard',
    priority,
    match: { ...from, ...match },
    instructions: [goto(gotoTable)],
  });
  const drop = (priority: number, match: Match): Rule => ({
    table: 'guard',
    priority,
    match: { in_port: port, ...match },
    instructions: [],
  });
  const cookie = (reason: Reason, slot = 0): { cookie: number } => ({
    cookie: packLearning({ reason, terminal: learning.index, slot }),
  });
  /** Waits in the controller. */
  const hold = (priority: number, match: Match, reason: Reason): Rule => ({
    ...pass(priority, match),
    instructions: [apply(TO_CONTROLLER)],
    ...cookie(reason),
  });
  /** From an address of its own: counted, if it was learnt. */
  const own = (match: Match, address: string): Rule => {
    const slot = learning.slots.get(address);
    return { ...pass(PRIORITY.own, match), ...(slot === undefined ? {} : cookie('use', slot)) };
  };
  const dhcp = (ipv4_src: string): Rule => {
    const rule = pass(PRIORITY.allowed, {
      eth_type: ETH_TYPE.ipv4,
      ip_proto: IP_PROTO.udp,
      ipv4_src,
      udp_src: DHCP.client,
      udp_dst: DHCP.server,
      nw_frag: WHOLE,
    });
    if (!learning.dhcp) return rule;
    return { ...rule, instructions: [apply(TO_CONTROLLER), goto(gotoTable)], ...cookie('dhcp-client') };
  };
  /** Is this address taken? Asked from nobody's address. */
  const probe = (ipv6_nd_target: Match['ipv6_nd_target']): Match => ({
    ...nd(ICMPV6.neighborSolicitation),
    ipv6_src: UNSPECIFIED.ipv6,
    ...(ipv6_nd_target === undefined ? {} : { ipv6_nd_target }),
    ipv6_nd_sll: NO_OPTION,
  });
  const options = [mac, NO_OPTION];
  const nd = (type: number): Match => ({
    eth_type: ETH_TYPE.ipv6,
    ip_proto: IP_PROTO.icmpv6,
    icmpv6_type: type,
    icmpv6_code: 0,
    nw_ttl: ND_HOP_LIMIT,
    nw_frag: WHOLE,
  });
  const arp: Match = { eth_type: ETH_TYPE.arp, arp_sha: mac };
  return [
    // Bridges keep these to themselves (IEEE 802.1Q, 8.6.3): spanning tree, LLDP, pause.
    drop(PRIORITY.reservedMulticast, {
      eth_dst: { value: '01:80:c2:00:00:00', mask: 'ff:ff:ff:00:00:00' },
    }),
    // Two link-layer options: Open vSwitch then shows neither them nor the target, and the second may be another's.
    drop(PRIORITY.unread, { ...nd(ICMPV6.neighborSolicitation), ipv6_nd_target: UNSPECIFIED.ipv6 }),
    // A probe asks from nobody's address (RFC 5227).
    pass(PRIORITY.allowed, { ...arp, arp_op: 1, arp_spa: UNSPECIFIED.ipv4 }),
    ...[1, 2].flatMap((arp_op) =>
      terminal.ipv4.map((arp_spa) => pass(PRIORITY.allowed, { ...arp, arp_op, arp_spa })),
    ),
    pass(PRIORITY.allowed, { ...nd(ICMPV6.routerSolicitation), ipv6_src: UNSPECIFIED.ipv6 }),
    // Probes about its own addresses only: it must not deny others theirs. The controller decides on those that it may learn.
    ...[...ipv6, ...learning.tentative].map((address) => pass(PRIORITY.allowed, probe(address))),
    ...learning.prefixes.map((prefix) => hold(PRIORITY.probe, probe(maskOf(prefix)), 'probe')),
    ...ipv6.flatMap((ipv6_src) => [
      pass(PRIORITY.allowed, { ...nd(ICMPV6.routerSolicitation), ipv6_src }),
      ...options.map((ipv6_nd_sll) =>
        pass(PRIORITY.allowed, { ...nd(ICMPV6.neighborSolicitation), ipv6_src, ipv6_nd_sll }),
      ),
      ...ipv6.flatMap((ipv6_nd_target) =>
        options.map((ipv6_nd_tll) =>
          pass(PRIORITY.allowed, {
            ...nd(ICMPV6.neighborAdvertisement),
            ipv6_src,
            ipv6_nd_target,
            ipv6_nd_tll,
          }),
        ),
      ),
    ]),
    dhcp(UNSPECIFIED.ipv4),
    ...(learning.dhcp ? terminal.ipv4.map(dhcp) : []),
    pass(PRIORITY.allowed, {
      eth_type: ETH_TYPE.ipv6,
      ip_proto: IP_PROTO.udp,
      ipv6_src: linkLocal,
      udp_src: DHCP.clientV6,
      udp_dst: DHCP.serverV6,
      nw_frag: WHOLE,
    }),
    ...Object.values(ICMPV6).map((icmpv6_type) =>
      drop(PRIORITY.forbidden, {
        eth_type: ETH_TYPE.ipv6,
        ip_proto: IP_PROTO.icmpv6,
        icmpv6_type,
      }),
    ),
    // Only DHCP servers send to a client's port.
    drop(PRIORITY.forbidden, { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.udp, udp_dst: DHCP.client }),
    drop(PRIORITY.forbidden, { eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.udp, udp_dst: DHCP.clientV6 }),
    ...terminal.ipv4.map((ipv4_src) => own({ eth_type: ETH_TYPE.ipv4, ipv4_src }, ipv4_src)),
    // Not from the link-local address: it serves neighbour discovery and DHCPv6 only.
    ...terminal.ipv6.map((ipv6_src) => own({ eth_type: ETH_TYPE.ipv6, ipv6_src }, ipv6_src)),
    ...learning.tentative.map((ipv6_src) =>
      hold(PRIORITY.own, { eth_type: ETH_TYPE.ipv6, ipv6_src }, 'early'),
    ),
  ];
}

function maskOf(prefix: string): { value: string; mask: string } {
  const { family, address, length } = prefixOf(prefix);
  return prefixMatch(family, address, length);
}
