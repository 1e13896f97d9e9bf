/**
 * The firewall state: what is exported and imported. Not how a firewall is built, but what it means.
 */
import { z } from 'zod';
import { connectionSchema } from './connection.js';
import { MAX_RULES, policySchema } from './policy.js';
import { terminalSchema } from './terminal.js';

/** Counts the moves of a terminal's firewall. It fences: a message of an older epoch is refused. */
export type Epoch = number & { readonly __brand: 'Epoch' };
export const epochSchema = z
  .int()
  .min(1)
  .max(2 ** 32 - 1)
  .transform((value) => value as Epoch);

export function epoch(value: number): Epoch {
  return epochSchema.parse(value);
}

/** Numbers the changes of one instance; a snapshot carries the number of the last change it holds. */
export const sequenceSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER);

const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
/** How many opening packets a rule decided, and their bytes. `rule` is its name, or `default outbound` / `default inbound`. */
export const ruleCounterSchema = z.strictObject({
  rule: z.string().min(1).max(63),
  packets: count,
  bytes: count,
});
export type RuleCounter = z.infer<typeof ruleCounterSchema>;

/** Far more than a terminal has, and no more than its container and its switch can hold. */
export const MAX_CONNECTIONS = 200_000;
/** How many policies a state may name beside the present one. */
export const MAX_EARLIER_POLICIES = 16;

export const firewallStateSchema = z.strictObject({
  terminal: terminalSchema,
  epoch: epochSchema,
  sequence: sequenceSchema,
  policy: policySchema,
  /** Policies that were in force before, the last replaced first, as far as connections live on that only they allowed. */
  earlier: z.array(policySchema).max(MAX_EARLIER_POLICIES).readonly().default([]),
  connections: z.array(connectionSchema).max(MAX_CONNECTIONS).readonly(),
  counters: z
    .array(ruleCounterSchema)
    .max(MAX_RULES + 2)
    .readonly(),
});
export type FirewallState = z.infer<typeof firewallStateSchema>;
/** A whole firewall state of one instance. */
export type Snapshot = FirewallState;

export const changeSchema = z.discriminatedUnion('kind', [
  /** A connection is new, or another than before in anything but its key. */
  z.strictObject({ kind: z.literal('connection'), connection: connectionSchema }),
  /** A connection has ended: `key` is its `connectionKey`. */
  z.strictObject({ kind: z.literal('ended'), key: z.string().min(1).max(200) }),
  z.strictObject({ kind: z.literal('policy'), policy: policySchema }),
  /** The terminal has other addresses than before: name and MAC are the same. Connections of addresses that it has no more are over. */
  z.strictObject({ kind: z.literal('terminal'), terminal: terminalSchema }),
]);
export type Change = z.infer<typeof changeSchema>;

/** One numbered change of a firewall state. Numbers rise by one; a gap means that something was lost. */
export const deltaSchema = z.strictObject({ sequence: sequenceSchema.min(1), change: changeSchema });
export type Delta = z.infer<typeof deltaSchema>;
