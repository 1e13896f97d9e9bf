/**
 * Answers what an instance rejects, as often as it may: whoever sends more is not answered each time.
 */
import type { Match } from '../../openflow/index.js';
import { rejectionFrame } from '../../packet/index.js';
import { answerActions, SIDE } from '../../pipeline/index.js';
import type { Place } from './host.js';

/** Answers a second, and how many at once. */
const RATE = 100;
const BURST = 10;

export class Rejections {
  readonly #place: Place;
  #tokens = BURST;
  #filledAtMs: number;

  constructor(place: Place, nowMs: number) {
    this.#place = place;
    this.#filledAtMs = nowMs;
  }

  /** Answers a copy of a rejected packet, if that may be answered at all and now. */
  answer({ reg0 }: Match, data: Uint8Array, nowMs: number): void {
    if (reg0 !== SIDE.terminal && reg0 !== SIDE.network) return;
    const frame = rejectionFrame(data);
    if (!frame || !this.#take(nowMs)) return;
    const { host, dpid, number } = this.#place;
    host.packetOut(dpid, answerActions(number, reg0, host.table('deliver')), frame);
  }

  #take(nowMs: number): boolean {
    this.#tokens = Math.min(BURST, this.#tokens + ((nowMs - this.#filledAtMs) * RATE) / 1000);
    this.#filledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
