/**
 * The inputs that others are made of: the seeds, and of each kind of outcome the shortest that had it. Bounded; deterministic for its random numbers.
 */
import { MAX_INPUT_BYTES, type Material, mutated } from './mutate.js';
import type { Random } from './random.js';
import { bytesOf, type FuzzTarget, kindOf } from './target.js';

const MAX_KINDS = 2_000;
/** One input in so many is arbitrary bytes. */
const ARBITRARY = 50;
const MAX_ARBITRARY_BYTES = 200;

export class Corpus {
  readonly #inputs: Uint8Array[];
  /** Where among the inputs the one of a kind is. */
  readonly #kinds = new Map<string, number>();
  readonly #words: readonly Uint8Array[];
  /** Seeds that have not been run as they are. */
  #fresh: number;

  constructor(
    private readonly target: FuzzTarget,
    seed: number,
    private readonly random: Random,
  ) {
    this.#inputs = target.seeds(seed).map((input) => Uint8Array.from(input));
    if (this.#inputs.length === 0) this.#inputs.push(new Uint8Array());
    this.#fresh = this.#inputs.length;
    this.#words = (target.words ?? []).map(bytesOf);
  }

  /** How many kinds of outcome have been seen. */
  get kinds(): number {
    return this.#kinds.size;
  }

  /** The next input: each seed once, then changed ones. */
  next(): Uint8Array {
    if (this.#fresh > 0) return this.#at(--this.#fresh);
    if (this.random.oneIn(ARBITRARY)) return this.random.bytes(this.random.below(MAX_ARBITRARY_BYTES));
    const input = this.#pick();
    const special = this.random.oneIn(2) ? this.target.change?.(input, this.random) : undefined;
    if (special) return special.subarray(0, MAX_INPUT_BYTES);
    const material: Material = { words: this.#words, other: this.#pick() };
    return mutated(input, this.random, material);
  }

  /** What became of an input. */
  learn(input: Uint8Array, outcome: string): void {
    const kind = kindOf(outcome);
    // A copy: the input may be a small part of a large buffer.
    const copy = (): Uint8Array => Uint8Array.from(input);
    const known = this.#kinds.get(kind);
    if (known !== undefined) {
      if (input.length < this.#at(known).length) this.#inputs[known] = copy();
    } else if (this.#kinds.size < MAX_KINDS) {
      this.#kinds.set(kind, this.#inputs.length);
      this.#inputs.push(copy());
    }
  }

  #pick(): Uint8Array {
    // The newest more often: they lead to where nobody has been.
    const { length } = this.#inputs;
    const at = this.random.oneIn(2) ? this.random.below(length) : length - 1 - this.random.small(length - 1);
    return this.#at(at);
  }

  #at(index: number): Uint8Array {
    return this.#inputs[index] ?? new Uint8Array();
  }
}
