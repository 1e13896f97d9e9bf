/**
 * What the operating system says, as an error of the store that says what to do.
 */
import { messageOf } from '../../shared/runtime/message-of.js';
import { StoreError } from './store.js';

const FULL: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

export function asStoreError(folder: string, cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (FULL.has(code))
    return new StoreError(
      'full',
      `there is no room for the store ${folder} (${messageOf(cause)}): make room on its disk. Until then policies, placements and handovers are refused, and firewalls go on as they are`,
      { cause },
    );
  return new StoreError(
    'unwritable',
    `the store ${folder} cannot be used (${messageOf(cause)}): it must be a folder that this program may read and write. Until then policies, placements and handovers are refused, and firewalls go on as they are`,
    { cause },
  );
}
