/**
 * Stretches of time, of equal length, around handovers and in between, and the worst gap that each saw. Pure.
 */
import type { FlowGap } from '../hosts/index.js';

/** From the decision to after the drain, which takes 500 ms. */
export const WINDOW_MS = 600;
/** A gap that ends much later than it began is still told to the windows that it lay in. */
const REMEMBERED = 16;

/** role: the active role alone moved. link: the terminal's sending link did, and the role followed. quiet: nothing moved. */
export type WindowKind = 'role' | 'link' | 'quiet';

interface Window {
  readonly kind: WindowKind;
  readonly from: number;
  readonly to: number;
  /** Ms, by the flow: `h1 to h2, ipv6`. */
  readonly worst: Map<string, number>;
}

export class Windows {
  readonly #windows: Window[] = [];
  #longest: FlowGap | undefined;

  /** One that begins at `from` (monotonic ms). */
  open(kind: WindowKind, from: number): void {
    this.#windows.push({ kind, from, to: from + WINDOW_MS, worst: new Map() });
  }

  note(gaps: readonly FlowGap[]): void {
    const recent = this.#windows.slice(-REMEMBERED);
    for (const gap of gaps) {
      if (gap.ms > (this.#longest?.ms ?? 0)) this.#longest = gap;
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

  /** At any time, in a window or not. */
  get longest(): FlowGap | undefined {
    return this.#longest;
  }
}

export function flowName({ from, to, family }: FlowGap['flow']): string {
  return `${from} to ${to}, ${family}`;
}
