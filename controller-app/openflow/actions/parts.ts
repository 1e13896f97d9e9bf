/**
 * What several actions are made of.
 */
import type { Codec, Reader, Struct, Writer } from '../wire/index.js';

/** Numbers of actions in one table: the specification's own, and above them each experimenter's. */
export const numberOf = (experimenter: number, subtype: number): number => experimenter * 0x10000 + subtype;

/** A layout that is no plain row of fields. */
export function layout<T extends object>(
  read: (r: Reader) => T,
  write: (w: Writer, value: T) => void,
): Struct<T> {
  return { read, write, readInto: (r, target) => void Object.assign(target, read(r)) };
}

/** Zeros up to the multiple of 8 bytes that an action ends with; whoever writes the action writes them. */
export const tail: Codec<undefined> = {
  read: (r) => {
    if (r.left > 7) r.failLength(`${r.left} bytes after the end`);
    r.skip(r.left);
    return undefined;
  },
  write: () => undefined,
};

/** Bits that have names: `true` where one is set, absent where not. Any other bit is an error. */
export function bits<const T extends Readonly<Record<string, number>>>(
  table: T,
): {
  read(r: Reader, value: number, at: number): { readonly [K in keyof T]?: true };
  number(value: { readonly [K in keyof T]?: boolean }): number;
} {
  const all = Object.entries(table);
  const known = all.reduce((sum, [, bit]) => sum | bit, 0);
  return {
    read: (r, value, at) => {
      if ((value & ~known) !== 0) r.fail('OFPBAC_BAD_ARGUMENT', `flags 0x${value.toString(16)}`, at);
      const set = all.filter(([, bit]) => (value & bit) !== 0).map(([name]) => [name, true] as const);
      return Object.fromEntries(set) as { [K in keyof T]?: true };
    },
    number: (value) => all.reduce((sum, [name, bit]) => (value[name as keyof T] ? sum | bit : sum), 0),
  };
}
