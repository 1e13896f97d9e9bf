/**
 * Everything that this layer asks of the codec: messages to bytes and back, a stream to messages, and what the protocol wants a peer to
 * be told whose bytes make no message.
 */
import {
  decode,
  type ErrorMessage,
  encode,
  errorAnswer,
  type Framer,
  type MessageBody,
  type OpenFlowDecodeError,
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
export function* framesOf(framer: Framer, chunk: Buffer): Generator<Uint8Array, undefined, undefined> {
  yield* framer.push(chunk);
}

/** An error message repeats so much of what it is about (spec 1.3.5, 7.4.4: at least 64 bytes). */
const REPEATED_BYTES = 64;
const OFPET_BAD_REQUEST = 1;
/** Codes of OFPET_BAD_REQUEST. */
export const OFPBRC = {
  BAD_VERSION: 0,
  BAD_TYPE: 1,
  BAD_EXPERIMENTER: 3,
  BAD_LEN: 6,
  MULTIPART_BUFFER_OVERFLOW: 13,
} as const;
const OFPET_HELLO_FAILED = 0;
/** Codes of OFPET_HELLO_FAILED. */
export const OFPHFC = { INCOMPATIBLE: 0, EPERM: 1 } as const;

/** `frame` is what is wrong. */
export function badRequest(code: number, frame: Uint8Array): Answer {
  const data = Buffer.from(frame.subarray(0, REPEATED_BYTES));
  const xid = data.length < 8 ? 0 : data.readUInt32BE(4);
  return { xid, message: { type: 'error', errorType: OFPET_BAD_REQUEST, code, data } };
}

/** Its data is text for whoever looks after the switch. */
export function helloFailed(code: number, why: string, xid: number): Answer {
  return { xid, message: { type: 'error', errorType: OFPET_HELLO_FAILED, code, data: Buffer.from(why) } };
}

/** What the protocol has for bytes that could not be read, or could not even be cut into messages. */
export function answerTo(cause: OpenFlowDecodeError): Answer {
  const message = errorAnswer(cause);
  return { xid: message.xid, message };
}
