/**
 * What a copied packet says about a connection. Pure.
 */
import type { Opener } from '../../../shared/firewall/connection.js';
import type { Match } from '../../openflow/index.js';
import { type Packet, parsePacket } from '../../packet/index.js';
import { type Kind, openerOf, SIDE } from '../../pipeline/index.js';

interface Ends {
  readonly local: { readonly address: string; readonly port: number };
  readonly remote: { readonly address: string; readonly port: number };
}

/** One packet of a connection, seen from the terminal. */
export type Observation = {
  readonly kind: Kind;
  /** Who sent the packet. */
  readonly sender: Opener;
  /** What the connection mark says of who opened it. */
  readonly opener: Opener;
  /** The connection mark before this packet. */
  readonly mark: number;
  /** The `connectionKey` of the connection. */
  readonly key: string;
} & (
  | ({ readonly protocol: 'tcp'; readonly flags: number } & Ends)
  | ({ readonly protocol: 'udp' } & Ends)
  | {
      readonly protocol: 'icmp';
      readonly id: number;
      readonly local: { readonly address: string };
      readonly remote: { readonly address: string };
    }
);

/** Nothing when the copy is of no connection: cut too short, or no TCP, UDP or echo. */
export function observe(kind: Kind, match: Match, data: Uint8Array): Observation | undefined {
  const side = plain(match.reg0);
  const packet: Packet | undefined = parsePacket(data);
  const { ip, transport } = packet ?? {};
  if (!ip || !transport || (side !== SIDE.terminal && side !== SIDE.network)) return undefined;
  const sender: Opener = side === SIDE.terminal ? 'terminal' : 'remote';
  const mark = plain(match.ct_mark) ?? 0;
  // The mark is set by this very rule when the packet opens the connection.
  const opener = kind === 'opening' ? sender : openerOf(mark);
  const [near, far] = sender === 'terminal' ? [ip.src, ip.dst] : [ip.dst, ip.src];
  if (transport.protocol === 'icmp') {
    const { id } = transport;
    if (id === undefined) return undefined;
    const key = `icmp ${near} ${far} ${id}`;
    const ends = { local: { address: near }, remote: { address: far } };
    return { kind, sender, opener, mark, key, protocol: 'icmp', id, ...ends };
  }
  const [nearPort, farPort] =
    sender === 'terminal' ? [transport.src, transport.dst] : [transport.dst, transport.src];
  const common = {
    kind,
    sender,
    opener,
    mark,
    key: `${transport.protocol} ${near} ${nearPort} ${far} ${farPort}`,
    local: { address: near, port: nearPort },
    remote: { address: far, port: farPort },
  };
  return transport.protocol === 'tcp'
    ? { ...common, protocol: 'tcp', flags: transport.flags }
    : { ...common, protocol: 'udp' };
}

function plain(value: Match['reg0']): number | undefined {
  return typeof value === 'object' ? value.value : value;
}
