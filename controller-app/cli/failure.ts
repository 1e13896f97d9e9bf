/**
 * Failures as a person at a command line needs them: one sentence and what to do, and an exit code.
 */
import { CommanderError } from 'commander';
import type { ApiClient } from '../../shared/api/client.js';
import { ApiError } from '../../shared/api/errors.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { printable } from './table.js';

/** 0 done, 1 it did not work, 2 the command was wrongly written, 130 stopped by Ctrl-C. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** A failure of which everything has been said already. */
export class Failed extends Error {
  override readonly name = 'Failed';
  readonly code = 'failed';
}

/** What to print on standard error; empty when all is said. */
export function explainFailure(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (error instanceof CommanderError) {
    // Commander has printed its message itself; help and version are no failures.
    return { text: '', exitCode: error.exitCode === 0 ? EXIT.ok : EXIT.usage };
  }
  if (error instanceof Failed) return { text: error.message, exitCode: EXIT.failed };
  if (error instanceof Error && error.name === 'AbortError') return { text: '', exitCode: EXIT.interrupted };
  const message = messageOf(error);
  return { text: message.split('\n').map(printable).join('\n'), exitCode: EXIT.failed };
}

/** Adds to "there is no terminal (or domain) …" which there are. */
export async function withKnownNames<T>(api: ApiClient, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code !== 'unknown-terminal' && error.code !== 'unknown-domain') throw error;
    const status = await api.status().catch(() => undefined);
    if (status === undefined) throw error;
    const names = (error.code === 'unknown-terminal' ? status.terminals : status.domains).map(
      ({ name }) => name,
    );
    if (names.every((name) => error.message.includes(name))) throw error;
    throw new ApiError(error.code, `${error.message}; there are ${names.join(', ')}`, { cause: error });
  }
}
