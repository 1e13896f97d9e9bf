/**
 * Firewall state -> what iptables-restore and ip6tables-restore read. Pure.
 *
 * A packet's way, the same in both families. The verdict falls in `mangle`, before the bridge asks where the packet goes to, because what is
 * rejected has to be turned round there (reject.ts); `filter` then forwards what carries the mark of passing, and nothing else.
 *   PREROUTING           redirects fall, and what nobody sends; the bridge port that a packet came in by decides its direction
 *   paguro-from-terminal DHCP client, neighbour discovery, then only the terminal's own source addresses
 *   paguro-from-network  DHCP server, neighbour discovery, then nothing with a source of the terminal's
 *   paguro-known         INVALID falls, packets of known connections pass, the rest asks for admission. Known is what has
 *                        been answered, and what was admitted: its mark says so, as to the kernel a connection is new until it is answered
 *   paguro-admit         while the gate is open: opening packets of TCP, UDP and ICMP meet the policy. All else falls
 *   paguro-outbound      the policy, one direction a chain. Every rule carries its name as a comment,
 *   paguro-inbound       which is what its counter is found by (render-policy.ts)
 *   paguro-accept        marks the connection, and lets the packet pass
 *   paguro-reject        marks the packet as one to be answered; no connection comes of it
 *   paguro-pass          marks the packet as one to be forwarded
 *
 * What changes with an instance's role is no rule but the gate: a list of xt_recent that names the terminal's addresses while the
 * instance admits, and that a write into /proc changes without starting a process (gate.ts).
 */
import type { Policy } from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import type { Family, Terminal } from '../../shared/firewall/terminal.js';
import { INNER } from '../wiring/inner.js';
import { CHAINS, CONNECTION_MARKS, GATES, PACKET_MARKS, POLICY_CHAINS } from './names.js';
import { plainWord } from './plain.js';
import { policyRules } from './render-policy.js';

export interface Ruleset {
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** Counters that an earlier instance counted: the rules begin with them. */
  readonly counters: readonly RuleCounter[];
  /** The gate closes by itself this many seconds after it was last opened, also when there is no agent any more to close it. */
  readonly gateSeconds: number;
}

/** Both tables of one family, for `iptables-restore --counters` or `ip6tables-restore --counters`. */
export function renderTables(ruleset: Ruleset, family: Family): string {
  const { terminal } = ruleset;
  const own = (family === 'ipv4' ? terminal.ipv4 : terminal.ipv6).map(plainWord);
  const lines = [
    ':PREROUTING DROP [0:0]',
    ...[...Object.values(CHAINS), ...Object.values(POLICY_CHAINS)].map(empty),
    // A redirect counts as RELATED, and would turn a terminal's traffic away.
    rule(
      'PREROUTING',
      family === 'ipv4' ? '-p icmp --icmp-type 5' : '-p icmpv6 --icmpv6-type 137',
      '-j DROP',
    ),
    ...NEVER_SENT,
    rule('PREROUTING', from(INNER.terminalSide), `-g ${CHAINS.fromTerminal}`),
    rule('PREROUTING', from(INNER.networkSide), `-g ${CHAINS.fromNetwork}`),
    ...(family === 'ipv4' ? guardIpv4(own) : guardIpv6(own)),
    rule(CHAINS.known, '-m conntrack --ctstate INVALID', '-j DROP'),
    ...synsOfKnown(),
    rule(CHAINS.known, '-p tcp --tcp-flags RST RST', `-j CONNMARK --set-xmark ${bit(OVER)}`),
    rule(CHAINS.known, '-m conntrack --ctstate RELATED,ESTABLISHED', PASS),
    rule(CHAINS.known, `-m connmark --mark ${bit(ADMITTED)}`, PASS),
    rule(CHAINS.known, '', `-j ${CHAINS.admit}`),
    ...admission(family, ruleset.gateSeconds),
    ...policyRules(ruleset, family),
    rule(CHAINS.accept, '', `-j CONNMARK --set-mark ${ADMITTED}`),
    rule(CHAINS.accept, '', PASS),
    rule(CHAINS.reject, from(INNER.terminalSide), `-j MARK --set-mark ${PACKET_MARKS.rejectOutbound}`),
    rule(CHAINS.reject, from(INNER.networkSide), `-j MARK --set-mark ${PACKET_MARKS.rejectInbound}`),
    rule(CHAINS.reject, '', '-j ACCEPT'),
    rule(CHAINS.pass, '', `-j MARK --set-mark ${PACKET_MARKS.pass}`),
    rule(CHAINS.pass, '', '-j ACCEPT'),
  ];
  return FORWARDING + table('mangle', lines);
}

/** Lets nothing pass any more, for `iptables-restore --noflush`: PREROUTING is left with its policy, DROP. */
export function renderStop(): string {
  return table('mangle', ['-F PREROUTING']);
}

const PASS = `-g ${CHAINS.pass}`;
const { admitted: ADMITTED, over: OVER } = CONNECTION_MARKS;

/** What conntrack takes for valid and the model does not: nothing to push or urgent without an ACK, and ports that are none. */
const NEVER_SENT = [
  rule('PREROUTING', '-p tcp --tcp-flags ACK,PSH PSH', '-j DROP'),
  rule('PREROUTING', '-p tcp --tcp-flags ACK,URG URG', '-j DROP'),
  rule('PREROUTING', '-p tcp -m multiport --ports 0', '-j DROP'),
  rule('PREROUTING', '-p udp -m multiport --ports 0', '-j DROP'),
];

/** The namespace's own stack has nothing to hear or to say: not even neighbour discovery for the bridge itself. */
const FORWARDING = table('filter', [
  ':INPUT DROP [0:0]',
  ':FORWARD DROP [0:0]',
  ':OUTPUT DROP [0:0]',
  rule('FORWARD', `-m mark --mark ${PACKET_MARKS.pass}`, '-j ACCEPT'),
]);

function table(name: 'filter' | 'mangle', lines: readonly string[]): string {
  return `*${name}\n${lines.join('\n')}\nCOMMIT\n`;
}

function empty(chain: string): string {
  return `:${chain} - [0:0]`;
}

function from(end: string): string {
  return `-m physdev --physdev-in ${end}`;
}

function rule(chain: string, matches: string, target: string): string {
  return `-A ${chain} ${matches}${matches ? ' ' : ''}${target}`;
}

/** This bit alone, to be set or looked at. */
function bit(value: number): string {
  return `${value}/${value}`;
}

/**
 * A SYN in a TCP connection whose handshake is over, which conntrack calls assured, falls; in one that is over it opens another. After FINs the kernel
 * itself makes that a new one; after a reset of the side that was asked, and of entries that were loaded, it does not.
 */
function synsOfKnown(): readonly string[] {
  const known = '-p tcp --syn -m conntrack --ctstate ESTABLISHED --ctstatus ASSURED';
  return [
    rule(CHAINS.known, `${known} -m connmark --mark ${bit(OVER)}`, `-g ${CHAINS.admit}`),
    rule(CHAINS.known, known, '-j DROP'),
  ];
}

function guardIpv4(own: readonly string[]): readonly string[] {
  const { fromTerminal, fromNetwork, known } = CHAINS;
  return [
    ...['0.0.0.0', ...own].map((source) =>
      rule(fromTerminal, `-s ${source} -p udp --sport 68 --dport 67`, PASS),
    ),
    // A terminal is no server of addresses, and asks nobody but the network for one.
    rule(fromTerminal, '-p udp --sport 67 --dport 68', '-j DROP'),
    ...own.map((address) => rule(fromTerminal, `-s ${address}`, `-g ${known}`)),
    rule(fromTerminal, '', '-j DROP'),
    ...own.map((address) => rule(fromNetwork, `-s ${address}`, '-j DROP')),
    rule(fromNetwork, '-p udp --sport 67 --dport 68', PASS),
    rule(fromNetwork, '-p udp --sport 68 --dport 67', '-j DROP'),
    rule(fromNetwork, '', `-g ${known}`),
  ];
}

function guardIpv6(own: readonly string[]): readonly string[] {
  const { fromTerminal, fromNetwork, ndSource, known } = CHAINS;
  // RFC 4861: neighbour discovery is never forwarded by a router, so its hop limit is 255 wherever it is genuine.
  const nd = (type: number): string => `-p icmpv6 --icmpv6-type ${type} -m hl --hl-eq 255`;
  return [
    ...[133, 135, 136].map((type) => rule(fromTerminal, nd(type), `-g ${ndSource}`)),
    ...['fe80::/10', ...own].map((source) =>
      rule(fromTerminal, `-s ${source} -p udp --sport 546 --dport 547`, PASS),
    ),
    rule(fromTerminal, '-p udp --sport 547 --dport 546', '-j DROP'),
    ...own.map((address) => rule(fromTerminal, `-s ${address}`, `-g ${known}`)),
    rule(fromTerminal, '', '-j DROP'),
    ...['::', 'fe80::/10', ...own].map((source) => rule(ndSource, `-s ${source}`, PASS)),
    rule(ndSource, '', '-j DROP'),
    ...own.map((address) => rule(fromNetwork, `-s ${address}`, '-j DROP')),
    ...[134, 135, 136].map((type) => rule(fromNetwork, nd(type), PASS)),
    rule(fromNetwork, '-p udp --sport 547 --dport 546', PASS),
    rule(fromNetwork, '-p udp --sport 546 --dport 547', '-j DROP'),
    rule(fromNetwork, '', `-g ${known}`),
  ];
}

function admission(family: Family, gateSeconds: number): readonly string[] {
  // What may open a connection: a SYN alone, a datagram, an echo request. Anything else that gets here
  // is of a connection that nobody opened.
  const echo = family === 'ipv4' ? '-p icmp --icmp-type 8/0' : '-p icmpv6 --icmpv6-type 128/0';
  const open = (address: string): string =>
    `-m recent --name ${GATES[family]} --rcheck --seconds ${plainWord(gateSeconds)} ${address}`;
  const admit = (opening: string, side: string, address: string, chain: string): string =>
    rule(CHAINS.admit, `${opening} ${from(side)} ${open(address)}`, `-g ${chain}`);
  const openings = [
    // Established: of a connection that is over.
    '-p tcp --syn -m conntrack --ctstate NEW,ESTABLISHED',
    '-p udp -m conntrack --ctstate NEW',
    `${echo} -m conntrack --ctstate NEW`,
  ];
  return [
    ...openings.flatMap((opening) => [
      admit(opening, INNER.terminalSide, '--rsource', POLICY_CHAINS.outbound),
      admit(opening, INNER.networkSide, '--rdest', POLICY_CHAINS.inbound),
    ]),
    rule(CHAINS.admit, '', '-j DROP'),
  ];
}
