/**
 * Counts the bytes that domains exchange on behalf of each terminal.
 */
import type { Transfer } from './domains/remote/index.js';
import type { TransferMeter } from './handover/options.js';

export class TransferCounts implements TransferMeter {
  readonly #counts = new Map<string, { snapshot: number; delta: number }>();

  add({ kind, terminal, bytes }: Transfer): void {
    const counts = this.#counts.get(terminal) ?? { snapshot: 0, delta: 0 };
    if (kind === 'prepare' || kind === 'export') counts.snapshot += bytes;
    else counts.delta += bytes;
    this.#counts.set(terminal, counts);
  }

  read(terminal: string): { snapshot: number; delta: number } {
    return { snapshot: 0, delta: 0, ...this.#counts.get(terminal) };
  }
}
