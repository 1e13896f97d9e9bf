/**
 * Hello (spec 1.3.5, 7.5.1): what versions a peer speaks.
 */
import { type Codec, type Infer, list, struct, tlvs, u32 } from '../wire/index.js';

const bitmaps: Codec<readonly number[]> = list(u32);

export const hello = struct({
  elements: tlvs(
    {
      /** Words of 32 bits; bit n of word m stands for version 32 m + n. */
      version_bitmap: [1, struct({ bitmaps })],
    },
    { code: 'OFPBRC_BAD_LEN' },
  ),
});

export type HelloElement = Infer<typeof hello>['elements'][number];

const WORD_BITS = 32;

/** What a hello says which offers these versions; they are below 32. */
export function helloElements(...versions: readonly number[]): readonly HelloElement[] {
  return [
    { type: 'version_bitmap', bitmaps: [versions.reduce((bits, version) => bits | (1 << version), 0) >>> 0] },
  ];
}

/**
 * True when the sender of a hello speaks `version`: by its bitmap, or, when it has none, because that is not above the `highest` version,
 * the one in its header.
 */
export function helloOffers(elements: readonly HelloElement[], highest: number, version: number): boolean {
  for (const element of elements)
    if (element.type === 'version_bitmap') {
      const word = element.bitmaps[Math.floor(version / WORD_BITS)] ?? 0;
      return ((word >>> (version % WORD_BITS)) & 1) === 1;
    }
  return highest >= version;
}
