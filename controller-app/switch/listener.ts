/**
 * Where switches connect to. Each connection becomes a Switch when its handshake is complete. Until then it is a stranger: few of them at once, with
 * little time, memory and attention.
 */
import { EventEmitter } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Dpid } from '../../shared/domain/domain.js';
import { Admission } from './admission.js';
import { receive } from './arrival.js';
import type { Connection } from './connection.js';
import { SwitchError } from './errors.js';
import { Lobby } from './lobby.js';
import { type Bounds, bounds, type SwitchOptions } from './options.js';
import type { Switch } from './switch.js';
import { Turns } from './turns.js';

export interface ListenerOptions extends SwitchOptions {
  /** Default 127.0.0.1: OpenFlow without TLS must not leave the machine unless someone says so. */
  readonly host?: string;
  /** Default 6653; 0 for any. */
  readonly port?: number;
  /** Connections at once that are no switches yet. Over this, the longest-waiting one of the address with most is closed. */
  readonly maxStrangers?: number;
  /** Which switches there are; any other is refused. Default: all. Each may have `maxBufferedBytes` waiting, so they should be few. */
  readonly accepts?: (dpid: Dpid) => boolean;
}

export interface ListenerEvents {
  /** A switch is ready. Messages that came meanwhile follow when all listeners have returned. */
  switch: [sw: Switch];
  /** A connection that never became a switch, and why. May go unheard. */
  refused: [error: Error, peer: string];
}

const DEFAULT_PORT = 6653;
const DEFAULT_MAX_STRANGERS = 256;

export class OpenFlowListener extends EventEmitter<ListenerEvents> {
  private readonly server: Server;
  private readonly bounds: Bounds;
  /** Until they are closed indeed: some stay for a moment when their connection has ended. */
  private readonly sockets = new Set<Socket>();
  private readonly connections = new Set<Connection>();
  private readonly strangers: Lobby<Connection>;
  private readonly strangersTurns = new Turns();
  private readonly admission: Admission;
  private readonly byDpid = new Map<Dpid, Switch>();
  private closing: Promise<void> | undefined;

  constructor(private readonly options: ListenerOptions = {}) {
    super();
    const { host: _host, port: _port, maxStrangers, accepts, ...switchOptions } = options;
    this.bounds = bounds(switchOptions);
    this.strangers = new Lobby(maxStrangers ?? DEFAULT_MAX_STRANGERS);
    this.admission = new Admission({ accepts: accepts ?? (() => true), probeMs: this.bounds.probeMs });
    this.server = createServer((socket) => this.accept(socket));
  }

  /** Switches that are ready. */
  get switches(): ReadonlyMap<Dpid, Switch> {
    return this.byDpid;
  }

  /** Fails when the address is in use. */
  listen(): Promise<{ readonly host: string; readonly port: number }> {
    const { host = '127.0.0.1', port = DEFAULT_PORT } = this.options;
    return new Promise((resolve, reject) => {
      const onError = (cause: Error): void =>
        reject(
          new SwitchError('closed', `can't listen for switches on ${host}:${port}: ${cause.message}`, {
            cause,
          }),
        );
      this.server.once('error', onError);
      this.server.listen({ host, port }, () => {
        this.server.off('error', onError);
        this.server.on('error', (error) => this.emit('refused', error, '?'));
        const address = this.server.address();
        resolve({ host, port: typeof address === 'object' && address ? address.port : port });
      });
    });
  }

  /** Closes every switch too. May be called twice. */
  close(): Promise<void> {
    this.closing ??= new Promise((resolve) => {
      this.server.close(() => resolve());
      for (const connection of [...this.connections])
        connection.close(new SwitchError('closed', 'the controller closes'));
      for (const socket of this.sockets) socket.destroy();
    });
    return this.closing;
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    const connection = receive(socket, this.bounds, this.strangersTurns, {
      admit: async (newcomer, features) => {
        await this.admission.admit(newcomer, features);
        newcomer.trust(new Turns());
      },
      ready: (newcomer, sw) => {
        this.strangers.leave(newcomer);
        this.admission.settled(sw.dpid, newcomer);
        this.byDpid.set(sw.dpid, sw);
        this.emit('switch', sw);
      },
      gone: (former, sw, reason) => {
        this.connections.delete(former);
        this.strangers.leave(former);
        this.admission.forget(former);
        if (!sw) {
          this.emit('refused', reason ?? new SwitchError('closed', 'closed'), former.peer);
          return;
        }
        if (this.byDpid.get(sw.dpid) === sw) this.byDpid.delete(sw.dpid);
        sw.emit('close', reason);
      },
    });
    if (connection.closed) return;
    this.connections.add(connection);
    this.strangers
      .enter(connection)
      ?.close(
        new SwitchError('crowded', `${this.strangers.size} connections that are no switches: too many`),
      );
  }
}
