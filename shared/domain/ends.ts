/**
 * The ends of instances, as they are written down, and what both sides must know of the names of those that are ports of a switch.
 */
import { z } from 'zod';
import { type Dpid, dpid } from './domain.js';

/** Ports whose names begin so are ends of instances, never hosts': nothing is flooded into them, and what comes out of one is dropped until steering knows it. */
export const END_PORT_PREFIX = 'pg';

export function isEndPort(name: string): boolean {
  return name.startsWith(END_PORT_PREFIX);
}

export const dpidSchema = z
  .string()
  .regex(/^[0-9a-f]{16}$/)
  .transform((text): Dpid => dpid(text));
const portName = z.string().min(1).max(64);

export const endsSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('ports'),
    dpid: dpidSchema,
    terminalSide: portName,
    networkSide: portName,
  }),
  z.strictObject({ kind: z.literal('pipeline'), dpid: dpidSchema, instance: z.int().min(1).max(65535) }),
]);
