/**
 * What goes wrong on the channel itself. Errors of a domain are DomainErrors and pass through unchanged.
 */
import { CodedError } from '../runtime/coded-error.js';

export type ChannelErrorCode =
  /** A message that is malformed, unknown, or out of turn. */
  | 'bad-message'
  /** A message that is larger than the channel carries. */
  | 'too-large'
  /** The peer speaks another version. */
  | 'version'
  /** The controller does not want this agent. */
  | 'refused'
  /** The peer takes what is sent too slowly. */
  | 'slow-peer'
  /** Nothing came from the peer for too long. */
  | 'heartbeat'
  /** A reply did not come in time. */
  | 'timeout'
  /** The link is gone. */
  | 'closed'
  /** The address is not loopback, and TLS is not configured. */
  | 'tls-needed'
  /** This side's own certificate is of no use. */
  | 'certificate'
  /** The server could not listen. */
  | 'listen';

export class ChannelError extends CodedError<ChannelErrorCode> {
  override readonly name = 'ChannelError';
}

/** WebSocket close codes (RFC 6455, section 7.4.2: 4000 to 4999 are an application's own) by the reason for closing. */
export const CLOSE_CODES: Readonly<Partial<Record<ChannelErrorCode, number>>> = {
  closed: 1000,
  'bad-message': 4001,
  version: 4002,
  refused: 4003,
  'slow-peer': 4004,
  heartbeat: 4005,
  'too-large': 4006,
};
