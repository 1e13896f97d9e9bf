/**
 * Addresses as numbers: is this one in that prefix?
 */
import { familyOf } from './terminal.js';

/** An IPv4 or IPv6 address as a number of 32 or 128 bits. `address` is valid (`ipv4Schema`, `ipv6Schema`). */
export function addressBits(address: string): bigint {
  if (familyOf(address) === 'ipv4') {
    return address.split('.').reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
  }
  const [head = '', tail] = address.split('::');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = new Array<bigint>(Math.max(0, 8 - before.length - after.length)).fill(0n);
  return [...before, ...zeros, ...after].reduce((bits, group) => (bits << 16n) | group, 0n);
}

/** `prefix` is `address/length`; an address of the other family is never in it. */
export function inPrefix(address: string, prefix: string): boolean {
  const [network = '', length = ''] = prefix.split('/');
  if (familyOf(address) !== familyOf(network)) return false;
  const host = BigInt((familyOf(network) === 'ipv4' ? 32 : 128) - Number(length));
  return addressBits(address) >> host === addressBits(network) >> host;
}

/** The 16-bit groups of one side of `::`; a dotted IPv4 tail is two of them. */
function groups(text: string): bigint[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [BigInt(`0x${part}`)];
    const bits = addressBits(part);
    return [bits >> 16n, bits & 0xffffn];
  });
}
