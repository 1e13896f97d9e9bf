/**
 * Flow monitors (ONF extension 187, for 1.3 as Open vSwitch speaks it): a controller hears of every change of flows.
 */

import { instructions } from '../actions/index.js';
import { OFPP } from '../constants.js';
import { type Match, matchCodec } from '../match/index.js';
import {
  type Codec,
  type Infer,
  lengthFirst,
  list,
  oneOf,
  optional,
  pad,
  type Simplify,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '../wire/index.js';

/**
 * Before the match its length without padding, which the match says itself. It stands here only when the two differ, as
 * nobody checks it.
 */
interface MatchTwice {
  readonly matchLength?: number;
  readonly match: Match;
}

function withMatchLength<H extends object, M extends object, T extends object>(
  head: Struct<H>,
  middle: Struct<M>,
  tail: Struct<T>,
): Struct<Simplify<H & M & MatchTwice & T>> {
  type Value = Simplify<H & M & MatchTwice & T>;
  const codec: Struct<Value> = {
    readInto: (r, target) => {
      head.readInto(r, target);
      const length = r.u16();
      middle.readInto(r, target);
      r.need(4);
      const itsOwn = ((r.bytes[r.pos + 2] as number) << 8) | (r.bytes[r.pos + 3] as number);
      if (length !== itsOwn) target.matchLength = length;
      target.match = matchCodec.read(r);
      tail.readInto(r, target);
    },
    read: (r) => {
      const value = {};
      codec.readInto(r, value);
      return value as Value;
    },
    write: (w, value) => {
      head.write(w, value);
      const at = w.lengthLater();
      middle.write(w, value);
      const start = w.length;
      matchCodec.write(w, value.match);
      const itsOwn = ((w.bytes[start + 2] as number) << 8) | (w.bytes[start + 3] as number);
      w.setLength(at, value.matchLength ?? itsOwn);
      tail.write(w, value);
    },
  };
  return codec;
}

/** struct onf_flow_monitor_request. */
const monitor = withMatchLength(
  struct({
    id: u32,
    /** Bits of NXFMF. */
    flags: u16,
  }),
  struct({ outPort: optional(u32, OFPP.ANY), table: u8, _: pad(3) }),
  struct({}),
);

export const monitors = struct({ monitors: list(monitor) });

/** struct nx_flow_update_full. */
const full = withMatchLength(
  struct({
    /** Of a deletion; otherwise 0. */
    reason: u16,
    priority: u16,
    idleTimeout: optional(u16, 0),
    hardTimeout: optional(u16, 0),
  }),
  struct({ table: u8, _: pad(1), cookie: u64 }),
  struct({ instructions }),
);

const event = oneOf(u16, { added: 0, deleted: 1, modified: 2, abbreviated: 3 }, 'NXBRC_FM_BAD_EVENT');

export type FlowUpdate =
  | Simplify<{ readonly event: Exclude<Infer<typeof event>, 'abbreviated'> } & Infer<typeof full>>
  /** What the controller's own request with this xid did. */
  | { readonly event: 'abbreviated'; readonly xid: number };

const update: Codec<FlowUpdate> = lengthFirst<FlowUpdate>({
  read: (r) => {
    const what = event.read(r);
    return what === 'abbreviated' ? { event: what, xid: r.u32() } : { event: what, ...full.read(r) };
  },
  write: (w, value) => {
    event.write(w, value.event);
    if (value.event === 'abbreviated') w.u32(value.xid);
    else full.write(w, value);
  },
});

export const updates = struct({ updates: list(update) });

export const monitorCancel = struct({ id: u32 });
