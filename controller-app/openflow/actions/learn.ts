/**
 * Nicira's learn: adds a rule to a table of the switch, made of the packet. NXAST_LEARN2 also has a limit and tells the result.
 *
 *   parameters | specifications, each: header u16 | source | destination     | zeros up to a multiple of 8 bytes
 *   header: 2 bits 0 | source is a value (1 bit) | match, load or output (2 bits) | number of bits (11 bits)
 */
import { NICIRA } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import {
  checkBits,
  checkedBits,
  type FieldBits,
  fieldHeader,
  type Operand,
  shortHeader,
} from '../match/field-bits.js';
import {
  type Codec,
  optional,
  pad,
  type Reader,
  type Simplify,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Variants,
  type Writer,
} from '../wire/index.js';
import { bits as flagBits, layout, numberOf } from './parts.js';

const nx = (subtype: number): number => numberOf(NICIRA, subtype);

const IMMEDIATE = 0x2000;
const WHAT_SHIFT = 11;
const MOST_BITS = 0x7ff;
const WHATS = ['match', 'load', 'output'] as const;

/** The bits of a field from its `start` on. */
interface From {
  readonly field: Operand;
  readonly start: number;
}

/**
 * One part of the rule that is learnt. `match`: it matches `bits` bits of the destination; `load`: it loads them;
 * `output`: it outputs to the port that the source says. The source is a field of the packet, or a value.
 */
export type LearnSpec = {
  readonly bits: number;
  readonly source: From | bigint;
} & (
  | { readonly type: 'match' | 'load'; readonly destination: From }
  | { readonly type: 'output'; readonly destination?: undefined }
);

/** Values fill words of 16 bits. */
const valueBytes = (bits: number): number => 2 * Math.ceil(bits / 16);

function readValue(r: Reader, bits: number): bigint {
  const at = r.pos;
  let value = 0n;
  for (let i = valueBytes(bits); i > 0; i -= 2) value = (value << 16n) | BigInt(r.u16());
  if (value >> BigInt(bits) !== 0n) r.fail('OFPBAC_BAD_ARGUMENT', `${value} in ${bits} bits`, at);
  return value;
}

function writeValue(w: Writer, value: bigint, bits: number): void {
  if (BigInt.asUintN(bits, value) !== value)
    throw new OpenFlowEncodeError('bad-value', `${value} does not fit ${bits} bits`);
  for (let shift = (valueBytes(bits) - 2) * 8; shift >= 0; shift -= 16)
    w.u16(Number((value >> BigInt(shift)) & 0xffffn));
}

function readFrom(r: Reader, bits: number): From {
  const field = shortHeader.read(r);
  const { start } = checkedBits(r, field, r.u16(), bits);
  return { field, start };
}

function writeFrom(w: Writer, from: From, bits: number): void {
  checkBits({ ...from, bits }, MOST_BITS);
  shortHeader.write(w, from.field);
  w.u16(from.start);
}

function readSpec(r: Reader, header: number, at: number): LearnSpec {
  const bits = header & MOST_BITS;
  const type = WHATS[(header >>> WHAT_SHIFT) & 3];
  if (type === undefined || header >>> 14 !== 0 || bits === 0)
    r.fail('OFPBAC_BAD_ARGUMENT', `a specification of kind 0x${header.toString(16)}`, at);
  const source = (header & IMMEDIATE) === 0 ? readFrom(r, bits) : readValue(r, bits);
  return type === 'output' ? { type, bits, source } : { type, bits, source, destination: readFrom(r, bits) };
}

function writeSpec(w: Writer, { type, bits, source, destination }: LearnSpec): void {
  const what = WHATS.indexOf(type);
  if (what < 0 || !(bits >= 1 && bits <= MOST_BITS))
    throw new OpenFlowEncodeError('bad-value', `${String(type)} of ${String(bits)} bits`);
  if ((type === 'output') !== (destination === undefined))
    throw new OpenFlowEncodeError('bad-value', `${type} with destination ${String(destination)}`);
  w.u16((typeof source === 'bigint' ? IMMEDIATE : 0) | (what << WHAT_SHIFT) | bits);
  if (typeof source === 'bigint') writeValue(w, source, bits);
  else writeFrom(w, source, bits);
  if (destination) writeFrom(w, destination, bits);
}

/** A header of 0 is the beginning of the zeros at the end. */
const specs: Codec<readonly LearnSpec[]> = {
  read: (r) => {
    const all: LearnSpec[] = [];
    while (r.left >= 2) {
      const at = r.pos;
      const header = r.u16();
      if (header !== 0) {
        all.push(readSpec(r, header, at));
        continue;
      }
      if (r.left > 5) r.failLength(`${r.left + 2} bytes after the last specification`, at);
      break;
    }
    r.skip(r.left);
    return all;
  },
  write: (w, all) => {
    for (const spec of all) writeSpec(w, spec);
  },
};

const parameters = struct({
  /** Seconds; 0 (absent) for never. */
  idleTimeout: optional(u16, 0),
  hardTimeout: optional(u16, 0),
  priority: u16,
  cookie: u64,
  flags: u16,
  table: u8,
  _: pad(1),
  /** Those of the rule once it has seen a FIN or RST. */
  finIdleTimeout: optional(u16, 0),
  finHardTimeout: optional(u16, 0),
});

const FLAGS = flagBits({
  sendFlowRemoved: 1,
  /** What was learnt goes when the rule that taught it goes. */
  deleteLearned: 2,
});
const FLAGS_2 = flagBits({ sendFlowRemoved: 1, deleteLearned: 2, writeResult: 4 });

interface Learn extends Simplify<Omit<ReturnType<typeof parameters.read>, 'flags'>> {
  readonly sendFlowRemoved?: boolean;
  readonly deleteLearned?: boolean;
  readonly specs: readonly LearnSpec[];
}

interface Learn2 extends Learn {
  /** At most so many rules of this table and cookie; 0 (absent) for any number. */
  readonly limit?: number;
  /** A bit of a field that is set when the rule is there, and cleared when the limit was reached. */
  readonly result?: { readonly field: Operand; readonly bit: number };
}

const learn = layout<Learn>(
  (r) => {
    const at = r.pos;
    const { flags, ...rest } = parameters.read(r);
    const named = FLAGS.read(r, flags, at);
    return { ...rest, ...named, specs: specs.read(r) };
  },
  (w, value) => {
    parameters.write(w, { ...value, flags: FLAGS.number(value) });
    specs.write(w, value.specs);
  },
);

const learn2 = layout<Learn2>(
  (r) => {
    const at = r.pos;
    const { flags, ...rest } = parameters.read(r);
    const { writeResult, ...named } = FLAGS_2.read(r, flags, at);
    const limit = r.u32();
    const bit = r.u16();
    r.skip(2);
    let result: Learn2['result'];
    if (writeResult) {
      const field = fieldHeader.read(r);
      checkedBits(r, field, bit, 1);
      result = { field, bit };
    } else if (bit !== 0) r.fail('OFPBAC_BAD_ARGUMENT', 'a bit for the result of no field');
    return {
      ...rest,
      ...named,
      ...(limit === 0 ? {} : { limit }),
      ...(result ? { result } : {}),
      specs: specs.read(r),
    };
  },
  (w, value) => {
    const { limit, result } = value;
    parameters.write(w, { ...value, flags: FLAGS_2.number({ ...value, writeResult: result !== undefined }) });
    u32.write(w, limit ?? 0);
    w.u16(result?.bit ?? 0);
    w.zeros(2);
    if (result) {
      const destination: FieldBits = { field: result.field, start: result.bit, bits: 1 };
      checkBits(destination);
      fieldHeader.write(w, result.field);
    }
    specs.write(w, value.specs);
  },
);

export const LEARN = { learn: [nx(16), learn], learn2: [nx(45), learn2] } as const satisfies Variants;
