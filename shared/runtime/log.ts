/**
 * One log for every program: JSON lines on standard error, so that standard output stays the program's answer.
 */
import { type Logger, pino } from 'pino';

export type Log = Logger;

/** `level` is one of pino's: `silent`, `error`, `warn`, `info`, `debug`, `trace`. */
export function createLog(name: string, level: string = process.env.PAGURO_LOG ?? 'info'): Log {
  return pino(
    { name, level, base: { name }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

export const silentLog: Log = pino({ level: 'silent' });
