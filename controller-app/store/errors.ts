/**
 * What the operating system says, as an error of the store that says what to do.
 */
import { messageOf } from '../../shared/runtime/message-of.js';
import { StoreError } from './store.js';

const FULL: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** `meanwhile`: what becomes of a running controller, as the end of a sentence. */
export function asStoreError(folder: string, cause: unknown, meanwhile = ''): StoreError {
  if (cause instanceof StoreError) return cause;
  const what = messageOf(cause);
  return isFull(cause)
    ? new StoreError(
        'full',
        `there is no room for the store ${folder} (${what}): make room on its disk${meanwhile}`,
        { cause },
      )
    : new StoreError(
        'unwritable',
        `the store ${folder} cannot be used (${what}): it must be a folder that this program may read and write${meanwhile}`,
        { cause },
      );
}

/** Of a backup that is to be read. */
export function asUnreadable(file: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const remedy = 'name a file that "paguro store backup" wrote, and that you may read';
  return new StoreError('unreadable', `${file} cannot be read (${messageOf(cause)}): ${remedy}`, { cause });
}

/** Of a backup that is to be written. */
export function asUnwritable(file: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const remedy = isFull(cause) ? 'make room there, or name' : 'name';
  return new StoreError(
    isFull(cause) ? 'full' : 'unwritable',
    `${file} cannot be written (${messageOf(cause)}): ${remedy} a file in a folder that you may write to`,
    { cause },
  );
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT';
}

function isFull(error: unknown): boolean {
  return FULL.has(codeOf(error));
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
