/**
 * The HTTP API as values: what the controller answers and what a client may send. Both sides check against these.
 */
import { z } from 'zod';
import { policySchema } from '../firewall/policy.js';
import { firewallStateSchema } from '../firewall/state.js';
import { terminalNameSchema } from '../firewall/terminal.js';

/** Largest body that the server reads and the client sends, in bytes: the most rules with every field full have about 2.5 MB. */
export const MAX_REQUEST_BYTES = 4 * 2 ** 20;
/** Largest answer that the client reads, in bytes: a firewall state of 1,000,000 connections has about 200 MB. */
export const MAX_RESPONSE_BYTES = 256 * 2 ** 20;
/** How many finished handovers are remembered. */
export const MAX_HANDOVERS = 100;

const text = z.string().min(1).max(200);
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const milliseconds = z.number().min(0);
/** Milliseconds since 1970, UTC. */
const timestamp = z.number().min(0);
const epochNumber = z
  .int()
  .min(1)
  .max(2 ** 32 - 1);

export const roleSchema = z.enum(['standby', 'active', 'draining', 'retired']);

/** follow: the firewall moves by itself to the domain that serves the terminal's attachment. stay: it moves on demand only. */
export const placementSchema = z.enum(['follow', 'stay']);
export type PlacementMode = z.infer<typeof placementSchema>;

export const attachmentSchema = z.strictObject({ switch: text, port: text });

export const switchStatusSchema = z.strictObject({
  name: text,
  /** 16 lower-case hexadecimal digits. */
  dpid: z.string().regex(/^[0-9a-f]{16}$/),
  connected: z.boolean(),
});

export const domainStatusSchema = z.strictObject({
  name: text,
  /** As in the configuration: `openflow-ct`, `remote`, … */
  kind: text,
  /** The names of the switches whose attachments it serves. */
  serves: z.array(text).readonly(),
  ok: z.boolean(),
  /** What a person should do, when not ok. */
  problem: z.string().optional(),
  instances: z.array(z.strictObject({ terminal: text, epoch: epochNumber, role: roleSchema })).readonly(),
});
export type DomainStatus = z.infer<typeof domainStatusSchema>;

export const addressStatusSchema = z.strictObject({
  address: text,
  /**
   * How the terminal came by it. fixed: by the configuration. dhcp: a server gave it. slaac: the terminal announced it, and nobody else had it.
   * kept: a firewall that outlived an earlier controller had it.
   */
  origin: z.enum(['fixed', 'dhcp', 'slaac', 'kept']),
  /** When its lease ends; there unless it has no end. */
  until: timestamp.optional(),
});
export type AddressStatus = z.infer<typeof addressStatusSchema>;

export const standbyStatusSchema = z.strictObject({
  domain: text,
  /** null while there is none. */
  epoch: epochNumber.nullable(),
  /** building: not there yet. ready: could take over at any moment. away: its domain does not answer, or could not build it. */
  state: z.enum(['building', 'ready', 'away']),
  /** What keeps it away. */
  problem: z.string().optional(),
  /** Changes of the active firewall that it has not acknowledged. */
  behind: count,
  /** From the controller's having a change to the standby's acknowledgement, of the last 1,024 changes. */
  lagMs: z.strictObject({ p50: milliseconds, p99: milliseconds, max: milliseconds }).optional(),
});
export type StandbyStatus = z.infer<typeof standbyStatusSchema>;

export const terminalStatusSchema = z.strictObject({
  name: terminalNameSchema,
  mac: text,
  /** The present ones. */
  addresses: z.array(addressStatusSchema).readonly(),
  /** The name of its policy. */
  policy: text,
  /** Where it is plugged in; null when it is nowhere. */
  attachment: attachmentSchema.nullable(),
  /** The domain with its active instance, and the epoch; null before the first. */
  active: z.strictObject({ domain: text, epoch: epochNumber }).nullable(),
  placement: placementSchema,
  /** The standbys that it should have, and those of a handover under way. */
  standbys: z.array(standbyStatusSchema).readonly(),
  /** Every instance that is not retired. */
  instances: z.array(z.strictObject({ domain: text, epoch: epochNumber, role: roleSchema })).readonly(),
  /** The id of the handover under way, or null. */
  handover: text.nullable(),
});
export type TerminalStatus = z.infer<typeof terminalStatusSchema>;

export const statusSchema = z.strictObject({
  version: text,
  startedAt: timestamp,
  switches: z.array(switchStatusSchema).readonly(),
  domains: z.array(domainStatusSchema).readonly(),
  terminals: z.array(terminalStatusSchema).readonly(),
});
export type Status = z.infer<typeof statusSchema>;

/** In the order in which a handover goes through them; `undo` after a failure before the switch. */
export const phaseNameSchema = z.enum(['detect', 'haul', 'prepare', 'switch', 'drain', 'retire', 'undo']);
export type PhaseName = z.infer<typeof phaseNameSchema>;

/** done: the new instance is active. undone: the old one still is. failed: neither could be made sure of. */
export const outcomeSchema = z.enum(['done', 'undone', 'failed']);
/** takeover: the domain with the active firewall was lost. */
export const causeSchema = z.enum(['attachment', 'demand', 'takeover']);

/** The steps of a handover, in order; the first three are left out when a standby is ready. */
export const stepSchema = z.enum([
  'export',
  'prepare',
  'path',
  'catch-up',
  'activate',
  'steer',
  'drain',
  'retire',
]);
export type HandoverStep = z.infer<typeof stepSchema>;

export const handoverReportSchema = z.strictObject({
  id: text,
  terminal: text,
  from: text,
  to: text,
  fromEpoch: epochNumber,
  /** The old one's when no new instance came to be. */
  toEpoch: epochNumber,
  cause: causeSchema,
  outcome: outcomeSchema,
  /** What went wrong and what to do; there unless the outcome is `done`. */
  error: z.string().optional(),
  phases: z.array(z.strictObject({ name: phaseNameSchema, ms: milliseconds })).readonly(),
  totalMs: milliseconds,
  /** Bytes of the snapshot as it was transferred. */
  stateBytes: count,
  /** Bytes of the deltas after it. */
  deltaBytes: count,
  /** How many connections the snapshot held. */
  connections: count,
});
export type HandoverReport = z.infer<typeof handoverReportSchema>;

export const handoverRequestSchema = z.strictObject({
  /** The domain that shall be active. */
  to: text,
  /** For experiments: imports the policy without the connections, which therefore die. */
  omitConnections: z.boolean().default(false),
  /** For experiments: the old instance is removed before the new one is active. */
  breakBeforeMake: z.boolean().exactOptional(),
  /** For experiments: waits before this step, until it is told to go on; 30 s at most. An event tells when it waits. */
  pauseBefore: stepSchema.exactOptional(),
  /** true: the answer is the report, when the handover has ended. false: its id, at once. */
  wait: z.boolean().default(true),
});
export type HandoverRequest = z.input<typeof handoverRequestSchema>;
export type HandoverWish = Omit<z.output<typeof handoverRequestSchema>, 'wait'>;

export const handoverStartedSchema = z.strictObject({ id: text });
export type HandoverStarted = z.infer<typeof handoverStartedSchema>;

/** Things that happen, as they happen. A phase is told when it has ended. */
export const eventSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('attachment'),
    terminal: text,
    attachment: attachmentSchema.nullable(),
    at: timestamp,
  }),
  z.strictObject({
    kind: z.literal('phase'),
    /** The id of the handover. */
    handover: text,
    terminal: text,
    from: text,
    to: text,
    phase: phaseNameSchema,
    startedAt: timestamp,
    ms: milliseconds,
    /** Bytes that the phase moved between the domains. */
    bytes: count,
  }),
  z.strictObject({ kind: z.literal('handover'), report: handoverReportSchema }),
  /** A handover waits before a step: see `pauseBefore`. */
  z.strictObject({ kind: z.literal('paused'), handover: text, terminal: text, step: stepSchema }),
]);
export type ApiEvent = z.infer<typeof eventSchema>;
export type PhaseEvent = Extract<ApiEvent, { kind: 'phase' }>;

export const errorCodeSchema = z.enum([
  'invalid',
  'unknown-terminal',
  'unknown-domain',
  'unknown-path',
  'no-instance',
  'busy',
  'already-there',
  'unavailable',
  'forbidden',
  'too-large',
  'internal',
]);
export type ErrorCode = z.infer<typeof errorCodeSchema>;

/** The body of every answer that is not 2xx. */
export const errorBodySchema = z.strictObject({ code: errorCodeSchema, message: z.string() });

export const terminalsSchema = z.array(terminalStatusSchema).readonly();
export const handoversSchema = z.array(handoverReportSchema).readonly();

/** Every plain route: method, path, what it answers. `/v1/events` is a stream of server-sent events of `eventSchema`. */
export const ROUTES = {
  status: { method: 'GET', path: '/v1/status', answer: statusSchema },
  terminals: { method: 'GET', path: '/v1/terminals', answer: terminalsSchema },
  state: { method: 'GET', path: '/v1/terminals/:name/state', answer: firewallStateSchema },
  setPolicy: {
    method: 'PUT',
    path: '/v1/terminals/:name/policy',
    body: policySchema,
    answer: z.strictObject({ policy: text }),
  },
  setPlacement: {
    method: 'PUT',
    path: '/v1/terminals/:name/placement',
    body: z.strictObject({ placement: placementSchema }),
    answer: z.strictObject({ placement: placementSchema }),
  },
  handover: {
    method: 'POST',
    path: '/v1/terminals/:name/handover',
    body: handoverRequestSchema,
    answer: handoverReportSchema,
  },
  continue: {
    method: 'POST',
    path: '/v1/terminals/:name/continue',
    answer: z.strictObject({ continued: z.boolean() }),
  },
  handovers: { method: 'GET', path: '/v1/handovers', answer: handoversSchema },
} as const;

export const EVENTS_PATH = '/v1/events';
