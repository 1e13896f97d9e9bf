/**
 * Groups (spec 1.3.5, 7.3.4.2).
 */
import { actions } from '../actions/index.js';
import { OFPG, OFPP } from '../constants.js';
import {
  type Infer,
  lengthFirst,
  list,
  oneOf,
  optional,
  pad,
  type Simplify,
  struct,
  u8,
  u16,
  u32,
} from '../wire/index.js';

export const groupType = oneOf(u8, { all: 0, select: 1, indirect: 2, fast_failover: 3 }, 'OFPGMFC_BAD_TYPE');

/** struct ofp_bucket. */
export const bucket = lengthFirst(
  struct({
    weight: optional(u16, 0),
    watchPort: optional(u32, OFPP.ANY),
    watchGroup: optional(u32, OFPG.ANY),
    _: pad(4),
    actions,
  }),
  'OFPGMFC_BAD_BUCKET',
);

export type Bucket = Infer<typeof bucket>;

/** struct ofp_group_mod. Open vSwitch can also add a group or modify it, whichever it takes. */
export const groupMod = struct({
  command: oneOf(u16, { add: 0, modify: 1, delete: 2, add_or_modify: 0x8000 }, 'OFPGMFC_BAD_COMMAND'),
  groupType,
  _: pad(1),
  group: u32,
  buckets: list(bucket),
});

export type GroupMod = Simplify<{ readonly type: 'group_mod' } & Infer<typeof groupMod>>;
