/**
 * Refused connections in the log: a line each, until somebody makes a habit of it.
 */
import type { QuietLog } from '../../shared/runtime/quiet-log.js';
import { SwitchError } from './errors.js';

/** Lines about one address and one reason, before they are only counted for a while. */
const LINES_AT_ONCE = 5;

/** Writes down why the connection from `peer` (`address:port`) did not become a switch. */
export function logRefusal(log: QuietLog, error: Error, peer: string): void {
  const reason = error instanceof SwitchError ? error.code : error.name;
  const address = peer.replace(/:\d+$/, '');
  log.say(
    `refused ${reason} ${address}`,
    'warn',
    { peer, error: error.message },
    'not a switch of ours',
    LINES_AT_ONCE,
  );
}
