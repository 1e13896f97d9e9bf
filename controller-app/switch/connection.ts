/**
 * One socket that speaks OpenFlow 1.3: frames and values, requests and replies, signs of life, bounds. It knows nothing of what a switch is.
 *
 * Whoever makes it owns it. It ends when `close` is called, when the socket does, when the peer does not answer for too long, reads too
 * slowly or breaks the protocol; always with one call of `onClose`, and with everything that waits settled before.
 */
import type { Socket } from 'node:net';
import type { Timer } from '../../shared/runtime/clock.js';
import { Framer, type MessageBody, OpenFlowDecodeError } from '../openflow/index.js';
import { answerTo, framesOf, fromBytes, type Received, refusalOf, toBytes } from './codec.js';
import { SwitchError } from './errors.js';
import { farewell } from './farewell.js';
import type { Bounds } from './options.js';
import { only } from './replies.js';
import { type Patience, Requests, type Take } from './requests.js';
import { isForSwitchesOnly, isReply, refusedType } from './senders.js';
import { afterOthers, type Turns } from './turns.js';

export interface ConnectionHandler {
  /** A message that answers no request. */
  onMessage(received: Received): void;
  /** Once. Undefined when it was closed here without a reason. */
  onClose(reason: Error | undefined): void;
}

/** Messages that are written down in bulk before everybody else has a turn. */
const BULK_MESSAGES = 256;
const NOTHING = Buffer.alloc(0);

export class Connection {
  readonly requests: Requests;
  /** `address:port` of the peer; its address alone. */
  readonly peer: string;
  readonly address: string;
  private readonly framer = new Framer();
  /** What has been read and not been looked at. */
  private frames: Iterator<Uint8Array, void, undefined> | undefined;
  private readonly drained = new Set<() => void>();
  private echoTimer: Timer;
  /** The number of our echo request that is not answered yet. */
  private echo: number | undefined;
  /** Intervals since the peer last answered anything while an answer was due. */
  private unanswered = 0;
  private trusted = false;
  private isClosed = false;

  constructor(
    private readonly socket: Socket,
    private readonly bounds: Bounds,
    private turns: Turns,
    private readonly handler: ConnectionHandler,
  ) {
    this.address = socket.remoteAddress ?? '?';
    this.peer = `${this.address}:${socket.remotePort ?? '?'}`;
    this.requests = new Requests(bounds.clock, bounds.maxRequests);
    this.echoTimer = bounds.clock.after(bounds.echoIntervalMs, () => this.checkLife());
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('drain', () => this.wakeWriters());
    socket.on('error', (cause) =>
      this.close(new SwitchError('closed', `the switch's connection failed: ${cause.message}`, { cause })),
    );
    const onEnd = (): void =>
      this.close(new SwitchError('closed', `the switch closed its connection${this.unfinished()}`));
    socket.on('end', onEnd);
    socket.on('close', onEnd);
  }

  get closed(): boolean {
    return this.isClosed;
  }

  /** True when it has owed an answer for an interval: what it seems to be may be dead. */
  get doubtful(): boolean {
    return this.unanswered > 0;
  }

  /** It belongs to a switch that is known here: from now on it is read in turns of its own, and more may wait for it. */
  trust(turns: Turns): void {
    this.turns = turns;
    this.trusted = true;
  }

  /** Throws SwitchError `closed`; closes the connection when too much waits to go out. */
  send(message: MessageBody, xid = this.requests.nextXid()): void {
    if (this.isClosed) throw new SwitchError('closed', 'the switch is not connected any more');
    this.socket.write(toBytes(message, xid));
    const waiting = this.socket.writableLength;
    if (waiting > (this.trusted ? this.bounds.maxBufferedBytes : this.bounds.maxStrangerBytes))
      this.close(new SwitchError('backpressure', `the switch does not read: ${waiting} bytes wait for it`));
  }

  /** True when it reads more slowly than it is written to. */
  get busy(): boolean {
    return this.socket.writableLength > this.bounds.busyBytes;
  }

  /** Sends many messages in few writes, no faster than the switch reads, and lets others have their turns. */
  async sendAll(messages: Iterable<{ readonly message: MessageBody; readonly xid: number }>): Promise<void> {
    let written = 0;
    this.socket.cork();
    try {
      for (const { message, xid } of messages) {
        this.send(message, xid);
        if (++written % BULK_MESSAGES !== 0 && !this.busy) continue;
        this.socket.uncork();
        await (this.busy ? this.drain() : afterOthers());
        this.socket.cork();
      }
    } finally {
      this.socket.uncork();
    }
  }

  /** What `task` sends goes out in one write: each costs more than the bytes in it. */
  together(task: () => void): void {
    this.socket.cork();
    try {
      task();
    } finally {
      this.socket.uncork();
    }
  }

  private drain(): Promise<void> {
    if (this.isClosed || !this.socket.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => this.drained.add(resolve));
  }

  private wakeWriters(): void {
    for (const wake of this.drained) wake();
    this.drained.clear();
  }

  /** Sends, and waits until `take` has had enough of the replies. */
  request<T>(
    message: MessageBody,
    take: Take<T>,
    patience: Patience = { timeoutMs: this.bounds.requestTimeoutMs },
  ): Promise<T> {
    const xid = this.requests.nextXid();
    const reply = this.requests.wait(xid, message.type, patience, take);
    try {
      this.send(message, xid);
    } catch (error) {
      // A value that can't be encoded: nothing went out, so nothing will come.
      this.requests.fail(xid, error as Error);
    }
    return reply;
  }

  /** Does the peer answer an echo in this time? */
  async lives(withinMs: number): Promise<boolean> {
    const echo = this.request({ type: 'echo_request', data: NOTHING }, only('echo_reply'), {
      timeoutMs: withinMs,
    });
    return echo.then(
      () => true,
      () => false,
    );
  }

  private receive(chunk: Buffer): void {
    this.frames = framesOf(this.framer, chunk);
    this.read();
  }

  /** Handles what has been read, as far as the turn goes; no more is read before that is done. */
  private read(): void {
    while (!this.isClosed) {
      if (!this.turns.open) {
        this.socket.pause();
        this.turns.wait(() => this.read());
        return;
      }
      const frame = this.nextFrame();
      if (!frame) break;
      this.turns.spend(frame.length);
      this.handle(frame);
    }
    if (!this.isClosed && this.socket.isPaused()) this.socket.resume();
  }

  private nextFrame(): Uint8Array | undefined {
    try {
      const next = this.frames?.next();
      return next && !next.done ? next.value : undefined;
    } catch (cause) {
      this.refuse(cause);
      return undefined;
    }
  }

  private handle(frame: Uint8Array): void {
    let received: Received;
    try {
      received = fromBytes(frame);
    } catch (cause) {
      this.refuse(cause);
      return;
    }
    this.dispatch(received);
  }

  private refuse(cause: unknown): void {
    if (!(cause instanceof OpenFlowDecodeError)) throw cause;
    const answer = answerTo(cause);
    this.close(
      new SwitchError('protocol', `the switch broke the protocol: ${cause.message}`, { cause, answer }),
    );
  }

  private dispatch(received: Received): void {
    const { message, xid, frame } = received;
    if (message.type === 'echo_request') this.send({ type: 'echo_reply', data: message.data }, xid);
    else if (message.type === 'echo_reply' && xid === this.echo) this.heard();
    else if (this.requests.deliver(received)) this.unanswered = 0;
    else if (isReply(message)) this.passOver(message, xid);
    else if (message.type === 'experimenter') {
      // Somebody's extension: the specification has an answer for it, and nothing is broken.
      const answer = refusalOf(frame, 'OFPBRC_BAD_EXPERIMENTER');
      this.send(answer.message, answer.xid);
    } else if (isForSwitchesOnly(message)) {
      const what = message.type === 'unknown' ? `message type ${message.messageType}` : message.type;
      this.close(
        new SwitchError('protocol', `the switch sent ${what}, which no switch may send`, {
          answer: refusalOf(frame, refusedType(frame)),
        }),
      );
    } else this.handler.onMessage(received);
  }

  private heard(): void {
    this.echo = undefined;
    this.unanswered = 0;
  }

  /** A reply that nobody waits for (any more). */
  private passOver(message: MessageBody, xid: number): void {
    if (!this.requests.issued(xid))
      this.close(
        new SwitchError('protocol', `the switch sent ${message.type} ${xid}, which nobody asked for`),
      );
  }

  /**
   * Counts intervals and not milliseconds: when this process itself was stopped for a while, the switch still has the whole time to show that it
   * lives. Only an answer counts: whoever sends without reading is no better than dead.
   */
  private checkLife(): void {
    const { echoIntervalMs, deadAfterMs, clock } = this.bounds;
    if (this.echo !== undefined) this.unanswered++;
    if (this.unanswered * echoIntervalMs >= deadAfterMs) {
      const what = `the switch answered nothing for ${deadAfterMs} ms`;
      this.close(new SwitchError('dead', `${what}${this.unfinished()}`));
      return;
    }
    this.echoTimer = clock.after(echoIntervalMs, () => this.checkLife());
    if (this.echo !== undefined) return;
    this.echo = this.requests.nextXid();
    this.send({ type: 'echo_request', data: NOTHING }, this.echo);
  }

  private unfinished(): string {
    const { pending } = this.framer;
    return pending > 0 ? `, after ${pending} bytes of an unfinished message` : '';
  }

  /** May be called again: the first reason counts. A SwitchError's `answer` is the last that the peer hears. */
  close(reason?: Error): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.echoTimer.close();
    const answer = reason instanceof SwitchError ? reason.answer : undefined;
    if (answer && this.socket.writable) {
      const { lingerMs, clock } = this.bounds;
      farewell(this.socket, toBytes(answer.message, answer.xid), lingerMs, clock);
    } else this.socket.destroy();
    this.requests.close(reason ?? new SwitchError('closed', 'the switch was disconnected'));
    this.wakeWriters();
    this.handler.onClose(reason);
  }
}
