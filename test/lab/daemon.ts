/**
 * A daemon of the lab: started with its output in a log file of the lab's folder, waited for until it is ready, and stopped.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LabError } from './error.js';
import { currentLab } from './prepare.js';
import { waitFor } from './wait.js';

const TAIL_LINES = 15;
/** After SIGTERM. Then SIGKILL. */
const STOP_MS = 5_000;

export interface Daemon {
  readonly pid: number;
  readonly logFile: string;
  /** Settles when the process has ended. */
  readonly ended: Promise<void>;
  running(): boolean;
  /** Ends it: SIGTERM, after 5 s SIGKILL. May be called twice. */
  close(): Promise<void>;
}

/** Starts a program and polls `ready` until it is true. Fails with `did-not-start` and the end of its log. */
export async function startDaemon(
  file: string,
  args: readonly string[],
  ready: () => boolean | Promise<boolean>,
  {
    hint,
    timeoutMs = 15_000,
    name = basename(file),
  }: {
    readonly hint: string;
    readonly timeoutMs?: number;
    /** Of its log file. Default: the program's. */
    readonly name?: string;
  },
): Promise<Daemon> {
  const logFile = join(currentLab().folder, `${name}.log`);
  const log = openSync(logFile, 'a');
  const child = spawn(file, args, { stdio: ['ignore', log, log] });
  closeSync(log);
  const daemon = own(child, logFile);
  const failed = (why: string): LabError =>
    new LabError('did-not-start', `${file} ${why}. ${hint}\nThe end of ${logFile}:\n${tail(logFile)}`);
  try {
    await waitFor(
      `${file} is ready`,
      async () => {
        if (daemon.missing()) {
          throw new LabError('missing-program', `${file} is not installed: run "npm run setup"`);
        }
        if (!daemon.running()) throw failed('ended as soon as it was started');
        return await ready();
      },
      { timeoutMs },
    );
    return daemon;
  } catch (error) {
    await daemon.close();
    if (error instanceof LabError && error.code === 'timeout')
      throw failed(`was not ready after ${timeoutMs} ms`);
    throw error;
  }
}

function own(child: ChildProcess, logFile: string): Daemon & { missing(): boolean } {
  let running = true;
  let missing = false;
  const ended = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      missing = 'code' in error && error.code === 'ENOENT';
      running = false;
      resolve();
    });
    child.once('exit', () => {
      running = false;
      resolve();
    });
  });
  return {
    pid: child.pid ?? 0,
    logFile,
    ended,
    running: () => running,
    missing: () => missing,
    close: async () => {
      if (!running) return ended;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** The last lines of a text file, for error messages. */
export function tail(file: string, lines = TAIL_LINES): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}
