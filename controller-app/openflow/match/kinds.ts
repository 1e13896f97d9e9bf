/**
 * What a match field carries: numbers up to 32 bits, bigints above, addresses as texts, tunnel options as hexadecimal text.
 */
import { ipv4, ipv6, mac } from '../addresses.js';
import { OpenFlowEncodeError } from '../errors.js';
import type { Codec, Reader, Writer } from '../wire/index.js';

export interface Kind<T> {
  /** On the wire; the most there can be where the length varies. */
  readonly bytes: number;
  /** Of those bytes, from the low end, that the field has: a VLAN's priority fills a byte and has 3. */
  readonly bits: number;
  readonly varies?: true;
  read(r: Reader, bytes: number): T;
  write(w: Writer, value: T): void;
}

/** A number of `bytes` bytes of which the field has `bits`. */
export function uint(bytes: 1 | 2 | 3 | 4, bits = bytes * 8): Kind<number> {
  return {
    bytes,
    bits,
    read: (r) => {
      if (bytes === 4) return r.u32();
      if (bytes === 2) return r.u16();
      return bytes === 1 ? r.u8() : (r.u8() << 16) | r.u16();
    },
    write: (w, value) => {
      if (!Number.isInteger(value) || value < 0 || value >= 2 ** (bytes * 8))
        throw new OpenFlowEncodeError('bad-value', `${String(value)} is not a number of ${bits} bits`);
      for (let shift = (bytes - 1) * 8; shift >= 0; shift -= 8) w.u8((value >>> shift) & 0xff);
    },
  };
}

export function bigint(words: 1 | 2): Kind<bigint> {
  return {
    bytes: words * 8,
    bits: words * 64,
    read: (r) => (words === 1 ? r.u64() : (r.u64() << 64n) | r.u64()),
    write: (w, value) => {
      if (typeof value !== 'bigint')
        throw new OpenFlowEncodeError(
          'bad-value',
          `${String(value)} is a ${typeof value}: ${words * 64} bits are a bigint`,
        );
      if (words === 2) w.u64(value >> 64n);
      w.u64(words === 2 ? value & 0xffff_ffff_ffff_ffffn : value);
    },
  };
}

const address = (codec: Codec<string>, bytes: number): Kind<string> => ({ ...codec, bytes, bits: bytes * 8 });

/** Bytes as hexadecimal text, as many as there are: a tunnel's option is as long as its table of options says. */
const hex: Kind<string> = {
  bytes: 124,
  bits: 124 * 8,
  varies: true,
  read: (r, bytes) => {
    let text = '';
    for (let i = 0; i < bytes; i++) text += r.u8().toString(16).padStart(2, '0');
    return text;
  },
  write: (w, value) => {
    if (typeof value !== 'string' || !/^([0-9a-f]{2}){0,124}$/i.test(value))
      throw new OpenFlowEncodeError('bad-value', `"${value}" is not at most 124 bytes in hexadecimal`);
    for (let i = 0; i < value.length; i += 2) w.u8(Number.parseInt(value.slice(i, i + 2), 16));
  },
};

export const BYTE = uint(1);
export const HALF = uint(2);
export const WORD = uint(4);
export const LONG = bigint(1);
export const WIDE = bigint(2);
export const MAC = address(mac, 6);
export const IP4 = address(ipv4, 4);
export const IP6 = address(ipv6, 16);
export const HEX = hex;
