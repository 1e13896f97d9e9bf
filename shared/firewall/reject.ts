/**
 * What the sender of a rejected packet hears: the same from every kind of firewall. A TCP SYN is answered with a RST, as a closed port does; a
 * datagram with ICMP "port unreachable", which is what a host without such a service says; an echo request with "administratively
 * prohibited", because a host has no such answer. (RFC 9293, 3.10.7.1; RFC 792 and RFC 1812, 5.2.7.1; RFC 4443, 3.1.)
 *
 * An ICMP error seems to come from the address that the packet was for. Answers may be fewer than packets: whoever sends more is not answered
 * each time (RFC 1812, 4.3.2.8; RFC 4443, 2.4).
 */
import type { Protocol } from './connection.js';
import type { Family } from './terminal.js';

export type Rejection =
  | { readonly kind: 'tcp-reset' }
  | { readonly kind: 'icmp-error'; readonly type: number; readonly code: number };

const PORT_UNREACHABLE = { ipv4: { type: 3, code: 3 }, ipv6: { type: 1, code: 4 } } as const;
const PROHIBITED = { ipv4: { type: 3, code: 13 }, ipv6: { type: 1, code: 1 } } as const;

/** The answer to an opening packet that the policy rejects. */
export function rejectionOf(protocol: Protocol, family: Family): Rejection {
  switch (protocol) {
    case 'tcp':
      return { kind: 'tcp-reset' };
    case 'udp':
      return { kind: 'icmp-error', ...PORT_UNREACHABLE[family] };
    case 'icmp':
      return { kind: 'icmp-error', ...PROHIBITED[family] };
  }
}
