/**
 * Bounds how often a terminal with two links changes its primary attachment. Once it has used up its changes the controller does not even hear of
 * another until there is one again; what it sends by either link goes on all the while, and it receives on both.
 */
import type { Clock, Timer } from '../../shared/runtime/clock.js';

/** Changes at once, and the time after which there is one more. */
export const LINK_CHANGES = { burst: 10, everyMs: 200 } as const;

interface Allowance {
  left: number;
  timer: Timer | undefined;
}

export class LinkChanges {
  readonly #allowances = new Map<string, Allowance>();

  /** `onAllowed`: a terminal that had none left may change again. */
  constructor(
    readonly clock: Clock,
    readonly onAllowed: (terminal: string) => void,
  ) {}

  allowed(terminal: string): boolean {
    return (this.#allowances.get(terminal)?.left ?? LINK_CHANGES.burst) > 0;
  }

  /** Uses up one change. False: there is none left. */
  take(terminal: string): boolean {
    const allowance = this.#allowances.get(terminal) ?? { left: LINK_CHANGES.burst, timer: undefined };
    this.#allowances.set(terminal, allowance);
    if (allowance.left === 0) return false;
    allowance.left--;
    this.#refill(terminal, allowance);
    return true;
  }

  close(): void {
    for (const { timer } of this.#allowances.values()) timer?.close();
    this.#allowances.clear();
  }

  #refill(terminal: string, allowance: Allowance): void {
    allowance.timer ??= this.clock.after(LINK_CHANGES.everyMs, () => {
      allowance.timer = undefined;
      allowance.left++;
      if (allowance.left < LINK_CHANGES.burst) this.#refill(terminal, allowance);
      if (allowance.left === 1) this.onAllowed(terminal);
    });
  }
}
