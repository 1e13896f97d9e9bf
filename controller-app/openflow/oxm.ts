/**
 * Match fields: OXM TLVs (spec 1.3.5, 7.2.3.2) of the basic class, of Nicira's class NXM_1 and of the ONF's experimenter class.
 *
 *   header: class u16 | field 7 bits | has mask 1 bit | length u8      then value, then mask
 *
 * The order of the table is the order on the wire: a switch insists that what a field requires (eth_type before
 * ipv4_src, ip_proto before tcp_dst) comes before it. One match therefore has one encoding, and `matchKey` compares matches.
 */
import { ipv4, ipv6, mac } from './addresses.js';
import { ONF } from './error-codes.js';
import { OpenFlowEncodeError } from './errors.js';
import { type Codec, Reader, type Simplify, Writer } from './wire/index.js';

const NXM_OF = 0x0000;
const NXM_NX = 0x0001;
const BASIC = 0x8000;
const EXPERIMENTER = 0xffff;

export interface Masked<T> {
  readonly value: T;
  readonly mask: T;
}

/** What a field carries. `full` and `none` recognize masks that say "exactly" and "anything". */
interface Kind<T> extends Codec<T> {
  readonly bytes: number;
  full(mask: T): boolean;
  none(mask: T): boolean;
  /** Written where a mask of all bits would say more than the field has. */
  readonly exact?: T;
}

interface Field<T = unknown> {
  readonly class: number;
  readonly field: number;
  readonly experimenter: number | undefined;
  readonly kind: Kind<T>;
}

/** A number of `bytes` bytes of which the field has `bits`. */
function uint(bytes: 1 | 2 | 4, bits = bytes * 8): Kind<number> {
  const all = 2 ** bits - 1;
  const check = (value: number): number => {
    if (!(value >= 0 && value <= all))
      throw new OpenFlowEncodeError('bad-value', `${value} is not a number of ${bits} bits`);
    return value;
  };
  return {
    bytes,
    read: (r) => (bytes === 1 ? r.u8() : bytes === 2 ? r.u16() : r.u32()),
    write: (w, value) => {
      check(value);
      if (bytes === 1) w.u8(value);
      else if (bytes === 2) w.u16(value);
      else w.u32(value);
    },
    full: (mask) => mask === all || mask === 2 ** (bytes * 8) - 1,
    none: (mask) => mask === 0,
  };
}

function bigint(words: 1 | 2): Kind<bigint> {
  const all = (1n << BigInt(words * 64)) - 1n;
  return {
    bytes: words * 8,
    read: (r) => (words === 1 ? r.u64() : (r.u64() << 64n) | r.u64()),
    write: (w, value) => {
      if (words === 2) w.u64(value >> 64n);
      w.u64(words === 2 ? value & 0xffffffffffffffffn : value);
    },
    full: (mask) => mask === all,
    none: (mask) => mask === 0n,
  };
}

function address(codec: Codec<string>, bytes: number, full: RegExp, none: RegExp): Kind<string> {
  return { ...codec, bytes, full: (mask) => full.test(mask), none: (mask) => none.test(mask) };
}

const byte = uint(1);
const half = uint(2);
const word = uint(4);
const MAC = address(mac, 6, /^ff(:ff){5}$/i, /^00(:00){5}$/);
const IP4 = address(ipv4, 4, /^255\.255\.255\.255$/, /^0\.0\.0\.0$/);
const IP6 = address(ipv6, 16, /^ffff(:ffff){7}$/i, /^::$/);

const basic = <T>(field: number, kind: Kind<T>): Field<T> => ({
  class: BASIC,
  field,
  experimenter: undefined,
  kind,
});
const nicira = <T>(field: number, kind: Kind<T>, oxmClass = NXM_NX): Field<T> => ({
  class: oxmClass,
  field,
  experimenter: undefined,
  kind,
});
const onf = <T>(field: number, kind: Kind<T>): Field<T> => ({
  class: EXPERIMENTER,
  field,
  experimenter: ONF,
  kind,
});

/** Spec 1.3.5, table 12, and Open vSwitch's meta-flow.h. A new field is one line here. */
const FIELDS = {
  in_port: basic(0, word),
  /** Nicira's in_port of 16 bits, which can be set: set to 0, a packet may leave by the port that it came in at. */
  in_port_nxm: nicira(0, half, NXM_OF),
  in_phy_port: basic(1, word),
  metadata: basic(2, bigint(1)),
  tunnel_id: basic(38, bigint(1)),
  eth_dst: basic(3, MAC),
  eth_src: basic(4, MAC),
  eth_type: basic(5, half),
  /** With OFPVID_PRESENT (0x1000); 0 is "no tag". */
  vlan_vid: basic(6, uint(2, 13)),
  vlan_pcp: basic(7, uint(1, 3)),
  /** All 16 bits of the tag control information. Open vSwitch answers OpenFlow 1.3 with vlan_vid (and vlan_pcp) instead. */
  vlan_tci: nicira(4, half, NXM_OF),
  ip_dscp: basic(8, uint(1, 6)),
  ip_ecn: basic(9, uint(1, 2)),
  ip_proto: basic(10, byte),
  ipv4_src: basic(11, IP4),
  ipv4_dst: basic(12, IP4),
  arp_op: basic(21, half),
  arp_spa: basic(22, IP4),
  arp_tpa: basic(23, IP4),
  arp_sha: basic(24, MAC),
  arp_tha: basic(25, MAC),
  ipv6_src: basic(26, IP6),
  ipv6_dst: basic(27, IP6),
  ipv6_flabel: basic(28, uint(4, 20)),
  tcp_src: basic(13, half),
  tcp_dst: basic(14, half),
  /** OpenFlow 1.5's field; Open vSwitch speaks it on 1.3 as ONF extension 109. */
  tcp_flags: onf(42, uint(2, 12)),
  udp_src: basic(15, half),
  udp_dst: basic(16, half),
  sctp_src: basic(17, half),
  sctp_dst: basic(18, half),
  icmpv4_type: basic(19, byte),
  icmpv4_code: basic(20, byte),
  icmpv6_type: basic(29, byte),
  icmpv6_code: basic(30, byte),
  ipv6_nd_target: basic(31, IP6),
  ipv6_nd_sll: basic(32, MAC),
  ipv6_nd_tll: basic(33, MAC),
  /** Bits: 1 a fragment, 2 not the first. */
  nw_frag: nicira(26, uint(1, 2)),
  /** IPv4 TTL or IPv6 hop limit. */
  nw_ttl: nicira(29, byte),
  pkt_mark: nicira(33, word),
  reg0: nicira(0, word),
  reg1: nicira(1, word),
  reg2: nicira(2, word),
  reg3: nicira(3, word),
  reg4: nicira(4, word),
  reg5: nicira(5, word),
  reg6: nicira(6, word),
  reg7: nicira(7, word),
  reg8: nicira(8, word),
  reg9: nicira(9, word),
  reg10: nicira(10, word),
  reg11: nicira(11, word),
  reg12: nicira(12, word),
  reg13: nicira(13, word),
  reg14: nicira(14, word),
  reg15: nicira(15, word),
  /** Bits of CT_STATE. Open vSwitch refuses a mask of bits that it doesn't know, and in packet-ins sends the mask of those it does. */
  ct_state: nicira(105, { ...uint(4, 8), exact: 0xff }),
  ct_zone: nicira(106, half),
  ct_mark: nicira(107, word),
  ct_label: nicira(108, bigint(2)),
  /** The original direction's tuple of a tracked packet's connection. */
  ct_nw_proto: nicira(119, byte),
  ct_nw_src: nicira(120, IP4),
  ct_nw_dst: nicira(121, IP4),
  ct_ipv6_src: nicira(122, IP6),
  ct_ipv6_dst: nicira(123, IP6),
  ct_tp_src: nicira(124, half),
  ct_tp_dst: nicira(125, half),
} as const;

export type FieldName = keyof typeof FIELDS;
type ValueOf<F> = F extends Field<infer T> ? T : never;

/** A field that this codec has no name for: kept as it came. */
export interface UnknownField {
  readonly class: number;
  readonly field: number;
  readonly hasMask: boolean;
  /** What follows the TLV's header: for the experimenter class its experimenter id first; value, then mask. */
  readonly body: Uint8Array;
}

/** Absent fields match anything. Numbers up to 32 bits, bigints above, texts for addresses. */
export type Match = Simplify<
  {
    readonly [K in FieldName]?: ValueOf<(typeof FIELDS)[K]> | Masked<ValueOf<(typeof FIELDS)[K]>>;
  } & { readonly unknown?: readonly UnknownField[] }
>;

interface Named extends Field {
  readonly name: string;
  readonly order: number;
}

const byName = new Map<string, Named>();
/** By the upper 23 bits of the header: class and field. No two experimenters share a number here. */
const byHeader = new Map<number, Named>();
for (const [order, [name, field]] of Object.entries(FIELDS).entries()) {
  const named: Named = { ...(field as Field), name, order };
  byName.set(name, named);
  byHeader.set((field.class << 7) | field.field, named);
}

/** Spec 1.3.5, 7.2.3.2. Shorter than its header says, or a field of another size, is an error; a field without a name is not. */
export function readField(r: Reader, into: Record<string, unknown>): void {
  const oxmClass = r.u16();
  const fieldAndMask = r.u8();
  const length = r.u8();
  const hasMask = (fieldAndMask & 1) === 1;
  const known = byHeader.get((oxmClass << 7) | (fieldAndMask >>> 1));
  r.need(length);
  if (known && (known.experimenter === undefined || isExperimenter(r, length, known.experimenter))) {
    readKnown(r, known, hasMask, length, into);
    return;
  }
  const unknown: UnknownField = {
    class: oxmClass,
    field: fieldAndMask >>> 1,
    hasMask,
    body: r.take(length),
  };
  const others = into.unknown;
  if (Array.isArray(others)) others.push(unknown);
  else into.unknown = [unknown];
}

function isExperimenter(r: Reader, length: number, experimenter: number): boolean {
  return (
    length >= 4 && new DataView(r.bytes.buffer, r.bytes.byteOffset + r.pos).getUint32(0) === experimenter
  );
}

function readKnown(
  r: Reader,
  known: Named,
  hasMask: boolean,
  length: number,
  into: Record<string, unknown>,
): void {
  const { kind, name, experimenter } = known;
  const size = (experimenter === undefined ? 0 : 4) + kind.bytes * (hasMask ? 2 : 1);
  if (length !== size) r.fail('OFPBMC_BAD_LEN', `${name} of ${length} bytes, not ${size}`);
  if (name in into) r.fail('OFPBMC_DUP_FIELD', `${name} twice in one match`);
  if (experimenter !== undefined) r.skip(4);
  const value = kind.read(r);
  if (!hasMask) {
    into[name] = value;
    return;
  }
  const mask = kind.read(r);
  if (kind.full(mask)) into[name] = value;
  else if (!kind.none(mask)) into[name] = { value, mask };
}

function isMasked(value: unknown): value is Masked<unknown> {
  return typeof value === 'object' && value !== null && 'mask' in value;
}

/** A mask of all ones is written as no mask, a mask of zeros not at all. */
function writeKnown(w: Writer, field: Named, given: unknown): void {
  const masked = isMasked(given) ? given : undefined;
  if (masked && field.kind.none(masked.mask)) return;
  const mask = masked && !field.kind.full(masked.mask) ? masked.mask : field.kind.exact;
  const hasMask = mask === undefined ? 0 : 1;
  w.u16(field.class);
  w.u8((field.field << 1) | hasMask);
  w.u8((field.experimenter === undefined ? 0 : 4) + field.kind.bytes * (1 + hasMask));
  if (field.experimenter !== undefined) w.u32(field.experimenter);
  field.kind.write(w, masked ? masked.value : given);
  if (mask !== undefined) field.kind.write(w, mask);
}

function writeUnknown(w: Writer, field: UnknownField): void {
  w.u16(field.class);
  w.u8((field.field << 1) | (field.hasMask ? 1 : 0));
  w.u8(field.body.length);
  w.put(field.body);
}

/** The fields alone, without ofp_match's header and padding. */
export const oxms: Codec<Match> = {
  read: (r) => {
    const match: Record<string, unknown> = {};
    while (r.left > 0) readField(r, match);
    return match as Match;
  },
  write: (w, match) => {
    const present: { field: Named; value: unknown }[] = [];
    let unknown: readonly UnknownField[] = [];
    for (const [name, value] of Object.entries(match)) {
      if (value === undefined) continue;
      if (name === 'unknown') {
        unknown = value as readonly UnknownField[];
        continue;
      }
      const field = byName.get(name);
      if (!field) throw new OpenFlowEncodeError('bad-value', `no match field is called ${name}`);
      present.push({ field, value });
    }
    present.sort((a, b) => a.field.order - b.field.order);
    for (const { field, value } of present) {
      try {
        writeKnown(w, field, value);
      } catch (cause) {
        throw new OpenFlowEncodeError('bad-value', `${field.name}: ${(cause as Error).message}`, { cause });
      }
    }
    for (const field of unknown) writeUnknown(w, field);
  },
};

const OFPMT_OXM = 1;

/** struct ofp_match (7.2.3.1): its length counts header and fields, and not the padding to 8 bytes. */
export const matchCodec: Codec<Match> = {
  read: (r) => {
    const start = r.pos;
    const type = r.u16();
    if (type !== OFPMT_OXM) r.fail('OFPBMC_BAD_TYPE', `a match of type ${type}: only OXM is supported`);
    const length = r.u16();
    if (length < 4) r.fail('OFPBMC_BAD_LEN', `a match of ${length} bytes`);
    const match = r.within(length - 4, oxms.read, 'OFPBMC_BAD_LEN');
    r.skip(-(r.pos - start) & 7);
    return match;
  },
  write: (w, match) => {
    const start = w.length;
    w.u16(OFPMT_OXM);
    const at = w.lengthLater();
    oxms.write(w, match);
    w.setLength(at, w.length - start);
    w.align8(start);
  },
};

const keyWriter = new Writer();

/** Equal for matches that mean the same, whatever order or spelling their fields have. */
export function matchKey(match: Match): string {
  const w = keyWriter;
  w.reset();
  oxms.write(w, match);
  return Buffer.from(w.bytes.buffer, 0, w.length).toString('latin1');
}

/** Class, field number and width of a field, as Nicira's actions name it in their operands. */
export function fieldHeader(name: FieldName): number {
  const field = byName.get(name);
  if (!field || field.experimenter !== undefined)
    throw new OpenFlowEncodeError('bad-value', `${name} can't be used as an operand`);
  return ((field.class << 16) | (field.field << 9) | field.kind.bytes) >>> 0;
}

/**
 * A field of which only a range of bits has a value, as Nicira's reg_load says it: `{ field: { value, mask } }`.
 * Undefined when there is no such field or no such range in it.
 */
export function fieldOfBits(header: number, start: number, bits: number, value: bigint): Match | undefined {
  const field = byHeader.get(header >>> 9);
  if (!field || field.experimenter !== undefined || start + bits > field.kind.bytes * 8) return undefined;
  const range = (1n << BigInt(bits)) - 1n;
  const at = (number: bigint): unknown => {
    const { bytes } = field.kind;
    const hex = ((number & range) << BigInt(start)).toString(16).padStart(bytes * 2, '0');
    return field.kind.read(new Reader(Buffer.from(hex, 'hex')));
  };
  const mask = at(range);
  return { [field.name]: field.kind.full(mask) ? at(value) : { value: at(value), mask } };
}

export function fieldOfHeader(header: number): FieldName | undefined {
  return byHeader.get(header >>> 9)?.name as FieldName | undefined;
}
