/**
 * One end of a test connection: sends its half of the pattern at a rate, checks every byte of the other half.
 */
import type { Socket } from 'node:net';
import { familyOf } from '../../../shared/firewall/terminal.js';
import { monotonicMs } from './clock.js';
import { matchesPattern, patternBytes, streamSeed } from './pattern.js';
import type { TcpMode, TcpReport } from './traffic-protocol.js';

/** While the other end is silent no more than this waits in the process. */
const MAX_WAITING_BYTES = 64 * 1024;

export interface StreamOptions {
  readonly id: number;
  readonly mode: TcpMode;
  readonly side: 'client' | 'server';
  /** One chunk every tick. */
  readonly tickMs: number;
  readonly chunkBytes: number;
}

export class TcpStream {
  readonly #socket: Socket;
  readonly #options: StreamOptions;
  readonly #family: 'ipv4' | 'ipv6';
  readonly #opened: Promise<void>;
  #ticks: NodeJS.Timeout | undefined;
  #clientPort = 0;
  #serverPort = 0;
  #openedAt: number | null = null;
  #received = 0;
  #sent = 0;
  #lastReceivedAt: number | null = null;
  #inOrder = true;
  #reset = false;
  #ended = false;
  #error: string | null = null;

  constructor(socket: Socket, peer: string, options: StreamOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#family = familyOf(peer.replace(/^::ffff:(?=\d+\.)/, ''));
    socket.setNoDelay(true);
    socket.on('data', (data: Buffer) => this.#take(data));
    socket.on('end', () => {
      this.#ended = true;
    });
    this.#opened = new Promise((resolve) => {
      if (options.side === 'server') {
        this.#open();
        resolve();
      } else {
        socket.once('connect', () => {
          this.#open();
          resolve();
        });
      }
      socket.on('error', (error: NodeJS.ErrnoException) => {
        this.#reset ||= error.code === 'ECONNRESET' || error.code === 'EPIPE';
        this.#error ??= error.code ?? error.message;
        resolve();
      });
      socket.on('close', () => {
        this.#ended = true;
        clearInterval(this.#ticks);
        resolve();
      });
    });
  }

  /** Settles when the connection is open, or can't be any more. */
  get opened(): Promise<void> {
    return this.#opened;
  }

  get id(): number {
    return this.#options.id;
  }

  /** Closes in order: the other end sees a FIN. */
  end(): void {
    clearInterval(this.#ticks);
    this.#socket.end();
  }

  /** Gives up an attempt to connect. */
  abandon(why: string): void {
    this.#error ??= why;
    this.#socket.destroy();
  }

  report(): TcpReport {
    const { id, mode } = this.#options;
    return {
      ...{ id, mode, family: this.#family, clientPort: this.#clientPort, serverPort: this.#serverPort },
      ...{ openedAt: this.#openedAt, received: this.#received, sent: this.#sent },
      ...{ lastReceivedAt: this.#lastReceivedAt, inOrder: this.#inOrder },
      ...{ reset: this.#reset, ended: this.#ended, error: this.#error },
    };
  }

  #open(): void {
    const { side, mode, tickMs } = this.#options;
    const { localPort = 0, remotePort = 0 } = this.#socket;
    [this.#clientPort, this.#serverPort] =
      side === 'client' ? [localPort, remotePort] : [remotePort, localPort];
    this.#openedAt = monotonicMs();
    if (side === 'client' && mode !== 'both') return;
    this.#send();
    this.#ticks = setInterval(() => this.#send(), tickMs);
  }

  #send(): void {
    if (!this.#socket.writable || this.#socket.writableLength > MAX_WAITING_BYTES) return;
    const { side, chunkBytes } = this.#options;
    this.#socket.write(patternBytes(streamSeed(this.#clientPort, side), this.#sent, chunkBytes));
    this.#sent += chunkBytes;
  }

  #take(data: Buffer): void {
    const { side, mode } = this.#options;
    const fromServer = side === 'client' || mode === 'echo';
    const seed = streamSeed(this.#clientPort, fromServer ? 'server' : 'client');
    this.#inOrder &&= matchesPattern(seed, this.#received, data);
    this.#received += data.length;
    this.#lastReceivedAt = monotonicMs();
    if (side === 'client' && mode === 'echo') this.#echo(data);
  }

  /** What the network does not take yet is not read either. */
  #echo(data: Buffer): void {
    if (!this.#socket.writable) return;
    this.#sent += data.length;
    if (this.#socket.write(data)) return;
    this.#socket.pause();
    this.#socket.once('drain', () => this.#socket.resume());
  }
}
