/**
 * Addresses as texts on one side and as bytes on the other. What is read is canonical: lower case, IPv6 as RFC 5952 has it. What is written
 * may be any usual spelling, but no number of an IPv4 address begins with a zero: some read those as octal.
 */
import { OpenFlowEncodeError } from './errors.js';
import type { Codec, Reader } from './wire/index.js';

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
const WORDS = 8;
const DOT = 0x2e;
const ZERO = 0x30;

/** A hexadecimal digit's value; -1 for any other character. */
function digit(code: number): number {
  if (code >= ZERO && code <= ZERO + 9) return code - ZERO;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

export const mac: Codec<string> = {
  read: (r) => {
    const at = r.pos;
    r.skip(6);
    let out = HEX[r.bytes[at] as number] as string;
    for (let i = 1; i < 6; i++) out += `:${HEX[r.bytes[at + i] as number]}`;
    return out;
  },
  write: (w, value) => {
    if (typeof value !== 'string' || value.length !== 17) bad('MAC address', value);
    for (let i = 0; i < 17; i += 3) {
      const byte = digit(value.charCodeAt(i)) * 16 + digit(value.charCodeAt(i + 1));
      const isHex = digit(value.charCodeAt(i)) >= 0 && digit(value.charCodeAt(i + 1)) >= 0;
      if (!isHex || (i > 0 && value[i - 1] !== ':')) bad('MAC address', value);
      w.u8(byte);
    }
  },
};

export const ipv4: Codec<string> = {
  read: (r) => {
    const { bytes, pos } = r;
    r.skip(4);
    return `${bytes[pos]}.${bytes[pos + 1]}.${bytes[pos + 2]}.${bytes[pos + 3]}`;
  },
  write: (w, value) => w.u32(ipv4Number(value)),
};

function ipv4Number(value: string): number {
  if (typeof value !== 'string') bad('IPv4 address', value);
  let number = 0;
  let parts = 0;
  for (let at = 0; at <= value.length; at++, parts++) {
    const start = at;
    let part = 0;
    for (; at < value.length && value.charCodeAt(at) !== DOT; at++) {
      const code = value.charCodeAt(at) - ZERO;
      if (code < 0 || code > 9 || at - start === 3) bad('IPv4 address', value);
      part = part * 10 + code;
    }
    const leadingZero = at - start > 1 && value.charCodeAt(start) === ZERO;
    if (at === start || leadingZero || part > 255) bad('IPv4 address', value);
    number = number * 256 + part;
  }
  if (parts !== 4) bad('IPv4 address', value);
  return number;
}

export const ipv6: Codec<string> = {
  read: (r) => formatIpv6(r),
  write: (w, value) => {
    for (const word of ipv6Words(value)) w.u16(word);
  },
};

/** RFC 5952: the longest run of at least two zero words, the first of equals, is `::`. */
function formatIpv6(r: Reader): string {
  const { bytes, pos } = r;
  r.skip(2 * WORDS);
  const word = (i: number): number =>
    ((bytes[pos + 2 * i] as number) << 8) | (bytes[pos + 2 * i + 1] as number);
  let start = -1;
  let length = 1;
  for (let i = 0; i < WORDS; i++) {
    let run = 0;
    while (i + run < WORDS && word(i + run) === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
    i += run;
  }
  let out = '';
  for (let i = 0; i < WORDS; i++) {
    if (i === start) {
      out += '::';
      i += length - 1;
    } else {
      if (i > 0 && i !== start + length) out += ':';
      out += word(i).toString(16);
    }
  }
  return out;
}

function ipv6Words(value: string): number[] {
  if (typeof value !== 'string') bad('IPv6 address', value);
  const halves = value.split('::');
  if (halves.length > 2) bad('IPv6 address', value);
  const [head = '', tail] = halves;
  const before = wordsOf(head, value, tail === undefined);
  if (tail === undefined) {
    if (before.length !== WORDS) bad('IPv6 address', value);
    return before;
  }
  const after = wordsOf(tail, value, true);
  if (before.length + after.length >= WORDS) bad('IPv6 address', value);
  return [...before, ...new Array<number>(WORDS - before.length - after.length).fill(0), ...after];
}

/** The last two words may be an IPv4 address, if the last of them is the address's last. */
function wordsOf(half: string, value: string, isLast: boolean): number[] {
  if (half === '') return [];
  const words: number[] = [];
  const parts = half.split(':');
  for (const [i, part] of parts.entries()) {
    if (isLast && i === parts.length - 1 && part.includes('.')) {
      const number = ipv4Number(part);
      words.push(number >>> 16, number & 0xffff);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) bad('IPv6 address', value);
      words.push(Number.parseInt(part, 16));
    }
  }
  return words;
}

function bad(what: string, value: unknown): never {
  throw new OpenFlowEncodeError('bad-value', `not an ${what}: ${JSON.stringify(value)}`);
}
