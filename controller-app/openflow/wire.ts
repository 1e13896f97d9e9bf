/**
 * The language in which wire layouts are written down. A layout is a value (a `Codec`), the type of what it carries is inferred
 * from it with `Infer<>`, and nobody counts bytes by hand: lengths are written when the body is, padding is declared.
 *
 * All integers of OpenFlow are big-endian (spec 1.3.5, 7).
 */
import { OpenFlowDecodeError, OpenFlowEncodeError } from './errors.js';

/** Every length in OpenFlow is a 16-bit number, so this is also the longest message. */
export const MAX_LENGTH = 0xffff;
/** Actions nest (ct holds actions); real ones do so once or twice. */
const MAX_DEPTH = 8;

/** A cursor over bytes which never passes `end`. */
export class Reader {
  depth = 0;
  constructor(
    readonly bytes: Buffer,
    public pos = 0,
    public end = bytes.length,
  ) {}

  get left(): number {
    return this.end - this.pos;
  }

  need(count: number): void {
    if (this.end - this.pos < count)
      throw new OpenFlowDecodeError('too-short', `${count} bytes needed, ${this.left} left`, this.pos);
  }

  u8(): number {
    this.need(1);
    return this.bytes.readUInt8(this.pos++);
  }

  u16(): number {
    this.need(2);
    const value = this.bytes.readUInt16BE(this.pos);
    this.pos += 2;
    return value;
  }

  u32(): number {
    this.need(4);
    const value = this.bytes.readUInt32BE(this.pos);
    this.pos += 4;
    return value;
  }

  u64(): bigint {
    this.need(8);
    const value = this.bytes.readBigUInt64BE(this.pos);
    this.pos += 8;
    return value;
  }

  /** A view, not a copy: it keeps the chunk that it came in alive. */
  take(count: number): Buffer {
    this.need(count);
    const start = this.pos;
    this.pos += count;
    return this.bytes.subarray(start, this.pos);
  }

  skip(count: number): void {
    this.need(count);
    this.pos += count;
  }

  /** Reads exactly `length` bytes with `read`: it sees no more, and must leave none. */
  within<T>(length: number, read: (r: Reader) => T): T {
    this.need(length);
    const outer = this.end;
    this.end = this.pos + length;
    const value = read(this);
    if (this.pos !== this.end)
      throw new OpenFlowDecodeError('bad-length', `${this.left} bytes too many`, this.pos);
    this.end = outer;
    return value;
  }

  /** Like `within`, for layouts which can hold themselves. */
  nested<T>(length: number, read: (r: Reader) => T): T {
    if (this.depth >= MAX_DEPTH) throw new OpenFlowDecodeError('too-deep', 'nested too deeply', this.pos);
    this.depth++;
    const value = this.within(length, read);
    this.depth--;
    return value;
  }

  fail(code: ConstructorParameters<typeof OpenFlowDecodeError>[0], message: string): never {
    throw new OpenFlowDecodeError(code, message, this.pos);
  }
}

/** A buffer that grows. Numbers which don't fit their place are refused, not cut. */
export class Writer {
  bytes: Buffer = Buffer.allocUnsafe(4096);
  length = 0;
  /** Of the message that is being written: a message in a bundle repeats it. */
  xid = 0;

  private room(count: number): number {
    const at = this.length;
    const needed = at + count;
    if (needed > this.bytes.length) {
      const bigger = Buffer.allocUnsafe(Math.max(needed, this.bytes.length * 2));
      this.bytes.copy(bigger, 0, 0, at);
      this.bytes = bigger;
    }
    this.length = needed;
    return at;
  }

  u8(value: number): void {
    if ((value & 0xff) !== value) refuse(value, 8);
    this.bytes[this.room(1)] = value;
  }

  u16(value: number): void {
    if ((value & 0xffff) !== value) refuse(value, 16);
    const at = this.room(2);
    this.bytes.writeUInt16BE(value, at);
  }

  u32(value: number): void {
    if (value >>> 0 !== value) refuse(value, 32);
    const at = this.room(4);
    this.bytes.writeUInt32BE(value, at);
  }

  u64(value: bigint): void {
    if (typeof value !== 'bigint' || BigInt.asUintN(64, value) !== value) refuse(value, 64);
    const at = this.room(8);
    this.bytes.writeBigUInt64BE(value, at);
  }

  put(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  zeros(count: number): void {
    const at = this.room(count);
    this.bytes.fill(0, at, at + count);
  }

  /** Fills up with zeros until what began at `start` is a multiple of 8 bytes long. */
  align8(start: number): void {
    this.zeros(-(this.length - start) & 7);
  }

  /** Leaves a place for a 16-bit length, to be filled in by `setLength`. */
  lengthLater(): number {
    return this.room(2);
  }

  setLength(at: number, length: number): void {
    if (length > MAX_LENGTH)
      throw new OpenFlowEncodeError('too-long', `${length} bytes do not fit a message of ${MAX_LENGTH}`);
    this.bytes.writeUInt16BE(length, at);
  }
}

function refuse(value: unknown, bits: number): never {
  throw new OpenFlowEncodeError('bad-value', `${String(value)} is not an unsigned number of ${bits} bits`);
}

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
  const byNumber = new Map<number, keyof T & string>();
  for (const [name, value] of Object.entries(table)) byNumber.set(value, name);
  return {
    read: (r) => {
      const value = codec.read(r);
      return byNumber.get(value) ?? value;
    },
    write: (w, value) => {
      const number = typeof value === 'number' ? value : table[value];
      if (number === undefined) throw new OpenFlowEncodeError('bad-value', `unknown name ${String(value)}`);
      codec.write(w, number);
    },
  };
}

/** All bytes up to the end of what holds them. */
export const rest: Codec<Buffer> = { read: (r) => r.take(r.left), write: (w, value) => w.put(value) };

/** Values one after the other up to the end of what holds them. Each takes at least one byte, so this ends. */
export const list = <T>(codec: Codec<T>): Codec<readonly T[]> => ({
  read: (r) => {
    const values: T[] = [];
    while (r.left > 0) values.push(codec.read(r));
    return values;
  },
  write: (w, values) => {
    for (const value of values) codec.write(w, value);
  },
});

/** A 16-bit length in bytes that does not count itself, then `body` of that length, then `after`. */
export const prefixed = <T>(between: Codec<undefined>, body: Codec<T>): Codec<T> => ({
  read: (r) => {
    const length = r.u16();
    between.read(r);
    return r.within(length, (inner) => body.read(inner));
  },
  write: (w, value) => {
    const at = w.lengthLater();
    between.write(w, undefined);
    const start = w.length;
    body.write(w, value);
    w.setLength(at, w.length - start);
  },
});

/** Values one after the other, each `{ length of the whole u16, …body }`. */
export const lengthFirst = <T>(body: Codec<T>): Codec<T> => ({
  read: (r) => {
    const length = r.u16();
    if (length < 2) r.fail('bad-length', `a length of ${length}`);
    return r.within(length - 2, (inner) => body.read(inner));
  },
  write: (w, value) => {
    const at = w.lengthLater();
    body.write(w, value);
    w.setLength(at, w.length - at);
  },
});

/** Text in a field of a fixed size, ended by a zero byte. */
export const text = (size: number): Codec<string> => ({
  read: (r) => {
    const bytes = r.take(size);
    const end = bytes.indexOf(0);
    return bytes.toString('utf8', 0, end < 0 ? size : end);
  },
  write: (w, value) => {
    const bytes = Buffer.from(value, 'utf8');
    if (bytes.length >= size)
      throw new OpenFlowEncodeError('bad-value', `"${value}" is longer than ${size - 1} bytes`);
    w.put(bytes);
    w.zeros(size - bytes.length);
  },
});

/** Fields one after the other. */
export function struct<const F extends Fields>(fields: F): Struct<StructValue<F>> {
  const entries = Object.entries(fields);
  const keys = entries.map(([key]) => key);
  const codecs = entries.map(([, codec]) => codec);
  const readInto = (r: Reader, target: Record<string, unknown>): void => {
    for (let i = 0; i < codecs.length; i++) {
      const value = codecs[i]?.read(r);
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
      for (let i = 0; i < codecs.length; i++) codecs[i]?.write(w, source[keys[i] as string]);
    },
  };
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
    // Two names may share a number (kinds of one experimenter message); the first is the one that is read.
    if (!ids.has(id)) ids.set(id, { name, body });
    byName.set(name, { id, body });
  }
  return { byId: (id) => ids.get(id), byName: (name) => byName.get(name) };
}
