/**
 * The few words of OpenFlow that the rules of this folder share. Pure.
 */
import type { Action, Instruction, Masked } from '../openflow/index.js';
import { CT_STATE, OFPP, TCP_FLAGS } from '../openflow/index.js';

/** reg0: the side a frame came from. */
export const SIDE = { terminal: 1, network: 2 } as const;

export const ETH_TYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
export const IP_PROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
/**
 * What Open vSwitch shows as the protocol of a later IPv6 fragment: the fragment header's own number, whatever is behind it.
 * Only conntrack, which has seen the first fragment, knows better (ct_nw_proto).
 */
export const LATER_IPV6_PROTO = 44;
/** Echo is what opens an ICMP connection; the reply is never the first packet of one (RFC 792, RFC 4443). */
export const ECHO = { ipv4: { request: 8, reply: 0 }, ipv6: { request: 128, reply: 129 } } as const;
/** Neighbour discovery (RFC 4861, 4.1 to 4.5), and the IPv4 redirect. */
export const ICMPV6 = {
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
  redirect: 137,
} as const;
export const ICMPV4_REDIRECT = 5;

/** Bytes of a copy for the controller: enough for Ethernet, IPv6 and the TCP or echo header behind it. */
export const COPY_BYTES = 128;

const STATE_BITS: ReadonlyMap<string, number> = new Map(Object.entries(CT_STATE));
type StateBit = 'new' | 'est' | 'rel' | 'rpl' | 'inv';

/** A match on ct_state of a packet that went through ct(): `ctState('+new', '-inv')`. */
export function ctState(...bits: readonly `${'+' | '-'}${StateBit}`[]): Masked<number> {
  let value: number = CT_STATE.trk;
  let mask: number = CT_STATE.trk;
  for (const text of bits) {
    const bit = STATE_BITS.get(text.slice(1)) ?? 0;
    mask |= bit;
    if (text.startsWith('+')) value |= bit;
  }
  return { value, mask };
}

/** The opening SYN and nothing else: without it a rule would admit the middle of a connection that nobody opened. */
export const OPENING_SYN: Masked<number> = {
  value: TCP_FLAGS.syn,
  mask: TCP_FLAGS.syn | TCP_FLAGS.ack | TCP_FLAGS.rst | TCP_FLAGS.fin,
};

/** Not a fragment. */
export const WHOLE: Masked<number> = { value: 0, mask: 3 };
/** The first piece of a packet in fragments. */
export const FIRST_FRAGMENT: Masked<number> = { value: 1, mask: 3 };
/** A fragment without the transport header. */
export const LATER_FRAGMENT: Masked<number> = { value: 2, mask: 2 };

export function goto(table: number): Instruction {
  return { type: 'goto_table', table };
}

export function apply(...actions: readonly Action[]): Instruction {
  return { type: 'apply_actions', actions };
}

export const COPY: Action = { type: 'output', port: OFPP.CONTROLLER, maxLen: COPY_BYTES };

/** A copy of a rejected packet: as much as an ICMPv6 error quotes (RFC 4443, 2.4: 1,280 bytes with its own headers), and Ethernet. */
export const REJECTED_COPY: Action = { type: 'output', port: OFPP.CONTROLLER, maxLen: 1280 - 48 + 14 };

/** Commits the packet's connection and sets the bits of `mark` that `mask` has. */
export function commit(zone: number, value: number, mask: number): Action {
  return {
    type: 'ct',
    commit: true,
    zone,
    exec: [{ type: 'set_field', field: { ct_mark: { value, mask } } }],
  };
}

/** A frame that answers one from `side`: it leaves instance reg1 the other way, as if the instance had let it pass. */
export function answerActions(instance: number, side: number, deliver: number): Action[] {
  const from = side === SIDE.terminal ? SIDE.network : SIDE.terminal;
  return [
    { type: 'set_field', field: { reg0: from } },
    { type: 'set_field', field: { reg1: instance } },
    { type: 'resubmit', table: deliver },
  ];
}
