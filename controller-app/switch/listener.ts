/**
 * Where switches connect to. Each connection goes through
 *
 *   hello → introduction → ready        (and from each of them to closed)
 *
 * and becomes a Switch when it is ready. A switch that connects again takes the place of its former connection.
 */
import { EventEmitter } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Dpid } from '../../shared/domain/domain.js';
import { helloElements, type MessageBody, VERSION } from '../openflow/index.js';
import { Connection } from './connection.js';
import { SwitchError } from './errors.js';
import { type Handshake, introduce, refuseVersion, speaksOurVersion } from './handshake.js';
import { type Bounds, bounds, type SwitchOptions } from './options.js';
import { Switch } from './switch.js';

export interface ListenerOptions extends SwitchOptions {
  /** Default 127.0.0.1: OpenFlow without TLS must not leave the machine unless someone says so. */
  readonly host?: string;
  /** Default 6653; 0 for any. */
  readonly port?: number;
  /** Connections at once, ready or not. */
  readonly maxConnections?: number;
}

export interface ListenerEvents {
  /** A switch is ready. Messages that came meanwhile follow when all listeners have returned. */
  switch: [sw: Switch];
  /** A connection that never became a switch, and why. May go unheard. */
  refused: [error: Error, peer: string];
}

type State =
  | { readonly name: 'hello' }
  | { readonly name: 'introduction'; readonly early: MessageBody[] }
  | { readonly name: 'ready'; readonly sw: Switch }
  | { readonly name: 'closed' };

const DEFAULT_PORT = 6653;
const DEFAULT_MAX_CONNECTIONS = 1_024;

export class OpenFlowListener extends EventEmitter<ListenerEvents> {
  private readonly server: Server;
  private readonly bounds: Bounds;
  private readonly connections = new Set<Connection>();
  private readonly byDpid = new Map<Dpid, Switch>();
  private closing: Promise<void> | undefined;

  constructor(private readonly options: ListenerOptions = {}) {
    super();
    const { host: _host, port: _port, maxConnections, ...switchOptions } = options;
    this.bounds = bounds(switchOptions);
    this.server = createServer((socket) => this.accept(socket));
    this.server.maxConnections = maxConnections ?? DEFAULT_MAX_CONNECTIONS;
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
        this.server.on('error', (error) => this.tellRefused(error, '?'));
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
    });
    return this.closing;
  }

  private accept(socket: Socket): void {
    let state: State = { name: 'hello' };
    const connection = new Connection(socket, this.bounds, {
      onMessage: (message, _xid, version) => {
        switch (state.name) {
          case 'hello':
            if (!this.greet(connection, message, version)) return;
            state = { name: 'introduction', early: [] };
            introduce(connection, this.bounds.maxMultipartBytes).then(
              (handshake) => {
                if (state.name === 'introduction') this.ready(connection, handshake, state.early, become);
              },
              (error: Error) => connection.close(error),
            );
            break;
          case 'introduction':
            this.keep(connection, message, state.early);
            break;
          case 'ready':
            state.sw.receive(message);
            break;
          case 'closed':
            break;
        }
      },
      onClose: (reason) => {
        const was = state;
        state = { name: 'closed' };
        deadline.close();
        this.connections.delete(connection);
        if (was.name === 'ready') this.lose(was.sw, reason);
        else this.tellRefused(reason ?? new SwitchError('closed', 'closed'), peer);
      },
    });
    const become = (sw: Switch): void => {
      deadline.close();
      state = { name: 'ready', sw };
    };
    const peer = connection.peer;
    const { handshakeTimeoutMs, clock } = this.bounds;
    const deadline = clock.after(handshakeTimeoutMs, () =>
      connection.close(
        new SwitchError('timeout', `${peer} did not complete its handshake within ${handshakeTimeoutMs} ms`),
      ),
    );
    this.connections.add(connection);
    connection.send({ type: 'hello', elements: helloElements(VERSION) });
  }

  /** True when both can go on. */
  private greet(connection: Connection, message: MessageBody, version: number): boolean {
    if (message.type === 'hello' && speaksOurVersion(message, version)) return true;
    if (message.type === 'hello') refuseVersion(connection, version);
    else connection.close(new SwitchError('protocol', `${message.type} came before hello`));
    return false;
  }

  /** Packets beyond the bound are lost, as they are when the controller is away; nothing else may be. */
  private keep(connection: Connection, message: MessageBody, early: MessageBody[]): void {
    if (early.length < this.bounds.maxEarlyMessages) early.push(message);
    else if (message.type !== 'packet_in')
      connection.close(new SwitchError('protocol', 'too many messages before the handshake was complete'));
  }

  private ready(
    connection: Connection,
    handshake: Handshake,
    early: MessageBody[],
    become: (sw: Switch) => void,
  ): void {
    const sw = new Switch(connection, this.bounds, handshake);
    this.byDpid.get(sw.dpid)?.close(new SwitchError('replaced', `switch ${sw.dpid} has connected again`));
    become(sw);
    this.byDpid.set(sw.dpid, sw);
    this.emit('switch', sw);
    for (const message of early) if (!sw.closed) sw.receive(message);
  }

  private lose(sw: Switch, reason: Error | undefined): void {
    if (this.byDpid.get(sw.dpid) === sw) this.byDpid.delete(sw.dpid);
    sw.emit('close', reason);
  }

  private tellRefused(error: Error, peer: string): void {
    this.emit('refused', error, peer);
  }
}
