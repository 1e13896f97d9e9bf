/**
 * A range of ports as the fewest value/mask pairs, which is how a flow rule can match it. Pure.
 */
import type { PortRange } from '../../shared/firewall/policy.js';
import type { Masked } from '../openflow/index.js';

/** The pairs are disjoint and in rising order; at most 30 of them. */
export function portMasks([first, last]: PortRange): Masked<number>[] {
  const pairs: Masked<number>[] = [];
  for (let start = first; start <= last; ) {
    // The largest block that starts here: aligned, and not beyond the end.
    let size = start === 0 ? 0x10000 : start & -start;
    while (start + size - 1 > last) size >>>= 1;
    pairs.push({ value: start, mask: 0x10000 - size });
    start += size;
  }
  return pairs;
}

/** Every port of several ranges, without doubles; `undefined` (any port) gives one pair of mask 0, which is no match at all. */
export function portMatches(ranges: readonly PortRange[] | undefined): Masked<number>[] {
  if (!ranges) return [{ value: 0, mask: 0 }];
  return merge(ranges).flatMap(portMasks);
}

function merge(ranges: readonly PortRange[]): PortRange[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}
