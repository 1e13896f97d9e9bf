/**
 * The channel's bounds, all in one place: frames, queues, requests, times. Tests may set smaller ones.
 */

/** Said in `hello`; both sides must speak the same. Raise it with every change that an older peer would misread. */
export const PROTOCOL_VERSION = 4;
/**
 * The largest message, in bytes. A table of MAX_CONNECTIONS at the codec's worst (no address or port twice: some 45 bytes each) and
 * a state's policies at theirs (17 of about 1 MB) fit.
 */
export const MAX_FRAME_BYTES = 32 * 2 ** 20;
/** What a peer may send in all until its hello is accepted: a hello has some 150. */
export const MAX_HELLO_BYTES = 16 * 2 ** 10;
/** What may wait in the sender for a slow peer before the link is closed. More than one frame, so that one always fits. */
export const MAX_QUEUED_BYTES = 64 * 2 ** 20;
/** Requests of one link that wait for their reply; one more is refused. */
export const MAX_IN_FLIGHT = 256;
/** `changes` followed at the same time on one link. */
export const MAX_FOLLOWED = 4096;
/** Deltas in one message. */
export const MAX_BATCH = 1000;
/** Batches of one followed instance that the controller has not acknowledged; then the agent stops reading its domain. */
export const MAX_UNACKNOWLEDGED = 16;
/** Values and containers in one MessagePack message, how deep they nest, entries of one array and of one map. */
export const MAX_ITEMS = 1_000_000;
export const MAX_DEPTH = 16;
export const MAX_ARRAY = 10_000;
export const MAX_MAP = 32;
/** The longest error text that travels. */
export const MAX_ERROR_TEXT = 4096;
/** The longest text of a message, in bytes, and the longest key. */
export const MAX_TEXT_BYTES = 4 * MAX_ERROR_TEXT;
export const MAX_KEY_BYTES = 32;
/** Connections without an accepted hello; one more, and the oldest of them goes. */
export const MAX_STRANGERS = 128;

export interface Limits {
  readonly maxFrameBytes: number;
  readonly maxQueuedBytes: number;
  readonly maxInFlight: number;
  readonly maxStrangers: number;
  /** How often each side says ping, in ms. */
  readonly heartbeatMs: number;
  /** After so many intervals in which not a byte came the peer is taken for dead. */
  readonly heartbeatMisses: number;
  /** From the connection to an accepted hello, in ms. */
  readonly helloMs: number;
  /** How long a connected agent has to answer when another one claims its name, in ms. */
  readonly probeMs: number;
  /** How long a polite close may take before the socket is destroyed, in ms. */
  readonly closeMs: number;
  /** The reply to `prepare`: a container may have to start, in ms. */
  readonly prepareMs: number;
  /** The reply to any other request, in ms. */
  readonly requestMs: number;
  /** How long calls under way and followed changes wait for a lost agent to come back, in ms. */
  readonly reconnectMs: number;
  /** The first and the longest pause between two attempts of the agent, in ms. */
  readonly backoffFirstMs: number;
  readonly backoffMaxMs: number;
}

export const DEFAULT_LIMITS: Limits = {
  maxFrameBytes: MAX_FRAME_BYTES,
  maxQueuedBytes: MAX_QUEUED_BYTES,
  maxInFlight: MAX_IN_FLIGHT,
  maxStrangers: MAX_STRANGERS,
  heartbeatMs: 1_000,
  heartbeatMisses: 4,
  helloMs: 5_000,
  probeMs: 1_000,
  closeMs: 1_000,
  prepareMs: 60_000,
  requestMs: 15_000,
  reconnectMs: 5_000,
  backoffFirstMs: 100,
  backoffMaxMs: 5_000,
};

/**
 * The pause before attempt `attempt` (0, 1, …), in ms: doubled each time up to the longest, then shortened by up to half
 * at random, so that agents which lost the same controller do not all come back at once. `random` is in [0, 1).
 */
export function backoffMs(attempt: number, limits: Limits, random: number): number {
  const full = Math.min(limits.backoffMaxMs, limits.backoffFirstMs * 2 ** Math.min(attempt, 30));
  return full * (1 - random / 2);
}
