/**
 * Values and masks of fields as bytes: which bits a field has, and which of them a mask means.
 */
import type { Kind } from './kinds.js';

/** Which bits of the i-th byte of a value its field has. */
function ownBits(i: number, size: number, { bits, varies }: Kind<unknown>): number {
  return varies ? 0xff : 0xff >>> Math.min(8, Math.max(0, (size - i) * 8 - bits));
}

/** Whether a mask at `at` is of all the bits that the field has, or of none, or of some. */
export function coverage(
  bytes: Uint8Array,
  at: number,
  size: number,
  kind: Kind<unknown>,
): 'all' | 'some' | 'none' {
  let all = true;
  let none = true;
  for (let i = 0; i < size; i++) {
    const own = ownBits(i, size, kind);
    const meant = (bytes[at + i] as number) & own;
    if (meant !== own) all = false;
    if (meant !== 0) none = false;
  }
  return none ? 'none' : all ? 'all' : 'some';
}

/** Whether a value has a bit above those that its field has. */
export function tooLarge(bytes: Uint8Array, at: number, size: number, kind: Kind<unknown>): boolean {
  for (let i = 0; i < size; i++) if (((bytes[at + i] as number) & ~ownBits(i, size, kind)) !== 0) return true;
  return false;
}

/** Takes away what a mask has above the bits of its field, where it means nothing. */
export function clearAbove(bytes: Uint8Array, at: number, kind: Kind<unknown>): void {
  if (kind.varies) return;
  for (let i = 0; i < kind.bytes; i++)
    bytes[at + i] = (bytes[at + i] as number) & ownBits(i, kind.bytes, kind);
}

/** The first byte of a value with a bit that the mask, which follows it, leaves out; -1 if there is none. */
export function outsideMask(bytes: Uint8Array, at: number, size: number): number {
  for (let i = 0; i < size; i++)
    if (((bytes[at + i] as number) & ~(bytes[at + size + i] as number)) !== 0) return at + i;
  return -1;
}
