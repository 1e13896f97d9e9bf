/**
 * Refused connections in the log: a line each, until somebody makes a habit of it.
 */
import type { Clock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { Seldom } from '../../shared/runtime/seldom.js';
import { SwitchError } from './errors.js';

/** Lines about one address and one reason, in one interval. */
const LINES_AT_ONCE = 5;
const INTERVAL_MS = 10_000;

export interface RefusalLog {
  /** `peer` is `address:port`. */
  note(error: Error, peer: string): void;
  close(): void;
}

export function refusalLog(log: Log, clock: Clock): RefusalLog {
  const seldom = new Seldom<{ readonly error: Error; readonly peer: string }>({
    clock,
    intervalMs: INTERVAL_MS,
    burst: LINES_AT_ONCE,
    say: ({ error, peer }, more) =>
      log.warn({ peer, error: error.message, ...(more > 0 ? { more } : {}) }, 'not a switch of ours'),
  });
  return {
    note: (error, peer) => {
      const reason = error instanceof SwitchError ? error.code : error.name;
      seldom.note(`${reason} ${peer.replace(/:\d+$/, '')}`, { error, peer });
    },
    close: () => seldom.close(),
  };
}
