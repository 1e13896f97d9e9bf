/**
 * Walks a MessagePack frame before anything is built from it, and refuses what the channel never sends: extension types (records, dates, pointers: the
 * decoder would follow them), deep nesting, more values, larger texts and containers than any message has, keys that are no short texts, lengths that the
 * frame does not hold. Pure; allocates nothing that grows with the frame. Source: the MessagePack specification, "Formats".
 */
import { MAX_ARRAY, MAX_DEPTH, MAX_ITEMS, MAX_KEY_BYTES, MAX_MAP, MAX_TEXT_BYTES } from './limits.js';

/** What is wrong with the frame, or undefined. */
export function problemOfMessagePack(
  bytes: Uint8Array,
  limits: { readonly maxItems?: number } = {},
): string | undefined {
  const { maxItems = MAX_ITEMS } = limits;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Of each open container: the values still to come, and whether every other one of them is a key.
  const left: number[] = [1];
  const keyed: boolean[] = [false];
  let offset = 0;
  let items = 0;
  while (left.length > 0) {
    const top = left.length - 1;
    const due = left[top] ?? 0;
    if (due === 0) {
      left.pop();
      keyed.pop();
      continue;
    }
    left[top] = due - 1;
    if (++items > maxItems) return `more than ${maxItems} values`;
    if (offset >= bytes.length) return 'it ends too early';
    const head = headOf(view, offset);
    if (typeof head === 'string') return head;
    const { kind, size } = head;
    if (keyed[top] && due % 2 === 0 && (kind !== 'text' || size > MAX_KEY_BYTES))
      return `a key is not a text of at most ${MAX_KEY_BYTES} bytes`;
    if (kind === 'text' && size > MAX_TEXT_BYTES) return `a text is longer than ${MAX_TEXT_BYTES} bytes`;
    if (kind === 'array' && size > MAX_ARRAY) return `a list has more than ${MAX_ARRAY} entries`;
    if (kind === 'map' && size > MAX_MAP) return `a map has more than ${MAX_MAP} keys`;
    offset += head.header;
    if (kind === 'text' || kind === 'bytes') offset += size;
    if (offset > bytes.length) return 'it ends too early';
    if ((kind !== 'array' && kind !== 'map') || size === 0) continue;
    const values = kind === 'map' ? size * 2 : size;
    if (values > bytes.length - offset) return 'it ends too early';
    if (left.length > MAX_DEPTH) return `nested deeper than ${MAX_DEPTH}`;
    left.push(values);
    keyed.push(kind === 'map');
  }
  return offset === bytes.length ? undefined : 'there are bytes after its end';
}

type Kind = 'plain' | 'text' | 'bytes' | 'array' | 'map';

interface Head {
  readonly kind: Kind;
  /** Bytes of the type and the size; of a plain value, all of it. */
  readonly header: number;
  /** Bytes of a text, entries of an array, pairs of a map. */
  readonly size: number;
}

function headOf(view: DataView, offset: number): Head | string {
  const type = view.getUint8(offset);
  if (type <= 0x7f || type >= 0xe0) return { kind: 'plain', header: 1, size: 0 };
  if (type <= 0x8f) return { kind: 'map', header: 1, size: type & 0x0f };
  if (type <= 0x9f) return { kind: 'array', header: 1, size: type & 0x0f };
  if (type <= 0xbf) return { kind: 'text', header: 1, size: type & 0x1f };
  const fixed = FIXED_BYTES[type];
  if (fixed !== undefined) return { kind: 'plain', header: fixed, size: 0 };
  const sized = SIZED[type];
  if (!sized) return `type 0x${type.toString(16)} is not used here`;
  const { kind, width } = sized;
  if (offset + 1 + width > view.byteLength) return 'it ends too early';
  const size =
    width === 1
      ? view.getUint8(offset + 1)
      : width === 2
        ? view.getUint16(offset + 1)
        : view.getUint32(offset + 1);
  return { kind, header: 1 + width, size };
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

/** bin 8 to 32, str 8 to 32, array 16 and 32, map 16 and 32. */
const SIZED: Readonly<Record<number, { readonly kind: Kind; readonly width: 1 | 2 | 4 }>> = {
  196: { kind: 'bytes', width: 1 },
  197: { kind: 'bytes', width: 2 },
  198: { kind: 'bytes', width: 4 },
  217: { kind: 'text', width: 1 },
  218: { kind: 'text', width: 2 },
  219: { kind: 'text', width: 4 },
  220: { kind: 'array', width: 2 },
  221: { kind: 'array', width: 4 },
  222: { kind: 'map', width: 2 },
  223: { kind: 'map', width: 4 },
};
