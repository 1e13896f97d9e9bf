/**
 * A bounded queue between one that pushes and one that awaits.
 */

export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #max: number;
  #end: { readonly error?: unknown } | undefined;
  #wake: () => void = () => {};

  constructor(max: number) {
    this.#max = max;
  }

  /** False when it is full: the item was not taken. */
  push(item: T): boolean {
    if (this.#end) return true;
    if (this.#items.length >= this.#max) return false;
    this.#items.push(item);
    this.#wake();
    return true;
  }

  /** What is in it can still be taken; then `take` says undefined. */
  end(): void {
    this.#end ??= {};
    this.#wake();
  }

  /** What is in it can still be taken; then `take` throws this. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  /** The next item, or undefined at the end. For one caller at a time. */
  async take(): Promise<T | undefined> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) return item;
      if (this.#end) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return undefined;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
