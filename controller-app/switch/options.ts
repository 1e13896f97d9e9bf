/**
 * Bounds and time-outs of one switch's connection.
 */
import { type Clock, realClock } from '../../shared/runtime/clock.js';

export interface SwitchOptions {
  /** From the connection to the port descriptions; with TLS, its handshake has this long for itself before. */
  readonly handshakeTimeoutMs?: number;
  /** Without an answer, or its next part, for this long a request fails. */
  readonly requestTimeoutMs?: number;
  /** An answer in parts that is not complete after this long ends the connection. */
  readonly multipartTimeoutMs?: number;
  /** A switch is asked this often whether it lives. */
  readonly echoIntervalMs?: number;
  /** A switch that does not answer for this long is given up. Rounded up to whole intervals. */
  readonly deadAfterMs?: number;
  /** When a switch seems to connect twice, the first connection has this long to show that it lives. */
  readonly probeMs?: number;
  /** A connection that is closed with an error message stays this long for its peer to read it. */
  readonly lingerMs?: number;
  /** A switch with more than this many bytes to read is given up. */
  readonly maxBufferedBytes?: number;
  /** Packet-outs to a switch with more than this many bytes to read are dropped, and writers in bulk wait. */
  readonly busyBytes?: number;
  /** The same as maxBufferedBytes, for a connection that is no switch yet; also of what it may say before it is one. */
  readonly maxStrangerBytes?: number;
  /** An answer in parts which is kept as a whole, and is larger than this, ends the connection. */
  readonly maxMultipartBytes?: number;
  /** The same, where each part is looked at and forgotten. */
  readonly maxStreamedBytes?: number;
  /** Requests under way at once. A bundle, however long, is one. */
  readonly maxRequests?: number;
  /** Bundles that wait for each other; and bundles that are staged. */
  readonly maxBundles?: number;
  /** A staged bundle is discarded after this long. Open vSwitch forgets one of which it has heard nothing for 10 s (`bundle-idle-timeout`). */
  readonly stagedMs?: number;
  readonly clock?: Clock;
}

export type Bounds = Required<SwitchOptions>;

const MEBIBYTE = 2 ** 20;

export function bounds(options: SwitchOptions): Bounds {
  return {
    handshakeTimeoutMs: 5_000,
    requestTimeoutMs: 10_000,
    multipartTimeoutMs: 60_000,
    echoIntervalMs: 5_000,
    deadAfterMs: 15_000,
    probeMs: 3_000,
    lingerMs: 1_000,
    maxBufferedBytes: 16 * MEBIBYTE,
    busyBytes: MEBIBYTE,
    maxStrangerBytes: MEBIBYTE / 4,
    maxMultipartBytes: 32 * MEBIBYTE,
    maxStreamedBytes: 256 * MEBIBYTE,
    maxRequests: 4_096,
    maxBundles: 64,
    stagedMs: 5_000,
    clock: realClock,
    ...options,
  };
}
