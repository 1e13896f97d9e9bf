/**
 * What a system at rest looks like: one active firewall, a standby ready in every other domain that shall have one, and nothing else.
 */
import type { Status, TerminalStatus } from '../../../shared/api/schema.js';
import { LabError, waitFor } from '../../lab/index.js';
import type { Paguro } from '../paguro.js';

/** What is not at rest yet; undefined when all is. */
export function unrest(status: Status, terminal: string, standbys: readonly string[]): string | undefined {
  const found = status.terminals.find(({ name }) => name === terminal);
  if (!found) return `there is no terminal ${terminal}`;
  const away = status.switches.filter(({ connected }) => !connected).map(({ name }) => name);
  if (away.length > 0) return `switches away: ${away.join(', ')}`;
  const sick = status.domains.filter(({ ok }) => !ok).map(({ name, problem }) => `${name}: ${problem}`);
  if (sick.length > 0) return `domains not well: ${sick.join('; ')}`;
  if (found.handover !== null) return 'a handover is under way';
  return unrestOfInstances(status, found, standbys);
}

function unrestOfInstances(
  { domains }: Status,
  { name, active, standbys: known }: TerminalStatus,
  standbys: readonly string[],
): string | undefined {
  if (active === null) return 'no firewall is active';
  const instances = domains.flatMap((domain) =>
    domain.instances
      .filter(({ terminal }) => terminal === name)
      .map(({ epoch, role }) => ({ domain: domain.name, epoch, role })),
  );
  const wrong = instances.filter(({ domain, epoch, role }) =>
    domain === active.domain
      ? epoch !== active.epoch || role !== 'active'
      : !standbys.includes(domain) || role !== 'standby',
  );
  if (wrong.length > 0)
    return `not to be there: ${wrong.map(({ domain, role, epoch }) => `${role} ${epoch} in ${domain}`).join(', ')}`;
  if (!instances.some(({ domain }) => domain === active.domain)) return `${active.domain} has lost it`;
  const wanted = standbys.filter((domain) => domain !== active.domain);
  const unready = wanted.flatMap((domain) => {
    const found = known.find((standby) => standby.domain === domain);
    if (found?.state !== 'ready') return [`no standby ready in ${domain}`];
    return found.behind > 0 ? [`the standby in ${domain} is ${found.behind} changes behind`] : [];
  });
  return unready.length > 0 ? unready.join(', ') : undefined;
}

/** Waits until the system is at rest. Fails with `timeout`, which says what was not. */
export async function atRest(
  paguro: Pick<Paguro, 'api'>,
  terminal: string,
  standbys: readonly string[],
  timeoutMs: number,
): Promise<TerminalStatus> {
  let why: string | undefined = 'it was not looked at';
  try {
    return await waitFor(
      'the system is at rest',
      async () => {
        const status = await paguro.api.status().catch(() => undefined);
        why = status ? unrest(status, terminal, standbys) : 'the controller does not answer';
        return why === undefined && status?.terminals.find(({ name }) => name === terminal);
      },
      { timeoutMs, intervalMs: 50 },
    );
  } catch (error) {
    if (error instanceof LabError) throw new LabError('timeout', `${error.message} (${why})`);
    throw error;
  }
}
