/**
 * In which steps the changes of another instance are carried out. Pure.
 */
import type { Change } from '../../shared/firewall/state.js';

/** One step: a new policy, other addresses, or changes of connections that follow one another. */
export type Step =
  | Extract<Change, { kind: 'policy' | 'terminal' }>
  | { readonly kind: 'connections'; readonly changes: readonly Change[] };

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
