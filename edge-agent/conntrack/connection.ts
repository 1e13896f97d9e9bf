/**
 * Connections as entries of the kernel's connection table, and back. Pure.
 */
import type { Connection, Opener, TcpState } from '../../shared/firewall/connection.js';
import { familyOf, type Terminal } from '../../shared/firewall/terminal.js';
import { MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';
import { CONNECTION_MARKS } from '../iptables/names.js';
import { ECHO, type Entry, MESSAGE_TYPE, readEntry, STATUS, TCP_STATE, type Tuple } from './entry.js';
import { FLAG, type NetlinkMessage } from './netlink.js';

/** The addresses that make an entry a connection of the terminal's. */
export type OwnAddresses = ReadonlySet<string>;

export function ownAddresses(terminal: Terminal): OwnAddresses {
  return new Set([...terminal.ipv4, ...terminal.ipv6]);
}

export type EntryEvent = 'new' | 'update' | 'destroy';

export interface ConnectionEvent {
  readonly event: EntryEvent;
  /** The port of the socket that caused it; 0 for a packet, or time. */
  readonly causedBy: number;
  readonly connection: Connection;
  /** Whether it says in which state a TCP connection is; otherwise the state is the least that its other bits mean. */
  readonly saysState: boolean;
}

/**
 * Linux has more states than a connection here. CLOSE_WAIT stands for all of closing, because it takes data and FINs of either side in any
 * order; TIME_WAIT for closed: the last retransmissions pass, and a SYN opens anew.
 */
const LOADED_STATES: Readonly<Record<TcpState, number>> = {
  opening: TCP_STATE.synSent,
  answered: TCP_STATE.synReceived,
  established: TCP_STATE.established,
  closing: TCP_STATE.closeWait,
  closed: TCP_STATE.timeWait,
};

const READ_STATES: ReadonlyMap<number, TcpState> = new Map([
  [TCP_STATE.synSent, 'opening'],
  [TCP_STATE.synSent2, 'opening'],
  [TCP_STATE.synReceived, 'answered'],
  [TCP_STATE.established, 'established'],
  [TCP_STATE.finWait, 'closing'],
  [TCP_STATE.closeWait, 'closing'],
  [TCP_STATE.lastAck, 'closing'],
  [TCP_STATE.timeWait, 'closed'],
  [TCP_STATE.close, 'closed'],
]);

/** The entry of a connection, idle for at most `timeoutSeconds`. */
export function entryOf(connection: Connection, timeoutSeconds: number): Entry {
  return {
    tuple: tupleOf(connection),
    status: STATUS.confirmed | statusOf(connection),
    tcpState: connection.protocol === 'tcp' ? LOADED_STATES[connection.state] : undefined,
    mark: markOf(connection),
    timeoutSeconds,
  };
}

/** The original tuple: from whoever opened the connection to the other. */
export function tupleOf(connection: Connection): Tuple {
  const fromTerminal = connection.opener === 'terminal';
  if (connection.protocol === 'icmp') {
    const { local, remote, id } = connection;
    const [source, destination] = fromTerminal
      ? [local.address, remote.address]
      : [remote.address, local.address];
    // Every echo begins with a request.
    return { protocol: 'icmp', source, destination, type: ECHO[familyOf(source)].request, id };
  }
  const { protocol } = connection;
  const [from, to] = fromTerminal
    ? [connection.local, connection.remote]
    : [connection.remote, connection.local];
  return {
    protocol,
    source: from.address,
    destination: to.address,
    sourcePort: from.port,
    destinationPort: to.port,
  };
}

/** To the kernel a loaded entry is open whatever its state says: a SYN begins another connection where the mark says that this one is over. */
function markOf(connection: Connection): number {
  const { admitted, over } = CONNECTION_MARKS;
  const isOver = connection.protocol === 'tcp' && connection.state === 'closed';
  return isOver ? admitted | over : admitted;
}

/** An assured entry is not dropped when the table is full. Linux never assures an echo. */
function statusOf(connection: Connection): number {
  const { replied, assured } = STATUS;
  if (connection.protocol === 'icmp') return connection.replied ? replied : 0;
  if (connection.protocol === 'udp') return connection.replied ? replied | assured : 0;
  if (connection.state === 'opening') return 0;
  return connection.state === 'answered' ? replied : replied | assured;
}

/**
 * What an event says, or undefined when it is of no connection of the terminal's: other addresses, another protocol, an ICMP exchange that is no echo,
 * or an entry without the mark of admission, as address configuration makes (it passes without one). Fails with a NetlinkError.
 */
export function eventOf(message: NetlinkMessage, own: OwnAddresses): ConnectionEvent | undefined {
  const { type, flags, port } = message;
  if (type !== MESSAGE_TYPE.new && type !== MESSAGE_TYPE.delete) return undefined;
  const entry = readEntry(message);
  const connection = entry && connectionOf(entry, own);
  if (!connection) return undefined;
  return {
    event: type === MESSAGE_TYPE.delete ? 'destroy' : (flags & FLAG.create) !== 0 ? 'new' : 'update',
    causedBy: port,
    connection,
    saysState: entry.tcpState !== undefined,
  };
}

/** The connection that an entry is. What comes out is valid (`connectionSchema`). */
export function connectionOf(entry: Entry, own: OwnAddresses): Connection | undefined {
  const { tuple, status = 0 } = entry;
  if ((entry.mark & CONNECTION_MARKS.admitted) === 0) return undefined;
  const { source, destination } = tuple;
  if (familyOf(source) !== familyOf(destination)) return undefined;
  const opener: Opener | undefined = own.has(source)
    ? 'terminal'
    : own.has(destination)
      ? 'remote'
      : undefined;
  if (opener === undefined) return undefined;
  const timeLeftSeconds = Math.min(entry.timeoutSeconds ?? 0, MAX_IDLE_SECONDS);
  const replied = (status & STATUS.replied) !== 0;
  if (tuple.protocol === 'icmp') {
    if (tuple.type !== ECHO[familyOf(source)].request) return undefined;
    const [local, remote] =
      opener === 'terminal'
        ? [{ address: source }, { address: destination }]
        : [{ address: destination }, { address: source }];
    return { protocol: 'icmp', opener, local, remote, id: tuple.id, replied, timeLeftSeconds };
  }
  const from = { address: source, port: tuple.sourcePort };
  const to = { address: destination, port: tuple.destinationPort };
  const [local, remote] = opener === 'terminal' ? [from, to] : [to, from];
  return tuple.protocol === 'udp'
    ? { protocol: 'udp', opener, local, remote, replied, timeLeftSeconds }
    : { protocol: 'tcp', opener, local, remote, state: stateOf(entry.tcpState, status), timeLeftSeconds };
}

/** Not every event says the state: what its bits mean at least. */
function stateOf(tcpState: number | undefined, status: number): TcpState {
  const state = tcpState === undefined ? undefined : READ_STATES.get(tcpState);
  if (state !== undefined) return state;
  if ((status & STATUS.assured) !== 0) return 'established';
  return (status & STATUS.replied) !== 0 ? 'answered' : 'opening';
}
