/**
 * Measures the phases of a handover and tells of each as it ends.
 */
import type { PhaseName } from '../../shared/api/schema.js';

export interface Phase {
  readonly name: PhaseName;
  readonly ms: number;
}

export class Stopwatch {
  readonly phases: Phase[] = [];

  /** `now` gives monotonic ms. */
  constructor(
    readonly now: () => number,
    readonly onPhase: (phase: Phase) => void,
  ) {}

  /** Runs a phase; it counts however it ends. */
  async measure<T>(name: PhaseName, task: () => Promise<T>): Promise<T> {
    const start = this.now();
    try {
      return await task();
    } finally {
      this.add(name, this.now() - start);
    }
  }

  add(name: PhaseName, ms: number): void {
    const phase = { name, ms };
    this.phases.push(phase);
    this.onPhase(phase);
  }
}
