/**
 * Ports (spec 1.3.5, 7.2.1): their description, changes of them (7.4.3) and to them (7.3.4.3).
 */
import { mac } from '../addresses.js';
import { type Infer, names, pad, struct, text, u8, u32 } from '../wire/index.js';

/** struct ofp_port. */
export const port = struct({
  number: u32,
  _: pad(4),
  mac,
  _2: pad(2),
  name: text(16),
  /** Bits of OFPPC: what was configured. */
  config: u32,
  /** Bits of OFPPS: what is. */
  state: u32,
  /** Bits of enum ofp_port_features, four times. */
  current: u32,
  advertised: u32,
  supported: u32,
  peer: u32,
  /** kbit/s. */
  currentSpeed: u32,
  /** kbit/s. */
  maxSpeed: u32,
});

export type Port = Infer<typeof port>;

/** struct ofp_port_status. */
export const portStatus = struct({
  reason: names(u8, { add: 0, delete: 1, modify: 2 }),
  _: pad(7),
  port,
});

/** struct ofp_port_mod. */
export const portMod = struct({
  port: u32,
  _: pad(4),
  /** The port's own: says that the right one is meant. */
  mac,
  _2: pad(2),
  /** Bits of OFPPC. */
  config: u32,
  /** Which of them are to change. */
  mask: u32,
  /** Bits of enum ofp_port_features; 0 changes nothing. */
  advertise: u32,
  _3: pad(4),
});
