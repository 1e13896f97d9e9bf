/**
 * Match fields by their headers alone, as tables list what they can do (spec 1.3.5, 7.3.5.5.2).
 *
 *   class u16 | field 7 bits | has mask 1 bit | length u8      [experimenter u32]
 */

import { OpenFlowEncodeError } from '../errors.js';
import {
  EXPERIMENTER_CLASS,
  type FieldName,
  fieldNamed,
  fieldNumbered,
  type NamedField,
} from '../match/fields.js';
import type { Codec } from '../wire/index.js';

export type FieldId =
  | {
      readonly field: FieldName;
      /** It can be matched with any mask. */
      readonly masked?: true;
      /** When it is not that of the field's value (and mask). */
      readonly length?: number;
    }
  /** One that this codec has no name for. */
  | {
      readonly class: number;
      readonly field: number;
      readonly experimenter?: number;
      readonly masked?: true;
      readonly length: number;
    };

function lengthOf({ kind, experimenter }: NamedField, masked: boolean): number {
  return (experimenter === undefined ? 0 : 4) + kind.bytes * (masked ? 2 : 1);
}

export const fieldId: Codec<FieldId> = {
  read: (r) => {
    const oxmClass = r.u16();
    const fieldAndMask = r.u8();
    const length = r.u8();
    const number = fieldAndMask >>> 1;
    const masked = (fieldAndMask & 1) === 1;
    const experimenter = oxmClass === EXPERIMENTER_CLASS ? r.u32() : undefined;
    const named = fieldNumbered(oxmClass, number, experimenter);
    const mask = masked ? ({ masked } as const) : {};
    if (named)
      return { field: named.name, ...mask, ...(length === lengthOf(named, masked) ? {} : { length }) };
    return {
      class: oxmClass,
      field: number,
      ...(experimenter === undefined ? {} : { experimenter }),
      ...mask,
      length,
    };
  },
  write: (w, id) => {
    const masked = id.masked === true;
    const put = (oxmClass: number, field: number, length: number, experimenter?: number): void => {
      if (!(field >= 0 && field <= 0x7f))
        throw new OpenFlowEncodeError('bad-value', `${String(field)} is not a number of 7 bits`);
      if ((oxmClass === EXPERIMENTER_CLASS) !== (experimenter !== undefined))
        throw new OpenFlowEncodeError(
          'bad-value',
          'an experimenter goes with class 0xffff, and with no other',
        );
      w.u16(oxmClass);
      w.u8((field << 1) | (masked ? 1 : 0));
      w.u8(length);
      if (experimenter !== undefined) w.u32(experimenter);
    };
    if ('class' in id) {
      put(id.class, id.field, id.length, id.experimenter);
      return;
    }
    const named = fieldNamed(id.field);
    if (!named) throw new OpenFlowEncodeError('bad-value', `no match field is called ${String(id.field)}`);
    put(named.class, named.field, id.length ?? lengthOf(named, masked), named.experimenter);
  },
};
