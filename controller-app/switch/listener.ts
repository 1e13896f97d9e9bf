/**
 * Where switches connect to. Each connection becomes a Switch when its handshake is complete. Until then it is a stranger: few of them at once, with
 * little time, memory and attention.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Dpid } from '../../shared/domain/domain.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { Door, describeHolder, type Holder, type Identity } from '../../shared/tls/index.js';
import { Admission } from './admission.js';
import { receive } from './arrival.js';
import type { Connection } from './connection.js';
import { SwitchError } from './errors.js';
import { Lobby } from './lobby.js';
import { type Bounds, bounds, type SwitchOptions } from './options.js';
import type { Switch } from './switch.js';
import { type Handshaking, TlsHandshakes } from './tls-handshakes.js';
import { Turns } from './turns.js';

export interface ListenerOptions extends SwitchOptions {
  /** Who this controller is. With it switches come over TLS, each with a certificate that names the datapath ids it may claim. */
  readonly identity?: Identity | undefined;
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

/** A connection that is no switch yet. */
interface Stranger {
  readonly address: string;
  close(reason: SwitchError): void;
}

const DEFAULT_PORT = 6653;
const DEFAULT_MAX_STRANGERS = 256;

export class OpenFlowListener extends EventEmitter<ListenerEvents> {
  private readonly door: Door;
  private readonly bounds: Bounds;
  /** Until they are closed indeed: some stay for a moment when their connection has ended. */
  private readonly sockets = new Set<Socket>();
  private readonly connections = new Set<Connection>();
  private readonly strangers: Lobby<Stranger>;
  private readonly handshakes: TlsHandshakes;
  private readonly shaking = new WeakMap<Socket, Handshaking>();
  private readonly strangersTurns = new Turns();
  private readonly admission: Admission;
  private readonly byDpid = new Map<Dpid, Switch>();
  private closing: Promise<void> | undefined;

  constructor(private readonly options: ListenerOptions = {}) {
    super();
    const { host: _host, port: _port, identity, maxStrangers, accepts, ...switchOptions } = options;
    this.bounds = bounds(switchOptions);
    this.strangers = new Lobby(maxStrangers ?? DEFAULT_MAX_STRANGERS);
    this.admission = new Admission({ accepts: accepts ?? (() => true), probeMs: this.bounds.probeMs });
    this.handshakes = new TlsHandshakes(this.bounds, (who, reason) => {
      this.strangers.leave(who);
      this.emit('refused', reason, who.peer);
    });
    this.door = new Door({
      identity,
      arrived: (socket) => this.arrive(socket),
      entered: (socket, stream, holder) => this.enter(socket, stream, holder),
      refused: (socket, problem) => this.refuse(socket, problem),
    });
  }

  /** Switches that are ready. */
  get switches(): ReadonlyMap<Dpid, Switch> {
    return this.byDpid;
  }

  /** Connections that are no switches yet. */
  get strangerCount(): number {
    return this.strangers.size;
  }

  /** Fails when the address is in use. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    const { host = '127.0.0.1', port = DEFAULT_PORT } = this.options;
    try {
      const onError = (error: Error): boolean => this.emit('refused', error, '?');
      return { host, port: await this.door.listen(host, port, onError) };
    } catch (cause) {
      throw new SwitchError('closed', `can't listen for switches on ${host}:${port}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  /** Switches that come from now on are shown this certificate; those that are there stay. Not for a listener without TLS. */
  renew(identity: Identity): void {
    this.door.renew(identity);
  }

  /** Closes every switch too. May be called twice. */
  close(): Promise<void> {
    if (!this.closing) {
      this.closing = this.door.close();
      for (const connection of [...this.connections])
        connection.close(new SwitchError('closed', 'the controller closes'));
      for (const socket of this.sockets) socket.destroy();
    }
    return this.closing;
  }

  private arrive(socket: Socket): boolean {
    if (this.closing) return false;
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    if (this.options.identity) {
      const who = this.handshakes.begin(socket);
      this.shaking.set(socket, who);
      this.admitStranger(who);
    }
    return true;
  }

  private refuse(socket: Socket, problem: string): void {
    const who = this.shaking.get(socket);
    who?.close(new SwitchError('tls', `${who.peer} is no switch of ours: ${problem}`));
  }

  private enter(socket: Socket, stream: Socket, holder: Holder | undefined): void {
    if (holder && holder.kind !== 'switch') {
      this.refuse(
        socket,
        `its certificate is ${describeHolder(holder)}: issue one with "paguro pki issue switch"`,
      );
      return;
    }
    const who = this.shaking.get(socket);
    if (who) {
      if (!this.handshakes.end(socket)) return;
      this.strangers.leave(who);
    }
    this.accept(stream, holder?.dpids);
  }

  /** `certified`: the datapath ids that its certificate names, when it has one. */
  private accept(stream: Socket, certified: readonly Dpid[] | undefined): void {
    const connection = receive(stream, this.bounds, this.strangersTurns, {
      admit: async (newcomer, features) => {
        await this.admission.admit(newcomer, features, certified);
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
    this.admitStranger(connection);
  }

  private admitStranger(stranger: Stranger): void {
    this.strangers
      .enter(stranger)
      ?.close(
        new SwitchError('crowded', `${this.strangers.size} connections that are no switches: too many`),
      );
  }
}
