/**
 * Puts into force what has changed: one task at a time for each name, and what becomes due while one has not begun yet is done with it. What fails
 * stays due.
 */
export class InForce {
  readonly #due = new Set<string>();
  /** Not begun yet. */
  readonly #next = new Map<string, Promise<void>>();
  /** The last that has begun, until it is done. */
  readonly #running = new Map<string, Promise<void>>();

  /** `bring` states everything as it is when it is called. */
  constructor(readonly bring: (name: string) => Promise<void>) {}

  /** This must be put into force. */
  due(name: string): void {
    this.#due.add(name);
  }

  /** Settles when all that is due, and what is under way, is in force. Fails when something of it is not. */
  async all(): Promise<void> {
    const names = new Set([...this.#due, ...this.#running.keys()]);
    await Promise.all([...names].map((name) => this.#one(name)));
  }

  #one(name: string): Promise<void> {
    const waiting = this.#next.get(name);
    if (waiting) return waiting;
    const before = this.#running.get(name) ?? Promise.resolve();
    const work = before
      .catch(() => {})
      .then(async () => {
        this.#next.delete(name);
        this.#running.set(name, work);
        this.#due.delete(name);
        await this.bring(name);
      })
      .catch((error: unknown) => {
        this.#due.add(name);
        throw error;
      })
      .finally(() => {
        if (this.#running.get(name) === work) this.#running.delete(name);
      });
    this.#next.set(name, work);
    return work;
  }
}
