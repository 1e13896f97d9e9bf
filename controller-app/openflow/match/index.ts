/**
 * Matches: what of a packet a rule looks at.
 */
export { canonicalMatch } from './canonical.js';
export type { FieldBits, Operand, UnknownHeader } from './field-bits.js';
export {
  FIELD_NAMES,
  type FieldName,
  fieldNamed,
  type Masked,
  type Match,
  type UnknownField,
} from './fields.js';
export { matchKey } from './key.js';
export { matchCodec, oxms, toldMatch, toldOxms } from './oxm.js';
