/**
 * What the domain refuses, in the words of the Domain interface.
 */
import { z } from 'zod';
import { DomainError } from '../../../shared/domain/domain.js';
import { problemOfState } from '../../../shared/firewall/admission.js';
import { StateError } from '../../../shared/firewall/reduce.js';
import { firewallStateSchema, type Snapshot } from '../../../shared/firewall/state.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { PolicyTooLargeError } from '../../pipeline/index.js';

/** Fails with `invalid`. */
export function checkedState(untrusted: Snapshot): Snapshot {
  const parsed = firewallStateSchema.safeParse(untrusted);
  if (!parsed.success) {
    const problem = `the snapshot is not a firewall state: ${z.prettifyError(parsed.error)}; export it once more`;
    throw new DomainError('invalid', problem, { cause: parsed.error });
  }
  const wrong = problemOfState(parsed.data);
  if (!wrong) return parsed.data;
  const problem = `the state is refused: ${wrong}; whoever sent it is not to be trusted with it`;
  throw new DomainError('invalid', problem);
}

/** Why a call failed. `sw`: which switch had to do it, while it is connected; `away` says what to do while it is not. */
export function explained(error: unknown, sw: string | undefined, away: () => string): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof StateError) {
    const code = error.code === 'changes-lost' ? 'changes-lost' : 'refused';
    return new DomainError(code, error.message, { cause: error });
  }
  if (error instanceof PolicyTooLargeError)
    return new DomainError('refused', error.message, { cause: error });
  if (sw === undefined) return new DomainError('not-ready', away(), { cause: error });
  const what = `${sw} did not take the rules: ${messageOf(error)}; try again, and look into its log`;
  return new DomainError('refused', what, { cause: error });
}
