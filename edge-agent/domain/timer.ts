/** Timers that hold no process open. */

/** setTimeout takes 31 bits of milliseconds and takes more for none. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export function withDeadline(ms: number, act: () => void): NodeJS.Timeout {
  const timer = setTimeout(act, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
  timer.unref();
  return timer;
}
