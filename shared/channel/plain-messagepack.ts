/**
 * Walks a MessagePack frame before anything is built from it, and refuses what the channel never sends: extension types (records, dates, pointers: the
 * decoder would follow them), deep nesting, more values than allowed, lengths that the frame does not hold. Pure; allocates nothing that grows with the frame.
 * Source: the MessagePack specification, "Formats".
 */
import { MAX_DEPTH, MAX_ITEMS } from './limits.js';

/** What is wrong with the frame, or undefined. */
export function problemOfMessagePack(
  bytes: Uint8Array,
  limits: { readonly maxItems?: number; readonly maxDepth?: number } = {},
): string | undefined {
  const { maxItems = MAX_ITEMS, maxDepth = MAX_DEPTH } = limits;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const left: number[] = [1]; // values still to come, of each open container
  let offset = 0;
  let items = 0;
  while (left.length > 0) {
    const top = left.length - 1;
    const due = left[top] ?? 0;
    if (due === 0) {
      left.pop();
      continue;
    }
    left[top] = due - 1;
    if (++items > maxItems) return `more than ${maxItems} values`;
    if (offset >= bytes.length) return 'it ends too early';
    const head = headOf(view, offset);
    if (typeof head === 'string') return head;
    offset += head.bytes;
    if (offset > bytes.length) return 'it ends too early';
    if (head.values === 0) continue;
    if (head.values > bytes.length - offset) return 'it ends too early';
    if (left.length > maxDepth) return `nested deeper than ${maxDepth}`;
    left.push(head.values);
  }
  return offset === bytes.length ? undefined : 'there are bytes after its end';
}

interface Head {
  /** Of this value itself, with its text or bytes, without the values inside. */
  readonly bytes: number;
  /** How many values are inside. */
  readonly values: number;
}

function headOf(view: DataView, offset: number): Head | string {
  const type = view.getUint8(offset);
  if (type <= 0x7f || type >= 0xe0) return { bytes: 1, values: 0 };
  if (type <= 0x8f) return { bytes: 1, values: (type & 0x0f) * 2 };
  if (type <= 0x9f) return { bytes: 1, values: type & 0x0f };
  if (type <= 0xbf) return { bytes: 1 + (type & 0x1f), values: 0 };
  const fixed = FIXED_BYTES[type];
  if (fixed !== undefined) return { bytes: fixed, values: 0 };
  const sized = SIZED[type];
  if (!sized) return `type 0x${type.toString(16)} is not used here`;
  if (offset + 1 + sized.width > view.byteLength) return 'it ends too early';
  const size =
    sized.width === 1
      ? view.getUint8(offset + 1)
      : sized.width === 2
        ? view.getUint16(offset + 1)
        : view.getUint32(offset + 1);
  const header = 1 + sized.width;
  return sized.inside === 0
    ? { bytes: header + size, values: 0 }
    : { bytes: header, values: size * sized.inside };
}

/** nil, false, true, float 32 and 64, uint 8 to 64, int 8 to 64. */
const FIXED_BYTES: Readonly<Record<number, number>> = {
  192: 1,
  194: 1,
  195: 1,
  202: 5,
  203: 9,
  204: 2,
  205: 3,
  206: 5,
  207: 9,
  208: 2,
  209: 3,
  210: 5,
  211: 9,
};

/** bin 8 to 32, str 8 to 32, array 16 and 32, map 16 and 32; `inside` is how many values one of the size counts for. */
const SIZED: Readonly<Record<number, { readonly width: 1 | 2 | 4; readonly inside: 0 | 1 | 2 }>> = {
  196: { width: 1, inside: 0 },
  197: { width: 2, inside: 0 },
  198: { width: 4, inside: 0 },
  217: { width: 1, inside: 0 },
  218: { width: 2, inside: 0 },
  219: { width: 4, inside: 0 },
  220: { width: 2, inside: 1 },
  221: { width: 4, inside: 1 },
  222: { width: 2, inside: 2 },
  223: { width: 4, inside: 2 },
};
