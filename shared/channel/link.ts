/**
 * One WebSocket between the two sides: messages instead of frames, a heartbeat, bounds on what comes and what waits to go, one end.
 * Whatever ends it, `closed` is called once, and from then on nothing more comes out of it.
 */
import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import type { Clock, Timer } from '../runtime/clock.js';
import type { Log } from '../runtime/log.js';
import { messageOf } from '../runtime/message-of.js';
import type { Codec } from './codec.js';
import { ChannelError, CLOSE_CODES } from './errors.js';
import type { Limits } from './limits.js';

/** RFC 6455, section 5.5: a control frame carries at most 125 bytes, two of them the code. */
const MAX_REASON_BYTES = 123;
/** What a peer may send after the end, in bytes: it has been told to stop, and what was under way may still come. */
const MAX_LAST_BYTES = 65_536;

/** Of a peer that answers no ping but lives all the same, as other bytes come. */
const MAX_UNANSWERED = 64;

type Heartbeat = { readonly type: 'ping' | 'pong'; readonly id: number };
type Common = Heartbeat | { readonly type: string };

export interface LinkOptions<Out extends Common, In extends Common> {
  readonly socket: WebSocket;
  /** The stream under the socket: its count of bytes is the sign of life while a large message is coming. */
  readonly stream: Socket;
  readonly codec: Codec<Out | Heartbeat, In | Heartbeat>;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits: Limits;
  /** Until `trust` is called the peer may send this many bytes in all. */
  readonly firstBytes?: number;
  /** A message, and its size on the wire in bytes. What it throws ends the link when it is a ChannelError. */
  message(message: In, bytes: number): void;
  closed(reason: ChannelError): void;
  /** The last thing to say before closing for this reason. */
  farewell(reason: ChannelError): Out | undefined;
}

export class Link<Out extends Common, In extends Common> {
  readonly #options: LinkOptions<Out, In>;
  readonly #finished: Promise<void>;
  #end: ChannelError | undefined;
  /** What the peer may still send: before it is trusted, and after the end. Undefined in between. */
  #allowance: number | undefined;
  /** Of the stream, up to the last whole message. */
  #takenBytes = 0;
  #heardBytes = 0;
  #missed = 0;
  #pings = 0;
  /** When pings were sent that have no answer yet, by their ids, the oldest first. */
  readonly #unanswered = new Map<number, number>();
  #sentAfter: number;
  #heartbeat: Timer | undefined;
  #onLife = new Set<() => void>();

  constructor(options: LinkOptions<Out, In>) {
    this.#options = options;
    const { socket, stream } = options;
    this.#allowance = options.firstBytes;
    this.#takenBytes = stream.bytesRead;
    this.#sentAfter = options.clock.monotonic();
    stream.on('data', ({ length }: Uint8Array) => this.#count(length));
    this.#finished = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    for (const event of ['ping', 'pong'] as const) {
      socket.on(event, () =>
        this.close(
          new ChannelError('bad-message', `a ${event} of the WebSocket came: the channel has its own`),
        ),
      );
    }
    socket.on('error', (cause: Error & { code?: string }) => {
      const tooLarge = cause.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
      this.#finish(
        new ChannelError(tooLarge ? 'too-large' : 'bad-message', `the connection failed: ${cause.message}`, {
          cause,
        }),
      );
    });
    socket.on('close', (code, reason) => {
      const why = reason.toString() || `close code ${code}`;
      this.#finish(new ChannelError('closed', `the peer closed the connection: ${why}`));
    });
    this.#scheduleHeartbeat();
  }

  get open(): boolean {
    return this.#end === undefined;
  }

  get remoteAddress(): string {
    return this.#options.stream.remoteAddress ?? 'unknown';
  }

  /**
   * Monotonic ms of this machine: what has just been received was sent later than this, wherever it was under way since. Messages come in
   * order, so whatever comes after the answer to a ping was sent after that ping.
   */
  get sentAfter(): number {
    return this.#sentAfter;
  }

  /** Settles when the socket itself is gone. */
  get finished(): Promise<void> {
    return this.#finished;
  }

  /** Bytes that are held for this peer: of a message that is not whole yet, and of messages that it has not taken. */
  get heldBytes(): number {
    const { socket, stream } = this.#options;
    return stream.bytesRead - this.#takenBytes + socket.bufferedAmount;
  }

  /** From now on messages may be as large as the channel carries. */
  trust(): void {
    this.#allowance = undefined;
  }

  /**
   * Sends a message and returns its size in bytes. Throws a ChannelError: `bad-message` or `too-large` (nothing was sent, the link lives on),
   * `closed`, or `slow-peer` (too much is waiting: the link is closed).
   */
  send(message: Out | Heartbeat): number {
    if (this.#end) throw new ChannelError('closed', this.#end.message, { cause: this.#end });
    const { codec, limits, socket } = this.#options;
    const frame = codec.encode(message);
    if (frame.length > limits.maxFrameBytes)
      throw new ChannelError(
        'too-large',
        `a ${message.type} of ${frame.length} bytes is more than the ${limits.maxFrameBytes} that the channel carries`,
      );
    if (socket.bufferedAmount + frame.length > limits.maxQueuedBytes) {
      const reason = new ChannelError(
        'slow-peer',
        `the peer takes messages too slowly: ${socket.bufferedAmount} bytes are waiting`,
      );
      this.close(reason);
      throw reason;
    }
    socket.send(frame, { binary: true }, (error) => {
      if (error) this.#options.log.debug({ error: messageOf(error) }, 'a message could not be sent');
    });
    return frame.length;
  }

  /** Asks for a sign of life; true as soon as one byte comes, false when nothing did within `ms` or the link ended. */
  probe(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (alive: boolean): void => {
        timer.close();
        this.#onLife.delete(onLife);
        resolve(alive);
      };
      const onLife = (): void => settle(this.open);
      const timer = this.#options.clock.after(ms, () => settle(false));
      this.#onLife.add(onLife);
      try {
        this.#ping();
      } catch {
        settle(false);
      }
    });
  }

  /** Ends the link: says why, closes politely, and destroys the socket if that takes too long. May be called twice. */
  close(reason: ChannelError): void {
    if (this.#end) return;
    const { socket, limits, clock, farewell } = this.#options;
    const polite = reason.code !== 'slow-peer' && reason.code !== 'heartbeat';
    if (polite) {
      try {
        const last = farewell(reason);
        if (last) this.send(last);
      } catch {
        // The link ends anyhow; the close reason says why too.
      }
    }
    if (polite) {
      socket.close(CLOSE_CODES[reason.code] ?? 1000, shortened(reason.message));
      const timer = clock.after(limits.closeMs, () => socket.terminate());
      socket.once('close', () => timer.close());
    } else {
      socket.terminate();
    }
    this.#finish(reason);
  }

  #finish(reason: ChannelError): void {
    if (this.#end) return;
    this.#end = reason;
    this.#allowance = MAX_LAST_BYTES;
    this.#heartbeat?.close();
    for (const onLife of [...this.#onLife]) onLife();
    this.#options.closed(reason);
  }

  #count(bytes: number): void {
    if (this.#allowance === undefined) return;
    this.#allowance -= bytes;
    if (this.#allowance >= 0) return;
    if (this.#end) {
      this.#options.socket.terminate();
      return;
    }
    const most = this.#options.firstBytes ?? 0;
    this.close(
      new ChannelError('too-large', `too large: more than ${most} bytes came before a hello was accepted`),
    );
  }

  #receive(data: RawData, isBinary: boolean): void {
    this.#takenBytes = this.#options.stream.bytesRead;
    if (this.#end) return;
    this.#life();
    try {
      if (!isBinary || !Buffer.isBuffer(data))
        throw new ChannelError('bad-message', 'a text came where a MessagePack message belongs');
      const message = this.#options.codec.decode(data);
      if (isHeartbeat(message)) {
        if (message.type === 'ping') this.send({ type: 'pong', id: message.id });
        else this.#answered(message.id);
        return;
      }
      this.#options.message(message, data.length);
    } catch (error) {
      if (error instanceof ChannelError) this.close(error);
      else {
        this.#options.log.error({ error: messageOf(error) }, 'a message could not be handled');
        this.close(new ChannelError('bad-message', 'the message could not be handled', { cause: error }));
      }
    }
  }

  #life(): void {
    this.#missed = 0;
    for (const onLife of [...this.#onLife]) onLife();
  }

  #ping(): void {
    this.#pings = (this.#pings + 1) % 2 ** 32;
    this.#unanswered.set(this.#pings, this.#options.clock.monotonic());
    const [oldest] = this.#unanswered.keys();
    if (this.#unanswered.size > MAX_UNANSWERED && oldest !== undefined) this.#unanswered.delete(oldest);
    this.send({ type: 'ping', id: this.#pings });
  }

  #answered(id: number): void {
    const at = this.#unanswered.get(id);
    if (at === undefined) return;
    this.#sentAfter = at;
    for (const [earlier] of this.#unanswered) {
      this.#unanswered.delete(earlier);
      if (earlier === id) return;
    }
  }

  /** Counts intervals, not time: a process that was stopped for a while must not take its peer for dead when it goes on. */
  #scheduleHeartbeat(): void {
    const { clock, limits, stream } = this.#options;
    this.#heartbeat = clock.after(limits.heartbeatMs, () => {
      this.#missed = stream.bytesRead > this.#heardBytes ? 0 : this.#missed + 1;
      this.#heardBytes = stream.bytesRead;
      if (this.#missed >= limits.heartbeatMisses) {
        const ms = this.#missed * limits.heartbeatMs;
        this.close(
          new ChannelError('heartbeat', `nothing came from the peer for ${ms} ms: it is taken for dead`),
        );
        return;
      }
      try {
        this.#ping();
        this.#scheduleHeartbeat();
      } catch {
        // `send` has closed the link and said why.
      }
    });
  }
}

function isHeartbeat(message: Common): message is Heartbeat {
  return message.type === 'ping' || message.type === 'pong';
}

/** Cut to what a close frame holds, between two characters. */
function shortened(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= MAX_REASON_BYTES) return text;
  return bytes
    .subarray(0, MAX_REASON_BYTES)
    .toString()
    .replace(/\uFFFD+$/, '');
}
