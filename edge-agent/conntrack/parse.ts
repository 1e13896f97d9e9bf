/**
 * What `conntrack -L -o extended` and `conntrack -E -o extended` print -> connections. Pure.
 *
 * A line of a dump:  `ipv4 2 tcp 6 431999 ESTABLISHED src=… dst=… sport=… dport=… src=… dst=… sport=… dport=… [ASSURED] mark=0 use=1`
 * An event:          ` [UPDATE] ipv4 2 tcp 6 60 SYN_RECV src=… … [USERSPACE] portid=… `
 * The first tuple is the original direction; the end of an entry that is none of the terminal's makes it no connection here. What comes out is valid
 * (`connectionSchema`): a line that is no entry, or an entry with a number or an address that is none, makes none.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { Connection, Opener, TcpState } from '../../shared/firewall/connection.js';
import { canonicalIpv6, familyOf, type Terminal } from '../../shared/firewall/terminal.js';
import { MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';
import { MAX_LINE_CHARACTERS } from './lines.js';

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
  const connections: Connection[] = [];
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const connection = parseEntry(words(text.slice(start, end)), own);
    if (connection) connections.push(connection);
    start = end + 1;
  }
  return connections;
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
  if (line.length > MAX_LINE_CHARACTERS) return [];
  return line.split(' ').filter((word) => word !== '');
}

/** What an entry says of itself: the first value of a name belongs to the original tuple. */
interface Fields {
  seconds: string | undefined;
  state: TcpState | undefined;
  src: string | undefined;
  dst: string | undefined;
  sport: string | undefined;
  dport: string | undefined;
  type: string | undefined;
  id: string | undefined;
  replied: boolean;
}

/** `family number protocol number [seconds] [state] tuple tuple flags…` */
function parseEntry(entry: readonly string[], own: OwnAddresses): Connection | undefined {
  const protocol = entry[2];
  const fields = fieldsOf(entry);
  const from = addressOf(fields.src);
  const to = addressOf(fields.dst);
  if (from === undefined || to === undefined || familyOf(from) !== familyOf(to)) return undefined;
  const opener: Opener | undefined = own.has(from) ? 'terminal' : own.has(to) ? 'remote' : undefined;
  if (opener === undefined) return undefined;
  const oriented = <T>(orig: T, reply: T): { local: T; remote: T } =>
    opener === 'terminal' ? { local: orig, remote: reply } : { local: reply, remote: orig };
  const timeLeftSeconds = Math.min(Number(fields.seconds ?? 0), MAX_IDLE_SECONDS);
  const { replied } = fields;

  switch (protocol) {
    case 'tcp':
    case 'udp': {
      const sport = numberOf(fields.sport);
      const dport = numberOf(fields.dport);
      if (sport === undefined || dport === undefined) return undefined;
      const ends = oriented({ address: from, port: sport }, { address: to, port: dport });
      // An event of an entry's end says no state any more; an entry without one is past its time.
      return protocol === 'tcp'
        ? { protocol, opener, ...ends, state: fields.state ?? 'closed', timeLeftSeconds }
        : { protocol, opener, ...ends, replied, timeLeftSeconds };
    }
    case 'icmp':
    case 'icmpv6': {
      const id = numberOf(fields.id);
      const echo = familyOf(from) === 'ipv4' ? 8 : 128;
      if (id === undefined || numberOf(fields.type) !== echo) return undefined;
      const ends = oriented({ address: from }, { address: to });
      return { protocol: 'icmp', opener, ...ends, id, replied, timeLeftSeconds };
    }
    default:
      return undefined;
  }
}

function fieldsOf(entry: readonly string[]): Fields {
  const fields: Fields = {
    seconds: undefined,
    state: undefined,
    src: undefined,
    dst: undefined,
    sport: undefined,
    dport: undefined,
    type: undefined,
    id: undefined,
    replied: true,
  };
  for (const word of entry.slice(4)) {
    const equals = word.indexOf('=');
    const value = word.slice(equals + 1);
    switch (equals < 0 ? word : word.slice(0, equals)) {
      case 'src':
        fields.src ??= value;
        break;
      case 'dst':
        fields.dst ??= value;
        break;
      case 'sport':
        fields.sport ??= value;
        break;
      case 'dport':
        fields.dport ??= value;
        break;
      case 'type':
        fields.type ??= value;
        break;
      case 'id':
        fields.id ??= value;
        break;
      case '[UNREPLIED]':
        fields.replied = false;
        break;
      default:
        // Only before the tuples: behind them are flags and marks.
        if (fields.src !== undefined || equals >= 0) break;
        fields.state ??= TCP_STATES.get(word);
        if (/^\d+$/.test(word)) fields.seconds ??= word;
    }
  }
  return fields;
}

/** A number of 16 bits, as ports, types and identifiers are. */
function numberOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return undefined;
  const number = Number(text);
  return number <= 0xffff ? number : undefined;
}

/** conntrack prints IPv6 as inet_ntop does, which is not the canonical form where it ends in an IPv4 address. */
function addressOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (isIPv4(text)) return text;
  return isIPv6(text) && !text.includes('%') ? canonicalIpv6(text) : undefined;
}
