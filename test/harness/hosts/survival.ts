/**
 * What became of a connection: the two ends' reports joined. Pure.
 */
import type { TcpReport } from './traffic-protocol.js';

/**
 * `survived`: bytes arrived after `since` (both ways, unless only the server sends), in order, and nobody reset it.
 * `garbled`: a byte was not the one that belongs at its place. `reset`: an end saw a RST. `ended`: closed in order.
 * `dead`: open still, but silent in at least one direction since then. `unopened`: it never came to be.
 */
export type Fate = 'survived' | 'dead' | 'reset' | 'ended' | 'garbled' | 'unopened';

/** The fate of each connection of the client, in the order of its reports. `since` is monotonic ms. */
export function fates(
  clients: readonly TcpReport[],
  servers: readonly TcpReport[],
  since: number,
): readonly Fate[] {
  const key = ({ family, clientPort, serverPort }: TcpReport): string =>
    `${family} ${clientPort} ${serverPort}`;
  // A port may have been used before: the latest connection counts.
  const accepted = new Map(servers.map((server) => [key(server), server]));
  return clients.map((client) => fate(client, accepted.get(key(client)), since));
}

function fate(client: TcpReport, server: TcpReport | undefined, since: number): Fate {
  if (client.openedAt === null) return 'unopened';
  if (!client.inOrder || server?.inOrder === false) return 'garbled';
  if (client.reset || server?.reset) return 'reset';
  if (client.ended || server?.ended) return 'ended';
  const heard = (report: TcpReport | undefined): boolean => (report?.lastReceivedAt ?? 0) > since;
  const needed = client.mode === 'server-only' ? heard(client) : heard(client) && heard(server);
  return needed ? 'survived' : 'dead';
}
