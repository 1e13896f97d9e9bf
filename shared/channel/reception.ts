/**
 * The door of the channel: takes connections on loopback, makes WebSockets of them, and bounds what peers are and hold that nobody knows yet. A connection
 * is a *stranger* from its first byte until its hello is accepted, and again when it is told to go. There are only so many strangers: one more, and the one
 * that has waited longest goes. So whoever keeps connections open without a word keeps nobody out.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Clock, Timer } from '../runtime/clock.js';
import { isLoopback } from '../runtime/loopback.js';
import type { QuietLog } from '../runtime/quiet-log.js';
import { ChannelError } from './errors.js';
import type { Limits } from './limits.js';
import { loopbackAddressOf, tlsNeeded } from './loopback.js';
import { webSocketOptions } from './websocket.js';

/** Of a request that opens a WebSocket there are some 200. */
const MAX_REQUEST_BYTES = 4096;

/** One connection, as long as it is open. */
export class Visitor {
  readonly stream: Socket;
  /** How it is told to go, once there is a WebSocket to say it on. */
  onSendAway: ((reason: ChannelError) => void) | undefined;
  /** Its hello is being looked at: nobody pushes it out meanwhile. */
  considered = false;
  timer: Timer | undefined;

  constructor(stream: Socket) {
    this.stream = stream;
  }
}

export interface ReceptionOptions {
  readonly log: QuietLog;
  readonly clock: Clock;
  readonly limits: Limits;
  /** A WebSocket is open; its hello is due. */
  greet(socket: WebSocket, visitor: Visitor): void;
}

export class Reception {
  readonly #options: ReceptionOptions;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  /** The one that has waited longest first. */
  readonly #strangers = new Set<Visitor>();
  readonly #visitors = new Map<Socket, Visitor>();
  #closed = false;

  constructor(options: ReceptionOptions) {
    this.#options = options;
    this.#webSockets = new WebSocketServer({ ...webSocketOptions(options.limits), noServer: true });
    this.#http = createServer({ maxHeaderSize: MAX_REQUEST_BYTES }, (request, response) => {
      this.#complain(request.socket, 'it does not ask for a WebSocket');
      response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end();
      request.socket.destroySoon();
    });
    this.#http.on('connection', (stream: Socket) => this.#arrive(stream));
    this.#http.on('clientError', (error: NodeJS.ErrnoException, stream) =>
      this.#turnAway(stream, error.code === 'ECONNRESET' ? undefined : 'it does not speak HTTP'),
    );
    this.#http.on('upgrade', (request, stream, head) => this.#upgrade(request, stream, head));
    this.#webSockets.on('wsClientError', (error, stream) => this.#turnAway(stream, error.message));
  }

  /** How many strangers there are. */
  get strangers(): number {
    return this.#strangers.size;
  }

  /** Fails with a ChannelError `tls-needed` or `listen`. */
  async listen(at: {
    readonly host: string;
    readonly port: number;
  }): Promise<{ host: string; port: number }> {
    const host = await loopbackAddressOf(at.host);
    await new Promise<void>((resolve, reject) => {
      this.#http.once('listening', resolve);
      this.#http.once('error', (cause: Error) =>
        reject(
          new ChannelError(
            'listen',
            `the channel cannot listen on ${host} port ${at.port}: ${cause.message}. Is another controller running?`,
            { cause },
          ),
        ),
      );
      this.#http.listen(at.port, host);
    });
    this.#http.on('error', (error) => this.#say('server', { error: error.message }, 'channel server'));
    const address = this.#http.address();
    return { host, port: typeof address === 'object' && address ? address.port : at.port };
  }

  /** The visitor's hello is accepted: it is no stranger any more. */
  accept(visitor: Visitor): void {
    visitor.timer?.close();
    this.#strangers.delete(visitor);
  }

  /** It has been told to go, and counts as a stranger until it has gone. */
  dismiss(visitor: Visitor): void {
    visitor.considered = false;
    if (!visitor.stream.destroyed) this.#admit(visitor);
  }

  /** Takes no more connections; settles when all are gone. Those with a WebSocket are closed by whoever greeted them. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const visitor of this.#visitors.values()) if (!visitor.onSendAway) visitor.stream.destroy();
    if (!this.#http.listening) return;
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }

  #arrive(stream: Socket): void {
    const address = stream.remoteAddress ?? '';
    if (this.#closed || !isLoopback(address)) {
      if (!this.#closed) this.#say(`address ${address}`, { from: address }, tlsNeeded(address).message);
      stream.destroy();
      return;
    }
    const visitor = new Visitor(stream);
    this.#visitors.set(stream, visitor);
    stream.once('close', () => {
      visitor.timer?.close();
      this.#strangers.delete(visitor);
      this.#visitors.delete(stream);
    });
    const { clock, limits } = this.#options;
    visitor.timer = clock.after(limits.helloMs, () =>
      this.#sendAway(visitor, `no hello within ${limits.helloMs} ms`),
    );
    this.#admit(visitor);
  }

  #admit(visitor: Visitor): void {
    this.#strangers.add(visitor);
    if (this.#strangers.size <= this.#options.limits.maxStrangers) return;
    for (const longest of this.#strangers) {
      if (longest.considered) continue;
      this.#sendAway(longest, 'too many others have come: say hello at once');
      longest.stream.destroy();
      this.#strangers.delete(longest);
      return;
    }
  }

  #sendAway(visitor: Visitor, why: string): void {
    if (visitor.onSendAway) visitor.onSendAway(new ChannelError('refused', why));
    else this.#turnAway(visitor.stream, why);
  }

  /** Before there is a WebSocket to say it on. */
  #turnAway(stream: Duplex, why: string | undefined): void {
    if (why !== undefined && stream instanceof Socket) this.#complain(stream, why);
    stream.destroy();
  }

  #upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    const visitor = stream instanceof Socket ? this.#visitors.get(stream) : undefined;
    if (!visitor) {
      stream.destroy();
      return;
    }
    // Browsers send an origin: no page that a user visits may speak to the channel.
    if (request.headers.origin !== undefined) {
      this.#complain(visitor.stream, `a web page of ${request.headers.origin.slice(0, 100)} sends it`);
      visitor.stream.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n');
      visitor.stream.destroySoon();
      return;
    }
    this.#webSockets.handleUpgrade(request, stream, head, (socket) => this.#options.greet(socket, visitor));
  }

  #complain(stream: Socket, problem: string): void {
    const from = stream.remoteAddress ?? '';
    this.#say(`visitor ${from}`, { from, problem }, 'a peer was turned away');
  }

  #say(kind: string, fields: Readonly<Record<string, unknown>>, text: string): void {
    this.#options.log.say(kind, 'warn', fields, text);
  }
}
