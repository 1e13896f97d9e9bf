/**
 * Firewall state -> what iptables-restore and ip6tables-restore read. Pure.
 *
 * A packet's way, the same in both families:
 *   FORWARD              redirects fall; the bridge port that a packet came in by decides its direction
 *   paguro-from-terminal DHCP client, neighbour discovery, then only the terminal's own source addresses
 *   paguro-from-network  DHCP server, neighbour discovery, then nothing with a source of the terminal's
 *   paguro-known         INVALID falls, packets of known connections pass, the rest asks for admission. Known is what has
 *                        been answered, and what was admitted: its mark says so, as to the kernel a connection is new until it is answered
 *   paguro-admit         while the gate is open: opening packets of TCP, UDP and ICMP meet the policy. All else falls
 *   paguro-outbound      the policy, one direction a chain. Every rule carries its name as a comment,
 *   paguro-inbound       which is what its counter is found by
 *   paguro-accept        marks the connection, and lets it pass
 *
 * What changes with an instance's role is no rule but the gate: a list of xt_recent that names the terminal's addresses while the
 * instance admits, and that a write into /proc changes without starting a process (gate.ts).
 */
import {
  type Action,
  DEFAULT_NAMES,
  type Direction,
  type Policy,
  type PortRange,
  type Rule,
} from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import { type Family, familyOf, type Terminal } from '../../shared/firewall/terminal.js';
import { INNER } from '../wiring/inner.js';

export interface Ruleset {
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** Counters that an earlier instance counted: the rules begin with them. */
  readonly counters: readonly RuleCounter[];
  /** The gate closes by itself this many seconds after it was last opened, also when there is no agent any more to close it. */
  readonly gateSeconds: number;
}

export const POLICY_CHAINS: Readonly<Record<Direction, string>> = {
  outbound: 'paguro-outbound',
  inbound: 'paguro-inbound',
};

/** The mark of connections that were admitted, here or by an earlier instance. */
export const ADMITTED_MARK = 1;

/** The lists that are the gate, one a family, as files under /proc/net/xt_recent. */
export const GATES: Readonly<Record<Family, string>> = { ipv4: 'paguro4', ipv6: 'paguro6' };

const ADMIT = 'paguro-admit';
const ACCEPT = 'paguro-accept';
const KNOWN = 'paguro-known';
const FROM_TERMINAL = 'paguro-from-terminal';
const FROM_NETWORK = 'paguro-from-network';
const ND_SOURCE = 'paguro-nd-source';

/** xt_multiport holds this many ports; a range counts as two (XT_MULTI_PORTS in linux/netfilter/xt_multiport.h). */
const MULTIPORT_SLOTS = 15;

/** The whole filter table of one family, for `iptables-restore --counters` or `ip6tables-restore --counters`. */
export function renderTable(ruleset: Ruleset, family: Family): string {
  const own = family === 'ipv4' ? ruleset.terminal.ipv4 : ruleset.terminal.ipv6;
  return table([
    ':INPUT DROP [0:0]',
    ':FORWARD DROP [0:0]',
    // The namespace's own stack has nothing to say: not even neighbour discovery for the bridge itself.
    ':OUTPUT DROP [0:0]',
    ...[FROM_TERMINAL, FROM_NETWORK, KNOWN, ADMIT, POLICY_CHAINS.outbound, POLICY_CHAINS.inbound, ACCEPT].map(
      empty,
    ),
    ...(family === 'ipv6' ? [empty(ND_SOURCE)] : []),
    // A redirect counts as RELATED, and would turn a terminal's traffic away.
    rule('FORWARD', family === 'ipv4' ? '-p icmp --icmp-type 5' : '-p icmpv6 --icmpv6-type 137', 'DROP'),
    `-A FORWARD -m physdev --physdev-in ${INNER.terminalSide} -g ${FROM_TERMINAL}`,
    `-A FORWARD -m physdev --physdev-in ${INNER.networkSide} -g ${FROM_NETWORK}`,
    ...(family === 'ipv4' ? guardIpv4(own) : guardIpv6(own)),
    rule(KNOWN, '-m conntrack --ctstate INVALID', 'DROP'),
    rule(KNOWN, '-m conntrack --ctstate RELATED,ESTABLISHED', 'ACCEPT'),
    rule(KNOWN, `-m connmark --mark ${ADMITTED_MARK}`, 'ACCEPT'),
    `-A ${KNOWN} -j ${ADMIT}`,
    ...admission(family, ruleset.gateSeconds),
    ...policyRules(ruleset, family),
    `-A ${ACCEPT} -j CONNMARK --set-mark ${ADMITTED_MARK}`,
    rule(ACCEPT, '', 'ACCEPT'),
  ]);
}

/** Lets nothing pass any more, for `iptables-restore --noflush`: FORWARD is left with its policy, DROP. */
export function renderStop(): string {
  return table(['-F FORWARD']);
}

function table(lines: readonly string[]): string {
  return `*filter\n${lines.join('\n')}\nCOMMIT\n`;
}

const empty = (chain: string): string => `:${chain} - [0:0]`;

function rule(chain: string, matches: string, target: string): string {
  return `-A ${chain} ${matches}${matches ? ' ' : ''}-j ${target}`;
}

function guardIpv4(own: readonly string[]): readonly string[] {
  return [
    ...['0.0.0.0', ...own].map((source) =>
      rule(FROM_TERMINAL, `-s ${source} -p udp --sport 68 --dport 67`, 'ACCEPT'),
    ),
    // A terminal is no server of addresses, and asks nobody but the network for one.
    rule(FROM_TERMINAL, '-p udp --sport 67 --dport 68', 'DROP'),
    ...own.map((address) => `-A ${FROM_TERMINAL} -s ${address} -g ${KNOWN}`),
    rule(FROM_TERMINAL, '', 'DROP'),
    ...own.map((address) => rule(FROM_NETWORK, `-s ${address}`, 'DROP')),
    rule(FROM_NETWORK, '-p udp --sport 67 --dport 68', 'ACCEPT'),
    rule(FROM_NETWORK, '-p udp --sport 68 --dport 67', 'DROP'),
    `-A ${FROM_NETWORK} -j ${KNOWN}`,
  ];
}

function guardIpv6(own: readonly string[]): readonly string[] {
  // RFC 4861: neighbour discovery is never forwarded by a router, so its hop limit is 255 wherever it is genuine.
  const nd = (type: number): string => `-p icmpv6 --icmpv6-type ${type} -m hl --hl-eq 255`;
  return [
    ...[133, 135, 136].map((type) => `-A ${FROM_TERMINAL} ${nd(type)} -g ${ND_SOURCE}`),
    ...['fe80::/10', ...own].map((source) =>
      rule(FROM_TERMINAL, `-s ${source} -p udp --sport 546 --dport 547`, 'ACCEPT'),
    ),
    rule(FROM_TERMINAL, '-p udp --sport 547 --dport 546', 'DROP'),
    ...own.map((address) => `-A ${FROM_TERMINAL} -s ${address} -g ${KNOWN}`),
    rule(FROM_TERMINAL, '', 'DROP'),
    ...['::', 'fe80::/10', ...own].map((source) => rule(ND_SOURCE, `-s ${source}`, 'ACCEPT')),
    rule(ND_SOURCE, '', 'DROP'),
    ...own.map((address) => rule(FROM_NETWORK, `-s ${address}`, 'DROP')),
    ...[134, 135, 136].map((type) => rule(FROM_NETWORK, nd(type), 'ACCEPT')),
    rule(FROM_NETWORK, '-p udp --sport 547 --dport 546', 'ACCEPT'),
    rule(FROM_NETWORK, '-p udp --sport 546 --dport 547', 'DROP'),
    `-A ${FROM_NETWORK} -j ${KNOWN}`,
  ];
}

function admission(family: Family, gateSeconds: number): readonly string[] {
  // What may open a connection: a SYN alone, a datagram, an echo request. Anything else that gets here
  // is of a connection that nobody opened.
  const echo = family === 'ipv4' ? '-p icmp --icmp-type 8/0' : '-p icmpv6 --icmpv6-type 128/0';
  const admit = (opening: string, side: string, address: string, chain: string): string =>
    `-A ${ADMIT} ${opening} -m conntrack --ctstate NEW -m physdev --physdev-in ${side} -m recent --name ${GATES[family]} --rcheck --seconds ${gateSeconds} ${address} -g ${chain}`;
  return [
    ...['-p tcp --syn', '-p udp', echo].flatMap((opening) => [
      admit(opening, INNER.terminalSide, '--rsource', POLICY_CHAINS.outbound),
      admit(opening, INNER.networkSide, '--rdest', POLICY_CHAINS.inbound),
    ]),
    rule(ADMIT, '', 'DROP'),
  ];
}

function policyRules({ policy, counters }: Ruleset, family: Family): readonly string[] {
  const counted = new Map(counters.map((counter) => [counter.rule, counter]));
  const lines = policy.rules.flatMap((each) => {
    if (!holdsFor(each, family)) return [];
    const chain = POLICY_CHAINS[each.direction];
    // What was counted begins in one place: the first line of the rule, in IPv4 when the rule is there at all.
    const counter = family === 'ipv4' || !holdsFor(each, 'ipv4') ? counted.get(each.name) : undefined;
    return matchesOf(each, family).map((matches, index) =>
      countedRule(chain, matches, each.name, each.action, index === 0 ? counter : undefined),
    );
  });
  const defaults = (['outbound', 'inbound'] as const).map((direction) => {
    const name = DEFAULT_NAMES[direction];
    const counter = family === 'ipv4' ? counted.get(name) : undefined;
    return countedRule(POLICY_CHAINS[direction], '', name, policy.defaults[direction], counter);
  });
  return [...lines, ...defaults];
}

function countedRule(
  chain: string,
  matches: string,
  name: string,
  action: Action,
  counter: RuleCounter | undefined,
): string {
  // A rule's name holds no quote and no backslash: the policy's schema sees to that.
  const text = `-A ${chain} ${matches}${matches ? ' ' : ''}-m comment --comment "${name}" ${TARGETS[action]}`;
  return `[${counter?.packets ?? 0}:${counter?.bytes ?? 0}] ${text}`;
}

const TARGETS: Readonly<Record<Action, string>> = {
  accept: `-g ${ACCEPT}`,
  drop: '-j DROP',
  reject: '-j DROP',
};

function holdsFor(each: Rule, family: Family): boolean {
  if (each.family !== undefined && each.family !== family) return false;
  if (each.remote !== undefined && familyOf(each.remote) !== family) return false;
  // To xt_icmp 255 means any type. There is no ICMP message of that type that opens anything.
  return !(family === 'ipv4' && each.icmpType === 255);
}

/** The matches of a rule's lines: usually one line, more when its ports do not fit into one multiport match. */
function matchesOf(each: Rule, family: Family): readonly string[] {
  const outbound = each.direction === 'outbound';
  const base: string[] = [];
  if (each.remote !== undefined) base.push(`${outbound ? '-d' : '-s'} ${each.remote}`);
  if (each.protocol !== undefined) base.push(`-p ${protocolName(each.protocol, family)}`);
  if (each.icmpType !== undefined) {
    base.push(`${family === 'ipv4' ? '--icmp-type' : '--icmpv6-type'} ${each.icmpType}`);
  }
  const [remoteOption, localOption] = outbound ? ['--dports', '--sports'] : ['--sports', '--dports'];
  return portMatches(remoteOption, each.remotePorts).flatMap((remote) =>
    portMatches(localOption, each.localPorts).map((local) => [...base, ...remote, ...local].join(' ')),
  );
}

function protocolName(protocol: 'tcp' | 'udp' | 'icmp', family: Family): string {
  return protocol === 'icmp' && family === 'ipv6' ? 'icmpv6' : protocol;
}

function portMatches(
  option: string,
  ranges: readonly PortRange[] | undefined,
): readonly (readonly string[])[] {
  if (!ranges) return [[]];
  const groups: string[][] = [];
  let slots = MULTIPORT_SLOTS;
  for (const [first, last] of ranges) {
    const needed = first === last ? 1 : 2;
    let group = groups.at(-1);
    if (!group || slots + needed > MULTIPORT_SLOTS) {
      group = [];
      groups.push(group);
      slots = 0;
    }
    group.push(first === last ? `${first}` : `${first}:${last}`);
    slots += needed;
  }
  return groups.map((group) => [`-m multiport ${option} ${group.join(',')}`]);
}
