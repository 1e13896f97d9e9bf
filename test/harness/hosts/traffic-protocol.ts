/**
 * What the harness and the traffic program in a host say to each other: commands and reports as schemas. All times are monotonic ms.
 */
import { z } from 'zod';

export const LIMITS = {
  /** TCP connections of one program, both ends counted. */
  connections: 4_000,
  exchanges: 500,
  probes: 8,
  chunkBytes: 16_384,
  minTickMs: 5,
  probesPerSecond: 5_000,
  probeSeconds: 300,
  /** The program ends by itself after this: four hours. */
  lifeSeconds: 14_400,
} as const;

/** `both`: both ends send. `server-only`: the client never sends a byte. `echo`: the client sends back what it receives. */
const modeSchema = z.enum(['both', 'server-only', 'echo']);
const portSchema = z.number().int().min(1).max(65_535);
const tickSchema = z.number().int().min(LIMITS.minTickMs).max(60_000);
const chunkSchema = z.number().int().min(1).max(LIMITS.chunkBytes);
const targetSchema = z.object({ address: z.string(), port: portSchema });

export const commandSchema = z.discriminatedUnion('do', [
  z.object({
    do: z.literal('listen'),
    tcp: z.array(z.object({ port: portSchema, mode: modeSchema })).max(16),
    udp: z.array(portSchema).max(16),
    tickMs: tickSchema,
    chunkBytes: chunkSchema,
  }),
  z.object({
    do: z.literal('connect'),
    targets: z
      .array(targetSchema.extend({ mode: modeSchema, from: targetSchema.optional() }))
      .max(LIMITS.connections),
    tickMs: tickSchema,
    chunkBytes: chunkSchema,
    timeoutMs: z.number().int().min(1).max(60_000),
  }),
  z.object({
    do: z.literal('exchange'),
    targets: z.array(targetSchema).max(LIMITS.exchanges),
    tickMs: tickSchema,
  }),
  z.object({
    do: z.literal('probe'),
    target: targetSchema,
    perSecond: z.number().min(1).max(LIMITS.probesPerSecond),
    seconds: z.number().min(1).max(LIMITS.probeSeconds),
  }),
  z.object({ do: z.literal('stopProbe'), probe: z.number().int() }),
  z.object({ do: z.literal('end'), connections: z.array(z.number().int()) }),
  z.object({ do: z.literal('report'), since: z.number().optional() }),
]);

export type Command = z.infer<typeof commandSchema>;
export type CommandOf<Name extends Command['do']> = Extract<Command, { do: Name }>;

export const tcpReportSchema = z.object({
  /** Of this program: a connection keeps it. */
  id: z.number(),
  mode: modeSchema,
  family: z.enum(['ipv4', 'ipv6']),
  /** The client's port: the same at both ends, it joins their reports. */
  clientPort: z.number(),
  serverPort: z.number(),
  openedAt: z.number().nullable(),
  /** Bytes that arrived, and bytes handed to the kernel. */
  received: z.number(),
  sent: z.number(),
  lastReceivedAt: z.number().nullable(),
  /** False: a byte was not the one that belongs at its place. */
  inOrder: z.boolean(),
  reset: z.boolean(),
  /** The other end closed, or this one did. */
  ended: z.boolean(),
  error: z.string().nullable(),
});

export const exchangeReportSchema = z.object({
  id: z.number(),
  family: z.enum(['ipv4', 'ipv6']),
  sent: z.number(),
  answered: z.number(),
  doubled: z.number(),
  garbled: z.number(),
  lastAnsweredAt: z.number().nullable(),
  error: z.string().nullable(),
});

export const probeReportSchema = z.object({
  id: z.number(),
  family: z.enum(['ipv4', 'ipv6']),
  /** In the window asked for, by the time of sending. */
  sent: z.number(),
  answered: z.number(),
  /** Not answered, of those sent longer than half a second ago. */
  lost: z.number(),
  doubled: z.number(),
  /** Answers that came after the answer to a later datagram. */
  reordered: z.number(),
  /** The longest interval between two answers that came one after the other, and when it began. */
  gapMs: z.number(),
  gapAt: z.number().nullable(),
});

export const reportSchema = z.object({
  now: z.number(),
  tcp: z.array(tcpReportSchema),
  exchanges: z.array(exchangeReportSchema),
  probes: z.array(probeReportSchema),
});

export type TcpMode = z.infer<typeof modeSchema>;
export type TcpReport = z.infer<typeof tcpReportSchema>;
export type ExchangeReport = z.infer<typeof exchangeReportSchema>;
export type ProbeReport = z.infer<typeof probeReportSchema>;
export type TrafficReport = z.infer<typeof reportSchema>;
