/**
 * Lists of TLVs: type u16 | length u16 (of these four bytes and the body) | body | zeros up to a multiple of 8 bytes.
 *
 * Hello elements, properties of tables, queues and bundles, and what Nicira's newer messages are made of.
 */
import type { ErrorCode } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { type Codec, type Infer, inField, type OneOf, type Variants, variantTable } from './layout.js';
import type { Reader } from './reader.js';
import type { Writer } from './writer.js';

const HEADER_LENGTH = 4;

interface Shape {
  /** What it is when a length does not fit. */
  readonly code: ErrorCode;
  /** False when nothing fills up to 8 bytes. */
  readonly padded?: boolean;
}

/** A TLV that this codec has no name for: kept as it came. */
export interface UnknownTlv {
  readonly type: 'unknown';
  readonly tlvType: number;
  readonly body: Uint8Array;
}

function readAll(r: Reader, { code, padded = true }: Shape, body: (type: number, at: number) => void): void {
  while (r.left > 0) {
    const start = r.pos;
    if (r.left < HEADER_LENGTH) r.fail(code, `${r.left} bytes where a TLV of at least 4 is due`);
    const type = r.u16();
    const length = r.u16();
    if (length < HEADER_LENGTH) r.fail(code, `a TLV of ${length} bytes`, start);
    r.within(length - HEADER_LENGTH, () => body(type, start), code);
    if (padded) r.skipPadding(start);
  }
}

function writeOne(w: Writer, { padded = true }: Shape, type: number, body: () => void): void {
  const start = w.length;
  w.u16(type);
  const at = w.lengthLater();
  body();
  w.setLength(at, w.length - start);
  if (padded) w.align8(start);
}

/** Several of a type may come, in any order. */
export function tlvs<const V extends Variants>(
  variants: V,
  shape: Shape,
): Codec<readonly (OneOf<V> | UnknownTlv)[]> {
  const table = variantTable(variants);
  return {
    read: (r) => {
      const all: (OneOf<V> | UnknownTlv)[] = [];
      readAll(r, shape, (type) => {
        const layout = table.byId(type);
        if (!layout) {
          all.push({ type: 'unknown', tlvType: type, body: r.take(r.left) });
          return;
        }
        const value: Record<string, unknown> = { type: layout.name };
        layout.body.readInto(r, value);
        all.push(value as OneOf<V>);
      });
      return all;
    },
    write: (w, values) => {
      for (const value of values) {
        const { type } = value;
        const layout = table.byName(type);
        try {
          if (layout) writeOne(w, shape, layout.id, () => layout.body.write(w, value));
          else if (type === 'unknown') {
            const { tlvType, body } = value as UnknownTlv;
            writeOne(w, shape, tlvType, () => w.put(body));
          } else throw new OpenFlowEncodeError('bad-value', 'nothing here is called so');
        } catch (cause) {
          throw inField(type, cause);
        }
      }
    },
  };
}

type TlvFields = Readonly<Record<string, readonly [id: number, codec: Codec<unknown>]>>;

/** At most one of a type; one without a name stands under its number. Their order on the wire is their order in the object. */
export type TlvObject<F extends TlvFields> = {
  readonly [K in keyof F]?: Infer<F[K][1]>;
} & { readonly [unknown: `unknown_${number}`]: Uint8Array };

/** `beside` names what else is in the object, which is not written. */
export function tlvObject<const F extends TlvFields>(
  fields: F,
  shape: Shape,
  beside: readonly string[] = [],
): Codec<TlvObject<F>> & { readInto(r: Reader, target: Record<string, unknown>): void } {
  const byId = new Map<number, readonly [string, Codec<unknown>]>();
  for (const [name, [id, codec]] of Object.entries(fields)) byId.set(id, [name, codec]);
  const byName = new Map(Object.entries(fields));
  const ignored = new Set(beside);
  const readInto = (r: Reader, target: Record<string, unknown>): void =>
    readAll(r, shape, (type, at) => {
      const [name, codec] = byId.get(type) ?? [`unknown_${type}`, undefined];
      if (Object.hasOwn(target, name)) r.fail('OFPBPC_DUP_TYPE', `${name} twice`, at);
      target[name] = codec ? codec.read(r) : r.take(r.left);
    });
  return {
    readInto,
    read: (r) => {
      const target = {};
      readInto(r, target);
      return target as TlvObject<F>;
    },
    write: (w, value) => {
      for (const [name, one] of Object.entries(value)) {
        if (one === undefined || ignored.has(name)) continue;
        try {
          const [id, codec] = byName.get(name) ?? [unknownId(name), undefined];
          if (!codec && byId.has(id)) throw new OpenFlowEncodeError('bad-value', 'this type has a name');
          writeOne(w, shape, id, () => (codec ? codec.write(w, one) : w.put(one as Uint8Array)));
        } catch (cause) {
          throw inField(name, cause);
        }
      }
    },
  };
}

function unknownId(name: string): number {
  const id = /^unknown_(0|[1-9]\d{0,4})$/.exec(name)?.[1];
  if (id === undefined) throw new OpenFlowEncodeError('bad-value', 'nothing here is called so');
  return Number(id);
}
