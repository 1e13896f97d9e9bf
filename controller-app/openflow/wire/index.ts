/**
 * What layouts are written with.
 */
export {
  type Codec,
  type Infer,
  inField,
  lengthFirst,
  list,
  names,
  type OneOf,
  oneOf,
  optional,
  pad,
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
export { MAX_LENGTH, Writer } from './writer.js';
