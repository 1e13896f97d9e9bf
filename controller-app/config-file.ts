/**
 * What may stand in the controller's configuration file, and what its values default to.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { type Dpid, dpid } from '../shared/domain/domain.js';
import { inPrefix } from '../shared/firewall/addresses.js';
import { prefixOf, prefixSchema } from '../shared/firewall/policy.js';
import { type Family, familyOf, terminalSchema } from '../shared/firewall/terminal.js';
import { idleTimesSchema } from '../shared/firewall/timeouts.js';
import { isLoopback } from '../shared/runtime/loopback.js';
import { tlsSchema } from '../shared/tls/index.js';

/** Instance numbers go up to 2046, and a terminal needs two while it moves. */
export const MAX_TERMINALS = 1000;

/** Standbys of one terminal. */
const MAX_STANDBYS = 8;

/** Where a server listens. `host` is an IP address. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const listenAddress = z.string().transform((text, context): ListenAddress => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!match || isIP(host) !== (match[1] === undefined ? 4 : 6) || port > 65535) {
    context.addIssue({
      code: 'custom',
      message: 'write an address and a port such as 127.0.0.1:6653 or [::1]:6653',
    });
    return z.NEVER;
  }
  return { host, port };
});

const loopbackAddress = (why: string) =>
  listenAddress.refine(({ host }) => isLoopback(host), { message: `write a loopback address: ${why}` });

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,31}$/, {
  message: 'a name is a letter, then at most 31 letters, digits, dashes or underscores',
});

const dpidSchema = z
  .union([
    z.int().min(1),
    z.string().regex(/^(?:[0-9a-fA-F]{16}|(?:[0-9a-fA-F]{2}:){7}[0-9a-fA-F]{2})$/, {
      message:
        'write a datapath id as a number such as 1, or as 16 hexadecimal digits such as 0000000000000001',
    }),
  ])
  .transform((value): Dpid => dpid(value));

const portRef = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,31}:[^:\s]{1,63}$/, {
    message: 'write a switch and its port such as s1:s1-eth1',
  })
  .transform((text): PortRef => {
    const [sw = '', port = ''] = text.split(':');
    return { switch: sw, port };
  });

/** A port of a switch, both by name. */
export interface PortRef {
  readonly switch: string;
  readonly port: string;
}

const domainSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    name,
    kind: z.literal('openflow-ct'),
    switch: name,
    serves: z.array(name).min(1).optional(),
  }),
  z.strictObject({ name, kind: z.literal('remote'), serves: z.array(name).min(1) }),
]);

const milliseconds = (fallback: number, least: number, most: number) =>
  z.int().min(least).max(most).default(fallback);

export const timingsSchema = z.strictObject({
  /** How long an old instance goes on forwarding what it knows. Far longer than a switch needs to put new rules in effect. */
  drainMs: milliseconds(500, 50, 60_000),
  /** How long an instance admits new connections without hearing from the coordinator. */
  leaseMs: milliseconds(10_000, 1_000, 600_000),
  /** How long a domain may take to build an instance. A container's first start takes seconds. */
  prepareMs: milliseconds(60_000, 100, 600_000),
  /** How long any other call of a domain or request to a switch may take. */
  callMs: milliseconds(10_000, 100, 60_000),
  /** A firewall that is not where its terminal is, because that failed, is tried to be moved again after this long. */
  retryMs: milliseconds(30_000, 1_000, 3_600_000),
  /** A domain with an active firewall that has not been heard of for this long is taken for dead: a standby takes over. */
  takeoverMs: milliseconds(2_000, 100, 600_000),
  /** Active firewall and standbys are compared this often. */
  digestMs: milliseconds(3_000, 100, 600_000),
  /** Idle times of connections, in seconds. */
  idle: idleTimesSchema.prefault({}),
});

/** Not only loopback, link-local or multicast addresses. */
function isForHosts(prefix: string): boolean {
  const { address, length } = prefixOf(prefix);
  const never =
    familyOf(address) === 'ipv4'
      ? ['127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3']
      : ['fe80::/10', 'ff00::/8', '::1/128'];
  return !never.some((other) => length >= prefixOf(other).length && inPrefix(address, other));
}

/** As many prefixes as a network can have, and more. */
const MAX_PREFIXES = 8;
const prefixOfFamily = (family: Family, example: string) =>
  prefixSchema.refine((text) => prefixOf(text).family === family && isForHosts(text), {
    message: `write an ${family === 'ipv4' ? 'IPv4' : 'IPv6'} prefix of hosts’ addresses such as ${example}`,
  });

const learnSchema = z.strictObject({
  /** Prefixes within which it may have IPv4 addresses that a DHCP server gives it. */
  ipv4: z.array(prefixOfFamily('ipv4', '10.0.0.0/24')).max(MAX_PREFIXES).readonly().default([]),
  /** Prefixes within which it may have IPv6 addresses that it announces by duplicate address detection. */
  ipv6: z.array(prefixOfFamily('ipv6', 'fd00::/64')).max(MAX_PREFIXES).readonly().default([]),
});

const terminalEntry = terminalSchema.extend({
  ipv4: terminalSchema.shape.ipv4.prefault([]),
  ipv6: terminalSchema.shape.ipv6.prefault([]),
  /** Where it may learn addresses beside those. Nowhere unless it says so. */
  learn: learnSchema.prefault({}),
  /** The domains that hold a standby of its firewall wherever it is active: those that could take over at any moment. */
  standbys: z.array(name).max(MAX_STANDBYS).readonly().default([]),
  /** On how many ports it may be at once: with 2 it takes up the next before it leaves the last. */
  attachments: z.int().min(1).max(2).default(1),
  /** The path of its policy, relative to the file. */
  policy: z.string().min(1).max(1000),
});

export const fileSchema = z.strictObject({
  openflow: listenAddress.prefault('127.0.0.1:6653'),
  channel: listenAddress.prefault('127.0.0.1:7653'),
  http: loopbackAddress('the API has no log-in, so that no other machine may reach it').prefault(
    '127.0.0.1:7680',
  ),
  /** With it, channel and OpenFlow run over TLS, and agents and switches must show certificates. Paths are relative to the file. */
  tls: tlsSchema.optional(),
  /** Path of a Unix socket for the API, too; relative to the file. */
  socket: z.string().min(1).max(100).optional(),
  /** The folder of the store, relative to the file; false: nothing outlives the controller. */
  store: z.union([z.literal(false), z.string().min(1).max(1000)]).default('paguro-store'),
  switches: z
    .array(
      z.strictObject({
        name,
        dpid: dpidSchema,
        /**
         * terminals: ports that are no links are closed to everything until a terminal is seen there. any: hosts that are no terminals
         * may be there, too; then whoever has a port can pretend to be such a host.
         */
        access: z.enum(['any', 'terminals']).default('any'),
      }),
    )
    .min(1)
    .max(256),
  links: z
    .array(z.tuple([portRef, portRef]))
    .max(1024)
    .default([]),
  terminals: z.array(terminalEntry).max(MAX_TERMINALS).default([]),
  domains: z.array(domainSchema).min(1).max(256),
  plugins: z
    .array(
      z.strictObject({
        module: z.string().min(1).max(1000),
        options: z.record(z.string(), z.unknown()).default({}),
      }),
    )
    .max(32)
    .default([]),
  timings: timingsSchema.prefault({}),
});

/** As written, each value checked by itself. */
export type ConfigFile = z.infer<typeof fileSchema>;
