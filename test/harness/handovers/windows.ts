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

/** A time, as it stands to the handovers. */
export interface Place {
  /** Which handover was the last that had begun, from 1 on; 0 before the first. */
  readonly handover: number;
  /** What it moved. */
  readonly kind: MoveKind | null;
  /** Since it began; 0 before the first. */
  readonly afterMs: number;
}

/** A gap, and where it was. */
export type PlacedGap = Pick<FlowGap, 'ms' | 'flow'> & Place;

export class Windows {
  readonly #windows: Window[] = [];
  #longest: readonly PlacedGap[] = [];

  /** One that begins at `from` (monotonic ms). */
  open(kind: WindowKind, from: number): void {
    this.#windows.push({ kind, from, to: from + WINDOW_MS, worst: new Map() });
  }

  note(gaps: readonly FlowGap[]): void {
    const recent = this.#windows.slice(-REMEMBERED);
    for (const gap of gaps) {
      this.#remember(gap);
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
  get longest(): readonly PlacedGap[] {
    return this.#longest;
  }

  place(at: number): Place {
    const handovers = this.#windows.filter(({ kind, from }) => kind !== 'quiet' && from <= at);
    const last = handovers.at(-1);
    if (!last || last.kind === 'quiet') return { handover: 0, kind: null, afterMs: 0 };
    return { handover: handovers.length, kind: last.kind, afterMs: at - last.from };
  }

  #remember({ at, ms, flow }: FlowGap): void {
    if (this.#longest.length === LONGEST && ms <= (this.#longest.at(-1)?.ms ?? 0)) return;
    const placed = { ms, flow, ...this.place(at) };
    this.#longest = [...this.#longest, placed].toSorted((a, b) => b.ms - a.ms).slice(0, LONGEST);
  }
}

export function flowName({ from, to, family }: FlowGap['flow']): string {
  return `${from} to ${to}, ${family}`;
}
