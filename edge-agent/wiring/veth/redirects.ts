/**
 * Links of a network namespace that are connected by tc: whatever comes in at the one goes out at the other, unread.
 *
 * A redirect is bound to the link itself, not to its name: when that is removed what would have gone there is dropped, even when another of the same name is
 * made later (Linux, act_mirred: "target device is gone"). The filter is u32's with an empty mask, which kernels have that lack matchall.
 */
import { z } from 'zod';
import { DomainError } from '../../../shared/domain/domain.js';
import { CommandError } from '../../../shared/runtime/command.js';
import { lines, runWithin } from './links.js';

const HOOK = 'clsact';
const EVERYTHING = 'pref 1 protocol all u32 match u32 0 0';
const NEEDED = ['sch_ingress', 'cls_u32', 'act_mirred'] as const;

const hooksSchema = z.array(z.object({ kind: z.string(), dev: z.string() }));

/** Connects both links of each pair. They must not be connected yet. Fails with `refused`; some directions may be connected then. */
export async function connectLinks(
  pairs: readonly (readonly [string, string])[],
  namespace: string,
): Promise<void> {
  const ways = pairs.flatMap(([one, other]) => [[one, other] as const, [other, one] as const]);
  try {
    await control(
      ways.flatMap(([from, to]) => [
        `qdisc add dev ${from} ${HOOK}`,
        `filter add dev ${from} ingress ${EVERYTHING} action mirred egress redirect dev ${to}`,
      ]),
      namespace,
    );
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new DomainError(
      'refused',
      `the firewall's ends could not be connected: see that iproute2 is installed, and that the kernel has ${NEEDED.join(', ')} ("modprobe --all ${NEEDED.join(' ')}"): ${error.message}`,
      { cause: error },
    );
  }
}

/** What comes in at these links goes nowhere any more. Fails when one of them was not connected. */
export function disconnectLinks(names: readonly string[], namespace: string): Promise<void> {
  return control(
    names.map((name) => `qdisc del dev ${name} ${HOOK}`),
    namespace,
  );
}

/** The names of the links at which something that comes in may go on. */
export async function connectedLinks(namespace: string): Promise<ReadonlySet<string>> {
  const { stdout } = await runWithin(namespace, ['tc', '-json', 'qdisc', 'show']);
  const hooks = hooksSchema.parse(JSON.parse(stdout.trim() || '[]'));
  return new Set(hooks.flatMap(({ kind, dev }) => (kind === HOOK ? [dev] : [])));
}

async function control(commands: readonly string[], namespace: string): Promise<void> {
  await runWithin(namespace, ['tc', '-batch', '-'], lines(commands));
}
