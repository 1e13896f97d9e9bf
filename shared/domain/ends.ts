/**
 * The ends of instances that are ports of a switch: what both sides must know of their names.
 */

/** Ports whose names begin so are ends of instances, never hosts': nothing is flooded into them, and what comes out of one is dropped until steering knows it. */
export const END_PORT_PREFIX = 'pg';

export function isEndPort(name: string): boolean {
  return name.startsWith(END_PORT_PREFIX);
}
