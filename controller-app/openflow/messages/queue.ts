/**
 * Queues of a port (spec 1.3.5, 7.2.2 and 7.3.6).
 */
import { type Infer, list, measured, pad, rest, struct, tlvs, u16, u32 } from '../wire/index.js';

/** In tenths of a percent of the port's rate; above 1000 it is not limited. */
const rate = struct({ _: pad(4), rate: u16, _2: pad(6) });

/** struct ofp_packet_queue. */
const queue = measured(
  struct({ queue: u32, port: u32 }),
  struct({
    _: pad(6),
    properties: tlvs(
      {
        min_rate: [1, rate],
        max_rate: [2, rate],
        experimenter: [0xffff, struct({ _: pad(4), experimenter: u32, _2: pad(4), data: rest })],
      },
      { code: 'OFPBRC_BAD_LEN' },
    ),
  }),
);

export type Queue = Infer<typeof queue>;

/** struct ofp_queue_get_config_request. */
export const queueConfigRequest = struct({ port: u32, _: pad(4) });
/** struct ofp_queue_get_config_reply. */
export const queueConfigReply = struct({ port: u32, _: pad(4), queues: list(queue) });
