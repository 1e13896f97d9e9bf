/**
 * Nicira's actions that take bits of fields as their operands: registers mostly (nicira-ext.h of Open vSwitch).
 */
import { NICIRA } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import {
  bitRange,
  checkBits,
  checkedBits,
  type FieldBits,
  fieldHeader,
  type Operand,
  rangeOfField,
} from '../match/field-bits.js';
import { pad, type Struct, struct, u16, u64, type Variants } from '../wire/index.js';
import { layout, numberOf, tail } from './parts.js';
import { anyField } from './standard.js';

const nx = (subtype: number): number => numberOf(NICIRA, subtype);

/** Into at most 64 bits of a field. */
const regLoad = layout<{ readonly destination: FieldBits; readonly value: bigint }>(
  (r) => {
    const destination = rangeOfField.read(r);
    const at = r.pos;
    const value = r.u64();
    if (value >> BigInt(destination.bits) !== 0n)
      r.fail('OFPBAC_BAD_ARGUMENT', `${value} in ${destination.bits} bits`, at);
    return { destination, value };
  },
  (w, { destination, value }) => {
    rangeOfField.write(w, destination);
    if (BigInt.asUintN(destination.bits, value) !== value)
      throw new OpenFlowEncodeError('bad-value', `${value} does not fit ${destination.bits} bits`);
    u64.write(w, value);
  },
);

const regMove = layout<{ readonly source: FieldBits; readonly destination: FieldBits }>(
  (r) => {
    const bits = r.u16();
    const from = r.u16();
    const to = r.u16();
    const source = checkedBits(r, fieldHeader.read(r), from, bits);
    const destination = checkedBits(r, fieldHeader.read(r), to, bits);
    tail.read(r);
    return { source, destination };
  },
  (w, { source, destination }) => {
    checkBits(source);
    checkBits(destination);
    if (source.bits !== destination.bits)
      throw new OpenFlowEncodeError('bad-value', `${source.bits} bits to ${destination.bits}`);
    w.u16(source.bits);
    w.u16(source.start);
    w.u16(destination.start);
    fieldHeader.write(w, source.field);
    fieldHeader.write(w, destination.field);
  },
);

/** NXAST_OUTPUT_REG2: also of fields of experimenters. */
const outputReg2 = layout<{ readonly source: FieldBits; readonly maxLen: number }>(
  (r) => {
    const { start, bits } = bitRange.read(r);
    const maxLen = r.u16();
    const source = checkedBits(r, fieldHeader.read(r), start, bits);
    tail.read(r);
    return { source, maxLen };
  },
  (w, { source, maxLen }) => {
    checkBits(source, 64);
    bitRange.write(w, source);
    w.u16(maxLen);
    fieldHeader.write(w, source.field);
  },
);

const stack: Struct<{ readonly bits: FieldBits }> = layout(
  (r) => {
    const start = r.u16();
    const field = fieldHeader.read(r);
    const bits = checkedBits(r, field, start, r.u16());
    tail.read(r);
    return { bits };
  },
  (w, { bits }) => {
    checkBits(bits);
    w.u16(bits.start);
    fieldHeader.write(w, bits.field);
    w.u16(bits.bits);
  },
);

/** Sets one bit: whether the packet, without what was pushed before its Ethernet header, is longer than `length` bytes. */
const checkPktLarger = layout<{ readonly length: number; readonly field: Operand; readonly bit: number }>(
  (r) => {
    const length = r.u16();
    const bit = r.u16();
    const field = fieldHeader.read(r);
    checkedBits(r, field, bit, 1);
    tail.read(r);
    return { length, field, bit };
  },
  (w, { length, field, bit }) => {
    checkBits({ field, start: bit, bits: 1 });
    w.u16(length);
    w.u16(bit);
    fieldHeader.write(w, field);
  },
);

/** Of 24 bytes in all, however long the header. */
const DELETE_FIELD_BODY = 14;

const deleteField = layout<{ readonly field: Operand }>(
  (r) => {
    if (r.left !== DELETE_FIELD_BODY) r.failLength(`a delete_field with ${r.left} bytes of operand`);
    const field = fieldHeader.read(r);
    r.skip(r.left);
    return { field };
  },
  (w, { field }) => {
    const start = w.length;
    fieldHeader.write(w, field);
    w.zeros(DELETE_FIELD_BODY - (w.length - start));
  },
);

export const REGISTERS = {
  reg_move: [nx(6), regMove],
  reg_load: [nx(7), regLoad],
  /** To the port whose number is in a field. */
  output_reg: [nx(15), struct({ source: rangeOfField, maxLen: u16, _: pad(6) })],
  stack_push: [nx(27), stack],
  stack_pop: [nx(28), stack],
  output_reg2: [nx(32), outputReg2],
  /** A set_field whose field may have a mask. */
  reg_load2: [nx(33), anyField],
  check_pkt_larger: [nx(49), checkPktLarger],
  /** Takes a tunnel option out of the packet. */
  delete_field: [nx(50), deleteField],
} as const satisfies Variants;
