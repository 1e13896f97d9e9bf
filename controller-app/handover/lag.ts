/**
 * How far a standby is behind: changes that it has not acknowledged, and the time from a change until the standby had acknowledged it. Where an agent tells of the
 * change it says how long ago it was: only its way to the controller is not in the time.
 */

/** As many of the last changes count. */
const SAMPLES = 1_024;

export interface Lag {
  /** Changes that are not acknowledged yet. */
  readonly changes: number;
  /** Of the last acknowledged changes, in ms; nothing before the first. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  readonly maxMs?: number;
}

export class LagMeter {
  readonly #samples: number[] = [];
  #next = 0;

  add(ms: number): void {
    this.#samples[this.#next] = ms;
    this.#next = (this.#next + 1) % SAMPLES;
  }

  read(changes: number): Lag {
    const sorted = this.#samples.toSorted((a, b) => a - b);
    const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
    return sorted.length === 0 ? { changes } : { changes, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
  }
}
