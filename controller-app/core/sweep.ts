/**
 * Removing very many rules by few messages: one for all of a table with these bits in their cookies, which a switch does in one pass, instead of one for
 * each. Pure. Only when no rule that stays has them as well.
 */
import type { Flow, FlowMod } from '../openflow/index.js';
import type { Plan, Stated } from './rule-set.js';

/** Fewer are removed one by one: a pass looks at every rule of its table. */
const MIN_RULES = 256;

/** Flows of a table whose cookies have these bits under the mask. */
export interface FlowSweep {
  readonly table: number;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
}

/** The sweeps that a plan may use, with what each of them removes. `stated` are all rules as they were before it. */
export function usefulSweeps(
  sweeps: readonly FlowSweep[],
  plan: Plan,
  stated: Iterable<Stated>,
): readonly FlowSweep[] {
  const enough = sweeps.filter(
    (sweep) => plan.leaving.filter(({ flow }) => covers(sweep, flow)).length >= MIN_RULES,
  );
  if (enough.length === 0) return [];
  const leaving = new Set(plan.leaving.map(({ key }) => key));
  let safe = enough;
  for (const { key, flow } of stated)
    if (!leaving.has(key)) safe = safe.filter((sweep) => !covers(sweep, flow));
  for (const { flow } of plan.stating) safe = safe.filter((sweep) => !covers(sweep, flow));
  return safe;
}

export function covers(
  { table, cookie, cookieMask }: FlowSweep,
  flow: Pick<Flow, 'table' | 'cookie'>,
): boolean {
  return flow.table === table && ((flow.cookie ?? 0n) & cookieMask) === cookie;
}

/** Removes what it covers, whatever its match (OpenFlow 1.3.5, 6.4: a non-strict deletion, filtered by cookie). */
export function sweepMod(sweep: FlowSweep): FlowMod {
  return { type: 'flow_mod', command: 'delete', priority: 0, match: {}, instructions: [], ...sweep };
}
