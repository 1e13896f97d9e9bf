/**
 * The policies that a firewall has had, as far as they still matter: a connection lives on under the policy that admitted it, so a state whose
 * connections are to prove themselves carries that policy, too. Pure but for what it remembers.
 */
import { isAllowed, judgeOf } from './admission.js';
import type { Connection } from './connection.js';
import type { Policy } from './policy.js';
import { MAX_EARLIER_POLICIES } from './state.js';

/** Changes told late (copies of packets under way) may still name connections of a policy that was replaced this recently. */
const KEPT_MS = 60_000;

interface Earlier {
  readonly policy: Policy;
  /** Monotonic ms. */
  readonly replacedAt: number;
}

export class PolicyHistory {
  #policy: Policy;
  /** The last replaced first. */
  #earlier: readonly Earlier[];

  /** `earlier`: as a state carries it, the last replaced first. `now`: monotonic ms. */
  constructor(policy: Policy, earlier: readonly Policy[], now: number) {
    this.#policy = policy;
    this.#earlier = earlier.map((each) => ({ policy: each, replacedAt: now }));
  }

  get policy(): Policy {
    return this.#policy;
  }

  /** The policies before, the last replaced first. */
  get earlier(): readonly Policy[] {
    return this.#earlier.map(({ policy }) => policy);
  }

  /** Another policy is in force. The oldest of too many is forgotten: connections that only it allowed are no part of an export. */
  replace(policy: Policy, now: number): void {
    if (isSamePolicy(policy, this.#policy)) return;
    const others = this.#earlier.filter((each) => !isSamePolicy(each.policy, policy));
    this.#earlier = [{ policy: this.#policy, replacedAt: now }, ...others].slice(0, MAX_EARLIER_POLICIES);
    this.#policy = policy;
  }

  /** Another state of this firewall names these policies before its own, the last replaced first. Which one is in force stays as it is. */
  remember(earlier: readonly Policy[], now: number): void {
    const told = earlier
      .filter((policy) => !isSamePolicy(policy, this.#policy))
      .map((policy) => ({ policy, replacedAt: now }));
    const others = this.#earlier.filter(
      (each) => !told.some(({ policy }) => isSamePolicy(policy, each.policy)),
    );
    this.#earlier = [...told, ...others].slice(0, MAX_EARLIER_POLICIES);
  }

  /**
   * What an export says: the connections that any kept policy allowed, and of the earlier policies those that are needed to show it, or may
   * be in a moment. What nothing needs any more is forgotten.
   */
  forExport(
    connections: readonly Connection[],
    now: number,
  ): { readonly earlier: readonly Policy[]; readonly connections: readonly Connection[] } {
    const judges = [this.#policy, ...this.earlier].map(judgeOf);
    const needed = new Set<Policy>();
    const allowed = connections.filter((connection) => {
      const by = judges.find((judge) => isAllowed(judge, connection));
      if (by) needed.add(by.policy);
      return by !== undefined;
    });
    this.#earlier = this.#earlier.filter(
      ({ policy, replacedAt }) => needed.has(policy) || now - replacedAt < KEPT_MS,
    );
    return { earlier: this.earlier, connections: allowed };
  }
}

/** Do these mean and say the same, word for word? */
export function isSamePolicy(a: Policy, b: Policy): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
