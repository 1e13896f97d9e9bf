/**
 * Changes of another instance, as they come in: which of them are new, and in which steps they are carried out. Pure.
 */
import { DomainError } from '../../shared/domain/domain.js';
import type { Change, Delta } from '../../shared/firewall/state.js';

/** One step: a new policy, other addresses, or changes of connections that follow one another. */
export type Step =
  | Extract<Change, { kind: 'policy' | 'terminal' }>
  | { readonly kind: 'connections'; readonly changes: readonly Change[] };

/** The changes after number `last`, and the number of the last of them. Fails with `changes-lost` when one between them is missing. */
export function freshChanges(
  deltas: readonly Delta[],
  last: number,
): { readonly applied: number; readonly changes: readonly Change[] } {
  const changes: Change[] = [];
  let applied = last;
  for (const { sequence, change } of deltas) {
    if (sequence <= applied) continue;
    if (sequence !== applied + 1) {
      throw new DomainError(
        'changes-lost',
        `changes ${applied + 1} to ${sequence - 1} are missing: take a new snapshot`,
      );
    }
    applied = sequence;
    changes.push(change);
  }
  return { applied, changes };
}

/** The same changes; those of connections that follow one another are one step. */
export function inOrder(changes: readonly Change[]): readonly Step[] {
  const steps: Step[] = [];
  let run: Change[] = [];
  for (const change of changes) {
    if (change.kind === 'policy' || change.kind === 'terminal') {
      steps.push(change);
      run = [];
    } else {
      if (run.length === 0) steps.push({ kind: 'connections', changes: run });
      run.push(change);
    }
  }
  return steps;
}
