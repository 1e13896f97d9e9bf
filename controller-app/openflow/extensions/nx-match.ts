/**
 * Messages of Nicira's from before OpenFlow had OXM: a match without ofp_match around it, whose length stands apart (nicira-ext.h).
 *
 *   head | length of the match u16 | middle | match | zeros up to a multiple of 8 bytes | tail
 */
import { type Match, oxms } from '../match/index.js';
import { type Codec, type Simplify, type Struct, struct } from '../wire/index.js';

export const nothing = struct({});

export function aroundNxMatch<H extends object, M extends object, T extends object>(
  head: Struct<H>,
  middle: Struct<M>,
  tail: Struct<T>,
  fields: Codec<Match> = oxms,
): Struct<Simplify<H & M & { readonly match: Match } & T>> {
  type Value = Simplify<H & M & { readonly match: Match } & T>;
  const codec: Struct<Value> = {
    readInto: (r, target) => {
      head.readInto(r, target);
      const length = r.u16();
      middle.readInto(r, target);
      target.match = r.within(length, fields.read, 'OFPBMC_BAD_LEN');
      r.skip(-length & 7);
      tail.readInto(r, target);
    },
    read: (r) => {
      const value = {};
      codec.readInto(r, value);
      return value as Value;
    },
    write: (w, value) => {
      head.write(w, value);
      const at = w.lengthLater();
      middle.write(w, value);
      const start = w.length;
      fields.write(w, value.match);
      w.setLength(at, w.length - start);
      w.align8(start);
      tail.write(w, value);
    },
  };
  return codec;
}
