/**
 * Cookies say whose a rule is: the top 16 bits that it is ours, the next 16 which plugin's, the low 32 are the plugin's own.
 */

/** "PG". */
const MARK = 0x5047n;

/** All cookies of all our plugins: what a reconciliation may touch. */
export const OUR_COOKIES = { cookie: MARK << 48n, cookieMask: 0xffffn << 48n } as const;

/** All cookies of one plugin. */
export function cookieClass(plugin: number): { cookie: bigint; cookieMask: bigint } {
  return { cookie: (MARK << 48n) | (BigInt(plugin) << 32n), cookieMask: 0xffff_ffffn << 32n };
}

/** The plugin's number and own bits, or nothing when the cookie is not one of ours. */
export function readCookie(cookie: bigint): { plugin: number; own: number } | undefined {
  if (cookie >> 48n !== MARK) return undefined;
  return { plugin: Number((cookie >> 32n) & 0xffffn), own: Number(cookie & 0xffff_ffffn) };
}
