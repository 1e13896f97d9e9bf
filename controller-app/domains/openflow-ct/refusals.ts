/**
 * What the domain refuses, in the words of the Domain interface.
 */
import { DomainError } from '../../../shared/domain/domain.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { PolicyTooLargeError } from '../../pipeline/index.js';

/** Why a call failed. `sw`: which switch had to do it, while it is connected; `away` says what to do while it is not. */
export function explained(error: unknown, sw: string | undefined, away: () => string): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof PolicyTooLargeError)
    return new DomainError('refused', error.message, { cause: error });
  if (sw === undefined) return new DomainError('not-ready', away(), { cause: error });
  const what = `${sw} did not take the rules: ${messageOf(error)}; try again, and look into its log`;
  return new DomainError('refused', what, { cause: error });
}
