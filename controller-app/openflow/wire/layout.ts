/**
 * The language in which wire layouts are written down. A layout is a value (a `Codec`), the type of what it carries is inferred
 * from it with `Infer<>`, and nobody counts bytes by hand: lengths are written when the body is, padding is declared.
 */
import type { ErrorCode } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import type { Reader } from './reader.js';
import type { Writer } from './writer.js';

/** How a value of type T lies on the wire. */
export interface Codec<T> {
  read(r: Reader): T;
  write(w: Writer, value: T): void;
}

/** A codec of an object, which can also add its fields to an object that is there. */
export interface Struct<T> extends Codec<T> {
  readInto(r: Reader, target: Record<string, unknown>): void;
}

/** The type of the values that a codec carries. */
export type Infer<C> = C extends Codec<infer T> ? T : never;

export type Simplify<T> = { [K in keyof T]: T[K] } & {};

type Fields = Readonly<Record<string, Codec<unknown>>>;
/** Fields that carry nothing (padding) are no part of the value; those with a default are optional. */
type StructValue<F extends Fields> = Simplify<
  {
    readonly [K in keyof F as [Infer<F[K]>] extends [undefined]
      ? never
      : undefined extends Infer<F[K]>
        ? never
        : K]: Infer<F[K]>;
  } & {
    readonly [K in keyof F as [Infer<F[K]>] extends [undefined]
      ? never
      : undefined extends Infer<F[K]>
        ? K
        : never]?: Exclude<Infer<F[K]>, undefined>;
  }
>;

export const u8: Codec<number> = { read: (r) => r.u8(), write: (w, value) => w.u8(value) };
export const u16: Codec<number> = { read: (r) => r.u16(), write: (w, value) => w.u16(value) };
export const u32: Codec<number> = { read: (r) => r.u32(), write: (w, value) => w.u32(value) };
export const u64: Codec<bigint> = { read: (r) => r.u64(), write: (w, value) => w.u64(value) };

/** Bytes without meaning: written as zeros; what comes in is not looked at. */
export const pad = (count: number): Codec<undefined> => ({
  read: (r) => {
    r.skip(count);
    return undefined;
  },
  write: (w) => w.zeros(count),
});

/** May be left out and is then `absent` on the wire; when that comes in, it is left out of the value. */
export const optional = <T>(codec: Codec<T>, absent: T): Codec<T | undefined> => ({
  read: (r) => {
    const value = codec.read(r);
    return value === absent ? undefined : value;
  },
  write: (w, value) => codec.write(w, value === undefined ? absent : value),
});

/** Numbers that have names. A number without one stays a number. */
export function names<const T extends Readonly<Record<string, number>>>(
  codec: Codec<number>,
  table: T,
): Codec<(keyof T & string) | number> {
  const { nameOf, numberOf } = bothWays(table);
  return {
    read: (r) => {
      const value = codec.read(r);
      return nameOf(value) ?? value;
    },
    write: (w, value) => codec.write(w, typeof value === 'number' ? value : numberOf(value)),
  };
}

/** Numbers that have names, where no other number may stand: `code` is what it is then. */
export function oneOf<const T extends Readonly<Record<string, number>>>(
  codec: Codec<number>,
  table: T,
  code: ErrorCode,
): Codec<keyof T & string> {
  const { nameOf, numberOf } = bothWays(table);
  return {
    read: (r) => {
      const at = r.pos;
      const value = codec.read(r);
      return nameOf(value) ?? r.fail(code, `${value} is none of ${Object.keys(table).join(', ')}`, at);
    },
    write: (w, value) => codec.write(w, numberOf(value)),
  };
}

function bothWays<T extends Readonly<Record<string, number>>>(table: T) {
  const byNumber = new Map<number, keyof T & string>();
  for (const [name, value] of Object.entries(table)) byNumber.set(value, name);
  const byName = new Map<string, number>(Object.entries(table));
  return {
    nameOf: (value: number) => byNumber.get(value),
    numberOf: (name: string): number => {
      const number = byName.get(name);
      if (number === undefined)
        throw new OpenFlowEncodeError(
          'bad-value',
          `${String(name)} is none of ${Object.keys(table).join(', ')}`,
        );
      return number;
    },
  };
}

/** All bytes up to the end of what holds them. */
export const rest: Codec<Uint8Array> = { read: (r) => r.take(r.left), write: (w, value) => w.put(value) };

/** Values one after the other up to the end of what holds them. Each takes at least one byte, so this ends. */
export const list = <T>(codec: Codec<T>): Codec<readonly T[]> => ({
  read: (r) => {
    const values: T[] = [];
    while (r.left > 0) values.push(codec.read(r));
    return values;
  },
  write: (w, values) => {
    if (!Array.isArray(values)) throw new OpenFlowEncodeError('bad-value', `${String(values)} is no list`);
    for (const value of values) codec.write(w, value);
  },
});

/** A 16-bit length in bytes that does not count itself, then `between`, then `body` of that length. */
export const prefixed = <T>(between: Codec<undefined>, body: Codec<T>, code?: ErrorCode): Codec<T> => ({
  read: (r) => {
    const length = r.u16();
    between.read(r);
    return r.within(length, body.read, code);
  },
  write: (w, value) => {
    const at = w.lengthLater();
    between.write(w, undefined);
    const start = w.length;
    body.write(w, value);
    w.setLength(at, w.length - start);
  },
});

/** A 16-bit length of the whole, then `body`. */
export const lengthFirst = <T>(body: Codec<T>, code?: ErrorCode): Codec<T> => ({
  read: (r) => {
    const length = r.u16();
    if (length < 2) {
      const message = `a length of ${length}`;
      if (code) r.fail(code, message);
      r.failLength(message);
    }
    return r.within(length - 2, body.read, code);
  },
  write: (w, value) => {
    const at = w.lengthLater();
    body.write(w, value);
    w.setLength(at, w.length - at);
  },
});

/** `head`, a 16-bit length of all, then `tail`. */
export function measured<H extends object, T extends object>(
  head: Struct<H>,
  tail: Struct<T>,
): Codec<Simplify<H & T>> {
  return {
    read: (r) => {
      const start = r.pos;
      const value = {};
      head.readInto(r, value);
      const at = r.pos;
      const length = r.u16() - (r.pos - start);
      if (length < 0) r.failLength(`a length of ${length + r.pos - start}`, at);
      r.within(length, () => tail.readInto(r, value));
      return value as Simplify<H & T>;
    },
    write: (w, value) => {
      const start = w.length;
      head.write(w, value);
      const at = w.lengthLater();
      tail.write(w, value);
      w.setLength(at, w.length - start);
    },
  };
}

/** `count` bytes without meaning, then a value. */
export const padBefore = <T>(count: number, codec: Codec<T>): Codec<T> => ({
  read: (r) => {
    r.skip(count);
    return codec.read(r);
  },
  write: (w, value) => {
    w.zeros(count);
    codec.write(w, value);
  },
});

/** A value, then `count` bytes without meaning. */
export const padAfter = <T>(codec: Codec<T>, count: number): Codec<T> => ({
  read: (r) => {
    const value = codec.read(r);
    r.skip(count);
    return value;
  },
  write: (w, value) => {
    codec.write(w, value);
    w.zeros(count);
  },
});

/** Fields one after the other. */
export function struct<const F extends Fields>(fields: F): Struct<StructValue<F>> {
  const entries = Object.entries(fields);
  const keys = entries.map(([key]) => key);
  const codecs = entries.map(([, codec]) => codec);
  const readInto = (r: Reader, target: Record<string, unknown>): void => {
    for (let i = 0; i < codecs.length; i++) {
      const value = (codecs[i] as Codec<unknown>).read(r);
      if (value !== undefined) target[keys[i] as string] = value;
    }
  };
  return {
    readInto,
    read: (r) => {
      const target = {};
      readInto(r, target);
      return target as StructValue<F>;
    },
    write: (w, value) => {
      const source = value as Record<string, unknown>;
      for (let i = 0; i < codecs.length; i++) {
        const key = keys[i] as string;
        try {
          (codecs[i] as Codec<unknown>).write(w, source[key]);
        } catch (cause) {
          throw inField(key, cause);
        }
      }
    },
  };
}

/** The same error, with the way to the value that does not fit. */
export function inField(field: string, cause: unknown): OpenFlowEncodeError {
  const { message } = cause as Error;
  return cause instanceof OpenFlowEncodeError
    ? new OpenFlowEncodeError(cause.code, `${field}: ${message}`, { cause: cause.cause ?? cause })
    : new OpenFlowEncodeError('bad-value', `${field}: ${message}`, { cause });
}

/** The layouts of a union: for each name its number on the wire and its body. */
export type Variants = Readonly<Record<string, readonly [id: number, body: Struct<object>]>>;
/** One of the variants, told apart by `type`. */
export type OneOf<V extends Variants> = {
  [K in keyof V & string]: Simplify<{ readonly type: K } & Infer<V[K][1]>>;
}[keyof V & string];

export interface VariantTable {
  byId(id: number): { readonly name: string; readonly body: Struct<object> } | undefined;
  byName(name: string): { readonly id: number; readonly body: Struct<object> } | undefined;
}

/** Finds the layout by what stands on the wire, or by the name in a value. */
export function variantTable(variants: Variants): VariantTable {
  const ids = new Map<number, { name: string; body: Struct<object> }>();
  const byName = new Map<string, { id: number; body: Struct<object> }>();
  for (const [name, [id, body]] of Object.entries(variants)) {
    ids.set(id, { name, body });
    byName.set(name, { id, body });
  }
  return { byId: (id) => ids.get(id), byName: (name) => byName.get(name) };
}
