/**
 * The connection tracker: what is known of one connection, and how a copied packet changes it. Pure.
 *
 * Copies may be lost, and any of them may be the first that arrives: so each of them tells enough to begin with, and a later
 * announcement makes good for what was missed.
 */
import type { Connection, Opener, TcpState } from '../../../shared/firewall/connection.js';
import { type IdleTimes, idleSeconds } from '../../../shared/firewall/timeouts.js';
import { TCP_FLAGS } from '../../openflow/index.js';
import { MARK } from '../../pipeline/index.js';
import type { Observation } from './observation.js';

export interface Tracked {
  /** `timeLeftSeconds` is what it was when the last packet was seen. */
  readonly connection: Connection;
  /** Who has sent a FIN. */
  readonly finished: readonly Opener[];
  /** The clock's ms at the last packet that was told. */
  readonly lastSeenMs: number;
}

/** The connection after this packet. `before` is what was known of it, here or from an import. */
export function track(
  before: Tracked | undefined,
  seen: Observation,
  nowMs: number,
  times: IdleTimes,
): Tracked {
  const known = before && !reopens(before, seen) ? before : begin(seen, nowMs, times);
  const connection = known.connection;
  const step = { ...known, lastSeenMs: nowMs };
  if (connection.protocol === 'tcp' && seen.protocol === 'tcp') {
    const finished =
      seen.flags & TCP_FLAGS.fin && !known.finished.includes(seen.sender)
        ? [...known.finished, seen.sender]
        : known.finished;
    const state = tcpState(connection.state, seen, finished.length);
    return { ...step, finished, connection: refreshed({ ...connection, state }, times) };
  }
  if (connection.protocol === 'udp' || connection.protocol === 'icmp') {
    const replied =
      connection.replied ||
      (seen.mark & MARK.replied) !== 0 ||
      (seen.kind !== 'opening' && seen.sender !== connection.opener);
    return { ...step, connection: refreshed({ ...connection, replied }, times) };
  }
  return step;
}

/** A connection that another domain told of, as if its last packet had been seen `timeLeftSeconds` before its end. */
export function imported(connection: Connection, nowMs: number): Tracked {
  return { connection, finished: [], lastSeenMs: nowMs };
}

/** Is there anything in it that a change must tell? Not the time: both ends of a handover count it for themselves. */
export function sameConnection(a: Connection, b: Connection): boolean {
  return (
    a.opener === b.opener &&
    (a.protocol === 'tcp'
      ? b.protocol === 'tcp' && a.state === b.state
      : b.protocol !== 'tcp' && a.replied === b.replied)
  );
}

/** An opening packet begins another connection, unless it is the first packet once more. */
function reopens(before: Tracked, seen: Observation): boolean {
  if (seen.kind !== 'opening') return false;
  const { connection } = before;
  const fresh = connection.protocol === 'tcp' ? connection.state === 'opening' : !connection.replied;
  return !(fresh && connection.opener === seen.opener);
}

function begin(seen: Observation, nowMs: number, times: IdleTimes): Tracked {
  const { opener } = seen;
  const connection: Connection =
    seen.protocol === 'tcp'
      ? {
          protocol: 'tcp',
          opener,
          local: seen.local,
          remote: seen.remote,
          state: 'opening',
          timeLeftSeconds: 0,
        }
      : seen.protocol === 'udp'
        ? {
            protocol: 'udp',
            opener,
            local: seen.local,
            remote: seen.remote,
            replied: false,
            timeLeftSeconds: 0,
          }
        : {
            protocol: 'icmp',
            opener,
            local: seen.local,
            remote: seen.remote,
            id: seen.id,
            replied: false,
            timeLeftSeconds: 0,
          };
  return { connection: refreshed(connection, times), finished: [], lastSeenMs: nowMs };
}

function tcpState(state: TcpState, seen: Observation & { protocol: 'tcp' }, finished: number): TcpState {
  if (seen.flags & TCP_FLAGS.rst || finished === 2 || state === 'closed') return 'closed';
  if (finished === 1 || state === 'closing') return 'closing';
  if (seen.flags & TCP_FLAGS.syn) {
    return state === 'opening' && seen.flags & TCP_FLAGS.ack && seen.sender !== seen.opener
      ? 'answered'
      : state;
  }
  // An ACK without SYN that conntrack took for one of this connection: the handshake is over.
  return seen.flags & TCP_FLAGS.ack ? 'established' : state;
}

function refreshed<C extends Connection>(connection: C, times: IdleTimes): C {
  return { ...connection, timeLeftSeconds: idleSeconds(connection, times) };
}
