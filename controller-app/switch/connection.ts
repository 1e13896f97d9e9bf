/**
 * One socket that speaks OpenFlow 1.3: frames and values, requests and replies, signs of life, bounds. It knows nothing of what a switch is.
 *
 * Whoever makes it owns it. It ends when `close` is called, when the socket does, when the peer is silent for too long, reads too slowly
 * or breaks the protocol; always with one call of `onClose`, and with everything that waits settled before.
 */
import type { Socket } from 'node:net';
import type { Timer } from '../../shared/runtime/clock.js';
import {
  decode,
  encode,
  Framer,
  type MessageBody,
  OpenFlowDecodeError,
  refuseFatal,
  VERSION,
} from '../openflow/index.js';
import { SwitchError } from './errors.js';
import type { Bounds } from './options.js';
import { Requests, type Take } from './requests.js';

export interface ConnectionHandler {
  /** A message that answers no request. `version` is the one in its header. */
  onMessage(message: MessageBody, xid: number, version: number): void;
  /** Once. Undefined when it was closed here without a reason. */
  onClose(reason: Error | undefined): void;
}

/** Bytes waiting to go out from which on bulk writers wait. */
const DRAIN_ABOVE_BYTES = 2 ** 20;

export class Connection {
  readonly requests: Requests;
  private readonly framer = new Framer();
  private readonly drained = new Set<() => void>();
  private echoTimer: Timer;
  /** Echo intervals in a row without a byte from the peer. */
  private silentIntervals = 0;
  private isClosed = false;

  constructor(
    private readonly socket: Socket,
    private readonly bounds: Bounds,
    private readonly handler: ConnectionHandler,
  ) {
    this.requests = new Requests(bounds.clock, bounds.maxRequests);
    this.echoTimer = bounds.clock.after(bounds.echoIntervalMs, () => this.checkLife());
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('drain', () => this.wakeWriters());
    socket.on('error', (cause) =>
      this.close(new SwitchError('closed', `the switch's connection failed: ${cause.message}`, { cause })),
    );
    socket.on('close', () => this.close(new SwitchError('closed', 'the switch closed its connection')));
  }

  get closed(): boolean {
    return this.isClosed;
  }

  /** `address:port` of the peer. */
  get peer(): string {
    return `${this.socket.remoteAddress ?? '?'}:${this.socket.remotePort ?? '?'}`;
  }

  /** Throws SwitchError `closed`; closes the connection when too much waits to go out. */
  send(message: MessageBody, xid = this.requests.nextXid()): void {
    if (this.isClosed) throw new SwitchError('closed', 'the switch is not connected any more');
    refuseFatal(message);
    this.socket.write(encode({ ...message, xid }));
    if (this.socket.writableLength > this.bounds.maxBufferedBytes)
      this.close(
        new SwitchError(
          'backpressure',
          `the switch does not read: ${this.socket.writableLength} bytes wait for it`,
        ),
      );
  }

  /** Sends many messages in few writes, and no faster than the switch reads. */
  async sendAll(messages: Iterable<{ readonly message: MessageBody; readonly xid: number }>): Promise<void> {
    this.socket.cork();
    try {
      for (const { message, xid } of messages) {
        this.send(message, xid);
        if (this.socket.writableLength < DRAIN_ABOVE_BYTES) continue;
        this.socket.uncork();
        if (this.socket.writableLength >= DRAIN_ABOVE_BYTES) await this.drain();
        this.socket.cork();
      }
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
  request<T>(message: MessageBody, take: Take<T>, timeoutMs = this.bounds.requestTimeoutMs): Promise<T> {
    const xid = this.requests.nextXid();
    const reply = this.requests.wait(xid, message.type, timeoutMs, take);
    try {
      this.send(message, xid);
    } catch (error) {
      // A value that can't be encoded: nothing went out, so nothing will come.
      this.requests.fail(xid, error as Error);
    }
    return reply;
  }

  private receive(chunk: Buffer): void {
    this.silentIntervals = 0;
    try {
      for (const bytes of this.framer.push(chunk)) {
        if (this.isClosed) return;
        const message = decode(bytes);
        this.dispatch(message, message.xid, message.version ?? VERSION, bytes.length);
      }
    } catch (cause) {
      if (!(cause instanceof OpenFlowDecodeError)) throw cause;
      this.close(new SwitchError('protocol', `the switch broke the protocol: ${cause.message}`, { cause }));
    }
  }

  private dispatch(message: MessageBody, xid: number, version: number, byteLength: number): void {
    if (message.type === 'echo_request') this.send({ type: 'echo_reply', data: message.data }, xid);
    else if (this.requests.deliver(xid, message, byteLength)) return;
    else if (message.type !== 'echo_reply') this.handler.onMessage(message, xid, version);
  }

  /**
   * Counts intervals and not milliseconds: when this process itself was stopped for a while, the switch still has
   * the whole time to show that it lives.
   */
  private checkLife(): void {
    const { echoIntervalMs, deadAfterMs, clock } = this.bounds;
    if (this.silentIntervals * echoIntervalMs >= deadAfterMs) {
      this.close(new SwitchError('dead', `nothing heard of the switch for ${deadAfterMs} ms`));
      return;
    }
    this.silentIntervals++;
    this.echoTimer = clock.after(echoIntervalMs, () => this.checkLife());
    this.send({ type: 'echo_request', data: Buffer.alloc(0) });
  }

  /** May be called again: the first reason counts. */
  close(reason?: Error): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.echoTimer.close();
    this.socket.destroy();
    this.requests.close(reason ?? new SwitchError('closed', 'the switch was disconnected'));
    this.wakeWriters();
    this.handler.onClose(reason);
  }

  /** Sends a last message and closes when it is out. */
  closeAfter(message: MessageBody, reason: Error): void {
    if (this.isClosed) return;
    this.socket.end(encode({ ...message, xid: this.requests.nextXid() }), () => this.close(reason));
  }
}
