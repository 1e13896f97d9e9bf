/**
 * The fields that a match can have, each a line: the 40 of OpenFlow 1.3.5 (table 12), those that Open vSwitch 3.1 has beside them
 * (ovs-fields(7)), and some of later versions. Open vSwitch knows many by a second, older number of Nicira's, which it uses in its own
 * actions: `eth_src` is then also `eth_src_nxm`.
 */
import { NICIRA, ONF } from '../error-codes.js';
import type { Simplify } from '../wire/index.js';
import { BYTE, HALF, HEX, IP4, IP6, type Kind, LONG, MAC, uint, WIDE, WORD } from './kinds.js';
import type { NeedName } from './prerequisites.js';

const NXM_OF = 0x0000;
const NXM_NX = 0x0001;
/** Used by Open vSwitch for fields that Ericsson added. */
const ERICSSON = 0x1000;
const BASIC = 0x8000;
const PACKET_REGS = 0x8001;
export const EXPERIMENTER_CLASS = 0xffff;
/** Under which Open vSwitch has the network service header. */
const NSH = 0x005ad650;

export interface Field<T = unknown> {
  readonly class: number;
  readonly field: number;
  readonly experimenter?: number;
  readonly kind: Kind<T>;
  /** Must be matched in one way or another before this can be. */
  readonly needs?: NeedName;
  /** Only exactly or not at all. */
  readonly exact?: true;
  /** The same field by its other number. */
  readonly of?: string;
}

type More = Pick<Field, 'needs' | 'exact' | 'of'>;
const EXACT = { exact: true } as const;
const exactIf = (needs: NeedName): More => ({ needs, exact: true });

const basic = <T>(field: number, kind: Kind<T>, more: More = {}): Field<T> => ({
  class: BASIC,
  field,
  kind,
  ...more,
});
const nx = <T>(field: number, kind: Kind<T>, more: More = {}): Field<T> => ({
  class: NXM_NX,
  field,
  kind,
  ...more,
});
const nxOf = <T>(field: number, kind: Kind<T>, more: More = {}): Field<T> => ({
  class: NXM_OF,
  field,
  kind,
  ...more,
});
const experimenter = <T>(who: number, field: number, kind: Kind<T>, more: More = {}): Field<T> => ({
  class: EXPERIMENTER_CLASS,
  experimenter: who,
  field,
  kind,
  ...more,
});
const nsh = <T>(field: number, kind: Kind<T>, more: More = {}): Field<T> =>
  experimenter(NSH, field, kind, { needs: 'nsh', ...more });

/** Fields that are alike but for a number: `{ reg0: …, reg1: … }`. */
function numbered<const N extends string, I extends number, T>(
  name: N,
  indices: readonly I[],
  field: (index: number) => Field<T>,
): { readonly [K in `${N}${I}`]: Field<T> } {
  const entries = indices.map((index) => [`${name}${index}`, field(index)] as const);
  return Object.fromEntries(entries) as { [K in `${N}${I}`]: Field<T> };
}

const TO_3 = [0, 1, 2, 3] as const;
const TO_7 = [...TO_3, 4, 5, 6, 7] as const;
const TO_15 = [...TO_7, 8, 9, 10, 11, 12, 13, 14, 15] as const;
const TO_31 = [...TO_15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31] as const;
const TO_63 = [
  ...TO_31,
  ...([32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47] as const),
  ...([48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63] as const),
] as const;

const BASIC_FIELDS = {
  in_port: basic(0, WORD, EXACT),
  in_phy_port: basic(1, WORD, EXACT),
  metadata: basic(2, LONG),
  eth_dst: basic(3, MAC),
  eth_src: basic(4, MAC),
  eth_type: basic(5, HALF, EXACT),
  /** With OFPVID_PRESENT (0x1000); 0 is "no tag". */
  vlan_vid: basic(6, uint(2, 13)),
  vlan_pcp: basic(7, uint(1, 3), exactIf('vlan')),
  ip_dscp: basic(8, uint(1, 6), exactIf('ip')),
  ip_ecn: basic(9, uint(1, 2), exactIf('ip')),
  ip_proto: basic(10, BYTE, exactIf('ip')),
  ipv4_src: basic(11, IP4, { needs: 'ipv4' }),
  ipv4_dst: basic(12, IP4, { needs: 'ipv4' }),
  tcp_src: basic(13, HALF, { needs: 'tcp' }),
  tcp_dst: basic(14, HALF, { needs: 'tcp' }),
  udp_src: basic(15, HALF, { needs: 'udp' }),
  udp_dst: basic(16, HALF, { needs: 'udp' }),
  sctp_src: basic(17, HALF, { needs: 'sctp' }),
  sctp_dst: basic(18, HALF, { needs: 'sctp' }),
  icmpv4_type: basic(19, BYTE, exactIf('icmpv4')),
  icmpv4_code: basic(20, BYTE, exactIf('icmpv4')),
  arp_op: basic(21, HALF, exactIf('arp')),
  arp_spa: basic(22, IP4, { needs: 'arp' }),
  arp_tpa: basic(23, IP4, { needs: 'arp' }),
  arp_sha: basic(24, MAC, { needs: 'arp' }),
  arp_tha: basic(25, MAC, { needs: 'arp' }),
  ipv6_src: basic(26, IP6, { needs: 'ipv6' }),
  ipv6_dst: basic(27, IP6, { needs: 'ipv6' }),
  ipv6_flabel: basic(28, uint(4, 20), { needs: 'ipv6' }),
  icmpv6_type: basic(29, BYTE, exactIf('icmpv6')),
  icmpv6_code: basic(30, BYTE, exactIf('icmpv6')),
  ipv6_nd_target: basic(31, IP6, { needs: 'nd' }),
  ipv6_nd_sll: basic(32, MAC, { needs: 'nd_solicit' }),
  ipv6_nd_tll: basic(33, MAC, { needs: 'nd_advert' }),
  mpls_label: basic(34, uint(4, 20), exactIf('mpls')),
  mpls_tc: basic(35, uint(1, 3), exactIf('mpls')),
  mpls_bos: basic(36, uint(1, 1), exactIf('mpls')),
  pbb_isid: basic(37, uint(3), { needs: 'pbb' }),
  tunnel_id: basic(38, LONG),
  /** Bits of OFPIEH. */
  ipv6_exthdr: basic(39, uint(2, 9), { needs: 'ipv6' }),
} as const;

/** Of OpenFlow 1.4 and 1.5. What Open vSwitch speaks of them on 1.3 it has by numbers of the ONF's. */
const LATER_FIELDS = {
  pbb_uca: basic(41, uint(1, 1), exactIf('pbb')),
  /** OpenFlow 1.5's, extension 109. */
  tcp_flags: experimenter(ONF, 42, uint(2, 12), { needs: 'tcp' }),
  tcp_flags_oxm: basic(42, uint(2, 12), { needs: 'tcp', of: 'tcp_flags' }),
  tcp_flags_nxm: nx(34, uint(2, 12), { needs: 'tcp', of: 'tcp_flags' }),
  /** Extension 233: the port that the action set outputs to. */
  actset_output: experimenter(ONF, 43, WORD, EXACT),
  actset_output_oxm: basic(43, WORD, { ...EXACT, of: 'actset_output' }),
  /** Name space in the upper 16 bits (0 Ethernet, 1 ethertypes), type in the lower. */
  packet_type: basic(44, WORD, EXACT),
} as const;

/** The older numbers of what is above. */
const NXM_FIELDS = {
  /** Of 16 bits. Set to 0, a packet may leave by the port that it came in at. */
  in_port_nxm: nxOf(0, HALF, { ...EXACT, of: 'in_port' }),
  eth_dst_nxm: nxOf(1, MAC, { of: 'eth_dst' }),
  eth_src_nxm: nxOf(2, MAC, { of: 'eth_src' }),
  eth_type_nxm: nxOf(3, HALF, { ...EXACT, of: 'eth_type' }),
  ip_proto_nxm: nxOf(6, BYTE, { ...exactIf('ip'), of: 'ip_proto' }),
  ipv4_src_nxm: nxOf(7, IP4, { needs: 'ipv4', of: 'ipv4_src' }),
  ipv4_dst_nxm: nxOf(8, IP4, { needs: 'ipv4', of: 'ipv4_dst' }),
  tcp_src_nxm: nxOf(9, HALF, { needs: 'tcp', of: 'tcp_src' }),
  tcp_dst_nxm: nxOf(10, HALF, { needs: 'tcp', of: 'tcp_dst' }),
  udp_src_nxm: nxOf(11, HALF, { needs: 'udp', of: 'udp_src' }),
  udp_dst_nxm: nxOf(12, HALF, { needs: 'udp', of: 'udp_dst' }),
  icmpv4_type_nxm: nxOf(13, BYTE, { ...exactIf('icmpv4'), of: 'icmpv4_type' }),
  icmpv4_code_nxm: nxOf(14, BYTE, { ...exactIf('icmpv4'), of: 'icmpv4_code' }),
  arp_op_nxm: nxOf(15, HALF, { ...exactIf('arp'), of: 'arp_op' }),
  arp_spa_nxm: nxOf(16, IP4, { needs: 'arp', of: 'arp_spa' }),
  arp_tpa_nxm: nxOf(17, IP4, { needs: 'arp', of: 'arp_tpa' }),
  tunnel_id_nxm: nx(16, LONG, { of: 'tunnel_id' }),
  arp_sha_nxm: nx(17, MAC, { needs: 'arp', of: 'arp_sha' }),
  arp_tha_nxm: nx(18, MAC, { needs: 'arp', of: 'arp_tha' }),
  ipv6_src_nxm: nx(19, IP6, { needs: 'ipv6', of: 'ipv6_src' }),
  ipv6_dst_nxm: nx(20, IP6, { needs: 'ipv6', of: 'ipv6_dst' }),
  icmpv6_type_nxm: nx(21, BYTE, { ...exactIf('icmpv6'), of: 'icmpv6_type' }),
  icmpv6_code_nxm: nx(22, BYTE, { ...exactIf('icmpv6'), of: 'icmpv6_code' }),
  ipv6_nd_target_nxm: nx(23, IP6, { needs: 'nd', of: 'ipv6_nd_target' }),
  ipv6_nd_sll_nxm: nx(24, MAC, { needs: 'nd_solicit', of: 'ipv6_nd_sll' }),
  ipv6_nd_tll_nxm: nx(25, MAC, { needs: 'nd_advert', of: 'ipv6_nd_tll' }),
  ipv6_flabel_nxm: nx(27, uint(4, 20), { needs: 'ipv6', of: 'ipv6_flabel' }),
  ip_ecn_nxm: nx(28, uint(1, 2), { ...exactIf('ip'), of: 'ip_ecn' }),
} as const;

/** What Open vSwitch has beyond OpenFlow. */
const OPEN_VSWITCH_FIELDS = {
  /** All 16 bits of the tag control information. Open vSwitch answers OpenFlow 1.3 with vlan_vid (and vlan_pcp) instead. */
  vlan_tci: nxOf(4, HALF),
  /** The six bits of ip_dscp in their place in the octet; the lower two are 0. */
  ip_tos: nxOf(5, BYTE, exactIf('ip')),
  /** Bits of NW_FRAG. */
  nw_frag: nx(26, uint(1, 2), { needs: 'ip' }),
  /** IPv4 TTL or IPv6 hop limit. */
  nw_ttl: nx(29, BYTE, exactIf('ip')),
  mpls_ttl: nx(30, BYTE, exactIf('mpls')),
  nd_reserved: { class: ERICSSON, field: 1, kind: WORD, ...exactIf('nd') } satisfies Field<number>,
  nd_options_type: { class: ERICSSON, field: 2, kind: BYTE, ...exactIf('nd') } satisfies Field<number>,
  pkt_mark: nx(33, WORD),
  dp_hash: nx(35, WORD),
  recirc_id: nx(36, WORD, EXACT),
  /** Of the conjunctive flow whose dimensions were all met. */
  conj_id: nx(37, WORD, EXACT),
  ...numbered('reg', TO_15, (index) => nx(index, WORD)),
  /** Two registers as one: xreg0 is reg0 (upper half) and reg1. */
  ...numbered('xreg', TO_7, (index) => ({ class: PACKET_REGS, field: index, kind: LONG })),
  /** Four registers as one. */
  ...numbered('xxreg', TO_3, (index) => nx(111 + index, WIDE)),
  /** Bits of CT_STATE. Open vSwitch refuses a mask of bits that it doesn't know, and in packet-ins sends the mask of those it does. */
  ct_state: nx(105, uint(4, 8)),
  ct_zone: nx(106, HALF, EXACT),
  ct_mark: nx(107, WORD),
  ct_label: nx(108, WIDE),
  /** The original direction's tuple of a tracked packet's connection. */
  ct_nw_proto: nx(119, BYTE, exactIf('ct')),
  ct_nw_src: nx(120, IP4, { needs: 'ct' }),
  ct_nw_dst: nx(121, IP4, { needs: 'ct' }),
  ct_ipv6_src: nx(122, IP6, { needs: 'ct' }),
  ct_ipv6_dst: nx(123, IP6, { needs: 'ct' }),
  ct_tp_src: nx(124, HALF, { needs: 'ct' }),
  ct_tp_dst: nx(125, HALF, { needs: 'ct' }),
} as const;

const TUNNEL_FIELDS = {
  tun_src: nx(31, IP4),
  tun_dst: nx(32, IP4),
  tun_ipv6_src: nx(109, IP6),
  tun_ipv6_dst: nx(110, IP6),
  tun_gbp_id: nx(38, HALF),
  tun_gbp_flags: nx(39, BYTE),
  /** Bit 0: operation and maintenance. */
  tun_flags: nx(104, uint(2, 1)),
  /** Options of Geneve tunnels, in hexadecimal: which, and how long, is set by tlv_table_mod. */
  ...numbered('tun_metadata', TO_63, (index) => nx(40 + index, HEX)),
  tun_erspan_idx: experimenter(NICIRA, 11, uint(4, 20)),
  tun_erspan_ver: experimenter(NICIRA, 12, uint(1, 4)),
  tun_erspan_dir: experimenter(NICIRA, 13, uint(1, 1)),
  tun_erspan_hwid: experimenter(NICIRA, 14, uint(1, 6)),
  tun_gtpu_flags: experimenter(NICIRA, 15, BYTE),
  tun_gtpu_msgtype: experimenter(NICIRA, 16, BYTE),
} as const;

/** The network service header (RFC 8300). */
const NSH_FIELDS = {
  nsh_flags: nsh(1, BYTE),
  nsh_mdtype: nsh(2, BYTE, EXACT),
  nsh_np: nsh(3, BYTE, EXACT),
  nsh_spi: nsh(4, uint(4, 24), EXACT),
  nsh_si: nsh(5, BYTE, EXACT),
  nsh_c1: nsh(6, WORD),
  nsh_c2: nsh(7, WORD),
  nsh_c3: nsh(8, WORD),
  nsh_c4: nsh(9, WORD),
  nsh_ttl: nsh(10, BYTE, EXACT),
} as const;

export const FIELDS = {
  ...BASIC_FIELDS,
  ...LATER_FIELDS,
  ...OPEN_VSWITCH_FIELDS,
  ...TUNNEL_FIELDS,
  ...NSH_FIELDS,
  ...NXM_FIELDS,
} as const;

export type FieldName = keyof typeof FIELDS;
type ValueOf<F> = F extends Field<infer T> ? T : never;

export interface Masked<T> {
  /** Has no bits outside of the mask. */
  readonly value: T;
  readonly mask: T;
}

/** A field that this codec has no name for: kept as it came. */
export interface UnknownField {
  readonly class: number;
  readonly field: number;
  /** Of the class for experimenters. */
  readonly experimenter?: number;
  readonly masked: boolean;
  /** Value, then mask. */
  readonly body: Uint8Array;
  /** The named field that it stands before; without it, it stands after all of them. */
  readonly before?: FieldName;
}

/**
 * Absent fields match anything. Numbers up to 32 bits, bigints above, texts for addresses. The order of the fields is that on the wire; what
 * needs another field is written after it in any case.
 */
export type Match = Simplify<
  {
    readonly [K in FieldName]?: ValueOf<(typeof FIELDS)[K]> | Masked<ValueOf<(typeof FIELDS)[K]>>;
  } & { readonly unknown?: readonly UnknownField[] }
>;

export interface NamedField extends Field {
  readonly name: FieldName;
  /** The field's place among all, and its name in comparisons: that of the field itself if this is its other number. */
  readonly order: number;
  readonly canonical: FieldName;
  /** Names of the same field by its other numbers. */
  readonly twins: readonly FieldName[];
}

const byName = new Map<string, NamedField>();
const byNumber = new Map<number, NamedField>();
/** Class and field number; in the class of experimenters that and whose it is. */
const numberOf = (oxmClass: number, field: number, who = 0): number =>
  oxmClass === EXPERIMENTER_CLASS ? 0x800000 + who * 0x80 + field : (oxmClass << 7) | field;

const entries = Object.entries(FIELDS) as [FieldName, Field][];
for (const [order, [name, field]] of entries.entries()) {
  const canonical = (field.of ?? name) as FieldName;
  const twins = entries.filter(([n, f]) => n !== name && (f.of ?? n) === canonical).map(([n]) => n);
  const named: NamedField = { ...field, name, order, canonical, twins };
  byName.set(name, named);
  byNumber.set(numberOf(field.class, field.field, field.experimenter), named);
}

/** All names, in the order of the table. */
export const FIELD_NAMES: readonly FieldName[] = [...byName.values()].map(({ name }) => name);

export function fieldNamed(name: string): NamedField | undefined {
  return byName.get(name);
}

export function fieldNumbered(oxmClass: number, field: number, who?: number): NamedField | undefined {
  return byNumber.get(numberOf(oxmClass, field, who));
}
