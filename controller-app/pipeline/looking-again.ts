/**
 * Rules that change what Open vSwitch has cached. Pure.
 */
import type { Policy } from '../../shared/firewall/policy.js';
import type { Match } from '../openflow/index.js';

/** Bits of pkt_mark, which is 0 in every frame that comes in by a port. The last is for what steering holds. */
const TURNS = 31;

/**
 * Part of the match of a rule that does something else with frames than the rule which it replaces. It matches every frame, but looks at a bit that the other does
 * not: `turn` is another.
 *
 * The cached flows (megaflows) of Open vSwitch's userspace datapath may overlap, and 3.1 changes one by looking for what its first packet meets: that may be
 * another, and then the first leads where it led for as long as it is used (measured: 5 of 50). One that does not look at all that the rules look at now is not
 * changed but removed. What other rules of the table look at counts for a megaflow, too: with more terminals in one switch than bits this is no help.
 */
export function lookingAgain(turn: number | 'held'): Match {
  return { pkt_mark: { value: 0, mask: (1 << (turn === 'held' ? TURNS : turn % TURNS)) >>> 0 } };
}

/** Offset basis and prime of FNV-1a with 32 bits. */
const FNV = { basis: 0x811c9dc5, prime: 0x01000193 } as const;
const turns = new WeakMap<Policy, number>();

/** A number that is another for almost every other policy, and the same for the same; without one nothing is admitted. */
export function turnOf(policy: Policy | undefined): number {
  if (!policy) return 0;
  const known = turns.get(policy);
  if (known !== undefined) return known;
  let turn: number = FNV.basis;
  const text = JSON.stringify(policy);
  for (let index = 0; index < text.length; index += 1)
    turn = Math.imul(turn ^ text.charCodeAt(index), FNV.prime) >>> 0;
  turns.set(policy, turn);
  return turn;
}
