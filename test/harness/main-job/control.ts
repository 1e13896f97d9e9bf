/**
 * The control of the main job: the same moves with the connections left out of the imported state, after which every connection must be dead.
 */
import { waitFor } from '../../lab/wait.js';
import { fates, monotonicMs, type Traffic } from '../hosts/index.js';
import type { Paguro } from '../paguro.js';
import type { MainJobResult } from './result.js';
import { pause, targets } from './traffic.js';

/** After the switch, packets may still go the old way until the switch has looked at its cache again: 36 ms at most were measured. */
const REVALIDATION_MS = 200;
/** The control: without the state, not one byte in this time. */
const DEAD_MS = 5_000;
const CONTROL_CONNECTIONS = 50;

/** There and back, once each. `onStep`: told of each move. */
export async function control(
  paguro: Paguro,
  client: Traffic,
  server: Traffic,
  onStep: (text: string) => void,
): Promise<MainJobResult['control']> {
  await paguro.api.setPlacement('alice', 'stay');
  const move = async (to: string, domain: string) => {
    onStep(
      `control: ${CONTROL_CONNECTIONS} new TCP connections, then the move to ${domain} with the connections left out`,
    );
    return await withoutConnections(paguro, client, server, to, domain);
  };
  const there = await move('s2', 'edge-1');
  const back = await move('s1', 'sdn-1');
  const moves = [there, back];
  const sum = (key: 'opened' | 'aliveBefore' | 'survived') =>
    moves.reduce((total, move) => total + move[key], 0);
  return {
    opened: sum('opened'),
    aliveBefore: sum('aliveBefore'),
    survived: sum('survived'),
    byMove: moves.map(({ from, to, opened, survived }) => ({ from, to, opened, survived })),
  };
}

/** The same move; but the new domain gets the policy only. */
async function withoutConnections(
  paguro: Paguro,
  client: Traffic,
  server: Traffic,
  to: string,
  domain: string,
) {
  const half = CONTROL_CONNECTIONS / 2;
  const opened = await client.connect(targets(paguro, half, half));
  const ids = new Set(opened.map(({ id }) => id));
  const survivors = async (since: number): Promise<number> => {
    const [ours, theirs] = await Promise.all([client.report(), server.report()]);
    const mine = ours.tcp.filter(({ id }) => ids.has(id));
    return fates(mine, theirs.tcp, since).filter((fate) => fate === 'survived').length;
  };
  await paguro.move('h1', to);
  const hauledAt = monotonicMs();
  const aliveBefore = await waitFor(
    'all connections live on while they are hauled',
    async () => {
      const alive = await survivors(hauledAt);
      return alive === ids.size && alive;
    },
    { timeoutMs: 10_000, intervalMs: 100 },
  );
  const report = await paguro.handover('alice', domain, { omitConnections: true });
  if (report.outcome !== 'done') throw new Error(`handover ${report.outcome}: ${report.error}`);
  const after = report.phases.filter(({ name }) => name === 'drain' || name === 'retire');
  const activatedAt = monotonicMs() - after.reduce((sum, { ms }) => sum + ms, 0);
  const since = activatedAt + REVALIDATION_MS;
  await pause(Math.max(0, activatedAt + DEAD_MS - monotonicMs()));
  const survived = await anyByte(client, server, ids, since);
  await client.end([...ids]);
  return { from: report.from, to: report.to, opened: ids.size, aliveBefore, survived };
}

/** How many of these connections got a byte at either end after `since`. */
async function anyByte(
  client: Traffic,
  server: Traffic,
  ids: ReadonlySet<number>,
  since: number,
): Promise<number> {
  const [ours, theirs] = await Promise.all([client.report(), server.report()]);
  const late = (report: { lastReceivedAt: number | null }): boolean => (report.lastReceivedAt ?? 0) > since;
  return ours.tcp.filter(
    (one) =>
      ids.has(one.id) &&
      (late(one) ||
        theirs.tcp.some(
          (other) =>
            other.family === one.family &&
            other.clientPort === one.clientPort &&
            other.serverPort === one.serverPort &&
            late(other),
        )),
  ).length;
}
