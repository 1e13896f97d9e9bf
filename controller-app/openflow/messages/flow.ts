/**
 * Flows: how they are set (spec 1.3.5, 7.3.4.1), told of (7.3.5.2) and how their end is told (7.4.2).
 */

import { instructions } from '../actions/index.js';
import { OFP_NO_BUFFER, OFPG, OFPP } from '../constants.js';
import { matchCodec, toldMatch } from '../match/index.js';
import {
  type Infer,
  lengthFirst,
  names,
  oneOf,
  optional,
  pad,
  type Simplify,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '../wire/index.js';

export const flowCommand = oneOf(
  u8,
  { add: 0, modify: 1, modify_strict: 2, delete: 3, delete_strict: 4 },
  'OFPFMFC_BAD_COMMAND',
);

/** struct ofp_flow_mod. Time-outs in seconds, 0 (absent) for never. A deletion looks at outPort and outGroup; cookieMask filters changes and deletions. */
export const flowMod = struct({
  cookie: u64,
  cookieMask: optional(u64, 0n),
  table: u8,
  command: flowCommand,
  idleTimeout: optional(u16, 0),
  hardTimeout: optional(u16, 0),
  priority: u16,
  bufferId: optional(u32, OFP_NO_BUFFER),
  outPort: optional(u32, OFPP.ANY),
  outGroup: optional(u32, OFPG.ANY),
  flags: optional(u16, 0),
  _: pad(2),
  match: matchCodec,
  instructions,
});

export type FlowMod = Simplify<{ readonly type: 'flow_mod' } & Infer<typeof flowMod>>;

/** One rule, apart from what is done with it. */
export type Flow = Pick<
  FlowMod,
  'table' | 'priority' | 'cookie' | 'match' | 'instructions' | 'idleTimeout' | 'hardTimeout' | 'flags'
>;

/** struct ofp_flow_stats. */
export const flowStats = lengthFirst(
  struct({
    table: u8,
    _: pad(1),
    durationSec: u32,
    durationNsec: u32,
    priority: u16,
    idleTimeout: optional(u16, 0),
    hardTimeout: optional(u16, 0),
    flags: optional(u16, 0),
    _2: pad(4),
    cookie: u64,
    packetCount: u64,
    byteCount: u64,
    match: toldMatch,
    instructions,
  }),
);

/** A rule that a switch has, with its age and counters. */
export type FlowStats = Infer<typeof flowStats>;

/** struct ofp_flow_stats_request and ofp_aggregate_stats_request: absent fields don't filter. */
export const flowFilter = struct({
  table: u8,
  _: pad(3),
  outPort: optional(u32, OFPP.ANY),
  outGroup: optional(u32, OFPG.ANY),
  _2: pad(4),
  cookie: optional(u64, 0n),
  cookieMask: optional(u64, 0n),
  match: matchCodec,
});

/** Why a flow is gone. */
export const flowRemovedReason = names(u8, {
  idle_timeout: 0,
  hard_timeout: 1,
  delete: 2,
  group_delete: 3,
});

/** struct ofp_flow_removed. */
export const flowRemoved = struct({
  cookie: u64,
  priority: u16,
  reason: flowRemovedReason,
  tableId: u8,
  durationSec: u32,
  durationNsec: u32,
  idleTimeout: u16,
  hardTimeout: u16,
  packetCount: u64,
  byteCount: u64,
  match: toldMatch,
});
