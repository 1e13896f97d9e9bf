/**
 * The stages of a handover and its steps. Until the switch everything can be undone, and the old instance is active; from then on everything can be
 * repeated, and the new one is.
 */
import type { HandoverStep } from '../../shared/api/schema.js';
import { type Clock, sleep } from '../../shared/runtime/clock.js';

export type Stage =
  | 'preparing'
  | 'switching'
  | 'draining'
  | 'retiring'
  | 'done'
  | 'undoing'
  | 'undone'
  | 'failed';

const NEXT: Readonly<Record<Stage, readonly Stage[]>> = {
  preparing: ['switching', 'undoing', 'failed'],
  switching: ['draining', 'undoing', 'failed'],
  draining: ['retiring'],
  retiring: ['done'],
  undoing: ['undone'],
  done: [],
  undone: [],
  failed: [],
};

export class Progress {
  #stage: Stage = 'preparing';

  get stage(): Stage {
    return this.#stage;
  }

  /** Throws on a transition that is not in the table: a fault of the program. */
  to(stage: Stage): void {
    if (!NEXT[this.#stage].includes(stage))
      throw new Error(`a handover does not go from ${this.#stage} to ${stage}`);
    this.#stage = stage;
  }
}

/** A handover that waits to be told to go on does so for no longer than this. */
const MAX_PAUSE_MS = 30_000;

/** For experiments: a handover waits before one of its steps until somebody says that it may go on. */
export class Pause {
  #waiting: AbortController | undefined;

  constructor(
    readonly before: HandoverStep | undefined,
    readonly clock: Clock,
    readonly onPause: (step: HandoverStep) => void,
  ) {}

  async at(step: HandoverStep): Promise<void> {
    if (step !== this.before) return;
    this.#waiting = new AbortController();
    this.onPause(step);
    await sleep(this.clock, MAX_PAUSE_MS, this.#waiting.signal).catch(() => {});
    this.#waiting = undefined;
  }

  /** Whether it was waiting. */
  goOn(): boolean {
    const waiting = this.#waiting;
    waiting?.abort();
    return waiting !== undefined;
  }
}
