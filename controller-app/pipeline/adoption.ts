/**
 * Adoption: the rules by which a switch begins to track connections that another domain admitted. Pure.
 *
 * Nothing can write into a switch's conntrack, so for each imported connection, in both directions, the first packet that shows up is
 * committed although it is from the middle of the connection. These rules are open as long as they are in: who states
 * them also removes them once the connection is tracked, closed, or out of time.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { type Family, familyOf } from '../../shared/firewall/terminal.js';
import { type Action, type Match, TCP_FLAGS } from '../openflow/index.js';
import { type Kind, packCookie } from './cookie.js';
import type { FirewallInstance } from './firewall.js';
import { adoptedMark, MARK } from './mark.js';
import { FIREWALL_CT } from './priority.js';
import { apply, COPY, commit, ctState, ECHO, ETH_TYPE, goto, IP_PROTO, type Rule, SIDE } from './rule.js';

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
  const match = packetMatch(connection, side);
  const rule = (priority: number, more: Match, kind: Kind, ...actions: readonly Action[]): Rule => ({
    table: 'firewall-ct',
    priority,
    match: { reg1: instance.number, reg0: SIDE[side], ...match, ...more },
    instructions: [...(actions.length > 0 ? [apply(...actions)] : []), goto(instance.tables.deliver)],
    cookie: packCookie({ kind, instance: instance.number, policyRule: 0 }),
  });
  const rules: Rule[] = [];
  if (connection.protocol === 'tcp') {
    // A reset is passed on but not committed: it would leave an entry that nothing ends.
    const tcp_flags = { value: TCP_FLAGS.rst, mask: TCP_FLAGS.rst };
    rules.push(
      rule(FIREWALL_CT.adoptionReset, { ct_state: ctState('+new'), tcp_flags }, 'adopted-reset', COPY),
    );
  }
  if (connection.protocol !== 'udp') {
    // Invalid to a conntrack that has not seen the beginning: a SYN-ACK or an echo reply first, windows of before.
    rules.push(rule(FIREWALL_CT.adoptionInvalid, { ct_state: ctState('+inv') }, 'none'));
  }
  if (connection.protocol !== 'icmp' || speaks(connection, side)) {
    rules.push(
      rule(
        FIREWALL_CT.adoption,
        // The mark: one-way datagrams stay +new, and are adopted once.
        {
          ct_state: ctState('+new', '-inv', '-rel'),
          ct_mark: { value: 0, mask: MARK.announced },
        },
        'adopted',
        COPY,
        commit(instance.number, adoptedMark(connection, instance.generation), MARK.all),
      ),
    );
  }
  return rules;
}

/** Does this side send the echo requests? */
function speaks(connection: Connection, side: Side): boolean {
  return (connection.opener === 'terminal') === (side === 'terminal');
}

/** The packets that this side sends in the connection. */
function packetMatch(connection: Connection, side: Side): Match {
  const { local, remote } = connection;
  const family = familyOf(local.address);
  const [source, destination] = side === 'terminal' ? [local, remote] : [remote, local];
  const base = addressMatch(family, source.address, destination.address);
  switch (connection.protocol) {
    case 'icmp': {
      const type = speaks(connection, side) ? ECHO[family].request : ECHO[family].reply;
      return family === 'ipv4'
        ? { ...base, ip_proto: IP_PROTO.icmp, icmpv4_type: type }
        : { ...base, ip_proto: IP_PROTO.icmpv6, icmpv6_type: type };
    }
    case 'tcp':
    case 'udp': {
      const [from, to] =
        side === 'terminal'
          ? [connection.local.port, connection.remote.port]
          : [connection.remote.port, connection.local.port];
      return connection.protocol === 'tcp'
        ? { ...base, ip_proto: IP_PROTO.tcp, tcp_src: from, tcp_dst: to }
        : { ...base, ip_proto: IP_PROTO.udp, udp_src: from, udp_dst: to };
    }
  }
}

function addressMatch(family: Family, source: string, destination: string): Match {
  return family === 'ipv4'
    ? { eth_type: ETH_TYPE.ipv4, ipv4_src: source, ipv4_dst: destination }
    : { eth_type: ETH_TYPE.ipv6, ipv6_src: source, ipv6_dst: destination };
}
