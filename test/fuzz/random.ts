/**
 * Numbers that look random and come again with the same seed: mulberry32, a generator of 32 bits of state.
 */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 up to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return (bits ^ (bits >>> 14)) >>> 0;
  }

  /** An integer from 0 up to `bound` - 1; 0 for a bound of 0. */
  below(bound: number): number {
    return bound <= 0 ? 0 : this.next() % bound;
  }

  /** One in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  /** Small numbers often, large ones seldom: up to `most`. */
  small(most: number): number {
    return this.below(1 + this.below(1 + this.below(most)));
  }

  pick<T>(items: readonly [T, ...T[]]): T {
    return items[this.below(items.length)] ?? items[0];
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}
