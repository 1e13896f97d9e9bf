/**
 * What a person should know of an edge domain: what its runtime, its wiring or one of its instances lacks.
 */
import type { Health } from '../../shared/domain/domain.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { InstanceRuntime } from '../runtime/runtime.js';
import type { Wiring } from '../wiring/wiring.js';
import type { Instance } from './instance.js';

/** Never fails. */
export async function healthOf(
  { runtime, wiring }: { readonly runtime: InstanceRuntime; readonly wiring: Wiring },
  all: readonly Instance[],
): Promise<Health> {
  const instances = all.map(({ id, role }) => ({ ...id, role }));
  const checks = await Promise.allSettled([runtime.check(), wiring.check()]);
  const problems = [
    ...checks.flatMap((check) => (check.status === 'rejected' ? [messageOf(check.reason)] : [])),
    ...all.flatMap(({ id, broken, limit }) =>
      [broken, limit].flatMap((problem) =>
        problem === undefined ? [] : [`the instance of ${id.terminal} (epoch ${id.epoch}): ${problem}`],
      ),
    ),
  ];
  return problems.length === 0
    ? { ok: true, instances }
    : { ok: false, problem: problems.join('; '), instances };
}
