/**
 * How long entries of the kernel's table may be idle: on a standby, which no packets reach, and from its activation on. Pure.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { idleSeconds, MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';

/** On a standby nothing ages: it hears from the active instance what ends. */
export const STANDBY_SECONDS = MAX_IDLE_SECONDS;

/** RFC 5382, 5: an established connection may be silent for 2 h 4 min. */
export const LEAST_SECONDS = 7440;

/**
 * The whole seconds that a connection has from activation on: those that it had when it was last told, as packets since then are not told; but at
 * least `leastSeconds`, and never more than its kind may be idle.
 */
export function secondsAtActivation(connection: Connection, leastSeconds: number): number {
  const most = idleSeconds(connection);
  const isOver = connection.protocol === 'tcp' && connection.state === 'closed';
  const least = isOver ? 1 : leastSeconds;
  return Math.max(1, Math.min(most, Math.max(connection.timeLeftSeconds, least)));
}
