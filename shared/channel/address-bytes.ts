/**
 * IP addresses between their canonical texts and numbers or bytes. Pure; the texts are exactly those of shared/firewall.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { BytesError } from './bytes.js';

/** An IPv4 address as a number of 32 bits. */
export function ipv4ToNumber(text: string): number {
  if (!isIPv4(text)) throw new BytesError(`not an IPv4 address: ${text.slice(0, 50)}`);
  let value = 0;
  for (const part of text.split('.')) value = value * 256 + Number(part);
  return value;
}

export function numberToIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

/** The 16 bytes of an IPv6 address in any RFC 4291 text form without a zone. */
export function ipv6ToBytes(text: string): Uint8Array {
  if (!isIPv6(text) || text.includes('%')) throw new BytesError(`not an IPv6 address: ${text.slice(0, 50)}`);
  const bytes = new Uint8Array(16);
  const [head = '', tail] = text.split('::');
  const front = groupsOf(head);
  const back = tail === undefined ? [] : groupsOf(tail);
  for (const [index, group] of front.entries()) put(bytes, index, group);
  for (const [index, group] of back.entries()) put(bytes, 8 - back.length + index, group);
  return bytes;
}

/** The RFC 5952 text of 16 bytes: the first longest run of two or more zero groups becomes `::`. */
export function bytesToIpv6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
    i = end + 1;
  }
  const text = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':');
  return start < 0 ? text(0, 8) : `${text(0, start)}::${text(start + length, 8)}`;
}

function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)];
    const value = ipv4ToNumber(part);
    return [value >>> 16, value & 0xffff];
  });
}

function put(bytes: Uint8Array, index: number, group: number): void {
  bytes[index * 2] = group >>> 8;
  bytes[index * 2 + 1] = group & 0xff;
}
