/**
 * Lodgings that are ready before anybody needs one: an instance is then a matter of rules and entries.
 *
 * Who takes one gets the oldest that is of use still. What is missing is made a while after the last was taken, when the handover that took it is likely
 * to be over; what cannot be made is tried again, and nobody else hears of it: whoever takes one then makes it, and is told what is wrong.
 */
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { Lodging } from './lodging.js';

export interface SparesOptions {
  readonly make: () => Promise<Lodging>;
  /** How many there are to be, as things are now. */
  readonly wanted: () => number;
  readonly log: Log;
}

/** After the last was taken. */
const CALM_MS = 1000;
/** After one could not be made: doubled each time up to the most. */
const AGAIN_MS = { first: 2000, most: 60_000 } as const;

export class Spares {
  readonly #ready: Lodging[] = [];
  #making: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;

  constructor(private readonly options: SparesOptions) {}

  /** How many are ready. */
  get count(): number {
    return this.#ready.length;
  }

  /** One that is ready, or a new one. The caller owns it. Fails as making one fails. */
  async take(): Promise<Lodging> {
    try {
      if (this.#ready.length === 0) await this.#making;
      for (let spare = this.#ready.shift(); spare !== undefined; spare = this.#ready.shift()) {
        if (await isOfUse(spare)) return spare;
        this.#remove(spare);
      }
      return await this.options.make();
    } finally {
      this.fill(CALM_MS);
    }
  }

  /** Makes what is missing, in the background, after so many ms. */
  fill(afterMs = 0): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#making ??= this.#make().finally(() => {
        this.#making = undefined;
      });
    }, afterMs).unref();
  }

  /** Removes all. May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#making;
    await Promise.all(this.#ready.splice(0).map((spare) => spare.removed()));
  }

  async #make(): Promise<void> {
    try {
      while (!this.#closed && this.#ready.length < this.options.wanted())
        this.#keep(await this.options.make());
      this.#failures = 0;
    } catch (error) {
      const waitMs = Math.min(AGAIN_MS.first * 2 ** this.#failures, AGAIN_MS.most);
      if (this.#failures++ === 0)
        this.options.log.warn(
          { error: messageOf(error) },
          'no spare container could be made: it is tried again',
        );
      this.fill(waitMs);
    }
  }

  #keep(spare: Lodging): void {
    this.#ready.push(spare);
    void spare.lost.then(() => {
      const at = this.#ready.indexOf(spare);
      if (at < 0) return;
      this.#ready.splice(at, 1);
      this.#remove(spare);
      this.fill(CALM_MS);
    });
  }

  #remove(spare: Lodging): void {
    void spare.removed();
  }
}

async function isOfUse(spare: Lodging): Promise<boolean> {
  return spare.confirm().then(
    () => true,
    () => false,
  );
}
