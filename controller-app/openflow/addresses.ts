/**
 * Addresses as texts on one side and as bytes on the other. What is read is canonical: lower case, IPv6 as RFC 5952 has it.
 */
import { OpenFlowEncodeError } from './errors.js';
import type { Codec, Reader } from './wire/index.js';

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

export const mac: Codec<string> = {
  read: (r) => {
    const at = r.pos;
    r.skip(6);
    let out = HEX[r.bytes[at] as number] as string;
    for (let i = 1; i < 6; i++) out += `:${HEX[r.bytes[at + i] as number]}`;
    return out;
  },
  write: (w, value) => {
    if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) bad('MAC address', value);
    for (let i = 0; i < 17; i += 3) w.u8(Number.parseInt(value.slice(i, i + 2), 16));
  },
};

export const ipv4: Codec<string> = {
  read: (r) => `${r.u8()}.${r.u8()}.${r.u8()}.${r.u8()}`,
  write: (w, value) => {
    for (const part of ipv4Bytes(value)) w.u8(part);
  },
};

function ipv4Bytes(value: string): number[] {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(value)?.slice(1).map(Number);
  if (!parts?.every((part) => part <= 255)) bad('IPv4 address', value);
  return parts;
}

export const ipv6: Codec<string> = {
  read: (r) => formatIpv6(r),
  write: (w, value) => {
    for (const word of ipv6Words(value)) w.u16(word);
  },
};

/** RFC 5952: the longest run of at least two zero words, the first of equals, is `::`. */
function formatIpv6(r: Reader): string {
  const words: number[] = [];
  for (let i = 0; i < 8; i++) words.push(r.u16());
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && words[i + run] === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
  }
  const hex = (from: number, to: number): string =>
    words
      .slice(from, to)
      .map((word) => word.toString(16))
      .join(':');
  return start < 0 ? hex(0, 8) : `${hex(0, start)}::${hex(start + length, 8)}`;
}

function ipv6Words(value: string): number[] {
  const halves = value.split('::');
  if (halves.length > 2) bad('IPv6 address', value);
  const parse = (half: string): number[] => {
    if (half === '') return [];
    return half.split(':').flatMap((part, i, all) => {
      if (part.includes('.') && i === all.length - 1) {
        const [a = 0, b = 0, c = 0, d = 0] = ipv4Bytes(part);
        return [(a << 8) | b, (c << 8) | d];
      }
      if (!/^[0-9a-f]{1,4}$/i.test(part)) bad('IPv6 address', value);
      return [Number.parseInt(part, 16)];
    });
  };
  const head = parse(halves[0] ?? '');
  if (halves.length === 1) {
    if (head.length !== 8) bad('IPv6 address', value);
    return head;
  }
  const tail = parse(halves[1] ?? '');
  if (head.length + tail.length > 7) bad('IPv6 address', value);
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

function bad(what: string, value: string): never {
  throw new OpenFlowEncodeError('bad-value', `not an ${what}: ${JSON.stringify(value)}`);
}
