/**
 * The one place where replies find their requests: by xid.
 *
 * A request ends with its last reply, with the switch's error, with its time-out, or with the connection; whichever comes first,
 * and only once.
 */
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import type { MessageBody } from '../openflow/index.js';
import type { Received } from './codec.js';
import { OpenFlowError, SwitchError } from './errors.js';

/** What a request does with a message for it: `done`, or it goes on waiting. May throw: the request then fails with that. */
export type Take<T> = (message: MessageBody, frame: Uint8Array) => { readonly done: T } | undefined;

export interface Patience {
  /** From the request, or the last part of its answer, to the next. */
  readonly timeoutMs: number;
  /** From the request to its last part. Default: no bound but that. */
  readonly wholeMs?: number;
}

interface Waiting {
  deliver(received: Received): void;
  fail(error: Error): void;
}

interface Range {
  readonly first: number;
  readonly last: number;
  readonly what: (xid: number) => string;
  readonly onError: (error: OpenFlowError, place: number) => void;
}

const MAX_XID = 0xffff_ffff;

export class Requests {
  private readonly waiting = new Map<number, Waiting>();
  private readonly ranges = new Set<Range>();
  private lastXid = 0;
  private wrapped = false;
  private closedBy: Error | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly maxWaiting: number,
  ) {}

  /** Requests, and messages whose refusal somebody listens for. */
  get size(): number {
    return this.waiting.size + this.ranges.size;
  }

  /** A number that no waiting request has. 0 is left to messages which nobody asks after. */
  nextXid(): number {
    return this.reserve(1);
  }

  /** True for a number that a message of ours has had: a reply with it may be late, but is one. */
  issued(xid: number): boolean {
    return xid !== 0 && (this.wrapped || xid <= this.lastXid);
  }

  /** The first of `count` numbers in a row that no waiting request has. */
  private reserve(count: number): number {
    let first = this.lastXid + 1;
    for (;;) {
      if (first + count - 1 > MAX_XID) {
        first = 1;
        this.wrapped = true;
      }
      const taken = this.wrapped ? this.lastTaken(first, first + count - 1) : undefined;
      if (taken === undefined) break;
      first = taken + 1;
    }
    this.lastXid = first + count - 1;
    return first;
  }

  private lastTaken(first: number, last: number): number | undefined {
    if (first === last && this.ranges.size === 0) return this.waiting.has(first) ? first : undefined;
    let taken: number | undefined;
    const look = (from: number, to: number): void => {
      if (from <= last && to >= first && to > (taken ?? 0)) taken = to;
    };
    for (const xid of this.waiting.keys()) look(xid, xid);
    for (const range of this.ranges) look(range.first, range.last);
    return taken;
  }

  /** Waits for the replies to `xid`. */
  wait<T>(xid: number, what: string, patience: Patience, take: Take<T>): Promise<T> {
    const { timeoutMs, wholeMs } = patience;
    return new Promise<T>((resolve, reject) => {
      if (this.refused(reject)) return;
      const next = (): Timer =>
        this.clock.after(timeoutMs, () =>
          waiting.fail(new SwitchError('timeout', `no answer to ${what} within ${timeoutMs} ms`)),
        );
      let timer = next();
      const whole =
        wholeMs === undefined
          ? undefined
          : this.clock.after(wholeMs, () =>
              waiting.fail(new SwitchError('endless', `the answer to ${what} took over ${wholeMs} ms`)),
            );
      const end = (): void => {
        timer.close();
        whole?.close();
        this.waiting.delete(xid);
      };
      const waiting: Waiting = {
        fail: (error) => {
          end();
          reject(error);
        },
        deliver: ({ message, frame }) => {
          if (message.type === 'error') {
            waiting.fail(new OpenFlowError(what, message));
            return;
          }
          let taken: ReturnType<Take<T>>;
          try {
            taken = take(message, frame);
          } catch (error) {
            waiting.fail(error as Error);
            return;
          }
          timer.close();
          if (taken) {
            end();
            resolve(taken.done);
          } else timer = next();
        },
      };
      this.waiting.set(xid, waiting);
    });
  }

  private refused(reject: (error: Error) => void): boolean {
    if (this.closedBy) reject(this.closedBy);
    else if (this.size >= this.maxWaiting)
      reject(
        new SwitchError('backpressure', `${this.size} requests wait for answers: wait for some of them`),
      );
    else return false;
    return true;
  }

  /**
   * Numbers for `count` messages that have no reply, and an ear for errors about them: `place` is that of the message. Call
   * `end` when none can come any more.
   */
  watch(
    count: number,
    what: (place: number) => string,
    onError: (error: OpenFlowError, place: number) => void,
  ): { readonly first: number; end(): void } {
    const first = this.reserve(count);
    const range: Range = {
      first,
      last: first + count - 1,
      what: (xid) => what(xid - first),
      onError,
    };
    this.ranges.add(range);
    return { first, end: () => void this.ranges.delete(range) };
  }

  /** False when nobody waits for it. */
  deliver(received: Received): boolean {
    const { xid, message } = received;
    const waiting = this.waiting.get(xid);
    if (waiting) {
      waiting.deliver(received);
      return true;
    }
    for (const range of this.ranges) {
      if (xid < range.first || xid > range.last) continue;
      if (message.type !== 'error') return false;
      range.onError(new OpenFlowError(range.what(xid), message), xid - range.first);
      return true;
    }
    return false;
  }

  fail(xid: number, error: Error): void {
    this.waiting.get(xid)?.fail(error);
  }

  /** Fails everything that waits, and everything that comes. */
  close(error: Error): void {
    this.closedBy ??= error;
    for (const waiting of [...this.waiting.values()]) waiting.fail(error);
    this.ranges.clear();
  }
}
