/**
 * Where peers of the channel arrive: makes WebSockets of connections, and bounds what peers are and hold that nobody knows yet. A connection is a
 * *stranger* from its first byte, TLS handshake included, until its hello is accepted, and again when it is told to go. There are only so many strangers:
 * one more, and the one that has waited longest goes. So whoever keeps connections open without a word keeps nobody out.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Clock, Timer } from '../runtime/clock.js';
import { isLoopback } from '../runtime/loopback.js';
import { messageOf } from '../runtime/message-of.js';
import type { QuietLog } from '../runtime/quiet-log.js';
import { Door, describeHolder, type Holder, type Identity } from '../tls/index.js';
import { ChannelError } from './errors.js';
import type { Limits } from './limits.js';
import { loopbackAddressOf, tlsNeeded } from './loopback.js';
import { webSocketOptions } from './websocket.js';

/** Of a request that opens a WebSocket there are some 200. */
const MAX_REQUEST_BYTES = 4096;

/** Who holds an agent's certificate. */
export type Agent = Extract<Holder, { kind: 'agent' }>;

/** One connection, as long as it is open. */
export class Visitor {
  /** What it speaks on: the connection, or TLS inside it. */
  stream: Socket;
  readonly from: string;
  /** With TLS: for which domains it has a certificate. */
  agent: Agent | undefined;
  /** How it is told to go, once there is a WebSocket to say it on. */
  onSendAway: ((reason: ChannelError) => void) | undefined;
  /** Its hello is being looked at: nobody pushes it out meanwhile. */
  considered = false;
  timer: Timer | undefined;

  constructor(readonly connection: Socket) {
    this.stream = connection;
    this.from = connection.remoteAddress ?? '';
  }
}

export interface ReceptionOptions {
  readonly log: QuietLog;
  readonly clock: Clock;
  readonly limits: Limits;
  /** With it: TLS, and any address. */
  readonly identity?: Identity | undefined;
  /** A WebSocket is open; its hello is due. */
  greet(socket: WebSocket, visitor: Visitor): void;
}

export class Reception {
  readonly #options: ReceptionOptions;
  readonly #door: Door;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  /** The one that has waited longest first. */
  readonly #strangers = new Set<Visitor>();
  /** By their connections, as long as those are open. */
  readonly #visitors = new Map<Socket, Visitor>();
  /** By what they speak on. */
  readonly #speakers = new WeakMap<Duplex, Visitor>();
  #closed = false;

  constructor(options: ReceptionOptions) {
    this.#options = options;
    this.#webSockets = new WebSocketServer({ ...webSocketOptions(options.limits), noServer: true });
    // It does not listen itself: connections are handed to it.
    this.#http = createServer({ maxHeaderSize: MAX_REQUEST_BYTES }, (request, response) => {
      this.#complain(this.#speakers.get(request.socket), 'it does not ask for a WebSocket');
      response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end();
      request.socket.destroySoon();
    });
    this.#http.on('clientError', (error: NodeJS.ErrnoException, stream) =>
      this.#turnAway(stream, error.code === 'ECONNRESET' ? undefined : 'it does not speak HTTP'),
    );
    this.#http.on('upgrade', (request, stream, head) => this.#upgrade(request, stream, head));
    this.#webSockets.on('wsClientError', (error, stream) => this.#turnAway(stream, error.message));
    this.#door = new Door({
      identity: options.identity,
      arrived: (connection) => this.#arrive(connection),
      entered: (connection, stream, holder) => this.#enter(connection, stream, holder),
      refused: (connection, problem, stream) => this.#refuse(connection, problem, stream),
    });
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
    const host = this.#options.identity ? at.host : await loopbackAddressOf(at.host);
    try {
      const onError = (error: Error): void => this.#say('server', { error: error.message }, 'channel server');
      return { host, port: await this.#door.listen(host, at.port, onError) };
    } catch (cause) {
      throw new ChannelError(
        'listen',
        `the channel cannot listen on ${host} port ${at.port}: ${messageOf(cause)}. Is another controller running?`,
        { cause },
      );
    }
  }

  /** Those who come from now on are shown this certificate. */
  renew(identity: Identity): void {
    this.#door.renew(identity);
  }

  /** The visitor's hello is accepted: it is no stranger any more. */
  accept(visitor: Visitor): void {
    visitor.timer?.close();
    this.#strangers.delete(visitor);
  }

  /** It has been told to go, and counts as a stranger until it has gone. */
  dismiss(visitor: Visitor): void {
    visitor.considered = false;
    if (this.#visitors.has(visitor.connection)) this.#admit(visitor);
  }

  /** Takes no more connections; settles when all are gone. Those with a WebSocket are closed by whoever greeted them. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const visitor of this.#visitors.values()) if (!visitor.onSendAway) visitor.connection.destroy();
    await this.#door.close();
  }

  #arrive(connection: Socket): boolean {
    const address = connection.remoteAddress ?? '';
    if (this.#closed) return false;
    if (!this.#options.identity && !isLoopback(address)) {
      this.#say(`address ${address}`, { from: address }, tlsNeeded(address).message);
      return false;
    }
    const visitor = new Visitor(connection);
    this.#visitors.set(connection, visitor);
    connection.once('close', () => {
      visitor.timer?.close();
      this.#strangers.delete(visitor);
      this.#visitors.delete(connection);
    });
    const { clock, limits } = this.#options;
    visitor.timer = clock.after(limits.helloMs, () =>
      this.#sendAway(visitor, `no hello within ${limits.helloMs} ms`),
    );
    this.#admit(visitor);
    return true;
  }

  #enter(connection: Socket, stream: Socket, holder: Holder | undefined): void {
    const visitor = this.#visitors.get(connection);
    if (!visitor) {
      stream.destroy();
      return;
    }
    if (holder && holder.kind !== 'agent') {
      this.#refuse(
        connection,
        `its certificate is ${describeHolder(holder)}: agents need one of theirs`,
        stream,
      );
      return;
    }
    visitor.stream = stream;
    visitor.agent = holder;
    this.#speakers.set(stream, visitor);
    this.#http.emit('connection', stream);
  }

  /** Told in the answer to the request that it is about to make, if TLS has come so far that it can read it. */
  #refuse(connection: Socket, problem: string, stream: Socket | undefined): void {
    this.#complain(this.#visitors.get(connection), problem);
    if (!stream) {
      connection.destroy();
      return;
    }
    let heard = 0;
    stream.on('data', ({ length }: Uint8Array) => {
      heard += length;
      if (heard > MAX_REQUEST_BYTES) connection.destroy();
    });
    stream.end(
      `HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(problem)}\r\n\r\n${problem}`,
    );
  }

  #admit(visitor: Visitor): void {
    this.#strangers.add(visitor);
    if (this.#strangers.size <= this.#options.limits.maxStrangers) return;
    for (const longest of this.#strangers) {
      if (longest.considered) continue;
      this.#sendAway(longest, 'too many others have come: say hello at once');
      longest.connection.destroy();
      this.#strangers.delete(longest);
      return;
    }
  }

  #sendAway(visitor: Visitor, why: string): void {
    if (visitor.onSendAway) visitor.onSendAway(new ChannelError('refused', why));
    else {
      this.#complain(visitor, why);
      visitor.connection.destroy();
    }
  }

  /** Before there is a WebSocket to say it on. */
  #turnAway(stream: Duplex, why: string | undefined): void {
    if (why !== undefined) this.#complain(this.#speakers.get(stream), why);
    stream.destroy();
  }

  #upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    const visitor = this.#speakers.get(stream);
    if (!visitor) {
      stream.destroy();
      return;
    }
    // Browsers send an origin: no page that a user visits may speak to the channel.
    if (request.headers.origin !== undefined) {
      this.#complain(visitor, `a web page of ${request.headers.origin.slice(0, 100)} sends it`);
      visitor.stream.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n');
      visitor.stream.destroySoon();
      return;
    }
    this.#webSockets.handleUpgrade(request, stream, head, (socket) => this.#options.greet(socket, visitor));
  }

  #complain(visitor: Visitor | undefined, problem: string): void {
    const from = visitor?.from ?? '';
    this.#say(`visitor ${from}`, { from, problem }, 'a peer was turned away');
  }

  #say(kind: string, fields: Readonly<Record<string, unknown>>, text: string): void {
    this.#options.log.say(kind, 'warn', fields, text);
  }
}
