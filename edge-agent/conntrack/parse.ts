/**
 * What `conntrack -L -o extended` and `conntrack -E -o extended` print -> connections. Pure.
 *
 * A line of a dump:  `ipv4 2 tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… src=… dst=… sport=… dport=… [ASSURED] mark=0 use=1`
 * An event:          ` [UPDATE] ipv4 2 tcp 6 60 SYN_RECV src=… … [USERSPACE] portid=… `
 * The first tuple is the original direction; the end of an entry that is none of the terminal's makes it no connection here.
 */
import type { Connection, Opener, TcpState } from '../../shared/firewall/connection.js';
import { canonicalIpv6, type Terminal } from '../../shared/firewall/terminal.js';
import { MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';

export type EntryEvent = 'new' | 'update' | 'destroy';

export interface ParsedEvent {
  readonly event: EntryEvent;
  /** Made by a program and not by a packet. */
  readonly byProgram: boolean;
  readonly connection: Connection;
}

const TCP_STATES: ReadonlyMap<string, TcpState> = new Map([
  ['SYN_SENT', 'opening'],
  ['SYN_SENT2', 'opening'],
  ['SYN_RECV', 'answered'],
  ['ESTABLISHED', 'established'],
  ['FIN_WAIT', 'closing'],
  ['CLOSE_WAIT', 'closing'],
  ['LAST_ACK', 'closing'],
  ['TIME_WAIT', 'closed'],
  ['CLOSE', 'closed'],
]);

const EVENTS: ReadonlyMap<string, EntryEvent> = new Map([
  ['[NEW]', 'new'],
  ['[UPDATE]', 'update'],
  ['[DESTROY]', 'destroy'],
]);

/** The addresses that make an entry a connection of the terminal's. */
export type OwnAddresses = ReadonlySet<string>;

export function ownAddresses(terminal: Terminal): OwnAddresses {
  return new Set([...terminal.ipv4, ...terminal.ipv6]);
}

/** The connections of a whole dump; lines that are none of the terminal's are left out. */
export function parseDump(text: string, own: OwnAddresses): readonly Connection[] {
  return text.split('\n').flatMap((line) => parseEntry(words(line), own) ?? []);
}

/** One line of the event stream, or undefined when it is none of the terminal's. */
export function parseEvent(line: string, own: OwnAddresses): ParsedEvent | undefined {
  const [kind = '', ...rest] = words(line);
  const event = EVENTS.get(kind);
  if (event === undefined) return undefined;
  const connection = parseEntry(rest, own);
  return connection && { event, byProgram: rest.includes('[USERSPACE]'), connection };
}

function words(line: string): readonly string[] {
  return line.split(' ').filter((word) => word !== '');
}

/** `family number protocol number [seconds] [state] tuple tuple flags…` */
function parseEntry(entry: readonly string[], own: OwnAddresses): Connection | undefined {
  const [, , protocol, , ...rest] = entry;
  const fields = rest.slice(
    0,
    Math.max(
      0,
      rest.findIndex((word) => word.startsWith('src=')),
    ),
  );
  const seconds = fields.find((word) => /^\d+$/.test(word));
  const state = fields.find((word) => TCP_STATES.has(word));
  const source = original(rest, 'src');
  const destination = original(rest, 'dst');
  if (source === undefined || destination === undefined) return undefined;
  const [from, to] = [canonical(source), canonical(destination)];
  const opener: Opener | undefined = own.has(from) ? 'terminal' : own.has(to) ? 'remote' : undefined;
  if (opener === undefined) return undefined;
  const oriented = <T>(orig: T, reply: T): { local: T; remote: T } =>
    opener === 'terminal' ? { local: orig, remote: reply } : { local: reply, remote: orig };
  const timeLeftSeconds = Math.min(Number(seconds ?? 0), MAX_IDLE_SECONDS);
  const replied = !rest.includes('[UNREPLIED]');

  switch (protocol) {
    case 'tcp':
    case 'udp': {
      const [sport, dport] = [Number(original(rest, 'sport')), Number(original(rest, 'dport'))];
      if (!Number.isInteger(sport) || !Number.isInteger(dport)) return undefined;
      const ends = oriented({ address: from, port: sport }, { address: to, port: dport });
      // An event of an entry's end says no state any more; an entry without one is past its time.
      return protocol === 'tcp'
        ? { protocol, opener, ...ends, state: TCP_STATES.get(state ?? '') ?? 'closed', timeLeftSeconds }
        : { protocol, opener, ...ends, replied, timeLeftSeconds };
    }
    case 'icmp':
    case 'icmpv6': {
      const id = Number(original(rest, 'id'));
      const type = Number(original(rest, 'type'));
      if (type !== (protocol === 'icmp' ? 8 : 128) || !Number.isInteger(id)) return undefined;
      const ends = oriented({ address: from }, { address: to });
      return { protocol: 'icmp', opener, ...ends, id, replied, timeLeftSeconds };
    }
    default:
      return undefined;
  }
}

/** The first value of a name belongs to the original tuple. */
function original(entry: readonly string[], name: string): string | undefined {
  const prefix = `${name}=`;
  return entry.find((word) => word.startsWith(prefix))?.slice(prefix.length);
}

/** conntrack prints IPv6 as inet_ntop does, which is the canonical form but where it ends in an IPv4 address. */
function canonical(address: string): string {
  return address.includes(':') && address.includes('.') ? canonicalIpv6(address) : address;
}
