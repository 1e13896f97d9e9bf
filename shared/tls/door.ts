/**
 * Listens, on plain TCP or with TLS inside it, and hands on what comes: every connection from its first moment, so that whoever owns the door can bound
 * those that never finish a handshake, and then the stream to speak on, with who the peer is by its certificate.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { type TLSSocket, Server as TlsServer } from 'node:tls';
import { messageOf } from '../runtime/message-of.js';
import { certificateProblem, handshakeProblem } from './explain.js';
import { type Holder, holderOf } from './holder.js';
import type { Identity } from './identity.js';

export interface DoorOptions {
  /** With it: TLS 1.3, and every peer must show a certificate of the CA. Without: plain TCP. */
  readonly identity?: Identity | undefined;
  /** Somebody is there. False: hung up on at once. With TLS, bounding the handshake's time is up to who says true. */
  arrived(connection: Socket): boolean;
  /** It may speak. Without TLS the stream is the connection itself and there is no holder. Destroying either ends both. */
  entered(connection: Socket, stream: Socket, holder: Holder | undefined): void;
  /** It may not, and `problem` says why. With a stream it can still be told; who gets it ends it. */
  refused(connection: Socket, problem: string, stream: TLSSocket | undefined): void;
}

export class Door {
  readonly #options: DoorOptions;
  readonly #tcp: Server;
  readonly #tls: TlsServer | undefined;
  /** In their handshake, by both their ends: what TLS makes of a connection does not say which one it was. */
  readonly #waiting = new Map<string, Socket>();

  constructor(options: DoorOptions) {
    this.#options = options;
    const { identity } = options;
    this.#tls = identity && new TlsServer(identity.serverOptions());
    this.#tls?.on('secureConnection', (stream) => this.#secured(stream));
    this.#tls?.on('tlsClientError', (error, stream) => this.#failed(error, stream));
    this.#tcp = createServer({ noDelay: true }, (connection) => this.#arrive(connection));
  }

  get listening(): boolean {
    return this.#tcp.listening;
  }

  /** Fails with the error of the socket: the address is in use, or not this machine's. */
  async listen(host: string, port: number, onError: (error: Error) => void): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', reject);
      this.#tcp.listen(port, host, () => {
        this.#tcp.off('error', reject);
        resolve();
      });
    });
    this.#tcp.on('error', onError);
    const address = this.#tcp.address();
    return typeof address === 'object' && address ? address.port : port;
  }

  /** From now on newcomers meet this one; who is there already stays. Nothing, when there was none from the beginning. */
  renew(identity: Identity): void {
    this.#tls?.setSecureContext(identity.serverOptions());
  }

  /** Takes no more; settles when all that came are gone, which is for their owner to see to. May be called twice. */
  async close(): Promise<void> {
    if (!this.#tcp.listening) return;
    await new Promise<void>((resolve) => this.#tcp.close(() => resolve()));
  }

  #arrive(connection: Socket): void {
    connection.on('error', () => {});
    if (!this.#options.arrived(connection)) {
      connection.destroy();
      return;
    }
    if (connection.destroyed) return;
    if (!this.#tls) {
      this.#options.entered(connection, connection, undefined);
      return;
    }
    const place = placeOf(connection);
    this.#waiting.set(place, connection);
    connection.once('close', () => {
      if (this.#waiting.get(place) === connection) this.#waiting.delete(place);
    });
    this.#tls.emit('connection', connection);
  }

  #take(stream: TLSSocket): Socket | undefined {
    const place = placeOf(stream);
    const connection = this.#waiting.get(place);
    this.#waiting.delete(place);
    return connection;
  }

  #secured(stream: TLSSocket): void {
    const connection = this.#take(stream);
    stream.on('error', () => {});
    if (!connection) {
      stream.destroy();
      return;
    }
    const holder = this.#holderOf(stream);
    if (typeof holder === 'string') this.#options.refused(connection, holder, stream);
    else this.#options.entered(connection, stream, holder);
  }

  /** Or why there is none that counts. */
  #holderOf(stream: TLSSocket): Holder | string {
    const certificate = stream.getPeerX509Certificate();
    if (!certificate)
      return 'it shows no certificate: issue one with "paguro pki issue", and configure it there';
    // Node has the code here, whatever its types say.
    if (!stream.authorized) return certificateProblem(String(stream.authorizationError));
    try {
      return holderOf(certificate);
    } catch (error) {
      return messageOf(error);
    }
  }

  #failed(error: Error, stream: TLSSocket): void {
    const connection = this.#take(stream);
    stream.destroy();
    if (connection)
      this.#options.refused(connection, handshakeProblem(error) ?? error.message.slice(0, 300), undefined);
  }
}

/** No two open connections to one listening port share it. */
function placeOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}
