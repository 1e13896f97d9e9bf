/**
 * What the relay (relay.pl) says, cut into frames of a bounded length. Pure but for what it holds of a frame that is not whole yet.
 */
import { NetlinkError } from './netlink.js';

export type Frame =
  /** It listens; events that its requests cause carry this port. */
  | { readonly kind: 'ready'; readonly port: number }
  | { readonly kind: 'event' | 'reply'; readonly datagram: Buffer }
  | { readonly kind: 'events-lost' | 'replies-lost' }
  /** A datagram whose first message has this sequence was not sent. */
  | { readonly kind: 'not-sent'; readonly errno: number; readonly sequence: number };

/** As long as a datagram of netlink that the relay takes. */
export const MAX_FRAME_BYTES = 65_536;
const HEAD_BYTES = 5;

export class FrameCutter {
  #rest: Buffer = Buffer.alloc(0);

  /** The frames that this piece completes, which must all be taken. Fails with a NetlinkError behind the last that has a meaning. */
  *push(piece: Buffer): Generator<Frame, void, undefined> {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let at = 0;
    while (bytes.length - at >= HEAD_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > MAX_FRAME_BYTES) throw new NetlinkError(`the relay announces ${length} bytes`);
      const end = at + HEAD_BYTES + length;
      if (end > bytes.length) break;
      yield frameOf(String.fromCharCode(bytes[at + 4] ?? 0), bytes.subarray(at + HEAD_BYTES, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}

function frameOf(kind: string, body: Buffer): Frame {
  const need = (length: number): void => {
    if (body.length !== length) throw new NetlinkError(`a frame "${kind}" of ${body.length} bytes`);
  };
  switch (kind) {
    case 'h':
      need(4);
      return { kind: 'ready', port: body.readUInt32BE(0) };
    case 'e':
      return { kind: 'event', datagram: body };
    case 'r':
      return { kind: 'reply', datagram: body };
    case 'o':
      need(0);
      return { kind: 'events-lost' };
    case 'l':
      need(0);
      return { kind: 'replies-lost' };
    case 'f':
      need(8);
      return { kind: 'not-sent', errno: body.readUInt32BE(0), sequence: body.readUInt32LE(4) };
    default:
      throw new NetlinkError(`a frame of unknown kind ${JSON.stringify(kind)}`);
  }
}

/** One datagram for the kernel as a frame for the relay: `messages` one after another. */
export function frameFor(messages: readonly Buffer[]): Buffer {
  const length = messages.reduce((sum, message) => sum + message.length, 0);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(length);
  return Buffer.concat([head, ...messages]);
}
