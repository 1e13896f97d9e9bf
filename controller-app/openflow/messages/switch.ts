/**
 * What a switch is and how it is set up: features (spec 1.3.5, 7.3.1), configuration (7.3.2), tables (7.3.3), roles (7.3.9) and
 * what it tells of its own accord (7.3.10).
 */
import { names, oneOf, optional, pad, struct, u8, u16, u32, u64 } from '../wire/index.js';

/** struct ofp_switch_features. */
export const features = struct({
  datapathId: u64,
  /** How many packets it can keep. */
  buffers: u32,
  tables: u8,
  /** 0 for a main connection. */
  auxiliaryId: u8,
  _: pad(2),
  /** Bits of OFPC. */
  capabilities: u32,
  reserved: optional(u32, 0),
});

/** struct ofp_switch_config. */
export const config = struct({
  /** OFPC_FRAG. */
  flags: u16,
  /** Bytes of a packet that comes to the controller for want of a rule. */
  missSendLen: u16,
});

/** struct ofp_table_mod. */
export const tableMod = struct({
  /** OFPTT_ALL for all tables. */
  table: u8,
  _: pad(3),
  /** Deprecated: 0. */
  config: u32,
});

const ROLES = { nochange: 0, equal: 1, master: 2, slave: 3 } as const;

/** struct ofp_role_request. */
export const role = struct({
  role: oneOf(u32, ROLES, 'OFPRRFC_BAD_ROLE'),
  _: pad(4),
  /** Counts the elections of a master. */
  generation: u64,
});

/** Extension 191 brings OpenFlow 1.4's role status: a role has changed, and why. */
export const roleChange = {
  role: oneOf(u32, ROLES, 'OFPRRFC_BAD_ROLE'),
  reason: names(u8, { master_request: 0, config: 1, experimenter: 2 }),
  _: pad(3),
  generation: u64,
} as const;

/**
 * struct ofp_async_config, and Nicira's nx_async_config: for each kind of message bits of its reasons (1 << reason). The first mask is for
 * controllers that are master or equal, the second for a slave.
 */
export const asyncConfig = struct({
  packetIn: u32,
  packetInSlave: u32,
  portStatus: u32,
  portStatusSlave: u32,
  flowRemoved: u32,
  flowRemovedSlave: u32,
});
