/**
 * What becomes of all connections of two hosts from now on.
 */
import { waitFor } from '../lab/wait.js';
import { type Fate, fates, monotonicMs, type Traffic } from './hosts/index.js';

/**
 * Every connection sends ten times a second; but TCP waits twice as long before each retransmission (RFC 6298, 5.5), so that one that was cut off may
 * be silent for as long again, and a firewall that is built anew on a busy machine can be away for ten seconds.
 */
const PATIENCE_MS = 20_000;

/**
 * The fate of each connection of the client, but for the first `skip`: settles as soon as each has moved bytes or ended, or after 20 s.
 */
export async function fatesFromNow(client: Traffic, server: Traffic, skip = 0): Promise<readonly Fate[]> {
  const since = monotonicMs();
  let last: readonly Fate[] = [];
  await waitFor(
    'bytes in every connection',
    async () => {
      const [ours, theirs] = await Promise.all([client.report(), server.report()]);
      last = fates(ours.tcp, theirs.tcp, since).slice(skip);
      return !last.includes('dead');
    },
    { timeoutMs: PATIENCE_MS, intervalMs: 50 },
  ).catch(() => {});
  return last;
}
