/**
 * Fields as operands of actions: a header that names a field, as in a match but without a value, and a range of its bits.
 */
import { OpenFlowEncodeError } from '../errors.js';
import type { Codec, Reader } from '../wire/index.js';
import { EXPERIMENTER_CLASS, type FieldName, fieldNamed, fieldNumbered, type NamedField } from './fields.js';

/** A header that is none of a named field as a whole: kept as it came. */
export interface UnknownHeader {
  /** Class, field number, mask bit and length. */
  readonly oxm: number;
  /** Of the class for experimenters, where there is room for it. */
  readonly experimenter?: number;
}

export type Operand = FieldName | UnknownHeader;

/** Bits of a field, counted from its lowest. */
export interface FieldBits {
  readonly field: Operand;
  readonly start: number;
  readonly bits: number;
}

function headerOf(field: NamedField): number {
  const length = field.kind.bytes + (field.experimenter === undefined ? 0 : 4);
  return ((field.class << 16) | (field.field << 9) | length) >>> 0;
}

function named(oxm: number, experimenter?: number): NamedField | undefined {
  const field = fieldNumbered(oxm >>> 16, (oxm >>> 9) & 0x7f, experimenter);
  return field && headerOf(field) === oxm ? field : undefined;
}

function operand(oxm: number, experimenter?: number): Operand {
  return named(oxm, experimenter)?.name ?? { oxm, ...(experimenter === undefined ? {} : { experimenter }) };
}

function known(name: FieldName): NamedField {
  const field = fieldNamed(name);
  if (!field) throw new OpenFlowEncodeError('bad-value', `no match field is called ${String(name)}`);
  return field;
}

/** A header of 4 bytes; 8 for a field of an experimenter. */
export const fieldHeader: Codec<Operand> = {
  read: (r) => {
    const oxm = r.u32();
    return operand(oxm, oxm >>> 16 === EXPERIMENTER_CLASS ? r.u32() : undefined);
  },
  write: (w, value) => {
    const field = typeof value === 'object' ? undefined : known(value);
    const oxm = typeof value === 'object' ? value.oxm : headerOf(known(value));
    const experimenter = typeof value === 'object' ? value.experimenter : field?.experimenter;
    if ((oxm >>> 16 === EXPERIMENTER_CLASS) !== (experimenter !== undefined))
      throw new OpenFlowEncodeError('bad-value', 'an experimenter goes with class 0xffff, and with no other');
    w.u32(oxm);
    if (experimenter !== undefined) w.u32(experimenter);
  },
};

/** A header where there are 4 bytes and no more: fields of experimenters have no place here. */
export const shortHeader: Codec<Operand> = {
  read: (r) => operand(r.u32()),
  write: (w, value) => {
    if (typeof value === 'object') {
      if (value.experimenter !== undefined) noRoom('of an experimenter');
      w.u32(value.oxm);
      return;
    }
    const field = known(value);
    if (field.experimenter !== undefined) noRoom(value);
    w.u32(headerOf(field));
  },
};

function noRoom(what: string): never {
  throw new OpenFlowEncodeError('bad-value', `there is no room for a field ${what} in this action`);
}

/** Bits that a field has on the wire. */
const widthOf = (name: FieldName): number => known(name).kind.bytes * 8;

const nameOf = (field: Operand): string => (typeof field === 'string' ? field : 'a field without a name');

/** The bits, checked against the field. */
export function checkedBits(r: Reader, field: Operand, start: number, bits: number): FieldBits {
  if (bits === 0 || (typeof field === 'string' && start + bits > widthOf(field)))
    r.fail('OFPBAC_BAD_SET_LEN', `no ${bits} bits from ${start} on in ${nameOf(field)}`);
  return { field, start, bits };
}

/** Throws when there are no such bits in the field. */
export function checkBits({ field, start, bits }: FieldBits, most = 0xffff): void {
  const range = Number.isInteger(start) && Number.isInteger(bits) && start >= 0 && bits >= 1 && bits <= most;
  if (!range || (typeof field === 'string' && start + bits > widthOf(field)))
    throw new OpenFlowEncodeError(
      'bad-value',
      `no ${String(bits)} bits from ${String(start)} on in ${nameOf(field)}`,
    );
}

/** Bits from the sixth on the number of the first bit, below it the number of bits less one: at most 64. */
export const bitRange: Codec<{ readonly start: number; readonly bits: number }> = {
  read: (r) => {
    const range = r.u16();
    return { start: range >>> 6, bits: (range & 0x3f) + 1 };
  },
  write: (w, { start, bits }) => {
    if (!(start >= 0 && start < 1024 && bits >= 1 && bits <= 64))
      throw new OpenFlowEncodeError(
        'bad-value',
        `no ${bits} bits from ${start} on: at most 64, from 1023 on`,
      );
    w.u16((start << 6) | (bits - 1));
  },
};

/** A range, then the header of what it is in: how most of Nicira's actions have it. */
export const rangeOfField: Codec<FieldBits> = {
  read: (r) => {
    const { start, bits } = bitRange.read(r);
    return checkedBits(r, shortHeader.read(r), start, bits);
  },
  write: (w, value) => {
    checkBits(value, 64);
    bitRange.write(w, value);
    shortHeader.write(w, value.field);
  },
};
