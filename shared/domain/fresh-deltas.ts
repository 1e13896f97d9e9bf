/**
 * Changes of another instance, as they come in: which of them are new. Pure.
 */
import type { Delta } from '../firewall/state.js';
import { DomainError } from './domain.js';

/** Those after number `last`, in order. Throws DomainError `changes-lost` when one between them is missing. */
export function freshDeltas(deltas: readonly Delta[], last: number): readonly Delta[] {
  const fresh = deltas.filter(({ sequence }) => sequence > last);
  for (const [index, { sequence }] of fresh.entries()) {
    const expected = last + 1 + index;
    if (sequence === expected) continue;
    const what = `change ${expected} is missing, ${sequence} came: take a new snapshot`;
    throw new DomainError('changes-lost', what);
  }
  return fresh;
}
