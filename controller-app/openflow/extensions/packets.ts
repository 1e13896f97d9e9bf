/**
 * Nicira's messages about packets (Open vSwitch, nicira-ext.h): packet-ins made of properties, which can be resumed, and older ones.
 */

import { toldOxms } from '../match/index.js';
import { packetInReason } from '../messages/packet.js';
import {
  names,
  pad,
  padBefore,
  rest,
  type Struct,
  struct,
  type TlvObject,
  tlvObject,
  u8,
  u16,
  u32,
  u64,
} from '../wire/index.js';
import { HEADER } from './header.js';
import { aroundNxMatch } from './nx-match.js';

const PROPERTIES = {
  packet: [0, rest],
  /** Of the whole frame, if `packet` is the beginning of it. */
  fullLen: [1, u32],
  bufferId: [2, u32],
  tableId: [3, u8],
  /** Absent for none. */
  cookie: [4, padBefore(4, u64)],
  reason: [5, packetInReason],
  /** Where the packet was, as the match of an ordinary packet-in. */
  metadata: [6, toldOxms],
  /** Of the action controller2. */
  userdata: [7, rest],
  /** Open vSwitch's own: what it must get back to go on where it paused. */
  continuation: [8, padBefore(4, rest)],
} as const;

/** NXT_PACKET_IN2 and, back to the switch, NXT_RESUME: at most one property of a kind, in any order. */
export interface PacketIn2 extends TlvObject<typeof PROPERTIES> {}

const properties = tlvObject(PROPERTIES, { code: 'OFPTFFC_BAD_LEN' }, HEADER);

export const packetIn2: Struct<PacketIn2> = properties;

/** NXT_PACKET_IN. */
export const nxPacketIn = aroundNxMatch(
  struct({ bufferId: u32, totalLen: u16, reason: packetInReason, tableId: u8, cookie: u64 }),
  struct({ _: pad(6) }),
  struct({ _: pad(2), data: rest }),
  toldOxms,
);

/** NXT_SET_PACKET_IN_FORMAT. */
export const setPacketInFormat = struct({
  format: names(u32, { openflow: 0, nx_packet_in: 1, packet_in2: 2 }),
});
