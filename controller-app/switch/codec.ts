/**
 * Everything that this layer asks of the codec: messages to bytes and back, a stream to messages, and what the protocol wants a peer to
 * be told that says what it should not.
 */
import {
  decode,
  type ErrorCode,
  type ErrorMessage,
  encode,
  errorAnswer,
  type Framer,
  type MessageBody,
  OFPET_HELLO_FAILED,
  OpenFlowDecodeError,
  refuseFatal,
  VERSION,
} from '../openflow/index.js';

/** A message as it came. */
export interface Received {
  readonly message: MessageBody;
  readonly xid: number;
  /** 4, except in a peer's hello and in its complaint about ours. */
  readonly version: number;
  /** Its bytes: a view onto what the socket gave, good until the call returns that hands it in. */
  readonly frame: Uint8Array;
}

/** The last that a peer hears: what was wrong with what it said. */
export interface Answer {
  readonly xid: number;
  readonly message: ErrorMessage;
}

/** Throws OpenFlowEncodeError, also for what would end the switch. */
export function toBytes(message: MessageBody, xid: number): Uint8Array {
  refuseFatal(message);
  return encode({ ...message, xid });
}

/** Throws OpenFlowDecodeError. */
export function fromBytes(frame: Uint8Array): Received {
  const message = decode(frame);
  return { message, xid: message.xid, version: message.version ?? VERSION, frame };
}

/** One after the other, as they are taken. Throws OpenFlowDecodeError when the stream makes no sense any more. */
export function framesOf(framer: Framer, chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
  return framer.push(chunk);
}

/** To bytes that could not be read, or could not even be cut into messages. */
export function answerTo(cause: OpenFlowDecodeError): Answer {
  const message = errorAnswer(cause);
  return { xid: message.xid, message };
}

/** To a message that is well-formed and has no place here. */
export function refusalOf(frame: Uint8Array, code: ErrorCode): Answer {
  return answerTo(new OpenFlowDecodeError(code, 'no place for this message', 0, frame));
}

/** The other code of OFPET_HELLO_FAILED (spec 1.3.5, 7.4.4.1). */
export const OFPHFC_EPERM = 1;

/** Its data is text for whoever looks after the switch. */
export function helloFailed(code: number, why: string, xid: number): Answer {
  return { xid, message: { type: 'error', errorType: OFPET_HELLO_FAILED, code, data: Buffer.from(why) } };
}
