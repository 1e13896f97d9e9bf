/**
 * What `iptables-save --counters` and `ip6tables-save --counters` print -> rule counters. Pure.
 */
import { DEFAULT_NAMES, type Policy } from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import { POLICY_CHAINS } from './names.js';

const COUNTED = /^\[(\d+):(\d+)\] -A (\S+) .*--comment (?:"([^"]*)"|(\S+))/;

/** The counters of a policy's rules and defaults, summed over every text (one a family) and every line of a rule. */
export function parseCounters(saved: readonly string[], policy: Policy): readonly RuleCounter[] {
  const chains = new Set(Object.values(POLICY_CHAINS));
  const sums = new Map<string, { packets: number; bytes: number }>();
  const names = [...policy.rules.map(({ name }) => name), ...Object.values(DEFAULT_NAMES)];
  for (const name of names) sums.set(name, { packets: 0, bytes: 0 });
  for (const line of saved.flatMap((text) => text.split('\n'))) {
    const [, packets, bytes, chain, quoted, plain] = COUNTED.exec(line) ?? [];
    if (chain === undefined || !chains.has(chain)) continue;
    const sum = sums.get(quoted ?? plain ?? '');
    if (!sum) continue;
    sum.packets = bounded(sum.packets + Number(packets));
    sum.bytes = bounded(sum.bytes + Number(bytes));
  }
  return [...sums].map(([rule, { packets, bytes }]) => ({ rule, packets, bytes }));
}

/** The kernel counts in 64 bits, a state in 53. */
const bounded = (value: number): number => Math.min(value, Number.MAX_SAFE_INTEGER);
