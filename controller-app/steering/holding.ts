/**
 * Holding a terminal's traffic, and letting it go. While it is held, the switches send what would enter the terminal's instance to the controller,
 * behind the guard; released, it enters the instance that is active then from the switch that it came from, and is filtered like any other.
 *
 * Frames of one switch and side go on in the order in which they came to it. What is held is sent on before the switches are told to lead new
 * frames past the controller, on the same connection: so none of those overtakes it, except what was on its way to the controller in that
 * moment. That comes behind what was held, and may be overtaken. Frames of different switches are not ordered. A frame that finds no
 * room is dropped, and so is one that has waited for too long (see HELD_LIMITS): nothing is ever sent on past a firewall.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { type Action, OFPP, type PacketOutMessage } from '../openflow/index.js';
import { type HeldFrame, HeldFrames } from './held-frames.js';
import { set } from './words.js';

/** A switch that frames can be given to; false: it has too much to read and did not take it. */
export interface FrameTaker {
  packetOut(message: Omit<PacketOutMessage, 'type'>): boolean;
}

export interface HoldingOptions {
  /** The number of the table that leads into instances. */
  readonly enter: number;
  switch(dpid: Dpid): FrameTaker | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** So many frames go on at once, and others after so many ms: more would overrun the buffers of the ports on their way. */
const BATCH = { frames: 32, everyMs: 1 } as const;
/** The switches are led past the controller after so many ms at the latest, even if not all that was held is on its way. */
const RELEASE_MS = 100;

interface Hold {
  readonly frames: HeldFrames;
  readonly sinceMs: number;
  /** The instance that frames go on to; nothing while they are held. */
  to: number | undefined;
  /** The switches lead past the controller now. */
  over: boolean;
  released: number;
  timer: Timer | undefined;
  /** Waits until nothing is left. */
  onEmpty: (() => void) | undefined;
}

export class Holding {
  readonly #holds = new Map<string, Hold>();

  constructor(readonly options: HoldingOptions) {}

  /** From now on what comes of this terminal waits. Twice is once. */
  begin(terminal: string): void {
    const now = this.options.clock.monotonic();
    const hold = this.#holds.get(terminal);
    if (hold) Object.assign(hold, { to: undefined, over: false });
    else
      this.#holds.set(terminal, {
        ...{ frames: new HeldFrames(), sinceMs: now, to: undefined, over: false },
        ...{ released: 0, timer: undefined, onEmpty: undefined },
      });
  }

  /** A frame that a switch has sent to be held. One that comes when nothing is held any more goes on at once, `led` to this instance. */
  frame(terminal: string, frame: HeldFrame, led: number | undefined): void {
    const now = this.options.clock.monotonic();
    const hold = this.#holds.get(terminal);
    if (!hold) {
      if (led !== undefined) this.#send(frame, led);
      return;
    }
    // What comes off the wire is a part of a larger buffer, which should not wait with it.
    hold.frames.push({ ...frame, data: Uint8Array.from(frame.data) }, now);
    // Behind others it goes when their turn comes.
    if (hold.to !== undefined && hold.frames.size === 1) this.#go(terminal, hold);
    else if (hold.to === undefined) this.#wake(terminal, hold, hold.frames.limits.ms);
  }

  /**
   * What is held goes on to this instance, which must admit, and what still comes, behind it. Settles when it is on its way, or after RELEASE_MS: then the
   * switches should be led past the controller, and `end` called.
   */
  release(terminal: string, to: number): Promise<void> {
    const hold = this.#holds.get(terminal);
    if (!hold) return Promise.resolve();
    hold.to = to;
    this.#go(terminal, hold);
    if (hold.frames.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const late = this.options.clock.after(RELEASE_MS, resolve);
      hold.onEmpty = () => {
        late.close();
        resolve();
      };
    });
  }

  /** The switches lead past the controller now: when all is on its way, the hold is over. */
  end(terminal: string): void {
    const hold = this.#holds.get(terminal);
    if (!hold || hold.to === undefined) return;
    hold.over = true;
    this.#go(terminal, hold);
  }

  #finish(terminal: string, hold: Hold): void {
    hold.timer?.close();
    this.#holds.delete(terminal);
    const { released, frames, sinceMs } = hold;
    const ms = Math.round(this.options.clock.monotonic() - sinceMs);
    const told = { terminal, released, dropped: frames.dropped, ms };
    if (frames.dropped > 0) this.options.log.warn(told, 'traffic was held, and not all of it could be');
    else this.options.log.info(told, 'traffic was held');
  }

  /** How many frames of the terminal wait. */
  size(terminal: string): number {
    return this.#holds.get(terminal)?.frames.size ?? 0;
  }

  close(): void {
    for (const { timer } of this.#holds.values()) timer?.close();
    this.#holds.clear();
  }

  #go(terminal: string, hold: Hold): void {
    const { to } = hold;
    if (to === undefined) return;
    let room = BATCH.frames;
    const send = (frame: HeldFrame): boolean => room-- > 0 && this.#send(frame, to);
    hold.released += hold.frames.release(send, this.options.clock.monotonic());
    if (hold.frames.size > 0) this.#wake(terminal, hold, BATCH.everyMs);
    else {
      hold.onEmpty?.();
      if (hold.over) this.#finish(terminal, hold);
    }
  }

  /** Looks again later, at what is to be sent or is too old by then. */
  #wake(terminal: string, hold: Hold, ms: number): void {
    hold.timer?.close();
    hold.timer = this.options.clock.after(ms, () => {
      hold.timer = undefined;
      hold.frames.expire(this.options.clock.monotonic());
      this.#go(terminal, hold);
    });
  }

  /** False: not now. A switch that is gone has lost the frame. */
  #send({ dpid, side, data }: HeldFrame, to: number): boolean {
    const sw = this.options.switch(dpid);
    const actions: Action[] = [
      set({ reg0: side }),
      set({ reg1: to }),
      { type: 'resubmit', table: this.options.enter },
    ];
    return sw === undefined || sw.packetOut({ inPort: OFPP.CONTROLLER, actions, data: Buffer.from(data) });
  }
}
