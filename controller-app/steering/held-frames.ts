/**
 * Frames of one terminal that wait while nothing may pass: in the order in which they came, bounded in number, bytes and time. Pure.
 */
import type { Dpid } from '../../shared/domain/domain.js';

export interface HeldFrame {
  /** The switch that sent it: it goes on from there. */
  readonly dpid: Dpid;
  /** The side of the instance that it was about to enter from. */
  readonly side: number;
  readonly data: Uint8Array;
}

export const HELD_LIMITS = { frames: 2_048, bytes: 2 * 2 ** 20, ms: 3_000 } as const;

interface Waiting {
  readonly frame: HeldFrame;
  readonly sinceMs: number;
}

export class HeldFrames {
  #waiting: Waiting[] = [];
  #bytes = 0;
  #dropped = 0;

  constructor(
    readonly limits: { readonly frames: number; readonly bytes: number; readonly ms: number } = HELD_LIMITS,
  ) {}

  get size(): number {
    return this.#waiting.length;
  }

  /** How many had no room, or waited too long. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Behind the others. Without room it is dropped, as by any queue that is full: those that came first stay in order. */
  push(frame: HeldFrame, nowMs: number): void {
    this.expire(nowMs);
    const { frames, bytes } = this.limits;
    if (this.#waiting.length >= frames || this.#bytes + frame.data.length > bytes) {
      this.#dropped++;
      return;
    }
    this.#waiting.push({ frame, sinceMs: nowMs });
    this.#bytes += frame.data.length;
  }

  /** Those that have waited too long are dropped: nobody waits for them any more. */
  expire(nowMs: number): void {
    const fresh = this.#waiting.findIndex(({ sinceMs }) => nowMs - sinceMs <= this.limits.ms);
    const old = fresh < 0 ? this.#waiting.length : fresh;
    this.#dropped += old;
    this.#remove(old);
  }

  /** Gives the frames to `send` in order, as long as it takes them. Returns how many. */
  release(send: (frame: HeldFrame) => boolean, nowMs: number): number {
    this.expire(nowMs);
    let sent = 0;
    for (const { frame } of this.#waiting) {
      if (!send(frame)) break;
      sent++;
    }
    this.#remove(sent);
    return sent;
  }

  #remove(count: number): void {
    for (const { frame } of this.#waiting.splice(0, count)) this.#bytes -= frame.data.length;
  }
}
