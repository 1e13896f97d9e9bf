/**
 * Bytes being written: at most one message. Numbers which don't fit their place are refused, not cut.
 */
import { OpenFlowEncodeError } from '../errors.js';
import { MAX_DEPTH } from './reader.js';

/** Every length in OpenFlow is a 16-bit number, so this is also the longest message. */
export const MAX_LENGTH = 0xffff;

export class Writer {
  readonly bytes = new Uint8Array(MAX_LENGTH + 1);
  private readonly view = new DataView(this.bytes.buffer);
  length = 0;
  /** Of the message that is being written: a message in a bundle repeats it. */
  xid = 0;
  private depth = 0;

  /** Begins anew. */
  reset(): void {
    this.length = 0;
    this.depth = 0;
  }

  /** A copy of what was written. */
  result(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  private room(count: number): number {
    const at = this.length;
    const needed = at + count;
    if (needed > MAX_LENGTH)
      throw new OpenFlowEncodeError('too-long', `a message has at most ${MAX_LENGTH} bytes`);
    this.length = needed;
    return at;
  }

  u8(value: number): void {
    if ((value & 0xff) !== value) refuse(value, 8);
    this.bytes[this.room(1)] = value;
  }

  u16(value: number): void {
    if ((value & 0xffff) !== value) refuse(value, 16);
    const at = this.room(2);
    this.bytes[at] = value >>> 8;
    this.bytes[at + 1] = value;
  }

  u32(value: number): void {
    if (value >>> 0 !== value) refuse(value, 32);
    this.view.setUint32(this.room(4), value);
  }

  u64(value: bigint): void {
    if (typeof value !== 'bigint' || BigInt.asUintN(64, value) !== value) refuse(value, 64);
    this.view.setBigUint64(this.room(8), value);
  }

  put(bytes: Uint8Array): void {
    if (!(bytes instanceof Uint8Array))
      throw new OpenFlowEncodeError('bad-value', `${String(bytes)} is not bytes (Uint8Array)`);
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  zeros(count: number): void {
    const at = this.room(count);
    this.bytes.fill(0, at, at + count);
  }

  /** Fills up with zeros until what began at `start` is a multiple of 8 bytes long. */
  align8(start: number): void {
    this.zeros(-(this.length - start) & 7);
  }

  /** Leaves a place for a 16-bit length, to be filled in by `setLength`. */
  lengthLater(): number {
    return this.room(2);
  }

  setLength(at: number, length: number): void {
    if ((length & 0xffff) !== length) refuse(length, 16);
    this.view.setUint16(at, length);
  }

  /** Writes what can hold others of its kind, as deep as a reader would follow. */
  nested(write: (w: Writer) => void): void {
    if (this.depth >= MAX_DEPTH)
      throw new OpenFlowEncodeError('too-long', `nested more than ${MAX_DEPTH} deep`);
    this.depth++;
    write(this);
    this.depth--;
  }
}

function refuse(value: unknown, bits: number): never {
  throw new OpenFlowEncodeError('bad-value', `${String(value)} is not an unsigned number of ${bits} bits`);
}
