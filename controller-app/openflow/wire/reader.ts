/**
 * A cursor over the bytes of one message. All integers of OpenFlow are big-endian (spec 1.3.5, 7).
 *
 * It never passes the end of what it was told to read, and says which of the protocol's errors it is when something does not
 * fit: an over-long action is OFPBAC_BAD_LEN, and so is whatever ends too early within one.
 */
import type { ErrorCode } from '../error-codes.js';
import { OpenFlowDecodeError } from '../errors.js';

/** What holds others of its kind (actions in actions) does so once or twice; this bounds the stack. */
export const MAX_DEPTH = 32;

/** Two words become one bigint here without arithmetic on bigints, which is slow. */
const words = new DataView(new ArrayBuffer(8));

export class Reader {
  /** How many layouts of those that can hold themselves are around. */
  depth = 0;
  /** Of the message that is being read: a message in a bundle repeats it. */
  xid = 0;
  /** What it is when the bytes end too early, or too late. */
  private lengthCode: ErrorCode = 'OFPBRC_BAD_LEN';

  constructor(
    readonly bytes: Uint8Array,
    public pos = 0,
    public end = bytes.length,
  ) {}

  get left(): number {
    return this.end - this.pos;
  }

  need(count: number): void {
    if (this.end - this.pos < count) this.failLength(`${count} bytes needed, ${this.left} left`);
  }

  u8(): number {
    this.need(1);
    return this.bytes[this.pos++] as number;
  }

  u16(): number {
    this.need(2);
    const { bytes, pos } = this;
    this.pos = pos + 2;
    return ((bytes[pos] as number) << 8) | (bytes[pos + 1] as number);
  }

  u32(): number {
    this.need(4);
    const { bytes, pos } = this;
    this.pos = pos + 4;
    return (
      (((bytes[pos] as number) << 24) |
        ((bytes[pos + 1] as number) << 16) |
        ((bytes[pos + 2] as number) << 8) |
        (bytes[pos + 3] as number)) >>>
      0
    );
  }

  u64(): bigint {
    this.need(8);
    words.setUint32(0, this.u32());
    words.setUint32(4, this.u32());
    return words.getBigUint64(0);
  }

  /** A copy: what is decoded does not keep the chunk alive that it came in. */
  take(count: number): Uint8Array {
    this.need(count);
    const copy = new Uint8Array(count);
    if (count > 0) copy.set(this.bytes.subarray(this.pos, this.pos + count));
    this.pos += count;
    return copy;
  }

  skip(count: number): void {
    this.need(count);
    this.pos += count;
  }

  /** What fills up what began at `start` to a multiple of 8 bytes. The last of a list may come without it. */
  skipPadding(start: number): void {
    this.pos = Math.min(this.end, this.pos + (-(this.pos - start) & 7));
  }

  /**
   * Reads exactly `length` bytes with `read`: it sees no more, and must leave none. `code` is what it is when `length` is more than there
   * is, when `read` wants more than `length`, or when it leaves something; without it that of what is around.
   */
  within<T>(length: number, read: (r: Reader) => T, code: ErrorCode = this.lengthCode): T {
    const outerCode = this.lengthCode;
    const outerEnd = this.end;
    this.lengthCode = code;
    this.need(length);
    this.end = this.pos + length;
    const value = read(this);
    if (this.pos !== this.end) this.failLength(`${this.left} bytes too many`);
    this.end = outerEnd;
    this.lengthCode = outerCode;
    return value;
  }

  /** Like `within`, for layouts which can hold themselves. `tooDeep` is what it is when they do so more than MAX_DEPTH times. */
  nested<T>(length: number, read: (r: Reader) => T, tooDeep: ErrorCode = 'OFPBAC_TOO_MANY'): T {
    if (this.depth >= MAX_DEPTH) this.fail(tooDeep, `nested more than ${MAX_DEPTH} deep`);
    this.depth++;
    const value = this.within(length, read);
    this.depth--;
    return value;
  }

  /** `at` is where the fault is, counted from the start of the message. */
  fail(code: ErrorCode, message: string, at = this.pos): never {
    throw new OpenFlowDecodeError(code, message, at, this.bytes);
  }

  /** A length contradicts what it measures: the code of what is being read just now. */
  failLength(message: string, at = this.pos): never {
    this.fail(this.lengthCode, message, at);
  }
}
