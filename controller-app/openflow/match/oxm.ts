/**
 * Match fields on the wire: OXM TLVs (spec 1.3.5, 7.2.3.2) and struct ofp_match around them.
 *
 *   header: class u16 | field 7 bits | has mask 1 bit | length u8      [experimenter u32]      value      [mask]
 *
 * What is read is written again to the byte: order, masks of all ones and of zeros, fields without a name here.
 */
import type { ErrorCode } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { type Codec, inField, type Reader, type Writer } from '../wire/index.js';
import {
  EXPERIMENTER_CLASS,
  type FieldName,
  fieldNamed,
  fieldNumbered,
  type Masked,
  type Match,
  type NamedField,
  type UnknownField,
} from './fields.js';
import { coverage, outsideMask, tooLarge } from './mask-bytes.js';
import { need } from './prerequisites.js';

/** Where a field stands, and which of the protocol's errors it is when it does not fit there. */
interface Place {
  readonly length: ErrorCode;
  readonly value: ErrorCode;
  readonly wildcards: ErrorCode;
  /** What a switch is asked to match; otherwise any bits of any field can be meant, and no field needs another. */
  readonly asked: boolean;
}

const ASKED: Place = {
  length: 'OFPBMC_BAD_LEN',
  value: 'OFPBMC_BAD_VALUE',
  wildcards: 'OFPBMC_BAD_WILDCARDS',
  asked: true,
};
const TOLD: Place = { ...ASKED, asked: false };
const IN_ACTION: Place = {
  length: 'OFPBAC_BAD_SET_LEN',
  value: 'OFPBAC_BAD_SET_ARGUMENT',
  wildcards: 'OFPBAC_BAD_SET_ARGUMENT',
  asked: false,
};

type Target = Record<string, unknown>;

export function isMasked(value: unknown): value is Masked<unknown> {
  return typeof value === 'object' && value !== null && 'mask' in value;
}

/** Reads one TLV into `target`; which field it was, if it has a name. */
function readTlv(r: Reader, target: Target, place: Place): FieldName | undefined {
  const start = r.pos;
  const oxmClass = r.u16();
  const fieldAndMask = r.u8();
  const length = r.u8();
  const number = fieldAndMask >>> 1;
  const masked = (fieldAndMask & 1) === 1;
  return r.within(
    length,
    () => {
      const who = oxmClass === EXPERIMENTER_CLASS ? r.u32() : undefined;
      const named = fieldNumbered(oxmClass, number, who);
      if (named) {
        if (named.name in target || named.twins.some((twin) => twin in target))
          r.fail('OFPBMC_DUP_FIELD', `${named.name} twice in one match`, start);
        if (place.asked && named.needs && !need(named.needs).met(target))
          r.fail('OFPBMC_BAD_PREREQ', `${named.name} without ${need(named.needs).says} before it`, start);
        target[named.name] = readValue(r, named, masked, place);
        return named.name;
      }
      const unknown: UnknownField = {
        class: oxmClass,
        field: number,
        ...(who === undefined ? {} : { experimenter: who }),
        masked,
        body: r.take(r.left),
      };
      const others = target.unknown;
      if (Array.isArray(others)) others.push(unknown);
      else target.unknown = [unknown];
      return undefined;
    },
    place.length,
  );
}

function readValue(r: Reader, field: NamedField, masked: boolean, place: Place): unknown {
  const { kind, name } = field;
  const copies = masked ? 2 : 1;
  const size = kind.varies ? Math.trunc(r.left / copies) : kind.bytes;
  const at = r.pos;
  if (r.left !== size * copies || size > kind.bytes)
    r.fail(place.length, `${name}${masked ? ' with a mask' : ''} of ${r.left} bytes`);
  if (tooLarge(r.bytes, at, size, kind)) r.fail(place.value, `${name} has ${kind.bits} bits`);
  const value = kind.read(r, size);
  if (!masked) return value;
  const outside = outsideMask(r.bytes, at, size);
  if (outside >= 0) r.fail(place.wildcards, `${name} has bits outside of its mask`, outside);
  if (place.asked && field.exact && coverage(r.bytes, r.pos, size, kind) === 'some')
    r.fail('OFPBMC_BAD_MASK', `${name} with a mask: it can be matched as a whole only`);
  return { value, mask: kind.read(r, size) };
}

function writeHeader(w: Writer, oxmClass: number, field: number, masked: boolean, who?: number): number {
  w.u16(oxmClass);
  w.u8((field << 1) | (masked ? 1 : 0));
  w.u8(0);
  const start = w.length;
  if (who !== undefined) w.u32(who);
  return start;
}

/** The length is known when the value is there. */
function setLength(w: Writer, start: number): void {
  const length = w.length - start;
  if (length > 0xff) throw new OpenFlowEncodeError('bad-value', `${length} bytes in one field`);
  w.bytes[start - 1] = length;
}

function writeNamed(w: Writer, field: NamedField, given: unknown, { asked }: Place): void {
  const { kind } = field;
  const start = writeHeader(w, field.class, field.field, isMasked(given), field.experimenter);
  const at = w.length;
  kind.write(w, isMasked(given) ? given.value : given);
  const size = w.length - at;
  if (tooLarge(w.bytes, at, size, kind))
    throw new OpenFlowEncodeError('bad-value', `more than the ${kind.bits} bits that there are`);
  if (isMasked(given)) {
    kind.write(w, given.mask);
    if (w.length - at !== 2 * size)
      throw new OpenFlowEncodeError('bad-value', 'value and mask differ in length');
    if (outsideMask(w.bytes, at, size) >= 0)
      throw new OpenFlowEncodeError(
        'bad-value',
        `${String(given.value)} has bits outside of its mask ${String(given.mask)}`,
      );
    if (asked && field.exact && coverage(w.bytes, at + size, size, kind) === 'some')
      throw new OpenFlowEncodeError('bad-value', 'it can be matched as a whole only');
  }
  setLength(w, start);
}

export function writeUnknown(w: Writer, field: UnknownField): void {
  if (!(field.field >= 0 && field.field <= 0x7f))
    throw new OpenFlowEncodeError('bad-value', `${String(field.field)} is not a number of 7 bits`);
  const start = writeHeader(w, field.class, field.field, field.masked, field.experimenter);
  if ((field.class === EXPERIMENTER_CLASS) !== (field.experimenter !== undefined))
    throw new OpenFlowEncodeError('bad-value', 'an experimenter goes with class 0xffff, and with no other');
  w.put(field.body);
  setLength(w, start);
}

function writeField(w: Writer, name: string, value: unknown, place: Place): void {
  const field = fieldNamed(name);
  if (!field) throw new OpenFlowEncodeError('bad-value', `no match field is called ${name}`);
  try {
    writeNamed(w, field, value, place);
  } catch (cause) {
    throw inField(name, cause);
  }
}

function unknownOf(match: Match): readonly UnknownField[] {
  const { unknown = [] } = match;
  if (!Array.isArray(unknown)) throw new OpenFlowEncodeError('bad-value', 'unknown: not a list of fields');
  return unknown;
}

function readAll(r: Reader, place: Place): Match {
  const match: Target = {};
  let placed = 0;
  while (r.left > 0) {
    const name = readTlv(r, match, place);
    const unknown = match.unknown;
    if (!name || !Array.isArray(unknown)) continue;
    for (; placed < unknown.length; placed++) unknown[placed] = { ...unknown[placed], before: name };
  }
  return match as Match;
}

function writeAll(w: Writer, match: Match, place: Place): void {
  const unknown = unknownOf(match);
  const written: Target = {};
  /** First of all what the field needs and is not written yet. */
  const prepare = (name: string, field: NamedField): void => {
    const needs = field.needs && need(field.needs);
    if (!needs) return;
    for (const first of needs.fields) {
      const before = match[first as FieldName];
      if (before !== undefined && !needs.met(written)) write(first, before);
    }
    if (!needs.met(written)) throw new OpenFlowEncodeError('bad-value', `${name} needs ${needs.says}`);
  };
  const write = (name: string, value: unknown): void => {
    if (Object.hasOwn(written, name)) return;
    const field = fieldNamed(name);
    if (field && place.asked) prepare(name, field);
    const twin = field?.twins.find((other) => Object.hasOwn(written, other));
    if (twin) throw new OpenFlowEncodeError('bad-value', `${name} and ${twin} are the same field`);
    for (const other of unknown) if (other.before === name) writeUnknown(w, other);
    writeField(w, name, value, place);
    written[name] = value;
  };
  for (const [name, value] of Object.entries(match))
    if (value !== undefined && name !== 'unknown') write(name, value);
  for (const other of unknown)
    if (other.before === undefined || !Object.hasOwn(written, other.before)) writeUnknown(w, other);
}

const fieldsAt = (place: Place): Codec<Match> => ({
  read: (r) => r.within(r.left, () => readAll(r, place), place.length),
  write: (w, match) => writeAll(w, match, place),
});

/** The fields alone, without ofp_match's header and padding. */
export const oxms = fieldsAt(ASKED);

/**
 * Fields in what a switch says of packets and rules. It knows what it means: a field need not have what it would need in a rule, and
 * Open vSwitch does not look for that either.
 */
export const toldOxms = fieldsAt(TOLD);

/** What an action sets: one field, which needs no other. */
export const oneField: Codec<Match> = {
  read: (r) => {
    const match: Target = {};
    readTlv(r, match, IN_ACTION);
    return match as Match;
  },
  write: (w, match) => {
    const given = Object.entries(match).filter(([, value]) => value !== undefined);
    const [name = '', value] = given[0] ?? [];
    if (given.length !== 1) throw new OpenFlowEncodeError('bad-value', `${given.length} fields, not one`);
    if (name !== 'unknown') writeField(w, name, value, IN_ACTION);
    else {
      const [field, ...more] = unknownOf(match);
      if (!field || more.length > 0)
        throw new OpenFlowEncodeError('bad-value', `${more.length + (field ? 1 : 0)} fields, not one`);
      writeUnknown(w, field);
    }
  },
};

const OFPMT_OXM = 1;

/** struct ofp_match (7.2.3.1): its length counts header and fields, and not the padding to 8 bytes. */
const matchOf = (fields: Codec<Match>): Codec<Match> => ({
  read: (r) => {
    const start = r.pos;
    const type = r.u16();
    if (type !== OFPMT_OXM)
      r.fail('OFPBMC_BAD_TYPE', `a match of type ${type}: OpenFlow 1.3 has OXM only`, start);
    const length = r.u16();
    if (length < 4) r.fail('OFPBMC_BAD_LEN', `a match of ${length} bytes`, start);
    const match = r.within(length - 4, fields.read, 'OFPBMC_BAD_LEN');
    r.skip(-length & 7);
    return match;
  },
  write: (w, match) => {
    const start = w.length;
    w.u16(OFPMT_OXM);
    const at = w.lengthLater();
    fields.write(w, match);
    w.setLength(at, w.length - start);
    w.align8(start);
  },
});

/** What a controller asks a switch to match. */
export const matchCodec = matchOf(oxms);

/** What a switch says of a packet or of a rule. */
export const toldMatch = matchOf(toldOxms);
