/**
 * How rejected packets are answered inside a compartment, as text for `nft -f`. Pure.
 *
 * iptables' REJECT needs routes and neighbours, and could send an ICMP error neither to everybody nor in the right name; and a packet that is accepted
 * in order to be answered at the other port is a connection to the kernel by then. So a rejected packet, which the rules have marked, turns round
 * before the bridge asks where it goes to: it is given to the bridge's own device, whose ingress answers it, with the addresses and MACs exchanged, and
 * lets nothing further in. The bridge takes the answer where that MAC is. Where any of this is missing a rejected packet falls without an answer: it never
 * has the mark that is forwarded.
 *
 * No answer goes to or in the name of more than one host, or of none (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)). The kernel gives none to a reset, an
 * ICMP error or a later fragment either: rules only reject what opens a connection.
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import { PACKET_MARKS } from '../iptables/names.js';
import { plainWord } from '../iptables/plain.js';
import { INNER } from '../wiring/inner.js';

/** Each direction has as many of its own: a flood from outside leaves the terminal its answers. */
const ANSWERS_PER_SECOND = 100;
const BURST = 20;

/** For `nft -f`; the bridge must be there, and nothing need be joined to it yet. What an earlier text made is replaced. */
export function renderAnswers({ mac }: Terminal): string {
  const { bridge, bridgeMac } = INNER;
  const { rejectOutbound, rejectInbound } = PACKET_MARKS;
  const terminal = plainWord(mac);
  const limit = `limit rate ${ANSWERS_PER_SECOND}/second burst ${BURST} packets`;
  // A packet for this host alone is not confirmed as a connection on its way in.
  const turn = `ether daddr set ${bridgeMac} meta pkttype set host`;
  return `table bridge paguro-answers
delete table bridge paguro-answers
table bridge paguro-answers {
  chain turn {
    type filter hook prerouting priority 10; policy accept;
    meta mark ${rejectOutbound} jump one-host
    meta mark ${rejectInbound} jump one-host
    meta mark ${rejectOutbound} ether saddr ${terminal} ether saddr set ether daddr ${turn} accept
    meta mark ${rejectInbound} ether daddr ${terminal} ${turn} accept
    meta mark { ${rejectOutbound}, ${rejectInbound} } drop
  }
  chain one-host {
    ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00 drop
    ether saddr ${terminal} ether daddr ${terminal} drop
    ip saddr { 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/3 } drop
    ip daddr { 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/3 } drop
    ip6 saddr { ::, ::1, ff00::/8 } drop
    ip6 daddr { ::, ::1, ff00::/8 } drop
  }
}
table netdev paguro-answers
delete table netdev paguro-answers
table netdev paguro-answers {
  chain answer {
    type filter hook ingress device "${bridge}" priority 0; policy drop;
    meta mark ${rejectOutbound} ${limit} ether daddr set ether saddr ether saddr set ${terminal} goto reject-it
    meta mark ${rejectInbound} ${limit} ether daddr set ${terminal} goto reject-it
  }
  chain reject-it {
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmpx type port-unreachable
    meta l4proto { icmp, icmpv6 } reject with icmpx type admin-prohibited
  }
}
`;
}
