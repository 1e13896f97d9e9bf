/**
 * Packets to the controller (spec 1.3.5, 7.4.1) and from it (7.3.7).
 */
import { actions } from '../actions/index.js';
import { OFP_NO_BUFFER } from '../constants.js';
import { toldMatch } from '../match/index.js';
import { names, optional, pad, prefixed, rest, struct, u8, u16, u32, u64 } from '../wire/index.js';

/** Why a packet comes to the controller. */
export const packetInReason = names(u8, { no_match: 0, action: 1, invalid_ttl: 2 });

/** struct ofp_packet_in. */
export const packetIn = struct({
  bufferId: u32,
  /** Of the whole frame, of which `data` may be the beginning. */
  totalLen: u16,
  reason: packetInReason,
  tableId: u8,
  cookie: u64,
  /** Where the packet was: port, metadata, registers. */
  match: toldMatch,
  _: pad(2),
  data: rest,
});

/** struct ofp_packet_out. */
export const packetOut = struct({
  bufferId: optional(u32, OFP_NO_BUFFER),
  inPort: u32,
  actions: prefixed(pad(6), actions),
  /** The frame, unless it is in a buffer. */
  data: rest,
});
