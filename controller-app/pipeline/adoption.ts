/**
 * Adoption: the rules by which a switch begins to track connections that another domain admitted. Pure.
 *
 * Nothing can write into a switch's conntrack, so for each imported connection, in both directions, the first packet that shows up is
 * committed although it is from the middle of the connection. These rules are open as long as they are in: who states
 * them also removes them once the connection is tracked, closed, or out of time.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { type Family, familyOf } from '../../shared/firewall/terminal.js';
import type { Rule } from '../core/rule.js';
import { type Action, type Match, TCP_FLAGS } from '../openflow/index.js';
import { type Kind, packCookie } from './cookie.js';
import type { FirewallInstance } from './firewall.js';
import { adoptedMark, MARK } from './mark.js';
import { FIREWALL_CT } from './priority.js';
import { apply, COPY, commit, ctState, ECHO, ETH_TYPE, goto, IP_PROTO, SIDE } from './words.js';

type Side = keyof typeof SIDE;

/** The rules of one instance's imported connections. Echoes between the same two hosts share theirs: the switch can't see the id. */
export function adoptionRules(instance: FirewallInstance): Rule[] {
  const rules = new Map<string, Rule>();
  for (const connection of instance.adoption) {
    for (const side of ['terminal', 'network'] as const) {
      for (const [index, rule] of sideRules(instance, connection, side).entries()) {
        rules.set(`${adoptionKey(connection)} ${side} ${index}`, rule);
      }
    }
  }
  return [...rules.values()];
}

/** Connections with the same key have the same rules. */
export function adoptionKey(connection: Connection): string {
  const { protocol, local, remote } = connection;
  return protocol === 'icmp'
    ? `icmp ${local.address} ${remote.address} ${connection.opener}`
    : `${protocol} ${local.address} ${connection.local.port} ${remote.address} ${connection.remote.port}`;
}

function sideRules(instance: FirewallInstance, connection: Connection, side: Side): Rule[] {
  const packet = sent(connection, side);
  const rule = (priority: number, match: Match, kind: Kind, ...actions: readonly Action[]): Rule => ({
    table: 'firewall-ct',
    priority,
    match: { reg1: instance.number, reg0: SIDE[side], ...match },
    instructions: [...(actions.length > 0 ? [apply(...actions)] : []), goto(instance.tables.deliver)],
    cookie: packCookie({ kind, instance: instance.number, policyRule: 0 }),
  });
  const rules: Rule[] = [];
  if (connection.protocol === 'tcp') {
    // A reset is passed on but not committed: it would leave an entry that nothing ends.
    const tcp_flags = { value: TCP_FLAGS.rst, mask: TCP_FLAGS.rst };
    const reset = { ...packetMatch(packet), ct_state: ctState('+new'), tcp_flags };
    rules.push(rule(FIREWALL_CT.adoptionReset, reset, 'adopted-reset', COPY));
  }
  if (connection.protocol !== 'udp') {
    // Invalid to a conntrack that has not seen the beginning: a SYN-ACK or an echo reply first, windows of before.
    const invalid = { ...packetMatch(packet), ct_state: ctState('+inv') };
    rules.push(rule(FIREWALL_CT.adoptionInvalid, invalid, 'none'));
  }
  if (connection.protocol !== 'icmp' || speaks(connection, side)) {
    rules.push(
      rule(
        FIREWALL_CT.adoption,
        // The mark: one-way datagrams stay +new, and are adopted once.
        {
          ...trackedMatch(packet),
          ct_state: ctState('+new', '-inv', '-rel'),
          ct_mark: { value: 0, mask: MARK.announced },
        },
        'adopted',
        COPY,
        commit(instance.number, adoptedMark(connection), MARK.all),
      ),
    );
  }
  return rules;
}

/** Does this side send the echo requests? */
function speaks(connection: Connection, side: Side): boolean {
  return (connection.opener === 'terminal') === (side === 'terminal');
}

interface Sent {
  readonly family: Family;
  /** Of the IP header. */
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  /** The ports; of an echo its type and code. */
  readonly numbers: readonly [number, number];
}

/** What this side sends in the connection. */
function sent(connection: Connection, side: Side): Sent {
  const { local, remote } = connection;
  const family = familyOf(local.address);
  const [source, destination] =
    side === 'terminal' ? [local.address, remote.address] : [remote.address, local.address];
  const common = { family, source, destination };
  if (connection.protocol === 'icmp') {
    const type = speaks(connection, side) ? ECHO[family].request : ECHO[family].reply;
    const protocol = family === 'ipv4' ? IP_PROTO.icmp : IP_PROTO.icmpv6;
    return { ...common, protocol, numbers: [type, 0] };
  }
  const [near, far] = [connection.local.port, connection.remote.port];
  return {
    ...common,
    protocol: IP_PROTO[connection.protocol],
    numbers: side === 'terminal' ? [near, far] : [far, near],
  };
}

/** Its packets as their headers show them. */
function packetMatch({ family, protocol, source, destination, numbers: [a, b] }: Sent): Match {
  const base: Match =
    family === 'ipv4'
      ? { eth_type: ETH_TYPE.ipv4, ipv4_src: source, ipv4_dst: destination, ip_proto: protocol }
      : { eth_type: ETH_TYPE.ipv6, ipv6_src: source, ipv6_dst: destination, ip_proto: protocol };
  switch (protocol) {
    case IP_PROTO.tcp:
      return { ...base, tcp_src: a, tcp_dst: b };
    case IP_PROTO.udp:
      return { ...base, udp_src: a, udp_dst: b };
    case IP_PROTO.icmp:
      return { ...base, icmpv4_type: a, icmpv4_code: b };
    default:
      return { ...base, icmpv6_type: a, icmpv6_code: b };
  }
}

/**
 * The same packets by what conntrack found in them. It knows the ports of later fragments too: all pieces of a packet must be
 * committed alike, or it keeps the first until it is too old.
 */
function trackedMatch({ family, protocol, source, destination, numbers: [a, b] }: Sent): Match {
  const ends: Match =
    family === 'ipv4'
      ? { eth_type: ETH_TYPE.ipv4, ct_nw_src: source, ct_nw_dst: destination }
      : { eth_type: ETH_TYPE.ipv6, ct_ipv6_src: source, ct_ipv6_dst: destination };
  return { ...ends, ct_nw_proto: protocol, ct_tp_src: a, ct_tp_dst: b };
}
