/**
 * Runs work of one key one after another, and work of different keys side by side.
 */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<void>>();
  #waiting = 0;

  /** How much work has not settled yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Starts `work` when all earlier work of this key has settled; settles as it does. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = (this.#tails.get(key) ?? Promise.resolve()).then(work);
    const settled = (): void => {
      this.#waiting--;
    };
    const tail = result.then(settled, settled);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }
}
