/**
 * What became of one flow of numbered datagrams: the records of its two ends joined. Pure. Records come in portions, so that a measurement may
 * last for hours.
 */

export interface Arrival {
  /** Datagrams are numbered from 0, in the order in which they were sent. */
  readonly number: number;
  /** When the receiver's kernel had it. Monotonic ms, as all times here. */
  readonly at: number;
}

/** The receiver waited longer for its next datagram than the sender did. */
export interface Gap {
  /** When the wait began: the arrival before it. */
  readonly at: number;
  /** How much longer. */
  readonly ms: number;
}

export interface Tally {
  readonly sent: number;
  /** Different ones of these. */
  readonly received: number;
  /** Sent and not received: lost, once nothing is under way any more. */
  readonly lost: number;
  /** Arrivals of what had arrived before. */
  readonly duplicated: number;
  /** First arrivals after that of a later one. */
  readonly reordered: number;
  /** Arrivals with a number that was never sent. */
  readonly unknown: number;
}

export class FlowJudge {
  /** Sending times from number `#base` on: as many as later gaps may need. */
  #sentAt: number[] = [];
  #base = 0;
  #received = 0;
  #duplicated = 0;
  #reordered = 0;
  #unknown = 0;
  #highest = -1;
  #lastAt: number | undefined;
  /** Sending times of what has not been received, by number. */
  readonly #missing = new Map<number, number>();

  get tally(): Tally {
    return {
      ...{ sent: this.#sent, received: this.#received, lost: this.#missing.size },
      ...{ duplicated: this.#duplicated, reordered: this.#reordered, unknown: this.#unknown },
    };
  }

  /** When those were sent that have not been received. */
  get missingSince(): readonly number[] {
    return [...this.#missing.values()];
  }

  /**
   * The next portion. `sentAt` must hold the sending times of at least all datagrams among `arrivals`: the receiver is to be asked first. Returns the
   * gaps that ended in this portion, in their order.
   */
  add(sentAt: readonly number[], arrivals: readonly Arrival[]): readonly Gap[] {
    for (const at of sentAt) {
      this.#missing.set(this.#sent, at);
      this.#sentAt.push(at);
    }
    const gaps: Gap[] = [];
    for (const { number, at } of arrivals) {
      if (!(number < this.#sent)) {
        this.#unknown++;
        continue;
      }
      gaps.push(...this.#gapUntil(at));
      this.#take(number);
      this.#lastAt = at;
    }
    this.#forget();
    return gaps;
  }

  /** Nothing is under way any more: silence until the last was sent is a gap as well. */
  end(): readonly Gap[] {
    const lastSent = this.#sentAt.at(-1);
    return lastSent === undefined ? [] : this.#gapUntil(lastSent);
  }

  get #sent(): number {
    return this.#base + this.#sentAt.length;
  }

  #take(number: number): void {
    if (!this.#missing.delete(number)) {
      this.#duplicated++;
      return;
    }
    this.#received++;
    if (number < this.#highest) this.#reordered++;
    this.#highest = Math.max(this.#highest, number);
  }

  /** The wait from the last arrival until then, as far as it is beyond the sender's own interval after the highest that had arrived. */
  #gapUntil(until: number): readonly Gap[] {
    const [sent, next] = [0, 1].map((more) => this.#sentAt[this.#highest + more - this.#base]);
    // Without a next one nothing was waited for.
    if (this.#lastAt === undefined || sent === undefined || next === undefined) return [];
    const ms = until - this.#lastAt - (next - sent);
    return ms > 0 ? [{ at: this.#lastAt, ms }] : [];
  }

  #forget(): void {
    const unneeded = this.#highest - this.#base;
    if (unneeded <= 0) return;
    this.#sentAt = this.#sentAt.slice(unneeded);
    this.#base += unneeded;
  }
}

/** Everything at once. */
export function judge(
  sentAt: readonly number[],
  arrivals: readonly Arrival[],
): Tally & { readonly gaps: readonly Gap[] } {
  const judge = new FlowJudge();
  const gaps = [...judge.add(sentAt, arrivals), ...judge.end()];
  return { ...judge.tally, gaps };
}

/** The longest of these gaps that lies, if only in part, between two times; 0 without one. */
export function longestGap(gaps: readonly Gap[], from: number, to: number): number {
  return gaps.reduce((most, { at, ms }) => (at <= to && at + ms >= from ? Math.max(most, ms) : most), 0);
}
