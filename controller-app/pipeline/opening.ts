/**
 * The policy of one instance on opening packets, as flow rules of the table `firewall-ct`. Pure.
 *
 * Accepted: copied to the controller, and on to `admit`. Dropped: only counted. Rejected: dropped, and copied to the controller for the
 * answer, through a meter. These rules are the same in every generation, because there may be very many of them.
 */
import type { Policy } from '../../shared/firewall/policy.js';
import type { Rule } from '../core/rule.js';
import { packCookie } from './cookie.js';
import type { FirewallInstance } from './firewall.js';
import { meterOf } from './meters.js';
import { policySize, type RenderedRule, renderPolicy } from './policy-rules.js';
import { FIREWALL_CT } from './priority.js';
import { TRACKED } from './transports.js';
import { apply, COPY, ctState, goto, LATER_FRAGMENT, REJECTED_COPY, SIDE } from './words.js';

/** More flow rules than this a policy may not come to (ranges of ports multiply). */
export const MAX_POLICY_RULES = 50_000;

export class PolicyTooLargeError extends Error {
  override readonly name = 'PolicyTooLargeError';
  readonly code = 'policy-too-large';
  constructor(readonly rules: number) {
    super(
      `the policy comes to up to ${rules} flow rules, at most ${MAX_POLICY_RULES} fit: use fewer or rounder port ranges (rules with both local and remote ranges multiply), and name the family and protocol of rules that need but one`,
    );
  }
}

const OPENING = ctState('+new', '-inv', '-rel');

/** Undefined while nothing new is admitted. */
export function policyInForce({
  role,
  admits,
  policy,
}: Pick<FirewallInstance, 'role' | 'admits' | 'policy'>): Policy | undefined {
  return role === 'draining' || !admits ? undefined : policy;
}

/** None while the instance admits nothing. Throws PolicyTooLargeError. */
export function policyRules(instance: FirewallInstance): Rule[] {
  const policy = policyInForce(instance);
  if (!policy) return [];
  const size = policySize(policy);
  if (size > MAX_POLICY_RULES) throw new PolicyTooLargeError(size);
  const { number } = instance;
  const rules = renderPolicy(policy).flatMap((rendered) => {
    const { kind, instructions } = outcome(instance, rendered);
    const cookie = packCookie({ kind, instance: number, policyRule: rendered.policyRule });
    return rendered.matches.map(
      (match): Rule => ({
        table: 'firewall-ct',
        priority: FIREWALL_CT.policy - rendered.order,
        match: { reg1: number, ct_state: OPENING, ...match },
        instructions,
        cookie,
      }),
    );
  });
  return [...rules, ...fragmentRules(instance)];
}

function outcome({ number, tables }: FirewallInstance, { action }: RenderedRule) {
  switch (action) {
    case 'accept':
      return { kind: 'opening', instructions: [apply(COPY), goto(tables.admit)] } as const;
    case 'drop':
      return { kind: 'refused', instructions: [] } as const;
    case 'reject': {
      const meter = { type: 'meter', meter: meterOf(number) } as const;
      return { kind: 'rejected', instructions: [meter, apply(REJECTED_COPY)] } as const;
    }
  }
}

/**
 * The later fragments of an opening datagram have no ports for the policy to decide on. They may go as far as the commit: there
 * conntrack keeps them until it has the first fragment as well, which comes only if the policy admitted it.
 */
function fragmentRules({ number, tables }: FirewallInstance): Rule[] {
  return [SIDE.terminal, SIDE.network].flatMap((reg0) =>
    TRACKED.map(
      (match): Rule => ({
        table: 'firewall-ct',
        priority: FIREWALL_CT.laterFragment,
        match: { ...match, reg1: number, reg0, ct_state: OPENING, nw_frag: LATER_FRAGMENT },
        instructions: [goto(tables.admit)],
        cookie: packCookie({ kind: 'none', instance: number, policyRule: 0 }),
      }),
    ),
  );
}
