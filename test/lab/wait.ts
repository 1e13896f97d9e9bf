/**
 * Waiting on conditions: with a deadline, and with words for what did not come.
 */
import { realClock, sleep } from '../../shared/runtime/clock.js';
import { LabError } from './error.js';

export interface WaitOptions {
  /** Default 10,000. */
  readonly timeoutMs?: number;
  /** Default 5. */
  readonly intervalMs?: number;
}

/** Polls until `look` returns something else than undefined or false. Fails with `timeout`, which says `what` did not come. */
export async function waitFor<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 10_000, intervalMs = 5 }: WaitOptions = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) {
      throw new LabError('timeout', `waited ${timeoutMs} ms in vain: ${what}`);
    }
    await sleep(realClock, intervalMs);
  }
}
