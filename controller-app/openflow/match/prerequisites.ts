/**
 * What must be matched before a field can be (spec 1.3.5, 7.2.3.6 and table 12): tcp_dst means nothing until the match says that the packet is TCP.
 * Open vSwitch asks for the same, for RARP as for ARP, and for its own fields likewise (ovs-fields(7)).
 */
import { CT_STATE } from '../constants.js';

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const ICMPV4 = 1;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;
const SCTP = 132;
const SOLICIT = 135;
const ADVERT = 136;
/** The bits that vlan_vid has, OFPVID_PRESENT included. */
const VLAN_VID = 0x1fff;
/** Upper half of packet_type: what follows is an ethertype. */
const ETHERTYPE_SPACE = 1;

type Fields = Readonly<Record<string, unknown>>;

interface Need {
  readonly says: string;
  /** The fields that can say it: they come first. */
  readonly fields: readonly string[];
  met(match: Fields): boolean;
}

/** The value and mask of a field of numbers; a mask of all ones where there is none. */
function numbers(match: Fields, name: string): { value: number; mask: number } | undefined {
  const given = match[name];
  if (typeof given === 'number') return { value: given, mask: 0xffff_ffff };
  if (typeof given !== 'object' || given === null) return undefined;
  const { value, mask } = given as Record<string, unknown>;
  return typeof value === 'number' && typeof mask === 'number' ? { value, mask } : undefined;
}

/** The one value that a field of `bits` must have. */
function exactly(match: Fields, bits: number, ...names: string[]): number | undefined {
  for (const name of names) {
    const found = numbers(match, name);
    const all = 2 ** bits - 1;
    if (found && (found.mask & all) >>> 0 === all) return found.value;
  }
  return undefined;
}

const ETHERTYPE = ['packet_type', 'eth_type', 'eth_type_nxm'];
const PROTOCOL = [...ETHERTYPE, 'ip_proto', 'ip_proto_nxm'];
const ND_TYPE = [...PROTOCOL, 'icmpv6_type', 'icmpv6_type_nxm'];

function ethertype(match: Fields): number | undefined {
  const type = exactly(match, 16, 'eth_type', 'eth_type_nxm');
  if (type !== undefined) return type;
  const packetType = exactly(match, 32, 'packet_type');
  return packetType !== undefined && packetType >>> 16 === ETHERTYPE_SPACE ? packetType & 0xffff : undefined;
}

function frames(says: string, ...types: number[]): Need {
  const met = (match: Fields): boolean => types.includes(ethertype(match) ?? -1);
  return { says: `eth_type ${says}`, fields: ETHERTYPE, met };
}

function packets(below: Need, protocol: number): Need {
  const met = (match: Fields): boolean =>
    exactly(match, 8, 'ip_proto', 'ip_proto_nxm') === protocol && below.met(match);
  return { says: `${below.says} and ip_proto ${protocol}`, fields: PROTOCOL, met };
}

function discovery(...types: number[]): Need {
  const met = (match: Fields): boolean =>
    types.includes(exactly(match, 8, 'icmpv6_type', 'icmpv6_type_nxm') ?? -1) && icmpv6.met(match);
  return { says: `${icmpv6.says} and icmpv6_type ${types.join(' or ')}`, fields: ND_TYPE, met };
}

const ip = frames('0x0800 or 0x86dd', IPV4, IPV6);
const ipv4 = frames('0x0800', IPV4);
const ipv6 = frames('0x86dd', IPV6);
const icmpv6 = packets(ipv6, ICMPV6);

const NEEDS = {
  ip,
  ipv4,
  ipv6,
  arp: frames('0x0806 or 0x8035', 0x0806, 0x8035),
  mpls: frames('0x8847 or 0x8848', 0x8847, 0x8848),
  pbb: frames('0x88e7', 0x88e7),
  nsh: frames('0x894f', 0x894f),
  tcp: packets(ip, TCP),
  udp: packets(ip, UDP),
  sctp: packets(ip, SCTP),
  icmpv4: packets(ipv4, ICMPV4),
  icmpv6,
  nd: discovery(SOLICIT, ADVERT),
  nd_solicit: discovery(SOLICIT),
  nd_advert: discovery(ADVERT),
  /** Any tag: Open vSwitch itself says a priority after a vlan_vid without OFPVID_PRESENT, if that is what it was told. */
  vlan: {
    says: 'vlan_vid that is not 0',
    fields: ['vlan_vid', 'vlan_tci'],
    met: (match) =>
      ['vlan_vid', 'vlan_tci'].some((name) => ((numbers(match, name)?.value ?? 0) & VLAN_VID) !== 0),
  },
  /** Open vSwitch wants to be sure that there is a connection. */
  ct: {
    says: 'ct_state with +new, +est, +rel, +rpl, +snat or +dnat, or with +trk-inv',
    fields: ['ct_state'],
    met: (match) => {
      const state = numbers(match, 'ct_state');
      if (!state) return false;
      const { new: opened, est, rel, rpl, snat, dnat, trk, inv } = CT_STATE;
      const valid = (state.mask & inv) !== 0 && (state.value & inv) === 0;
      return (
        (state.value & (opened | est | rel | rpl | snat | dnat)) !== 0 || ((state.value & trk) !== 0 && valid)
      );
    },
  },
} as const satisfies Record<string, Need>;

export type NeedName = keyof typeof NEEDS;

export function need(name: NeedName): Need {
  return NEEDS[name];
}
