/**
 * Ports in 16 bits, as OpenFlow 1.0 and Nicira's extensions have them: the reserved ports keep their lower half.
 */
import { OpenFlowEncodeError } from './errors.js';
import type { Codec } from './wire/index.js';

const RESERVED_16 = 0xff00;
const RESERVED_32 = 0xffffff00;

export const port16: Codec<number> = {
  read: (r) => {
    const port = r.u16();
    return port >= RESERVED_16 ? RESERVED_32 - RESERVED_16 + port : port;
  },
  write: (w, port) => {
    if (port >= RESERVED_16 && port < RESERVED_32)
      throw new OpenFlowEncodeError('bad-value', `port ${port} does not fit 16 bits`);
    w.u16(port >= RESERVED_32 ? port - RESERVED_32 + RESERVED_16 : port);
  },
};
