/**
 * The terminal: the user's device, as every part of the system names it.
 * Addresses are kept in one canonical text form, so that equal addresses are equal strings.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';

export type Family = 'ipv4' | 'ipv6';

/** Lower-case, colon-separated, unicast and not all zero. */
export const macSchema = z
  .string()
  .transform((text) => text.toLowerCase())
  .refine((text) => /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(text) && text !== '00:00:00:00:00:00', {
    message: 'write a unicast MAC address such as 02:00:00:00:00:01',
  });

/** Dotted decimal without leading zeros; anything else is refused. */
export const ipv4Schema = z
  .string()
  .refine((text) => isIPv4(text), { message: 'write an IPv4 address such as 10.0.0.1' });

/** Any RFC 4291 text form without a zone; the value is the RFC 5952 form. */
export const ipv6Schema = z
  .string()
  .refine((text) => isIPv6(text) && !text.includes('%'), {
    message: 'write an IPv6 address such as fd00::1, without a zone',
  })
  .transform(canonicalIpv6);

export const terminalNameSchema = z.string().regex(/^[a-z][a-z0-9-]{0,31}$/, {
  message: 'a name is a lower-case letter, then at most 31 letters, digits or dashes',
});

/** The most addresses of a terminal. */
export const MAX_ADDRESSES: Readonly<Record<Family, number>> = { ipv4: 8, ipv6: 16 };

export const terminalSchema = z.strictObject({
  name: terminalNameSchema,
  mac: macSchema,
  ipv4: z.array(ipv4Schema).max(MAX_ADDRESSES.ipv4).readonly(),
  ipv6: z.array(ipv6Schema).max(MAX_ADDRESSES.ipv6).readonly(),
});

/** The user's device. `ipv4` and `ipv6` are the addresses it may send from, beside its link-local one. */
export type Terminal = z.infer<typeof terminalSchema>;

/** Are these the same terminal with the same addresses? The order of addresses means nothing. */
export function isSameTerminal(a: Terminal, b: Terminal): boolean {
  const same = (one: readonly string[], other: readonly string[]): boolean =>
    one.length === other.length && one.every((address) => other.includes(address));
  return a === b || (a.name === b.name && a.mac === b.mac && same(a.ipv4, b.ipv4) && same(a.ipv6, b.ipv6));
}

/** The RFC 5952 text form of an IPv6 address (what the URL parser of the platform writes). */
export function canonicalIpv6(text: string): string {
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}

/** The link-local address that a terminal forms from its MAC (RFC 4291, appendix A: modified EUI-64). */
export function linkLocalOf(mac: string): string {
  const bytes = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = bytes;
  const group = (high: number, low: number): string => ((high << 8) | low).toString(16);
  return canonicalIpv6(`fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`);
}

export function familyOf(address: string): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}
