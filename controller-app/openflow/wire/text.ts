/**
 * Texts in fields of a fixed size, ended by a zero byte if they are shorter (spec 1.3.5, 7.2.1, 7.3.5.1).
 *
 * They are meant to be UTF-8, and nobody checks: a byte that is not part of UTF-8 becomes a lone surrogate, U+DC80 for 0x80 up to
 * U+DCFF for 0xff, and one of those becomes the byte again (Python calls this surrogateescape).
 */
import { OpenFlowEncodeError } from '../errors.js';
import type { Codec } from './layout.js';

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
const ESCAPE = 0xdc00;
/** The u flag lets pairs be one character, which is no surrogate. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What comes after the first zero byte is not looked at. */
export const text = (size: number): Codec<string> => ({
  read: (r) => {
    r.need(size);
    const start = r.pos;
    r.pos += size;
    const end = r.bytes.subarray(start, r.pos).indexOf(0);
    return textOf(r.bytes.subarray(start, end < 0 ? r.pos : start + end));
  },
  write: (w, value) => {
    const bytes = bytesOf(value);
    if (bytes.length > size)
      throw new OpenFlowEncodeError('bad-value', `${JSON.stringify(value)} is longer than ${size} bytes`);
    w.put(bytes);
    w.zeros(size - bytes.length);
  },
});

function textOf(bytes: Uint8Array): string {
  if (bytes.every((byte) => byte < 0x80)) return String.fromCharCode(...bytes);
  let out = '';
  for (let at = 0; at < bytes.length; ) {
    const length = characterAt(bytes, at);
    out +=
      length === 0
        ? String.fromCharCode(ESCAPE + (bytes[at] as number))
        : strict.decode(bytes.subarray(at, at + length));
    at += length || 1;
  }
  return out;
}

/** Bytes of the well-formed UTF-8 character (RFC 3629) that begins here; 0 if none does. */
function characterAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  const length =
    first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (at + length > bytes.length) return 0;
  for (let i = 1; i < length; i++) if (((bytes[at + i] as number) & 0xc0) !== 0x80) return 0;
  const second = bytes[at + 1] as number;
  const overlong = (first === 0xe0 && second < 0xa0) || (first === 0xf0 && second < 0x90);
  const noCharacter = (first === 0xed && second >= 0xa0) || (first === 0xf4 && second >= 0x90);
  return overlong || noCharacter ? 0 : length;
}

function bytesOf(value: string): Uint8Array {
  if (typeof value !== 'string') throw new OpenFlowEncodeError('bad-value', `${String(value)} is no text`);
  if (value.includes('\0'))
    throw new OpenFlowEncodeError(
      'bad-value',
      `${JSON.stringify(value)} has a zero byte, which would end it`,
    );
  if (!LONE_SURROGATE.test(value)) return encoder.encode(value);
  const bytes: number[] = [];
  for (const character of value) {
    const point = character.codePointAt(0) ?? 0;
    if (point >= ESCAPE + 0x80 && point <= ESCAPE + 0xff) bytes.push(point - ESCAPE);
    else if (point >= 0xd800 && point <= 0xdfff)
      throw new OpenFlowEncodeError(
        'bad-value',
        `U+${point.toString(16)} in ${JSON.stringify(value)} stands for no byte`,
      );
    else bytes.push(...encoder.encode(character));
  }
  // Escaped bytes which together are a character would come back as that.
  const out = Uint8Array.from(bytes);
  if (textOf(out) !== value)
    throw new OpenFlowEncodeError(
      'bad-value',
      `${JSON.stringify(value)} escapes bytes which are UTF-8: write them as what they are`,
    );
  return out;
}
