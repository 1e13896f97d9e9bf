/**
 * Matches in one form for all that mean the same: what a controller wanted and what Open vSwitch says it has differ in order and spelling.
 */
import { OpenFlowEncodeError } from '../errors.js';
import { Reader, Writer } from '../wire/index.js';
import { fieldNamed, type Match, type NamedField } from './fields.js';
import type { Kind } from './kinds.js';
import { isMasked } from './oxm.js';

/** A field's value as a number, and which of its bits are meant. */
export interface Bits {
  readonly value: bigint;
  readonly mask: bigint;
}

const scratch = new Writer();

const ones = (bits: number): bigint => (1n << BigInt(bits)) - 1n;

function toBits<T>(kind: Kind<T>, value: T): bigint {
  scratch.reset();
  kind.write(scratch, value);
  let number = 0n;
  for (const byte of scratch.bytes.subarray(0, scratch.length)) number = (number << 8n) | BigInt(byte);
  return number;
}

function ofBits<T>(kind: Kind<T>, number: bigint): T {
  const bytes = new Uint8Array(kind.bytes);
  for (let i = kind.bytes - 1, rest = number; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return kind.read(new Reader(bytes), kind.bytes);
}

/** What a field's value says; undefined for fields whose length varies. */
export function bitsOf(field: NamedField, given: unknown): Bits | undefined {
  const { kind } = field;
  if (kind.varies) return undefined;
  const all = ones(kind.bits);
  const mask = isMasked(given) ? toBits(kind, given.mask) & all : all;
  return { value: toBits(kind, isMasked(given) ? given.value : given) & mask, mask };
}

/** The usual spelling of some bits of a field: without a mask where all are meant. */
export function spell(field: NamedField, { value, mask }: Bits): unknown {
  const { kind } = field;
  if (mask === ones(kind.bits)) return ofBits(kind, value);
  return { value: ofBits(kind, value & mask), mask: ofBits(kind, mask) };
}

/** Every part of a match as bits of the fields that Open vSwitch would name. */
type Parts = Map<string, Bits>;

/** Adds what else is known of a field: its halves may be said apart. */
function put(parts: Parts, name: string, { value, mask }: Bits): void {
  const known = parts.get(name);
  parts.set(name, known ? { value: known.value | value, mask: known.mask | mask } : { value, mask });
}

const REGISTER_BITS = 32;

/** xreg0 and xxreg0 are several registers, the first of them the highest. */
function addRegisters(parts: Parts, first: number, count: number, bits: Bits): void {
  const all = ones(REGISTER_BITS);
  for (let i = 0; i < count; i++) {
    const shift = BigInt((count - 1 - i) * REGISTER_BITS);
    put(parts, `reg${first + i}`, { value: (bits.value >> shift) & all, mask: (bits.mask >> shift) & all });
  }
}

const VID = 0x1fffn;
const PRIORITY_SHIFT = 13n;
const PRIORITY = 0x7n;
/** Ports of 16 bits that are reserved, and what is missing to them as ports of 32. */
const RESERVED_PORTS = 0xff00n;
const RESERVED_UPPER = 0xffff0000n;
const PORT_MASK = 0xffff_ffffn;

function add(parts: Parts, name: string, bits: Bits): void {
  const [, registers, index] = /^(x{1,2})reg(\d)$/.exec(name) ?? [];
  if (registers !== undefined) {
    const count = registers.length * 2;
    addRegisters(parts, Number(index) * count, count, bits);
    return;
  }
  switch (name) {
    case 'vlan_tci': {
      put(parts, 'vlan_vid', { value: bits.value & VID, mask: bits.mask & VID });
      // On OpenFlow 1.3 some bits of a priority can't be told from all.
      const priority = bits.mask >> PRIORITY_SHIFT === 0n ? 0n : PRIORITY;
      put(parts, 'vlan_pcp', { value: bits.value >> PRIORITY_SHIFT, mask: priority });
      break;
    }
    case 'ip_tos':
      put(parts, 'ip_dscp', { value: bits.value >> 2n, mask: bits.mask >> 2n });
      break;
    case 'in_port_nxm':
      put(parts, 'in_port', {
        value: bits.value >= RESERVED_PORTS ? RESERVED_UPPER | bits.value : bits.value,
        mask: bits.mask === 0n ? 0n : PORT_MASK,
      });
      break;
    default:
      put(parts, fieldNamed(name)?.canonical ?? name, bits);
  }
}

/** What goes without saying. */
function simplify(parts: Parts): void {
  for (const [name, { mask }] of parts) if (mask === 0n) parts.delete(name);
  // Without a tag there is no priority, and Open vSwitch says none.
  if (!parts.get('vlan_vid')?.value) parts.delete('vlan_pcp');
  // Ethernet.
  if (parts.get('packet_type')?.value === 0n) parts.delete('packet_type');
}

/** The same match as Open vSwitch would spell it, its fields in the order of the table of fields. */
export function canonicalMatch(match: Match): Match {
  const parts: Parts = new Map();
  const fields: [NamedField, unknown][] = [];
  const { unknown = [], ...named } = match;
  for (const [name, given] of Object.entries(named)) {
    if (given === undefined) continue;
    const field = fieldNamed(name);
    if (!field) throw new OpenFlowEncodeError('bad-value', `no match field is called ${name}`);
    const bits = bitsOf(field, given);
    if (bits) add(parts, name, bits);
    else fields.push([field, given]);
  }
  simplify(parts);
  for (const [name, bits] of parts) {
    const field = fieldNamed(name);
    if (field) fields.push([field, spell(field, bits)]);
  }
  fields.sort(([a], [b]) => a.order - b.order);
  return {
    ...Object.fromEntries(fields.map(([{ name }, spelling]) => [name, spelling])),
    ...(unknown.length > 0 ? { unknown: unknown.map(({ before, ...field }) => field) } : {}),
  };
}
