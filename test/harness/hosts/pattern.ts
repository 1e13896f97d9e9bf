/**
 * The bytes that a test connection carries: words of 8 bytes, `seed` then `number`, big-endian, the number counting from 0. Whoever
 * knows the seed can say of every received byte whether it is the right one at its place: nothing lost, doubled, reordered or foreign.
 */
const WORD = 8;

/** `length` bytes of the stream with this seed, from `offset` (bytes since its begin). */
export function patternBytes(seed: number, offset: number, length: number): Buffer {
  const first = Math.floor(offset / WORD);
  const skip = offset - first * WORD;
  const words = Buffer.allocUnsafe(Math.ceil((skip + length) / WORD) * WORD);
  for (let at = 0; at < words.length; at += WORD) {
    words.writeUInt32BE(seed >>> 0, at);
    words.writeUInt32BE((first + at / WORD) >>> 0, at + 4);
  }
  return words.subarray(skip, skip + length);
}

/** Is `data` what the stream with this seed holds at `offset`? */
export function matchesPattern(seed: number, offset: number, data: Buffer): boolean {
  return patternBytes(seed, offset, data.length).equals(data);
}

/** Both ends know the client's port: it tells connections of a server apart, and the last bit the two directions. */
export function streamSeed(clientPort: number, from: 'client' | 'server'): number {
  return clientPort * 2 + (from === 'server' ? 1 : 0);
}
