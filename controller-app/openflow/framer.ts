/**
 * Cuts a byte stream into OpenFlow messages.
 *
 * A message that lies within one chunk is a view onto it; only one that lies across chunks is copied, once. What is held back is less than one message,
 * and no message is longer than 65,535 bytes: its length is a 16-bit number.
 */
import { VERSION } from './constants.js';
import { OpenFlowDecodeError } from './errors.js';

const HEADER_LENGTH = 8;
const OFPT_HELLO = 0;
const OFPT_ERROR = 1;

export class Framer {
  private readonly held: Buffer[] = [];
  private heldLength = 0;
  /** Length of the message that `held` begins with; 0 while its header isn't there. */
  private wanted = 0;

  /** Bytes of an unfinished message. */
  get pending(): number {
    return this.heldLength;
  }

  /**
   * The messages that `chunk` completes, in order. Throws OpenFlowDecodeError on a length under 8, and on another version than
   * 1.3 in anything but a hello or an error; the stream is of no use after that.
   */
  push(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    let rest = chunk;
    while (this.heldLength > 0 && rest.length > 0) {
      const missing = (this.wanted || HEADER_LENGTH) - this.heldLength;
      const taken = rest.subarray(0, missing);
      rest = rest.subarray(taken.length);
      this.held.push(taken);
      this.heldLength += taken.length;
      if (taken.length < missing) return messages;
      const joined = Buffer.concat(this.held, this.heldLength);
      this.held.length = 0;
      if (this.wanted === 0) {
        this.wanted = lengthOf(joined, 0);
        if (this.wanted > joined.length) {
          this.held.push(joined);
          continue;
        }
      }
      messages.push(joined);
      this.heldLength = 0;
      this.wanted = 0;
    }
    let at = 0;
    while (rest.length - at >= HEADER_LENGTH) {
      const length = lengthOf(rest, at);
      if (rest.length - at < length) {
        this.wanted = length;
        break;
      }
      messages.push(rest.subarray(at, at + length));
      at += length;
    }
    if (at < rest.length) {
      this.held.push(rest.subarray(at));
      this.heldLength = rest.length - at;
    }
    return messages;
  }
}

function lengthOf(bytes: Buffer, at: number): number {
  const version = bytes.readUInt8(at);
  const type = bytes.readUInt8(at + 1);
  const length = bytes.readUInt16BE(at + 2);
  if (version === 0 || (version !== VERSION && type !== OFPT_HELLO && type !== OFPT_ERROR))
    throw new OpenFlowDecodeError('bad-version', `version ${version}, not ${VERSION}: not OpenFlow 1.3`, at);
  if (length < HEADER_LENGTH)
    throw new OpenFlowDecodeError('bad-length', `a message of ${length} bytes`, at + 2);
  return length;
}
