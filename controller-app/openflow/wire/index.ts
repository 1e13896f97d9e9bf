/**
 * What layouts are written with.
 */
export {
  type Codec,
  type Infer,
  inField,
  lengthFirst,
  list,
  measured,
  names,
  type OneOf,
  oneOf,
  optional,
  pad,
  padAfter,
  padBefore,
  prefixed,
  rest,
  type Simplify,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Variants,
  type VariantTable,
  variantTable,
} from './layout.js';
export { MAX_DEPTH, Reader } from './reader.js';
export { text } from './text.js';
export { type TlvObject, tlvObject, tlvs, type UnknownTlv } from './tlv.js';
export { MAX_LENGTH, Writer } from './writer.js';
