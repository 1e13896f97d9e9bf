/**
 * How the store's files are laid out: frames, one after another, each of which is either whole or known not to be. Pure.
 *
 *   header  magic (4) | number of the frame in its file, from 0 (4) | bytes of the payload (4) | check of these twelve (4)
 *   payload
 *   end     check of header and payload (8) | a mark that is not zero (1)
 *
 * Checks are the first bytes of a SHA-256. The header has its own, so that a length is believed only when it is what was written: otherwise an altered
 * length would look like a file that ends too early. The difference matters. *Torn* is the end of a file whose last write was not finished (it is short,
 * or zero from somewhere on): what is torn was never acknowledged, and is left out. *Damaged* is anything else: that may have been acknowledged.
 */
import { createHash } from 'node:crypto';
import { StoreError } from './store.js';

const MAGIC = Buffer.from('PgSt');
const HEADER_BYTES = 16;
const CHECKED_HEADER_BYTES = 12;
const CHECK_BYTES = 8;
const END_BYTES = CHECK_BYTES + 1;
const END_MARK = 0xa5;

/** Bytes of a frame beside its payload. */
export const FRAME_OVERHEAD_BYTES = HEADER_BYTES + END_BYTES;
/** A mirror of MAX_CONNECTIONS at its worst and a state's policies at theirs fit. */
export const MAX_PAYLOAD_BYTES = 64 * 2 ** 20;

export function encodeFrame(number: number, payload: Uint8Array): Buffer {
  if (payload.length > MAX_PAYLOAD_BYTES)
    throw new StoreError('full', `${payload.length} bytes at once are more than the store takes`);
  const frame = Buffer.alloc(payload.length + FRAME_OVERHEAD_BYTES);
  MAGIC.copy(frame);
  frame.writeUInt32BE(number, 4);
  frame.writeUInt32BE(payload.length, 8);
  check(frame.subarray(0, CHECKED_HEADER_BYTES)).copy(frame, CHECKED_HEADER_BYTES, 0, 4);
  frame.set(payload, HEADER_BYTES);
  const end = HEADER_BYTES + payload.length;
  check(frame.subarray(0, end)).copy(frame, end);
  frame[end + CHECK_BYTES] = END_MARK;
  return frame;
}

export type Taken =
  | { readonly kind: 'frame'; readonly payload: Uint8Array; readonly next: number }
  /** The buffer ends before the frame does. `bytes`: how many there must be from `offset` on before it is worth another look. */
  | { readonly kind: 'more'; readonly bytes: number }
  | { readonly kind: 'torn' }
  | { readonly kind: 'damaged'; readonly what: string };

/** The frame at `offset`, which must be the `number`th of its file. `last`: nothing follows the buffer in the file. The payload is a view. */
export function takeFrame(buffer: Uint8Array, offset: number, number: number, last: boolean): Taken {
  const bytes = Buffer.from(buffer.buffer, buffer.byteOffset + offset, buffer.length - offset);
  const wanting = (needed: number): Taken => (last ? { kind: 'torn' } : { kind: 'more', bytes: needed });
  if (bytes.length < HEADER_BYTES) return wanting(HEADER_BYTES);
  const header = bytes.subarray(0, HEADER_BYTES);
  if (isZero(header)) {
    if (!last) return { kind: 'more', bytes: bytes.length + 1 };
    return isZero(bytes) ? { kind: 'torn' } : { kind: 'damaged', what: 'zeros where a frame should be' };
  }
  if (!header.subarray(0, 4).equals(MAGIC)) return { kind: 'damaged', what: 'no frame where one should be' };
  const headerCheck = check(header.subarray(0, CHECKED_HEADER_BYTES)).subarray(0, 4);
  if (!headerCheck.equals(header.subarray(CHECKED_HEADER_BYTES)))
    return { kind: 'damaged', what: 'a header that was altered' };
  const found = header.readUInt32BE(4);
  if (found !== number) return { kind: 'damaged', what: `frame ${found} where frame ${number} should be` };
  const length = header.readUInt32BE(8);
  if (length > MAX_PAYLOAD_BYTES) return { kind: 'damaged', what: 'a frame that is too long' };
  const end = HEADER_BYTES + length;
  const next = end + END_BYTES;
  if (bytes.length < next) return wanting(next);
  if (bytes[next - 1] !== END_MARK || !check(bytes.subarray(0, end)).equals(bytes.subarray(end, next - 1))) {
    const unfinished = last && bytes.length === next && bytes[next - 1] === 0;
    return unfinished ? { kind: 'torn' } : { kind: 'damaged', what: 'a frame that was altered' };
  }
  return { kind: 'frame', payload: bytes.subarray(HEADER_BYTES, end), next: offset + next };
}

function check(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest().subarray(0, CHECK_BYTES);
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
