/**
 * The connections of the main job: where they lead to, and what has become of them.
 */
import type { Family } from '../../../shared/firewall/terminal.js';
import { realClock, sleep } from '../../../shared/runtime/clock.js';
import {
  type Fate,
  fates,
  monotonicMs,
  type Ping,
  type TcpMode,
  type TcpTarget,
  type Traffic,
} from '../hosts/index.js';
import type { Paguro } from '../paguro.js';
import type { Kind, MainJobResult, Survival } from './result.js';

export const PORT = { both: 5001, serverOnly: 5002, exchange: 5003, datagrams: 5004 } as const;
export const PORTS = [PORT.both, PORT.serverOnly, PORT.exchange, PORT.datagrams] as const;
/** Traffic goes on for this long after a handover before it is judged: every connection sends ten times a second. */
const JUDGE_MS = 1_500;

/** Half over IPv4, half over IPv6. */
export function targets(paguro: Paguro, both: number, serverOnly: number): TcpTarget[] {
  const some = (howMany: number, mode: TcpMode, port: number): TcpTarget[] =>
    [...Array(howMany).keys()].map((n) => ({ address: addressOf(paguro, n), port, mode }));
  return [...some(both, 'both', PORT.both), ...some(serverOnly, 'server-only', PORT.serverOnly)];
}

export function addressOf(paguro: Paguro, n: number): string {
  const { ipv4, ipv6 } = paguro.host('h2');
  return n % 2 === 0 ? ipv4 : ipv6;
}

/** What has become of all that the client has opened; then its TCP connections are ended. */
export async function judge(
  client: Traffic,
  server: Traffic,
  pings: readonly Ping[],
): Promise<MainJobResult['connections']> {
  const since = monotonicMs();
  await pause(JUDGE_MS);
  const [ours, theirs] = await Promise.all([client.report(), server.report()]);
  const tcp = fates(ours.tcp, theirs.tcp, since);
  const judged: { kind: Kind; family: Family; fate: Fate }[] = [
    ...ours.tcp.map(({ mode, family }, index) => ({
      kind: kindOf(mode),
      family,
      fate: tcp[index] ?? 'unopened',
    })),
    ...ours.exchanges.map(({ family, lastAnsweredAt, garbled }) => ({
      kind: 'udp' as const,
      family,
      fate: (garbled > 0 ? 'garbled' : (lastAnsweredAt ?? 0) > since ? 'survived' : 'dead') as Fate,
    })),
    ...pings.map((ping) => {
      const { family, lastAnsweredAt } = ping.report();
      return {
        kind: 'ping' as const,
        family,
        fate: ((lastAnsweredAt ?? 0) > since ? 'survived' : 'dead') as Fate,
      };
    }),
  ];
  await client.end(ours.tcp.map(({ id }) => id));
  const of = (some: typeof judged): Survival => ({
    opened: some.length,
    survived: some.filter(({ fate }) => fate === 'survived').length,
    reset: some.filter(({ fate }) => fate === 'reset').length,
  });
  const family = (name: Family) => of(judged.filter((one) => one.family === name));
  const kind = (name: Kind) => of(judged.filter((one) => one.kind === name));
  return {
    ...of(judged),
    byFamily: { ipv4: family('ipv4'), ipv6: family('ipv6') },
    byKind: {
      'tcp, both talk': kind('tcp, both talk'),
      'tcp, only the server talks': kind('tcp, only the server talks'),
      udp: kind('udp'),
      ping: kind('ping'),
    },
  };
}

function kindOf(mode: TcpMode): Kind {
  return mode === 'both' ? 'tcp, both talk' : 'tcp, only the server talks';
}

/** Not a wait for something to happen: the time over which nothing may happen, or over which traffic is judged. */
export function pause(ms: number): Promise<void> {
  return sleep(realClock, ms);
}
