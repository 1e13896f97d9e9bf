/**
 * Stretches of time, of equal length, around handovers and in between, and the worst gap that each saw. Pure.
 */
import type { FlowGap } from '../hosts/index.js';
import type { MoveKind } from './moves.js';

/** From the decision to after the drain, which takes 500 ms. */
export const WINDOW_MS = 600;
/** Of so many of the longest gaps it is told where they were. */
const LONGEST = 10;
/** A gap that ends much later than it began is still told to the windows that it lay in. */
const REMEMBERED = 16;

/** quiet: nothing moved. */
export type WindowKind = MoveKind | 'quiet';

interface Window {
  readonly kind: WindowKind;
  readonly from: number;
  readonly to: number;
  /** Ms, by the flow: `h1 to h2, ipv6`. */
  readonly worst: Map<string, number>;
}

/** A gap, and how it stands to the handovers. */
export interface Placed extends Pick<FlowGap, 'ms' | 'flow'> {
  /** From the begin of the last handover before it; null before the first. */
  readonly afterMs: number | null;
  /** What that handover moved. */
  readonly kind: MoveKind | null;
}

export class Windows {
  readonly #windows: Window[] = [];
  #longest: readonly Placed[] = [];

  /** One that begins at `from` (monotonic ms). */
  open(kind: WindowKind, from: number): void {
    this.#windows.push({ kind, from, to: from + WINDOW_MS, worst: new Map() });
  }

  note(gaps: readonly FlowGap[]): void {
    const recent = this.#windows.slice(-REMEMBERED);
    for (const gap of gaps) {
      this.#place(gap);
      const name = flowName(gap.flow);
      for (const { from, to, worst } of recent) {
        if (gap.at > to || gap.at + gap.ms < from) continue;
        worst.set(name, Math.max(worst.get(name) ?? 0, gap.ms));
      }
    }
  }

  /** The worst gap of each window of these kinds, in ms: of all flows, or of one. */
  worst(kinds: readonly WindowKind[], flow?: string): readonly number[] {
    return this.#windows
      .filter(({ kind }) => kinds.includes(kind))
      .map(({ worst }) => (flow === undefined ? Math.max(0, ...worst.values()) : (worst.get(flow) ?? 0)));
  }

  /** The names of all flows that ever had a gap. */
  get flows(): readonly string[] {
    return [...new Set(this.#windows.flatMap(({ worst }) => [...worst.keys()]))].sort();
  }

  /** The longest at any time, in a window or not. */
  get longest(): readonly Placed[] {
    return this.#longest;
  }

  #place({ at, ms, flow }: FlowGap): void {
    if (this.#longest.length === LONGEST && ms <= (this.#longest.at(-1)?.ms ?? 0)) return;
    const last = this.#windows.findLast(({ kind, from }) => kind !== 'quiet' && from <= at);
    const placed = {
      ...{ ms, flow, afterMs: last ? at - last.from : null },
      kind: last && last.kind !== 'quiet' ? last.kind : null,
    };
    this.#longest = [...this.#longest, placed].toSorted((a, b) => b.ms - a.ms).slice(0, LONGEST);
  }
}

export function flowName({ from, to, family }: FlowGap['flow']): string {
  return `${from} to ${to}, ${family}`;
}
