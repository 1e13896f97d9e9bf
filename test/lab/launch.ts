/**
 * Starts a program in a lab of its own, from outside.
 *
 *   this process → setpriv → keeper → setpriv → unshare → tini (the lab's first process) → the program
 *
 * setpriv asks the kernel for a signal when the parent dies, so that the chain ends from the top whatever ends, also by `kill -9`:
 * the keeper gets SIGTERM, kills the lab and removes its folder; unshare gets SIGKILL when the keeper dies, and its child likewise.
 * With the first process of a pid namespace the kernel kills all others; with the last one, mounts and network are gone.
 * tini reaps daemons and passes signals on: a program as process 1 would do neither.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LabError } from './error.js';

export interface RunInLabOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default: all three are this process's own. */
  readonly stdio?: 'inherit' | 'pipe' | 'ignore';
  /** Once the chain is started: its first process is the keeper. */
  readonly onStart?: (child: ChildProcess) => void;
}

const NEEDED = ['setpriv', 'unshare', 'tini', 'mount', 'ip'] as const;
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs a program in a new lab and returns its exit code (128 + signal if one ended it). SIGINT, SIGTERM and SIGHUP are passed on to it.
 * The lab is made ready before the program starts; it ends with the program.
 */
export async function runInLab(argv: readonly string[], options: RunInLabOptions = {}): Promise<number> {
  const { file, args, env } = chain([process.execPath, besideThis('inside.js'), ...argv], options.env);
  const child = spawn(file, args, { stdio: options.stdio ?? 'inherit', env });
  const passOn = PASSED_ON.map((signal) => {
    const listener = (): void => {
      child.kill(signal);
    };
    process.on(signal, listener);
    return { signal, listener };
  });
  try {
    options.onStart?.(child);
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(exitCode(code, signal)));
    });
  } finally {
    for (const { signal, listener } of passOn) process.removeListener(signal, listener);
  }
}

/** Runs this very program once more, in a new lab, and ends this process with its exit code. Synchronous: nothing else of this process runs. */
export function reExecuteInLab(): never {
  const { file, args, env } = chain([process.execPath, '--enable-source-maps', ...process.argv.slice(1)]);
  // Handlers in JavaScript would never run while this waits, but keep a signal from ending the process. The chain ends with it.
  for (const signal of PASSED_ON) process.removeAllListeners(signal);
  const result = spawnSync(file, args, { stdio: 'inherit', env });
  if (result.error) throw result.error;
  process.exit(exitCode(result.status, result.signal));
}

function chain(
  program: readonly string[],
  extra: Readonly<Record<string, string>> = {},
): { file: string; args: string[]; env: NodeJS.ProcessEnv } {
  if (process.getuid?.() !== 0) {
    throw new LabError('not-root', 'a lab makes namespaces of its own: run this as root (sudo)');
  }
  for (const name of NEEDED) {
    if (!onPath(name)) throw new LabError('missing-program', `${name} is not installed: run "npm run setup"`);
  }
  return {
    file: 'setpriv',
    args: ['--pdeathsig', 'TERM', process.execPath, besideThis('keeper.js'), String(process.pid), ...program],
    env: { ...withoutInstruments(process.env), ...extra },
  };
}

/** tap loads an instrument into every Node process below it: it handles signals, and costs a lab's programs a third of a second each. */
function withoutInstruments(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS, ...rest } = env;
  return NODE_OPTIONS?.includes('@tapjs/processinfo') ? rest : env;
}

function besideThis(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url));
}

function onPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** What a shell would report. */
export function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal ? osConstants.signals[signal] : 0);
}
