/**
 * What the two sides say to each other: every message as a schema, its type inferred. The agent dials; the controller asks; the agent answers.
 * Requests carry an id of the controller's choosing and are answered once with that id. `follow` is answered with `delta`s until `end` or `error`.
 */
import { z } from 'zod';
import type { DomainErrorCode } from '../domain/domain.js';
import { dpidSchema, endsSchema } from '../domain/ends.js';
import { policySchema } from '../firewall/policy.js';
import {
  deltaSchema,
  epochSchema,
  type FirewallState,
  firewallStateSchema,
  MAX_CONNECTIONS,
  sequenceSchema,
} from '../firewall/state.js';
import { terminalNameSchema, terminalSchema } from '../firewall/terminal.js';
import { MAX_BATCH, MAX_ERROR_TEXT, PROTOCOL_VERSION } from './limits.js';

const id = z
  .int()
  .min(0)
  .max(2 ** 32 - 1);
const durationMs = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const instance = z.strictObject({ terminal: terminalNameSchema, epoch: epochSchema });
const text = z.string().max(MAX_ERROR_TEXT);

export const domainNameSchema = z.string().regex(/^[a-z][a-z0-9-]{0,31}$/, {
  message: 'a domain name is a lower-case letter, then at most 31 letters, digits or dashes',
});

const capabilitiesSchema = z.strictObject({
  implementation: z.string().min(1).max(64),
  serves: z.array(dpidSchema).max(1024).readonly(),
});

const healthSchema = z.strictObject({
  ok: z.boolean(),
  problem: text.exactOptional(),
  instances: z
    .array(instance.extend({ role: z.enum(['standby', 'active', 'draining', 'retired']) }))
    .max(10_000)
    .readonly(),
});

export const DOMAIN_ERROR_CODES = [
  'stale-epoch',
  'no-instance',
  'changes-lost',
  'unreachable',
  'not-ready',
  'refused',
  'invalid',
] as const satisfies readonly DomainErrorCode[];

const digestSchema = z.strictObject({
  sequence: sequenceSchema,
  connections: z.int().min(0).max(MAX_CONNECTIONS),
  digest: z.string().regex(/^[0-9a-f]{16}$/),
});

/** An older change counts as of this age. */
export const MAX_AGE_MS = 3_600_000;

const deltas = z.array(deltaSchema).max(MAX_BATCH).readonly();

/** On the wire the connections of a state are one binary value (connections-codec.ts). */
const wireStateSchema = firewallStateSchema.extend({ connections: z.instanceof(Uint8Array) });

const ping = z.strictObject({ type: z.literal('ping'), id });
const pong = z.strictObject({ type: z.literal('pong'), id });
/** With an id: what became of that request. Without: what was wrong with the peer's message; the link closes. */
const error = z.strictObject({
  type: z.literal('error'),
  id: id.exactOptional(),
  code: z.enum(DOMAIN_ERROR_CODES),
  message: text,
});

/** Read first of all, and loosely: a peer of another version may say more. */
export const versionSchema = z.object({ type: z.literal('hello'), protocol: z.int().min(0) });

const hello = z.strictObject({
  type: z.literal('hello'),
  protocol: z.literal(PROTOCOL_VERSION),
  domain: domainNameSchema,
  capabilities: capabilitiesSchema,
});

export const agentWireSchema = z.discriminatedUnion('type', [
  hello,
  z.strictObject({ type: z.literal('ack'), id }),
  z.strictObject({ type: z.literal('ends'), id, ends: endsSchema }),
  z.strictObject({ type: z.literal('state'), id, state: wireStateSchema }),
  z.strictObject({ type: z.literal('health-report'), id, health: healthSchema }),
  z.strictObject({ type: z.literal('digest-report'), id, digest: digestSchema }),
  /** Changes of the instance that `follow` with this id named. */
  z.strictObject({
    type: z.literal('delta'),
    id,
    deltas: z.array(deltaSchema).min(1).max(MAX_BATCH).readonly(),
    /** How long ago the first of them was, when it was sent: on the agent's own clock. */
    ageMs: z.number().min(0).max(MAX_AGE_MS).exactOptional(),
  }),
  /** No more of them: the instance is retired, or the controller has said `unfollow`. */
  z.strictObject({ type: z.literal('end'), id }),
  error,
  ping,
  pong,
]);

export const controllerWireSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('hello-ack'), protocol: z.literal(PROTOCOL_VERSION) }),
  z.strictObject({
    type: z.literal('refusal'),
    code: z.enum(['version', 'refused']),
    message: text,
  }),
  z.strictObject({ type: z.literal('prepare'), id, epoch: epochSchema, snapshot: wireStateSchema }),
  z.strictObject({ type: z.literal('sync'), id, instance, snapshot: wireStateSchema }),
  z.strictObject({ type: z.literal('digest'), id, instance }),
  /** Changes of another instance, for this one to apply. */
  z.strictObject({ type: z.literal('delta'), id, instance, deltas }),
  z.strictObject({ type: z.literal('set-policy'), id, instance, policy: policySchema }),
  z.strictObject({ type: z.literal('set-terminal'), id, instance, terminal: terminalSchema }),
  z.strictObject({ type: z.literal('activate'), id, instance, leaseMs: durationMs }),
  z.strictObject({ type: z.literal('drain'), id, instance, drainMs: durationMs }),
  z.strictObject({ type: z.literal('retire'), id, instance }),
  z.strictObject({ type: z.literal('export'), id, instance }),
  z.strictObject({ type: z.literal('health'), id }),
  z.strictObject({ type: z.literal('follow'), id, instance, fromSequence: sequenceSchema }),
  z.strictObject({ type: z.literal('unfollow'), id }),
  /** One `delta` of this `follow` has been taken: another may be sent. */
  z.strictObject({ type: z.literal('ack'), id }),
  error,
  ping,
  pong,
]);

export type AgentWire = z.infer<typeof agentWireSchema>;
export type ControllerWire = z.infer<typeof controllerWireSchema>;

type WithConnections<Wire, Type extends string, Field extends string> = Wire extends { type: Type }
  ? Omit<Wire, Field> & { readonly [K in Field]: FirewallState }
  : Wire;

/** What an agent says, as the program sees it. */
export type AgentMessage = WithConnections<AgentWire, 'state', 'state'>;
/** What a controller says, as the program sees it. */
export type ControllerMessage = WithConnections<ControllerWire, 'prepare' | 'sync', 'snapshot'>;

export const REQUEST_TYPES = [
  'prepare',
  'sync',
  'digest',
  'delta',
  'set-policy',
  'set-terminal',
  'activate',
  'drain',
  'retire',
  'export',
  'health',
] as const;

/** What a controller asks and an agent answers once. */
export type Request = Extract<ControllerMessage, { type: (typeof REQUEST_TYPES)[number] }>;
/** The answers. */
export type Reply = Extract<
  AgentMessage,
  { type: 'ack' | 'ends' | 'state' | 'health-report' | 'digest-report' }
>;
/** What speaks of followed changes. */
export type Followed = Extract<AgentMessage, { type: 'delta' | 'end' }>;
