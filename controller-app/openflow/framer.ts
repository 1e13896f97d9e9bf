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
  /** A header as far as it has come; then, with its header, a message. Of its own: no chunk is kept alive. */
  private held = new Uint8Array(HEADER_LENGTH);
  private heldLength = 0;

  /** Bytes of an unfinished message. */
  get pending(): number {
    return this.heldLength;
  }

  /**
   * The messages that `chunk` completes, in order. Take them all: what is left when the loop ends early is lost. Throws OpenFlowDecodeError,
   * after the messages before it, on a length under 8, and on another version than 1.3 in anything but a hello or an error;
   * the stream is of no use after that.
   */
  *push(chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
    let at = 0;
    while (at < chunk.length) {
      const left = chunk.length - at;
      if (this.heldLength === 0 && left >= HEADER_LENGTH) {
        const length = lengthOf(chunk, at);
        if (left >= length) {
          yield chunk.subarray(at, at + length);
          at += length;
          continue;
        }
        this.held = new Uint8Array(length);
      }
      const taken = Math.min(left, this.held.length - this.heldLength);
      this.held.set(chunk.subarray(at, at + taken), this.heldLength);
      this.heldLength += taken;
      at += taken;
      if (this.heldLength < this.held.length) return;
      const whole = this.held;
      const length = lengthOf(whole, 0);
      if (length > this.heldLength) {
        this.held = new Uint8Array(length);
        this.held.set(whole);
        continue;
      }
      this.held = new Uint8Array(HEADER_LENGTH);
      this.heldLength = 0;
      yield whole;
    }
  }
}

function lengthOf(bytes: Uint8Array, at: number): number {
  const version = bytes[at] as number;
  const type = bytes[at + 1] as number;
  const length = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
  if (version === 0 || (version !== VERSION && type !== OFPT_HELLO && type !== OFPT_ERROR))
    throw new OpenFlowDecodeError(
      'OFPBRC_BAD_VERSION',
      `version ${version}, not ${VERSION}: not OpenFlow 1.3`,
      0,
      bytes.subarray(at, at + HEADER_LENGTH),
    );
  if (length < HEADER_LENGTH)
    throw new OpenFlowDecodeError(
      'OFPBRC_BAD_LEN',
      `a message of ${length} bytes`,
      2,
      bytes.subarray(at, at + HEADER_LENGTH),
    );
  return length;
}
