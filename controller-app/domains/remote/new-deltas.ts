/**
 * What of a batch of deltas is new to one who has everything up to a sequence. Pure.
 */
import { DomainError } from '../../../shared/domain/domain.js';
import type { Delta } from '../../../shared/firewall/state.js';

/** Leaves out what is known already. Throws `changes-lost` when one is missing: after that only a new snapshot helps. */
export function newDeltas(deltas: readonly Delta[], last: number): readonly Delta[] {
  let expected = last + 1;
  const fresh: Delta[] = [];
  for (const delta of deltas) {
    if (delta.sequence < expected) continue;
    if (delta.sequence > expected)
      throw new DomainError(
        'changes-lost',
        `change ${expected} is missing: ${delta.sequence} came. Take a new snapshot`,
      );
    fresh.push(delta);
    expected++;
  }
  return fresh;
}
