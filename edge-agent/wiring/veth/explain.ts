/**
 * What went wrong with an instance's ends, in the domain's words.
 */
import { DomainError } from '../../../shared/domain/domain.js';
import { CommandError } from '../../../shared/runtime/command.js';

export function explain(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  const what = error instanceof CommandError ? error.message : String(error);
  return new DomainError('refused', `the firewall's ends could not be wired: ${what}`, { cause: error });
}
