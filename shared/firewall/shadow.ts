/**
 * Rules that never decide, because an earlier one matches all that they match: almost always a mistake of the person who wrote them.
 */

import { inPrefix } from './addresses.js';
import { type Policy, type PortRange, prefixOf, type Rule } from './policy.js';
import { type Family, familyOf } from './terminal.js';

export interface Shadowed {
  readonly rule: string;
  /** The earlier rule. */
  readonly by: string;
}

/** The rules that one earlier rule covers. (Rules that only several together cover are not found.) */
export function shadowedRules(policy: Policy): Shadowed[] {
  return policy.rules.flatMap((rule, index) => {
    const by = policy.rules.slice(0, index).find((earlier) => covers(earlier, rule));
    return by === undefined ? [] : [{ rule: rule.name, by: by.name }];
  });
}

/** Does `wide` match every packet that `narrow` matches? Never says yes wrongly. */
export function covers(wide: Rule, narrow: Rule): boolean {
  const family = familyOfRule(wide);
  return (
    wide.direction === narrow.direction &&
    (family === undefined || family === familyOfRule(narrow)) &&
    (wide.protocol === undefined || wide.protocol === narrow.protocol) &&
    coversPrefix(wide.remote, narrow.remote) &&
    coversPorts(wide.remotePorts, narrow.remotePorts) &&
    coversPorts(wide.localPorts, narrow.localPorts) &&
    (wide.icmpType === undefined || wide.icmpType === narrow.icmpType)
  );
}

/** The only family that a rule holds for, if there is only one. */
export function familyOfRule(rule: Rule): Family | undefined {
  return rule.family ?? (rule.remote === undefined ? undefined : familyOf(rule.remote));
}

function coversPrefix(wide: string | undefined, narrow: string | undefined): boolean {
  if (wide === undefined) return true;
  if (narrow === undefined) return false;
  return prefixOf(wide).length <= prefixOf(narrow).length && inPrefix(prefixOf(narrow).address, wide);
}

function coversPorts(
  wide: readonly PortRange[] | undefined,
  narrow: readonly PortRange[] | undefined,
): boolean {
  if (wide === undefined) return true;
  return narrow?.every(([first, last]) => wide.some(([from, to]) => from <= first && last <= to)) ?? false;
}
