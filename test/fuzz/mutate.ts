/**
 * Makes an input of another: bits, numbers and lengths changed, parts cut out, repeated, moved, taken from elsewhere. Pure but for the random numbers.
 */
import type { Random } from './random.js';

/** Inputs do not grow beyond this, in bytes: one more than the longest message of OpenFlow. */
export const MAX_INPUT_BYTES = 65_536;

/** What changes draw from beside the input itself. */
export interface Material {
  readonly words: readonly Uint8Array[];
  /** Another input. */
  readonly other: Uint8Array;
}

type Change = (input: Uint8Array, random: Random, material: Material) => Uint8Array;

const BYTES = [0, 1, 2, 4, 8, 0x0a, 0x0d, 0x20, 0x22, 0x2d, 0x7f, 0x80, 0xc0, 0xdf, 0xe0, 0xff] as const;
const NUMBERS = [
  0, 1, 3, 7, 8, 16, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
] as const;
const DIGITS = [
  '0',
  '00',
  '-1',
  '1e9',
  '65535',
  '65536',
  '70000',
  '4294967296',
  '99999999999999999999',
  '0x10',
] as const;

const CHANGES: readonly [Change, ...Change[]] = [
  function flipBit(input, random) {
    const at = random.below(input.length);
    return replaced(input, at, 1, [(input[at] ?? 0) ^ (1 << random.below(8))]);
  },
  function setByte(input, random) {
    return replaced(input, random.below(input.length), 1, [
      random.oneIn(2) ? random.pick(BYTES) : random.below(256),
    ]);
  },
  function stepByte(input, random) {
    const at = random.below(input.length);
    return replaced(input, at, 1, [(input[at] ?? 0) + (random.oneIn(2) ? 1 : -1) * (1 + random.below(8))]);
  },
  function setNumber(input, random) {
    const width = random.pick([2, 4]);
    const value = random.oneIn(3) ? input.length + random.below(9) - 4 : random.pick(NUMBERS);
    const bytes = [24, 16, 8, 0].slice(4 - width).map((shift) => (value >>> shift) & 0xff);
    return replaced(input, random.below(input.length), width, random.oneIn(4) ? bytes.reverse() : bytes);
  },
  function setDigits(input, random) {
    const at = input.findIndex((byte, index) => index >= random.below(input.length) && isDigit(byte));
    if (at < 0) return input;
    let end = at;
    while (isDigit(input[end] ?? 0)) end++;
    return replaced(input, at, end - at, Buffer.from(random.pick(DIGITS)));
  },
  function cutOut(input, random) {
    return replaced(input, random.below(input.length), 1 + random.small(input.length), []);
  },
  function cutOff(input, random) {
    return input.subarray(0, random.below(input.length + 1));
  },
  function insertBytes(input, random) {
    return replaced(input, random.below(input.length + 1), 0, random.bytes(1 + random.small(16)));
  },
  function repeatPart(input, random) {
    const at = random.below(input.length);
    const part = input.subarray(at, at + 1 + random.small(Math.min(input.length, 256)));
    const times = random.oneIn(20) ? random.below(5_000) : 1 + random.small(8);
    return replaced(input, at, 0, repeated(part, Math.min(times, Math.floor(MAX_INPUT_BYTES / part.length))));
  },
  function copyPart(input, random) {
    const at = random.below(input.length);
    const part = input.slice(at, at + 1 + random.small(64));
    return replaced(input, random.below(input.length), random.oneIn(2) ? part.length : 0, part);
  },
  function splice(input, random, { other }) {
    const at = random.below(other.length);
    const part = other.subarray(at, at + 1 + random.small(other.length));
    return replaced(input, random.below(input.length + 1), random.small(input.length), part);
  },
  function cross(input, random, { other }) {
    return joined(
      input.subarray(0, random.below(input.length + 1)),
      other.subarray(random.below(other.length + 1)),
    );
  },
  function insertWord(input, random, { words }) {
    const word = words[random.below(words.length)];
    if (!word) return replaced(input, random.below(input.length + 1), 0, random.bytes(2));
    return replaced(input, random.below(input.length + 1), random.oneIn(2) ? word.length : 0, word);
  },
];

/** One input made of another, by one change or several. At most `MAX_INPUT_BYTES` long. */
export function mutated(input: Uint8Array, random: Random, material: Material): Uint8Array {
  let result = input;
  do {
    result = random.pick(CHANGES)(result, random, material).subarray(0, MAX_INPUT_BYTES);
  } while (!random.oneIn(3));
  return Uint8Array.from(result);
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function replaced(input: Uint8Array, at: number, length: number, by: ArrayLike<number>): Uint8Array {
  return joined(
    input.subarray(0, at),
    Uint8Array.from(by),
    input.subarray(Math.min(at + length, input.length)),
  );
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

function repeated(part: Uint8Array, times: number): Uint8Array {
  return joined(...Array.from({ length: times }, () => part));
}
