/**
 * The 32 bits of a cookie that a firewall rule may choose: what a copy means, whose it is, and which policy rule it is of.
 *
 *   31..28 kind   26..16 instance number   10..0 policy rule
 *
 * Kinds of policy rules have bit 31, so that their counters can be asked for alone.
 */

/** Why a copy was sent, or why a rule is worth counting. */
export const KINDS = [
  /** Nothing to say. */
  'none',
  /** A TCP segment with SYN, FIN or RST of a known connection. */
  'state',
  /** The first packet of the other end: of UDP and echo, or of an adopted TCP connection. */
  'reply',
  /** The ACK that ends a TCP handshake. */
  'handshake',
  /** A live connection announces itself, once a generation. */
  'announce',
  /** The switch begins to track an imported connection. */
  'adopted',
  /** An imported connection is reset before the switch tracks it. */
  'adopted-reset',
  'unused',
  /** A policy rule admitted an opening packet. */
  'opening',
  /** A policy rule dropped an opening packet: counted, not copied. */
  'refused',
  /** A policy rule rejected an opening packet: counted, and copied for the answer. */
  'rejected',
] as const;
export type Kind = Exclude<(typeof KINDS)[number], 'unused'>;

const POLICY_KIND_BIT = 0x8000_0000;
const INSTANCE_BITS = 0x07ff_0000;
const RULE_BITS = 0x7ff;

export interface RuleCookie {
  readonly kind: Kind;
  readonly instance: number;
  /** Index of the policy rule; DEFAULT_OUTBOUND and DEFAULT_INBOUND for the defaults. 0 when the kind has none. */
  readonly policyRule: number;
}

/** Behind the indexes of all rules that a policy can have (MAX_RULES). */
export const DEFAULT_OUTBOUND = RULE_BITS - 1;
export const DEFAULT_INBOUND = RULE_BITS;

export function packCookie({ kind, instance, policyRule }: RuleCookie): number {
  return ((KINDS.indexOf(kind) << 28) | (instance << 16) | policyRule) >>> 0;
}

/** The parts of a cookie; nothing when its kind is unknown. */
export function unpackCookie(cookie: number): RuleCookie | undefined {
  const kind = KINDS[cookie >>> 28];
  if (kind === undefined || kind === 'unused') return undefined;
  return { kind, instance: (cookie >>> 16) & 0x7ff, policyRule: cookie & RULE_BITS };
}

/** Tables whose rules are each of one instance, and say so in their cookies. */
export const INSTANCE_TABLES = ['firewall', 'firewall-ct', 'admit'] as const;

/** The cookies of all rules of one instance in those tables: those that have these bits under the mask. */
export function instanceCookies(instance: number): { readonly value: number; readonly mask: number } {
  return { value: (instance << 16) >>> 0, mask: INSTANCE_BITS };
}

/** The cookies of one instance's policy rules: those that have these bits under the mask. */
export function policyCookies(instance: number): { readonly value: number; readonly mask: number } {
  return { value: (POLICY_KIND_BIT | (instance << 16)) >>> 0, mask: (POLICY_KIND_BIT | INSTANCE_BITS) >>> 0 };
}
