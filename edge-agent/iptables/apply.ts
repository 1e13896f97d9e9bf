/**
 * Brings rendered rules into a compartment and reads its counters: one process a family and change, each of them atomic.
 */
import { DomainError } from '../../shared/domain/domain.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { CommandError } from '../../shared/runtime/command.js';
import type { Compartment } from '../runtime/runtime.js';
import { parseCounters } from './counters.js';
import { type Ruleset, renderStop, renderTables } from './render.js';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const RESTORE = { ipv4: '/usr/sbin/iptables-nft-restore', ipv6: '/usr/sbin/ip6tables-nft-restore' } as const;
const SAVE = { ipv4: '/usr/sbin/iptables-nft-save', ipv6: '/usr/sbin/ip6tables-nft-save' } as const;

/** Replaces everything: both families have the whole ruleset, or the call fails with `refused` and iptables' own words. */
export async function applyRuleset(compartment: Compartment, ruleset: Ruleset): Promise<void> {
  await inBothFamilies((family) =>
    restore(compartment, family, ['--counters'], renderTables(ruleset, family)),
  );
}

/** From now on nothing passes. */
export async function applyStop(compartment: Compartment): Promise<void> {
  await inBothFamilies((family) => restore(compartment, family, ['--noflush'], renderStop()));
}

/** The counters of the policy's rules as they are now, both families together. */
export async function readCounters(
  compartment: Compartment,
  policy: Policy,
): Promise<readonly RuleCounter[]> {
  const saved = await inBothFamilies(async (family) => {
    const { stdout } = await compartment.run(SAVE[family], ['--counters', '--table', 'mangle']);
    return stdout;
  });
  return parseCounters(saved, policy);
}

/** Waits for both, also when one fails: whoever cleans up afterwards must not race with the other. */
async function inBothFamilies<T>(act: (family: Family) => Promise<T>): Promise<readonly T[]> {
  const results = await Promise.allSettled(FAMILIES.map(act));
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

async function restore(
  compartment: Compartment,
  family: Family,
  args: readonly string[],
  input: string,
): Promise<void> {
  try {
    await compartment.run(RESTORE[family], args, { input });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const said = error.stderr.trim() || error.message;
    const line = lineNamedBy(said, input);
    throw new DomainError(
      'refused',
      `${RESTORE[family].split('/').at(-1)} refused the firewall's rules: ${said}${line ? ` (line: ${line})` : ''}; look for a rule of the policy that this kernel's iptables cannot do`,
      { cause: error },
    );
  }
}

/** iptables-restore says which line of its input it minds; the line itself tells a person more. */
function lineNamedBy(said: string, input: string): string | undefined {
  const number = /line:? (\d+)/i.exec(said)?.[1];
  return number === undefined ? undefined : input.split('\n')[Number(number) - 1];
}
