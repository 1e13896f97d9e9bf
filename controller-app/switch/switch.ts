/**
 * One live switch. Made by OpenFlowListener when its handshake is complete, ended by `close` or by its connection; after that everything on
 * it fails with SwitchError `closed`. A switch that comes back is a new object.
 */
import { EventEmitter } from 'node:events';
import { type Dpid, dpid } from '../../shared/domain/domain.js';
import {
  type FeaturesReply,
  type FlowMod,
  type FlowRemovedMessage,
  type FlowStats,
  type GroupMod,
  type Match,
  type MessageBody,
  type MessageOf,
  type MultipartRequest,
  OFPPC,
  OFPPS,
  OFPTT_ALL,
  type PacketInMessage,
  type PacketOutMessage,
  type PortStatusMessage,
  type Port as WirePort,
} from '../openflow/index.js';
import { Bundle } from './bundle.js';
import type { Connection } from './connection.js';
import { type OpenFlowError, SwitchError, OpenFlowError as SwitchRefusal } from './errors.js';
import type { Handshake } from './handshake.js';
import type { Bounds } from './options.js';
import { allParts, eachPart, only, type PartOf } from './replies.js';
import type { Take } from './requests.js';
import { StagedBundle } from './staged-bundle.js';

export interface Port extends WirePort {
  /** No carrier, or switched off. */
  readonly linkDown: boolean;
}

export type PortChange = 'added' | 'modified' | 'deleted';

export interface SwitchEvents {
  packetIn: [message: PacketInMessage];
  portStatus: [port: Port, change: PortChange];
  flowRemoved: [message: FlowRemovedMessage];
  /** An error of the switch that answers nothing which still waits. Unlike other emitters' it may go unheard. */
  error: [error: OpenFlowError];
  /** Once. Undefined when it was closed here without a reason. */
  close: [reason: Error | undefined];
}

export interface RequestOptions {
  readonly timeoutMs?: number;
}

/** Absent: don't filter. */
export interface FlowFilter {
  readonly table?: number;
  readonly cookie?: bigint;
  readonly cookieMask?: bigint;
  /** Flows whose match is this or narrower. */
  readonly match?: Match;
  readonly outPort?: number;
  readonly outGroup?: number;
}

/** Which reply answers which request. */
const REPLY = {
  echo_request: 'echo_reply',
  features_request: 'features_reply',
  get_config_request: 'get_config_reply',
  barrier_request: 'barrier_reply',
  role_request: 'role_reply',
  bundle_control: 'bundle_control',
} as const;
type Asking = keyof typeof REPLY;

const flowRequest = (filter: FlowFilter) => ({
  type: 'flow' as const,
  ...filter,
  table: filter.table ?? OFPTT_ALL,
  match: filter.match ?? {},
});

const withLink = (port: WirePort): Port => ({
  ...port,
  linkDown: (port.state & OFPPS.LINK_DOWN) !== 0 || (port.config & OFPPC.PORT_DOWN) !== 0,
});

export class Switch extends EventEmitter<SwitchEvents> {
  readonly dpid: Dpid;
  readonly features: FeaturesReply;
  /** `address:port` of its end of the connection. */
  readonly peer: string;
  private readonly portsByNumber = new Map<number, Port>();
  private lastBundle = 0;
  /** Bundles go out one after the other. */
  private bundles: Promise<unknown> = Promise.resolve();
  private waitingBundles = 0;
  private stagedBundles = 0;

  /** Only for OpenFlowListener. */
  constructor(
    private readonly connection: Connection,
    private readonly bounds: Bounds,
    { features, ports }: Handshake,
  ) {
    super();
    this.dpid = dpid(features.datapathId);
    this.features = features;
    this.peer = connection.peer;
    for (const port of ports) this.portsByNumber.set(port.number, withLink(port));
  }

  get closed(): boolean {
    return this.connection.closed;
  }

  /** As the switch last told; by number. */
  get ports(): ReadonlyMap<number, Port> {
    return this.portsByNumber;
  }

  portNamed(name: string): Port | undefined {
    for (const port of this.portsByNumber.values()) if (port.name === name) return port;
    return undefined;
  }

  /** Sends and forgets: should the switch refuse it, an `error` event says so. */
  send(message: MessageBody): void {
    this.connection.send(message);
  }

  /** Sends a frame, or drops it when the switch reads too slowly, as any queue does that is full: then false. */
  packetOut(message: Omit<PacketOutMessage, 'type'>): boolean {
    if (this.connection.busy) return false;
    this.send({ type: 'packet_out', ...message });
    return true;
  }

  /** The one reply to a message that has one. Fails with OpenFlowError (refused) or SwitchError. */
  request<T extends Asking>(
    message: MessageOf<T>,
    options: RequestOptions = {},
  ): Promise<MessageOf<(typeof REPLY)[T]>> {
    const type: (typeof REPLY)[T] = REPLY[(message as { readonly type: T }).type];
    return this.connection.request(message as MessageBody, only(type), {
      timeoutMs: options.timeoutMs ?? this.bounds.requestTimeoutMs,
    });
  }

  /** Everything sent before has been done by the switch. It may still take milliseconds to have effect in its datapath. */
  async barrier(options: RequestOptions = {}): Promise<void> {
    await this.request({ type: 'barrier_request' }, options);
  }

  /** Sends messages which have no reply and waits until the switch has done them. Fails with the first OpenFlowError about them. */
  async confirm(messages: readonly MessageBody[], options: RequestOptions = {}): Promise<void> {
    let refused: OpenFlowError | undefined;
    const watch = this.connection.requests.watch(
      messages.length,
      (place) => messages[place]?.type ?? 'message',
      (error) => {
        refused ??= error;
      },
    );
    try {
      for (const [place, message] of messages.entries()) this.connection.send(message, watch.first + place);
      await this.barrier(options);
    } finally {
      watch.end();
    }
    if (refused) throw refused;
  }

  /** All parts of an answer, in order. One that is too large, or without end, ends the connection. */
  multipart<T extends Exclude<MultipartRequest['type'], 'unknown'>>(
    body: Extract<MultipartRequest, { readonly type: T }>,
    options: RequestOptions = {},
  ): Promise<PartOf<T>[]> {
    const { type }: { readonly type: T } = body;
    return this.askForParts(body, allParts(type, this.bounds.maxMultipartBytes), options);
  }

  private async askForParts<R>(body: MultipartRequest, take: Take<R>, options: RequestOptions): Promise<R> {
    const { requestTimeoutMs, multipartTimeoutMs } = this.bounds;
    const timeoutMs = options.timeoutMs ?? requestTimeoutMs;
    const patience = { timeoutMs, wholeMs: Math.max(timeoutMs, multipartTimeoutMs) };
    try {
      return await this.connection.request({ type: 'multipart_request', body }, take, patience);
    } catch (error) {
      if (error instanceof SwitchError && (error.code === 'too-large' || error.code === 'endless'))
        this.close(error);
      throw error;
    }
  }

  /** The flows that the switch has, with counters. */
  async flowStats(filter: FlowFilter = {}, options: RequestOptions = {}): Promise<FlowStats[]> {
    const parts = await this.multipart(flowRequest(filter), options);
    return parts.flatMap((part) => part.flows);
  }

  /** Like `flowStats`, but hands on the flows as they come, some at a time, and keeps none. */
  async eachFlows(
    filter: FlowFilter,
    onFlows: (flows: readonly FlowStats[]) => void,
    options: RequestOptions = {},
  ): Promise<void> {
    const take = eachPart('flow', this.bounds.maxStreamedBytes, (part) => onFlows(part.flows));
    await this.askForParts(flowRequest(filter), take, options);
  }

  /**
   * Does all changes in order, or none. Fails with BundleError, which names the changes that the switch refused; with
   * SwitchError when the connection ended, and then nobody knows.
   */
  bundle(mods: readonly (FlowMod | GroupMod)[], options: RequestOptions = {}): Promise<void> {
    if (mods.length === 0) return Promise.resolve();
    if (this.waitingBundles >= this.bounds.maxBundles)
      return Promise.reject(
        new SwitchError('backpressure', `${this.waitingBundles} bundles wait for each other: wait for some`),
      );
    this.waitingBundles++;
    const timeoutMs = options.timeoutMs ?? this.bounds.requestTimeoutMs;
    const mine = this.bundles.then(async () => {
      const bundle = this.newBundle(mods);
      await bundle.fill(timeoutMs);
      await bundle.commit(timeoutMs);
    });
    this.bundles = mine
      .catch(() => {})
      .then(() => {
        this.waitingBundles--;
      });
    return mine;
  }

  /**
   * Has the switch read changes without doing any: settles with what does them, or not, in one message. It may be used for `stagedMs`, then it is discarded. Does
   * not wait for other bundles. Fails as `bundle` does.
   */
  async stage(mods: readonly (FlowMod | GroupMod)[], options: RequestOptions = {}): Promise<StagedBundle> {
    const { clock, maxBundles, requestTimeoutMs, stagedMs: keptMs } = this.bounds;
    const timeoutMs = options.timeoutMs ?? requestTimeoutMs;
    if (this.stagedBundles >= maxBundles)
      throw new SwitchError('backpressure', `${this.stagedBundles} bundles are staged: discard some`);
    const onEnd = (): void => {
      this.stagedBundles--;
    };
    this.stagedBundles++;
    try {
      const bundle = this.newBundle(mods);
      await bundle.fill(timeoutMs);
      return new StagedBundle(bundle, { clock, keptMs, timeoutMs }, onEnd);
    } catch (error) {
      onEnd();
      throw error;
    }
  }

  private newBundle(mods: readonly (FlowMod | GroupMod)[]): Bundle {
    this.lastBundle = (this.lastBundle % 0xffffffff) + 1;
    return new Bundle(this.connection, this.lastBundle, mods);
  }

  /** May be called twice. Everything that waits fails, `close` is emitted. */
  close(reason?: Error): void {
    this.connection.close(reason);
  }

  /** Only for OpenFlowListener: a message that answers no request. */
  receive(message: MessageBody): void {
    switch (message.type) {
      case 'packet_in':
        this.emit('packetIn', message);
        break;
      case 'port_status':
        this.changePort(message);
        break;
      case 'flow_removed':
        this.emit('flowRemoved', message);
        break;
      case 'error':
        if (this.listenerCount('error') > 0)
          this.emit('error', new SwitchRefusal('something that was sent before', message));
        break;
      default:
        // What this controller doesn't know and the specification lets pass.
        break;
    }
  }

  private changePort({ reason, port: wire }: PortStatusMessage): void {
    const known = this.portsByNumber.has(wire.number);
    const port = withLink(wire);
    if (reason === 'delete') {
      if (this.portsByNumber.delete(wire.number)) this.emit('portStatus', port, 'deleted');
      return;
    }
    this.portsByNumber.set(wire.number, port);
    this.emit('portStatus', port, known ? 'modified' : 'added');
  }
}
