/**
 * What both ends of the channel ask of the WebSocket library: bounds on all that a peer can make it hold or do.
 */
import type { Limits } from './limits.js';

/** A message is sent in one frame; whoever splits it may do so this often. */
const MAX_FRAGMENTS = 64;
/** A message may arrive in this many pieces of the stream: at the largest message they have 512 bytes on average. */
const MAX_CHUNKS = 65_536;

/** Options for a WebSocket client or server. */
export function webSocketOptions(limits: Limits): {
  readonly maxPayload: number;
  readonly perMessageDeflate: false;
  readonly allowSynchronousEvents: false;
  readonly autoPong: false;
  readonly closeTimeout: number;
  readonly maxFragments: number;
  readonly maxBufferedChunks: number;
} {
  return {
    maxPayload: limits.maxFrameBytes,
    // Small frames that grow large: bounds on what comes would not hold.
    perMessageDeflate: false,
    // One message of a peer, then it is the turn of the others.
    allowSynchronousEvents: false,
    // The channel has pings of its own: see link.ts.
    autoPong: false,
    closeTimeout: limits.closeMs,
    maxFragments: MAX_FRAGMENTS,
    maxBufferedChunks: MAX_CHUNKS,
  };
}
