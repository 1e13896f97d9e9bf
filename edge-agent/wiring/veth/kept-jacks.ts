/**
 * Jacks that no instance has any more and that are as good as new: they stay ports of the switch, and up, with nothing plugged in. Open vSwitch's one thread
 * stands still for 10 to 20 ms when it lets go of a port, and every packet waits; of jacks that are used again it hears nothing.
 *
 * Each rests for a while: whoever led packets to the instance that had it has done away with its rules by then.
 */

/** What is kept. */
export interface Keepable {
  /** Whether it is still as it should be. */
  isOfUse(): Promise<boolean>;
  /** Must not fail. */
  remove(): Promise<void>;
}

export const KEPT_LIMITS = { most: 16, restMs: 10_000 } as const;

export class KeptJacks<J extends Keepable> {
  readonly #kept: { readonly jacks: J; readonly restedAtMs: number }[] = [];
  #closed = false;

  /** `now`: monotonic ms. */
  constructor(
    private readonly now: () => number,
    private readonly limits: { readonly most: number; readonly restMs: number },
  ) {}

  get size(): number {
    return this.#kept.length;
  }

  /** Whether it is kept; if not it is still the caller's. */
  keep(jacks: J): boolean {
    if (this.#closed || this.#kept.length >= this.limits.most) return false;
    this.#kept.push({ jacks, restedAtMs: this.now() + this.limits.restMs });
    return true;
  }

  /** One that is rested and of use, if there is one; it is the caller's. Those that are of no use go. */
  async take(): Promise<J | undefined> {
    for (;;) {
      const [oldest] = this.#kept;
      if (!oldest || oldest.restedAtMs > this.now()) return undefined;
      this.#kept.shift();
      if (await oldest.jacks.isOfUse()) return oldest.jacks;
      await oldest.jacks.remove();
    }
  }

  /** Removes all, and keeps none from then on. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#kept.splice(0).map(({ jacks }) => jacks.remove()));
  }
}
