/**
 * The reference verdict: what a personal firewall does with a packet. Pure and slow; every implementation (flow rules in a switch,
 * iptables) is measured against it.
 *
 * In this order:
 *   1. ICMP redirects drop, TCP packets with flags that no TCP sends, and TCP and UDP from or to port 0.
 *   2. A packet of a known connection passes, in both directions, without asking the policy. A closed TCP
 *      connection is known until it is forgotten, but a SYN of the same ends opens anew; in one whose handshake is over a SYN drops.
 *   3. An ICMP error passes if the packet it quotes is of a known connection.
 *   4. What opens a connection is judged by the policy: a TCP SYN without ACK, FIN and RST; a UDP datagram; an echo request.
 *      Only here a packet may be rejected, which is a drop with an answer (reject.ts).
 *   5. All else drops: packets from the middle of TCP connections that nobody opened here, echo replies that nobody asked
 *      for, other ICMP, other protocols. No policy can accept these.
 */
import { inPrefix } from './addresses.js';
import { type Connection, connectionKey } from './connection.js';
import {
  connectionOf,
  ICMP_TYPES,
  type IcmpPacket,
  opposite,
  type Packet,
  type TcpFlags,
  type TcpPacket,
  type UdpPacket,
} from './packet.js';
import { type Action, DEFAULT_NAMES, type Policy, type PortRange, type Rule } from './policy.js';
import { DEFAULT_IDLE_TIMES, idleSeconds } from './timeouts.js';

/** Why a verdict is what it is. `rule` and `default`: the policy decided; the others leave it no choice. */
export type Reason =
  | 'rule'
  | 'default'
  | 'established'
  | 'related'
  | 'redirect'
  | 'invalid'
  | 'unrelated'
  | 'mid-stream'
  | 'unknown-echo'
  | 'unsupported';

export interface Verdict {
  readonly verdict: Action;
  readonly reason: Reason;
  /** The rule's name, `default outbound` or `default inbound`; otherwise the reason. What counters count by. */
  readonly by: string;
  /** The connection that this packet opened: from now on known. */
  readonly admits?: Connection;
}

/** Connections by `connectionKey`; a Map is one. */
export interface KnownConnections {
  get(key: string): Connection | undefined;
}

/** What the firewall does with the packet. Addresses in canonical form, as everywhere. */
export function verdict(policy: Policy, known: KnownConnections, packet: Packet): Verdict {
  if (packet.protocol === 'other') return drop('unsupported');
  const icmp = packet.protocol === 'icmp' ? ICMP_TYPES[packet.family] : undefined;
  if (packet.protocol === 'icmp') {
    if (packet.type === icmp?.redirect) return drop('redirect');
    if (icmp?.errors.some((type) => type === packet.type)) return judgeError(known, packet);
    if (packet.type !== icmp?.echoRequest && packet.type !== icmp?.echoReply) return drop('unsupported');
    if (packet.code !== 0) return drop('invalid');
  }
  if (packet.protocol === 'tcp' && !validFlags(packet.flags)) return drop('invalid');
  if (isFromOrToPort0(packet)) return drop('invalid');

  const connection = connectionOf(packet, packet.direction);
  if (connection === undefined) return drop('invalid');
  const before = known.get(connectionKey(connection));
  if (packet.protocol === 'tcp' && isOpening(packet.flags) && isPastHandshake(before)) return drop('invalid');
  if (before !== undefined && isOf(packet, before)) {
    return { verdict: 'accept', reason: 'established', by: 'established' };
  }
  if (packet.protocol === 'tcp' && !isOpening(packet.flags)) return drop('mid-stream');
  if (packet.protocol === 'icmp' && packet.type === icmp?.echoReply) return drop('unknown-echo');

  const decided = judge(policy, packet);
  return decided.verdict !== 'accept'
    ? decided
    : { ...decided, admits: { ...connection, timeLeftSeconds: idleOf(connection) } };
}

function drop(reason: Reason): Verdict {
  return { verdict: 'drop', reason, by: reason };
}

function idleOf(connection: Connection): number {
  return idleSeconds(connection, DEFAULT_IDLE_TIMES);
}

/** Is this packet of that connection, which has its ends? An echo is asked by the one and replied to by the other. */
function isOf(packet: TcpPacket | UdpPacket | IcmpPacket, before: Connection): boolean {
  if (packet.protocol === 'tcp') {
    return !(before.protocol === 'tcp' && before.state === 'closed' && isOpening(packet.flags));
  }
  if (packet.protocol === 'udp') return true;
  const fromOpener = (packet.direction === 'outbound') === (before.opener === 'terminal');
  return fromOpener === (packet.type === ICMP_TYPES[packet.family].echoRequest);
}

/** An error is for the one who sent the packet it quotes, and that packet is of a known connection. */
function judgeError(known: KnownConnections, error: IcmpPacket): Verdict {
  const quoted = error.relatedTo;
  if (quoted === undefined || quoted.source.address !== error.destination.address) return drop('unrelated');
  const connection = connectionOf(quoted, opposite(error.direction));
  const related = connection !== undefined && known.get(connectionKey(connection)) !== undefined;
  return related ? { verdict: 'accept', reason: 'related', by: 'related' } : drop('unrelated');
}

function isFromOrToPort0(packet: TcpPacket | UdpPacket | IcmpPacket): boolean {
  return packet.protocol !== 'icmp' && (packet.source.port === 0 || packet.destination.port === 0);
}

function isPastHandshake(connection: Connection | undefined): boolean {
  return (
    connection?.protocol === 'tcp' && (connection.state === 'established' || connection.state === 'closing')
  );
}

/** Does TCP ever send these? (What Linux and Open vSwitch both say: without ACK there is nothing to end, to push or that is urgent.) */
function validFlags({ syn, ack, fin, rst, psh, urg }: TcpFlags): boolean {
  if (!ack && (psh || urg)) return false;
  if (syn) return !fin && !rst;
  if (rst) return !fin;
  return ack === true;
}

function isOpening({ syn, ack, fin, rst }: TcpFlags): boolean {
  return syn === true && !ack && !fin && !rst;
}

/** What the policy says of an opening packet: the first rule that matches decides. */
function judge(policy: Policy, packet: TcpPacket | UdpPacket | IcmpPacket): Verdict {
  const rule = policy.rules.find((candidate) => matches(candidate, packet));
  return rule === undefined
    ? {
        verdict: policy.defaults[packet.direction],
        reason: 'default',
        by: DEFAULT_NAMES[packet.direction],
      }
    : { verdict: rule.action, reason: 'rule', by: rule.name };
}

/** Does the rule match this opening packet? */
export function matches(rule: Rule, packet: TcpPacket | UdpPacket | IcmpPacket): boolean {
  if (rule.direction !== packet.direction) return false;
  if (rule.family !== undefined && rule.family !== packet.family) return false;
  if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
  const outbound = packet.direction === 'outbound';
  const remote = outbound ? packet.destination : packet.source;
  if (rule.remote !== undefined && !inPrefix(remote.address, rule.remote)) return false;
  if (packet.protocol === 'icmp') return rule.icmpType === undefined || rule.icmpType === packet.type;
  const [localPort, remotePort] = outbound
    ? [packet.source.port, packet.destination.port]
    : [packet.destination.port, packet.source.port];
  return inRanges(localPort, rule.localPorts) && inRanges(remotePort, rule.remotePorts);
}

function inRanges(port: number, ranges: readonly PortRange[] | undefined): boolean {
  return ranges === undefined || ranges.some(([first, last]) => first <= port && port <= last);
}
