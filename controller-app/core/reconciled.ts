/**
 * What a reconciliation found and did, in numbers of rules. Pure.
 */
import type { Difference } from './actual-rules.js';

export interface Reconciled {
  readonly stated: number;
  readonly unchanged: number;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

export function counted({ missing, changed, strangers }: Difference, stated: number): Reconciled {
  return {
    stated,
    unchanged: stated - missing.length - changed.length,
    added: missing.length,
    changed: changed.length,
    removed: strangers.length,
  };
}
