/**
 * struct ofp_port (spec 1.3.5, 7.2.1).
 */
import { mac } from './addresses.js';
import { type Infer, pad, struct, text, u32 } from './wire/index.js';

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
