/**
 * Numbers of experimenters' own messages and multipart kinds: experimenter u32 | type u32 | body (spec 1.3.5, 7.5.4 and 7.3.5.17).
 */
import { type Infer, rest, struct, u32 } from '../wire/index.js';

/** One that this codec has no name for: kept as it came. */
export const unknownExtension = struct({ experimenter: u32, experimenterType: u32, data: rest });

export type UnknownExtension = { readonly type: 'experimenter' } & Infer<typeof unknownExtension>;

const TYPES = 0x10000;

/** Both numbers as one, above all numbers of the specification itself. Types that have a name are below 0x10000, and nobody is experimenter 0. */
export const extension = (experimenter: number, type: number): number => experimenter * TYPES + type;

/** No number at all for what has no name in any case. */
export const extensionNumber = (experimenter: number, type: number): number =>
  type < TYPES && experimenter > 0 ? extension(experimenter, type) : -1;

export const experimenterOf = (number: number): number => Math.floor(number / TYPES);
export const typeOf = (number: number): number => number % TYPES;
