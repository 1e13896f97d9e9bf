/**
 * The kinds of a connection: protocol, opener and state in one small number. A number's meaning never changes: new kinds go to the end.
 */
import { type Connection, type Opener, type TcpState, tcpStateSchema } from '../firewall/connection.js';
import { BytesError } from './bytes.js';

export type Kind = { readonly number: number; readonly opener: Opener } & (
  | { readonly protocol: 'tcp'; readonly state: TcpState }
  | { readonly protocol: 'udp' | 'icmp'; readonly replied: boolean }
);

const OPENERS = ['terminal', 'remote'] as const;
const TCP_STATES = [
  'opening',
  'answered',
  'established',
  'closing',
  'closed',
] as const satisfies readonly TcpState[];

function makeKinds(): Kind[] {
  const kinds: Kind[] = [];
  for (const state of TCP_STATES)
    for (const opener of OPENERS) kinds.push({ number: kinds.length, protocol: 'tcp', opener, state });
  for (const protocol of ['udp', 'icmp'] as const)
    for (const replied of [false, true])
      for (const opener of OPENERS) kinds.push({ number: kinds.length, protocol, opener, replied });
  return kinds;
}

export const KINDS: readonly Kind[] = makeKinds();

const UDP_BASE = TCP_STATES.length * 2;
const ICMP_BASE = UDP_BASE + 4;

/** The number of a connection's kind. Throws a BytesError for a value that is no state or opener. */
export function kindOf(connection: Connection): number {
  const opener = OPENERS.indexOf(connection.opener);
  if (opener < 0) throw new BytesError(`unknown opener: ${String(connection.opener).slice(0, 50)}`);
  switch (connection.protocol) {
    case 'tcp': {
      const state = tcpStateSchema.safeParse(connection.state);
      if (!state.success) throw new BytesError(`unknown TCP state: ${String(connection.state).slice(0, 50)}`);
      return TCP_STATES.indexOf(state.data) * 2 + opener;
    }
    case 'udp':
      return UDP_BASE + (connection.replied ? 2 : 0) + opener;
    case 'icmp':
      return ICMP_BASE + (connection.replied ? 2 : 0) + opener;
    default:
      throw new BytesError('unknown protocol of a connection');
  }
}
