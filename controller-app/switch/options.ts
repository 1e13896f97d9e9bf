/**
 * Bounds and time-outs of one switch's connection.
 */
import { type Clock, realClock } from '../../shared/runtime/clock.js';

export interface SwitchOptions {
  /** From the connection to the port descriptions. */
  readonly handshakeTimeoutMs?: number;
  /** Without an answer for this long a request fails. */
  readonly requestTimeoutMs?: number;
  /** A switch that is silent for this long is asked whether it lives. */
  readonly echoIntervalMs?: number;
  /** A switch that is silent for this long is given up. Rounded up to whole intervals. */
  readonly deadAfterMs?: number;
  /** A switch with more than this many bytes to read is given up. */
  readonly maxBufferedBytes?: number;
  /** A multipart answer larger than this fails its request. */
  readonly maxMultipartBytes?: number;
  /** Requests under way at once; each change of a bundle is one. */
  readonly maxRequests?: number;
  /** Asynchronous messages that are kept until the handshake is complete. Packets beyond it are dropped. */
  readonly maxEarlyMessages?: number;
  readonly clock?: Clock;
}

export type Bounds = Required<SwitchOptions>;

export function bounds(options: SwitchOptions): Bounds {
  return {
    handshakeTimeoutMs: 5_000,
    requestTimeoutMs: 10_000,
    echoIntervalMs: 5_000,
    deadAfterMs: 15_000,
    maxBufferedBytes: 16 * 2 ** 20,
    maxMultipartBytes: 256 * 2 ** 20,
    maxRequests: 200_000,
    maxEarlyMessages: 4_096,
    clock: realClock,
    ...options,
  };
}
