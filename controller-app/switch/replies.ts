/**
 * How requests take their replies: one message of a type, or the parts of a multipart answer.
 */
import type { MessageBody, MessageOf, MessageType, MultipartReply } from '../openflow/index.js';
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

type ReplyOf<T extends MultipartReply['type']> = Extract<MultipartReply, { readonly type: T }>;

/** All parts, until one says that it is the last; no more than `maxBytes` of them. */
export function multipart<T extends MultipartReply['type']>(type: T, maxBytes: number): Take<ReplyOf<T>[]> {
  const parts: ReplyOf<T>[] = [];
  let bytes = 0;
  return (message, byteLength) => {
    if (message.type !== 'multipart_reply') throw wrong(message.type, 'multipart_reply');
    const { body, more } = message;
    if (body.type !== type) throw wrong(`${body.type} statistics`, `${type} statistics`);
    bytes += byteLength;
    if (bytes > maxBytes)
      throw new SwitchError(
        'too-large',
        `the ${type} statistics are larger than ${maxBytes} bytes: ask for less`,
      );
    parts.push(body as ReplyOf<T>);
    return more ? undefined : { done: parts };
  };
}
