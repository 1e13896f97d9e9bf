/**
 * The one place where replies find their requests: by xid.
 *
 * A request ends with its last reply, with the switch's error, with its time-out, or with the connection; whichever comes first,
 * and only once.
 */
import type { Clock } from '../../shared/runtime/clock.js';
import type { MessageBody } from '../openflow/index.js';
import { OpenFlowError, SwitchError } from './errors.js';

/** What a request does with a message for it: `done`, or it goes on waiting. May throw: the request then fails with that. */
export type Take<T> = (message: MessageBody, byteLength: number) => { readonly done: T } | undefined;

interface Waiting {
  readonly what: string;
  deliver(message: MessageBody, byteLength: number): void;
  fail(error: Error): void;
}

export class Requests {
  private readonly waiting = new Map<number, Waiting>();
  private lastXid = 0;
  private closedBy: Error | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly maxWaiting: number,
  ) {}

  get size(): number {
    return this.waiting.size;
  }

  /** A number that no waiting request has. 0 is left to messages which nobody asks after. */
  nextXid(): number {
    do this.lastXid = this.lastXid === 0xffffffff ? 1 : this.lastXid + 1;
    while (this.waiting.has(this.lastXid));
    return this.lastXid;
  }

  /** Waits for the replies to `xid`. The time-out counts from the last of them. */
  wait<T>(xid: number, what: string, timeoutMs: number, take: Take<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.refused(reject)) return;
      const onTimeout = (): void =>
        waiting.fail(new SwitchError('timeout', `no answer to ${what} within ${timeoutMs} ms`));
      let timer = this.clock.after(timeoutMs, onTimeout);
      const end = (): void => {
        timer.close();
        this.waiting.delete(xid);
      };
      const waiting: Waiting = {
        what,
        fail: (error) => {
          end();
          reject(error);
        },
        deliver: (message, byteLength) => {
          if (message.type === 'error') {
            waiting.fail(new OpenFlowError(what, message));
            return;
          }
          let taken: ReturnType<Take<T>>;
          try {
            taken = take(message, byteLength);
          } catch (error) {
            waiting.fail(error as Error);
            return;
          }
          timer.close();
          if (taken) {
            end();
            resolve(taken.done);
          } else timer = this.clock.after(timeoutMs, onTimeout);
        },
      };
      this.waiting.set(xid, waiting);
    });
  }

  private refused(reject: (error: Error) => void): boolean {
    if (this.closedBy) reject(this.closedBy);
    else if (this.waiting.size >= this.maxWaiting)
      reject(
        new SwitchError(
          'backpressure',
          `${this.waiting.size} requests wait for answers: wait for some of them`,
        ),
      );
    else return false;
    return true;
  }

  /** Listens for errors about a message that has no reply. Call the returned function when none can come any more. */
  watch(xid: number, what: string, onError: (error: OpenFlowError) => void): () => void {
    this.waiting.set(xid, {
      what,
      fail: () => this.waiting.delete(xid),
      deliver: (message) => {
        if (message.type === 'error') onError(new OpenFlowError(what, message));
      },
    });
    return () => this.waiting.delete(xid);
  }

  /** False when nobody waits for it. */
  deliver(xid: number, message: MessageBody, byteLength: number): boolean {
    const waiting = this.waiting.get(xid);
    waiting?.deliver(message, byteLength);
    return waiting !== undefined;
  }

  fail(xid: number, error: Error): void {
    this.waiting.get(xid)?.fail(error);
  }

  /** Fails everything that waits, and everything that comes. */
  close(error: Error): void {
    this.closedBy ??= error;
    for (const waiting of [...this.waiting.values()]) waiting.fail(error);
  }
}
