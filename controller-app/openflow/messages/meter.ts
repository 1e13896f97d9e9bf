/**
 * Meters (spec 1.3.5, 7.3.4.4).
 */
import { type Infer, oneOf, pad, rest, struct, tlvs, u8, u16, u32 } from '../wire/index.js';

/** Each band begins with the rate above which it acts and the size of bursts, in kbit (or packets) and per second. */
export const bands = tlvs(
  {
    drop: [1, struct({ rate: u32, burst: u32, _: pad(4) })],
    dscp_remark: [
      2,
      struct({
        rate: u32,
        burst: u32,
        /** How much is added to the drop precedence. */
        precedence: u8,
        _: pad(3),
      }),
    ],
    experimenter: [0xffff, struct({ rate: u32, burst: u32, experimenter: u32, data: rest })],
  },
  { code: 'OFPBRC_BAD_LEN', padded: false },
);

export type MeterBand = Infer<typeof bands>[number];

/** struct ofp_meter_mod. */
export const meterMod = struct({
  command: oneOf(u16, { add: 0, modify: 1, delete: 2 }, 'OFPMMFC_BAD_COMMAND'),
  /** Bits of OFPMF. */
  flags: u16,
  meter: u32,
  bands,
});
