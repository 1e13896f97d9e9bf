/**
 * Something that is to be done once: whoever asks again gets the same promise. What failed is tried again by who asks next.
 */
export class Once {
  #under: Promise<void> | undefined;

  constructor(private readonly task: () => Promise<void>) {}

  run(): Promise<void> {
    this.#under ??= this.task().catch((error: unknown) => {
      this.#under = undefined;
      throw error;
    });
    return this.#under;
  }
}
