/**
 * How requests take their replies: one message of a type, or the parts of a multipart answer.
 */
import type { MessageBody, MessageOf, MessageType, MultipartReply } from '../openflow/index.js';
import { refusalOf } from './codec.js';
import { SwitchError } from './errors.js';
import type { Take } from './requests.js';

/** One reply, of this type. */
export function only<T extends MessageType>(type: T): Take<MessageOf<T>> {
  return (message) => {
    if (!isOf(message, type)) throw wrong(message.type, type);
    return { done: message };
  };
}

function isOf<T extends MessageType>(message: MessageBody, type: T): message is MessageOf<T> {
  return message.type === type;
}

function wrong(got: string, wanted: string): SwitchError {
  return new SwitchError('protocol', `the switch answered with ${got} where ${wanted} was due`);
}

export type PartOf<T extends MultipartReply['type']> = Extract<MultipartReply, { readonly type: T }>;

/** What a part counts for even when it is empty: its object here is no smaller. */
const LEAST_PART_BYTES = 256;

/** Hands on each part, until one says that it is the last. Throws `too-large` when they are more than `maxBytes`. */
export function eachPart<T extends MultipartReply['type']>(
  type: T,
  maxBytes: number,
  onPart: (part: PartOf<T>) => void,
): Take<void> {
  let bytes = 0;
  return (message, frame) => {
    if (message.type !== 'multipart_reply') throw wrong(message.type, 'multipart_reply');
    const { body, more } = message;
    if (body.type !== type) throw wrong(`${body.type} statistics`, `${type} statistics`);
    bytes += Math.max(frame.length, LEAST_PART_BYTES);
    if (bytes > maxBytes)
      throw new SwitchError('too-large', `the ${type} statistics are larger than ${maxBytes} bytes`, {
        answer: refusalOf(frame, 'OFPBRC_MULTIPART_BUFFER_OVERFLOW'),
      });
    onPart(body as PartOf<T>);
    return more ? undefined : { done: undefined };
  };
}

/** All parts together. */
export function allParts<T extends MultipartReply['type']>(type: T, maxBytes: number): Take<PartOf<T>[]> {
  const parts: PartOf<T>[] = [];
  const take = eachPart(type, maxBytes, (part) => parts.push(part));
  return (message, frame) => take(message, frame) && { done: parts };
}
