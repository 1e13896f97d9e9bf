/**
 * Rule counters across moves. A standby begins with the counters of when it was built; what the active firewall counted after that is carried beside. Pure.
 */
import type { RuleCounter } from '../../shared/firewall/state.js';

/** Rule by rule, those of the first that the second does not have included. */
export function added(counters: readonly RuleCounter[], carried: readonly RuleCounter[]): RuleCounter[] {
  return combined(counters, carried, 1);
}

/** How much the first has counted beyond the second; never less than nothing. */
export function beyond(counters: readonly RuleCounter[], base: readonly RuleCounter[]): RuleCounter[] {
  return combined(counters, base, -1);
}

function combined(
  counters: readonly RuleCounter[],
  others: readonly RuleCounter[],
  sign: 1 | -1,
): RuleCounter[] {
  const byRule = new Map(others.map((counter) => [counter.rule, counter]));
  return counters.map(({ rule, packets, bytes }) => {
    const other = byRule.get(rule);
    return {
      rule,
      packets: Math.max(0, packets + sign * (other?.packets ?? 0)),
      bytes: Math.max(0, bytes + sign * (other?.bytes ?? 0)),
    };
  });
}
