/**
 * The policy: a user's ordered rules and a default per direction. The first rule that matches a connection's
 * opening packet decides; packets of admitted connections pass without asking again.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';
import { protocolSchema } from './connection.js';
import { canonicalIpv6, type Family, familyOf } from './terminal.js';

/** `reject` drops and answers: a TCP SYN with a RST, all else with an ICMP error (reject.ts). */
export const actionSchema = z.enum(['accept', 'drop', 'reject']);
export type Action = z.infer<typeof actionSchema>;

/** Seen from the terminal: outbound connections are opened by it, inbound ones by others. */
export const directionSchema = z.enum(['outbound', 'inbound']);
export type Direction = z.infer<typeof directionSchema>;

/** An inclusive range of ports. */
export type PortRange = readonly [first: number, last: number];

export interface Prefix {
  readonly family: Family;
  readonly address: string;
  readonly length: number;
}

const portNumber = z.int().min(0).max(65535);
const portText = z
  .string()
  .regex(/^\d{1,5}(-\d{1,5})?$/, { message: 'write a port such as 443, or a range such as 5000-5999' })
  .transform((text): [number, number] => {
    const [first = Number.NaN, last = first] = text.split('-').map(Number);
    return [first, last];
  });
const onePort = portNumber.transform((port): [number, number] => [port, port]);
const ordered = ([first, last]: [number, number]): boolean => first <= last && last <= 65535;
const orderedMessage = { message: 'a port range runs from a lower to a higher port, at most 65535' };
const portRange = z.union([onePort, portText]).refine(ordered, orderedMessage);
/** Only within a list is a pair a range, which is the form that validated ranges have: `[80, 443]` alone is two ports. */
const listedRange = z
  .union([onePort, portText, z.tuple([portNumber, portNumber])])
  .refine(ordered, orderedMessage);
const ports = z
  .union([portRange.transform((range) => [range]), z.array(listedRange).min(1).max(32)])
  .transform((ranges): readonly PortRange[] => ranges);

/** `address/length` in canonical form; an address alone is a prefix of all its bits. */
export const prefixSchema = z.string().transform((text, context): string => {
  const [address = '', lengthText] = text.split('/');
  const bits = isIPv4(address) ? 32 : isIPv6(address) && !address.includes('%') ? 128 : undefined;
  const length =
    lengthText === undefined ? bits : /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : undefined;
  if (bits === undefined || length === undefined || length > bits || text.split('/').length > 2) {
    context.addIssue({ code: 'custom', message: 'write a prefix such as 10.0.0.0/8 or fd00::/8' });
    return z.NEVER;
  }
  return `${bits === 32 ? address : canonicalIpv6(address)}/${length}`;
});

const ruleName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$/, {
  message: 'a rule name is at most 63 letters, digits, spaces, dots, dashes or underscores',
});

export const ruleSchema = z
  .strictObject({
    name: ruleName,
    direction: directionSchema,
    action: actionSchema,
    /** Without it the rule holds for both families, or for that of `remote`. */
    family: z.enum(['ipv4', 'ipv6']).optional(),
    /** Without it the rule holds for tcp, udp and icmp. */
    protocol: protocolSchema.optional(),
    /** The network's end: `address/length`; an address alone is that one host. */
    remote: prefixSchema.optional(),
    /** TCP or UDP ports at the network's end. */
    remotePorts: ports.optional(),
    /** TCP or UDP ports at the terminal's end. */
    localPorts: ports.optional(),
    /** The ICMP (IPv4) or ICMPv6 (IPv6) type of the opening packet. */
    icmpType: z.int().min(0).max(255).optional(),
  })
  .refine(
    (rule) => (!rule.remotePorts && !rule.localPorts) || rule.protocol === 'tcp' || rule.protocol === 'udp',
    {
      message: 'ports need protocol: tcp or udp',
    },
  )
  .refine((rule) => rule.icmpType === undefined || (rule.protocol === 'icmp' && rule.family !== undefined), {
    message: 'icmpType needs protocol: icmp and a family, because the numbers differ between IPv4 and IPv6',
  })
  .refine((rule) => !rule.remote || !rule.family || familyOf(rule.remote) === rule.family, {
    message: 'remote is of another family than the rule',
  });

export type Rule = z.infer<typeof ruleSchema>;

/** What counters and verdicts call the defaults; no rule may be named so. */
export const DEFAULT_NAMES: Readonly<Record<Direction, string>> = {
  outbound: 'default outbound',
  inbound: 'default inbound',
};

/** The most rules of a policy. */
export const MAX_RULES = 2_000;
export const TOO_MANY_RULES = `a policy has at most ${MAX_RULES} rules: join some, for instance with lists of ports`;

/** Shown to people and written to logs, so that it may not move a cursor or turn text round. */
const policyName = z.string().regex(/^[^\p{C}\p{Zl}\p{Zp}]{1,63}$/u, {
  message: 'a policy name is at most 63 characters, none of them a control character',
});

export const policySchema = z
  .strictObject({
    name: policyName,
    defaults: z.strictObject({ outbound: actionSchema, inbound: actionSchema }),
    rules: z.array(ruleSchema).max(MAX_RULES, { message: TOO_MANY_RULES }).readonly(),
  })
  .check((context) => {
    const seen = new Set<string>(Object.values(DEFAULT_NAMES));
    context.value.rules.forEach(({ name }, index) => {
      const message = Object.values(DEFAULT_NAMES).includes(name)
        ? 'this name means a default: give the rule another one'
        : 'another rule has this name: give each its own';
      if (seen.has(name)) {
        context.issues.push({ code: 'custom', input: name, path: ['rules', index, 'name'], message });
      }
      seen.add(name);
    });
  });

export type Policy = z.infer<typeof policySchema>;

/** The parts of a validated `remote`, which is always `address/length` in canonical form. */
export function prefixOf(remote: string): Prefix {
  const [address = '', length = ''] = remote.split('/');
  return { family: familyOf(address), address, length: Number(length) };
}
