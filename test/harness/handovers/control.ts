/**
 * The control of a measurement: break before make. The same handovers, but the old way is cut before the new one is made. Whoever counts
 * losses must find some here.
 */
import type { HandoverReport } from '../../../shared/api/schema.js';
import { run } from '../../../shared/runtime/command.js';
import { waitFor } from '../../lab/index.js';
import type { Paguro } from '../paguro.js';
import { moveRole } from './moves.js';

/** All traffic between terminal and server crosses the core, to and from either domain. */
const CORE = 's3';
/** Another controller's: Paguro touches no rules but its own. */
const COOKIE = '0x6272656b';
const PRIORITY = 65_000;
const SWITCH_MS = 30_000;

const ofctl = (command: string, rules: readonly string[]): Promise<unknown> =>
  run('ovs-ofctl', ['-O', 'OpenFlow13', command, CORE, '-'], { input: `${rules.join('\n')}\n` });

/** Nothing from or to the terminal passes. */
function cut(mac: string): Promise<unknown> {
  const drop = (match: string): string => `cookie=${COOKIE},priority=${PRIORITY},${match},actions=drop`;
  return ofctl('add-flows', [drop(`dl_src=${mac}`), drop(`dl_dst=${mac}`)]);
}

function restore(): Promise<unknown> {
  return ofctl('del-flows', [`cookie=${COOKIE}/-1`]);
}

/** Moves the role: no way from the order until the new instance is active and everything leads to it. */
export async function breakBeforeMake(
  paguro: Paguro,
  terminal: string,
  mac: string,
): Promise<HandoverReport> {
  const seen = paguro.events.length;
  await cut(mac);
  try {
    const report = moveRole(paguro, terminal);
    // Its failure is told below.
    report.catch(() => {});
    await waitFor(
      'the new way is made',
      () =>
        paguro.events
          .slice(seen)
          .some((event) => event.kind === 'phase' && (event.phase === 'switch' || event.phase === 'undo')),
      { timeoutMs: SWITCH_MS, intervalMs: 1 },
    );
    await restore();
    return await report;
  } catch (error) {
    await restore();
    throw error;
  }
}
