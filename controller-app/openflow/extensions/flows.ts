/**
 * Nicira's messages about flows (Open vSwitch, nicira-ext.h), from before OpenFlow had OXM: ports have 16 bits. What was actions
 * there is instructions here: so Open vSwitch reads them in a message of version 1.3.
 */
import { instructions } from '../actions/index.js';
import { OFP_NO_BUFFER, OFPP } from '../constants.js';
import { toldOxms } from '../match/index.js';
import { flowCommand, flowRemovedReason } from '../messages/flow.js';
import { port16 } from '../port-number.js';
import { optional, pad, struct, u8, u16, u32, u64 } from '../wire/index.js';
import { aroundNxMatch, nothing } from './nx-match.js';

/** NXT_FLOW_MOD. */
export const nxFlowMod = aroundNxMatch(
  struct({
    cookie: u64,
    /** Looked at only after flow_mod_table_id. */
    table: u8,
    command: flowCommand,
    idleTimeout: optional(u16, 0),
    hardTimeout: optional(u16, 0),
    priority: u16,
    bufferId: optional(u32, OFP_NO_BUFFER),
    outPort: optional(port16, OFPP.ANY),
    flags: optional(u16, 0),
  }),
  struct({ _: pad(6) }),
  struct({ instructions }),
);

/** NXT_FLOW_REMOVED. */
export const nxFlowRemoved = aroundNxMatch(
  struct({
    cookie: u64,
    priority: u16,
    reason: flowRemovedReason,
    /** One more than the table's number; 0 when it is not told. */
    tablePlusOne: u8,
    durationSec: u32,
    durationNsec: u32,
    idleTimeout: u16,
  }),
  struct({ packetCount: u64, byteCount: u64 }),
  nothing,
  toldOxms,
);

/** NXT_FLOW_MOD_TABLE_ID: whether flow mods of OpenFlow 1.0 name tables. */
export const flowModTableId = struct({ set: u8, _: pad(7) });
