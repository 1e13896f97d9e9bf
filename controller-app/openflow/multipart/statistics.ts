/**
 * What a switch counts: ports, queues, tables, groups, meters (spec 1.3.5, 7.3.5.5 to 7.3.5.13), and how its groups and meters are set up.
 */
import { bucket, groupType } from '../messages/group.js';
import { bands } from '../messages/meter.js';
import {
  type Infer,
  lengthFirst,
  list,
  measured,
  pad,
  struct,
  text,
  u8,
  u16,
  u32,
  u64,
} from '../wire/index.js';

/** struct ofp_desc. */
export const description = struct({
  manufacturer: text(256),
  hardware: text(256),
  software: text(256),
  serialNumber: text(32),
  datapath: text(256),
});

/** struct ofp_aggregate_stats_reply. */
export const aggregate = struct({ packetCount: u64, byteCount: u64, flowCount: u32, _: pad(4) });

/** struct ofp_table_stats. */
export const tableStats = struct({
  table: u8,
  _: pad(3),
  activeCount: u32,
  lookupCount: u64,
  matchedCount: u64,
});

export type TableStats = Infer<typeof tableStats>;

/** struct ofp_port_stats. */
export const portStats = struct({
  port: u32,
  _: pad(4),
  rxPackets: u64,
  txPackets: u64,
  rxBytes: u64,
  txBytes: u64,
  rxDropped: u64,
  txDropped: u64,
  rxErrors: u64,
  txErrors: u64,
  rxFrameErrors: u64,
  rxOverErrors: u64,
  rxCrcErrors: u64,
  collisions: u64,
  durationSec: u32,
  durationNsec: u32,
});

export type PortStats = Infer<typeof portStats>;

/** struct ofp_queue_stats. */
export const queueStats = struct({
  port: u32,
  queue: u32,
  txBytes: u64,
  txPackets: u64,
  txErrors: u64,
  durationSec: u32,
  durationNsec: u32,
});

export type QueueStats = Infer<typeof queueStats>;

/** struct ofp_group_stats. */
export const groupStats = lengthFirst(
  struct({
    _: pad(2),
    group: u32,
    /** Flows and groups that lead to it. */
    referenceCount: u32,
    _2: pad(4),
    packetCount: u64,
    byteCount: u64,
    durationSec: u32,
    durationNsec: u32,
    buckets: list(struct({ packetCount: u64, byteCount: u64 })),
  }),
);

export type GroupStats = Infer<typeof groupStats>;

/** struct ofp_group_desc. */
export const groupDescription = lengthFirst(
  struct({ groupType, _: pad(1), group: u32, buckets: list(bucket) }),
);

export type GroupDescription = Infer<typeof groupDescription>;

/** For each type of group, as the specification's arrays have it. */
const perGroupType = struct({ all: u32, select: u32, indirect: u32, fastFailover: u32 });

/** struct ofp_group_features. */
export const groupFeatures = struct({
  /** Bits: 1 << type. */
  types: u32,
  /** Bits of OFPGFC. */
  capabilities: u32,
  maxGroups: perGroupType,
  /** Bits: 1 << action type. */
  actions: perGroupType,
});

/** struct ofp_meter_stats. */
export const meterStats = measured(
  struct({ meter: u32 }),
  struct({
    _: pad(6),
    flowCount: u32,
    packetInCount: u64,
    byteInCount: u64,
    durationSec: u32,
    durationNsec: u32,
    bands: list(struct({ packetCount: u64, byteCount: u64 })),
  }),
);

export type MeterStats = Infer<typeof meterStats>;

/** struct ofp_meter_config. */
export const meterConfig = lengthFirst(
  struct({
    /** Bits of OFPMF. */
    flags: u16,
    meter: u32,
    bands,
  }),
);

export type MeterConfig = Infer<typeof meterConfig>;

/** struct ofp_meter_features. */
export const meterFeatures = struct({
  maxMeters: u32,
  /** Bits: 1 << band type. */
  bandTypes: u32,
  /** Bits of OFPMF. */
  capabilities: u32,
  maxBands: u8,
  maxColor: u8,
  _: pad(2),
});
