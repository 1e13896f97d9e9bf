/**
 * What an earlier life of the agent left: nobody filters by it any more. It looks the same as what this life makes, so it goes before anything is made.
 */
import { Once } from '../../shared/runtime/once.js';
import type { InstanceRuntime } from '../runtime/runtime.js';
import type { Wiring } from '../wiring/wiring.js';

export class Leftovers {
  readonly #cleaned = new Once(() => this.#clean());

  constructor(
    private readonly runtime: InstanceRuntime,
    private readonly wiring: Wiring,
  ) {}

  /** Once, with success. Fails as the runtime or the wiring does; the next call tries again. */
  clean(): Promise<void> {
    return this.#cleaned.run();
  }

  async #clean(): Promise<void> {
    const results = await Promise.allSettled([this.runtime.removeLeftovers(), this.wiring.removeLeftovers()]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }
}
