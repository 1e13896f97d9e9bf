/**
 * Runs other programs: argument arrays only, bounded in time and output, errors that say what to do.
 */
import { spawn } from 'node:child_process';

export interface CommandOptions {
  /** Written to standard input, which is then closed. */
  readonly input?: string | Uint8Array;
  /** After this many ms the program is killed and the call fails. Default 30,000. */
  readonly timeoutMs?: number;
  /** More output than this many bytes, both streams together, fails the call. Default 64 MiB. */
  readonly maxOutputBytes?: number;
  readonly signal?: AbortSignal;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

export class CommandError extends Error {
  override readonly name = 'CommandError';
  constructor(
    readonly code: 'not-found' | 'failed' | 'timeout' | 'too-much-output' | 'aborted',
    readonly command: readonly string[],
    message: string,
    readonly exitCode: number | null,
    readonly stderr: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

const SHORTAGES: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE']);
/** What to do when there are too many open files. */
export const MORE_DESCRIPTORS = ': too many files are open, raise the limit of this program ("ulimit -n")';

/** Runs a program to its end. Fails with a CommandError unless it exits with 0. */
export function run(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { timeoutMs = 30_000, maxOutputBytes = 64 * 2 ** 20 } = options;
  const command = [file, ...args];
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) {
      reject(new CommandError('aborted', command, `${file} was not started: aborted`, null, ''));
      return;
    }
    const child = spawn(file, args, {
      stdio: 'pipe',
      env: options.env ? { ...process.env, ...options.env } : process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let bytes = 0;
    let stopped: 'timeout' | 'too-much-output' | 'aborted' | undefined;
    const stop = (why: typeof stopped): void => {
      stopped ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => stop('timeout'), timeoutMs);
    const onAbort = (): void => stop('aborted');
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    child.on('error', (cause: NodeJS.ErrnoException) => {
      settle();
      const missing = cause.code === 'ENOENT';
      reject(
        new CommandError(
          missing ? 'not-found' : 'failed',
          command,
          missing
            ? `${file} is not installed: run "npm run setup"`
            : `${file} could not be started: ${cause.message}${SHORTAGES.has(cause.code ?? '') ? MORE_DESCRIPTORS : ''}`,
          null,
          '',
          { cause },
        ),
      );
    });
    // Without descriptors for its pipes a program has none; the error above says so.
    if (child.stdout === undefined) return;
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > maxOutputBytes) stop('too-much-output');
        else chunks[name].push(chunk);
      });
    }
    child.on('close', (exitCode, signal) => {
      settle();
      const stdout = Buffer.concat(chunks.stdout).toString();
      const stderr = Buffer.concat(chunks.stderr).toString();
      if (exitCode === 0 && !stopped) {
        resolve({ stdout, stderr });
        return;
      }
      const how = stopped ?? (signal ? `ended by ${signal}` : `exit code ${exitCode}`);
      const detail = stderr.trim() || stdout.trim();
      const shown = command.join(' ').slice(0, 300);
      reject(
        new CommandError(
          stopped ?? 'failed',
          command,
          `${shown}: ${how}${detail ? `: ${detail.slice(0, 2000)}` : ''}`,
          exitCode,
          stderr,
        ),
      );
    });
    // A program that ends without reading its input closes the pipe: its exit code says what was wrong.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}
