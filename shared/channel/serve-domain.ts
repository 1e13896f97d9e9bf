/**
 * The agent's side of the channel: dials the controller, says who it is, answers for its domain, and dials again whenever the link ends.
 */
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import type { Domain } from '../domain/domain.js';
import { type Clock, realClock, type Timer } from '../runtime/clock.js';
import { KeyedQueue } from '../runtime/keyed-queue.js';
import type { Log } from '../runtime/log.js';
import { isLoopback } from '../runtime/loopback.js';
import { messageOf } from '../runtime/message-of.js';
import { QuietLog } from '../runtime/quiet-log.js';
import type { Identity } from '../tls/index.js';
import { AgentRequests } from './agent-requests.js';
import { agentCodec } from './codec.js';
import { ChannelError } from './errors.js';
import { backoffMs, DEFAULT_LIMITS, type Limits, MAX_ERROR_TEXT, PROTOCOL_VERSION } from './limits.js';
import { Link } from './link.js';
import { loopbackAddressOf, parseChannelUrl, tlsNeeded } from './loopback.js';
import type { AgentMessage, ControllerMessage } from './messages.js';
import { openWebSocket } from './open-websocket.js';

/** The link may come and go this often within a minute before the log leaves some of it out. */
const MOST_COMINGS = 5;

export interface ServeDomainOptions {
  /** Of the controller: `ws://127.0.0.1:7653`, or `wss://…` with an identity. */
  readonly url: string;
  /** Who this agent is. Asked before each attempt, so that a renewed certificate is taken up by itself. */
  readonly identity?: (() => Promise<Identity>) | undefined;
  readonly domain: Domain;
  readonly log: Log;
  readonly clock?: Clock;
  readonly limits?: Partial<Limits>;
  /** In [0, 1): what the pauses between attempts are varied with. */
  readonly random?: () => number;
  /** After every change: an accepted hello, or the end of a link or attempt with its reason. */
  readonly onConnection?: (connected: boolean, reason?: ChannelError) => void;
}

export interface ServedDomain {
  readonly connected: boolean;
  /** Hangs up for good. May be called twice. */
  close(): Promise<void>;
}

/** Starts to serve. Throws a ChannelError for a URL that can never be dialled; everything else is tried again. */
export function serveDomain(options: ServeDomainOptions): ServedDomain {
  return new AgentClient(options);
}

class AgentClient implements ServedDomain {
  readonly #options: ServeDomainOptions;
  readonly #limits: Limits;
  readonly #clock: Clock;
  readonly #url: URL;
  readonly #host: string;
  readonly #queue = new KeyedQueue();
  readonly #quiet: QuietLog;
  #socket: WebSocket | undefined;
  #link: Link<AgentMessage, ControllerMessage> | undefined;
  #attempt = 0;
  #connected = false;
  #closed = false;
  #dialTimer: Timer | undefined;

  constructor(options: ServeDomainOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#clock = options.clock ?? realClock;
    this.#quiet = new QuietLog(options.log, this.#clock);
    ({ url: this.#url, host: this.#host } = parseChannelUrl(options.url, options.identity !== undefined));
    void this.#dial();
  }

  get connected(): boolean {
    return this.#connected;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#quiet.close();
    this.#dialTimer?.close();
    const link = this.#link;
    link?.close(new ChannelError('closed', 'the agent stops'));
    const socket = this.#socket;
    if (!link) socket?.terminate();
    if (socket && socket.readyState !== WebSocket.CLOSED)
      await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  }

  async #dial(): Promise<void> {
    try {
      const identity = await this.#identity();
      const url = identity ? this.#url : await this.#loopbackUrl();
      const capabilities = await this.#options.domain.capabilities();
      if (!this.#closed) this.#open(url, identity, capabilities);
    } catch (error) {
      this.#again(
        error instanceof ChannelError
          ? error
          : new ChannelError('closed', `the domain is not ready: ${messageOf(error)}`, { cause: error }),
      );
    }
  }

  async #identity(): Promise<Identity | undefined> {
    try {
      return await this.#options.identity?.();
    } catch (cause) {
      throw new ChannelError('certificate', messageOf(cause), { cause });
    }
  }

  async #loopbackUrl(): Promise<URL> {
    const address = await loopbackAddressOf(this.#host);
    const url = new URL(this.#url);
    url.hostname = address.includes(':') ? `[${address}]` : address;
    return url;
  }

  #open(
    url: URL,
    identity: Identity | undefined,
    capabilities: Extract<AgentMessage, { type: 'hello' }>['capabilities'],
  ): void {
    const socket = openWebSocket({
      url,
      host: this.#host,
      identity,
      limits: this.#limits,
      clock: this.#clock,
      opened: (stream) => {
        // Who closes this waits for the socket.
        if (this.#closed) socket.terminate();
        else this.#greet(socket, stream, capabilities);
      },
      failed: (reason) => this.#again(reason),
    });
    this.#socket = socket;
  }

  #greet(
    socket: WebSocket,
    stream: Socket,
    capabilities: Extract<AgentMessage, { type: 'hello' }>['capabilities'],
  ): void {
    const { domain, log } = this.#options;
    let requests: AgentRequests | undefined;
    let refusal: ChannelError | undefined;
    const link: Link<AgentMessage, ControllerMessage> = new Link<AgentMessage, ControllerMessage>({
      socket,
      stream,
      codec: agentCodec,
      log,
      clock: this.#clock,
      limits: this.#limits,
      message: (message) => {
        if (requests) {
          if (message.type === 'error' && message.id === undefined)
            this.#quiet.say(
              'of no use',
              'warn',
              { problem: message.message },
              'the controller could not use a message',
            );
          requests.receive(message);
        } else if (message.type === 'hello-ack') {
          helloTimer.close();
          requests = new AgentRequests({
            domain,
            link,
            queue: this.#queue,
            limits: this.#limits,
            clock: this.#clock,
            log,
          });
          this.#attempt = 0;
          this.#connected = true;
          const { url: controller } = this.#options;
          this.#quiet.say('connected', 'info', { controller }, 'connected to the controller', MOST_COMINGS);
          this.#options.onConnection?.(true);
        } else if (message.type === 'refusal') {
          refusal = new ChannelError(message.code, `the controller refused this agent: ${message.message}`);
          throw refusal;
        } else if (message.type === 'error') {
          throw new ChannelError('refused', `the controller refused the hello: ${message.message}`);
        } else {
          throw new ChannelError('bad-message', `a ${message.type} came before the controller's hello-ack`);
        }
      },
      closed: (reason) => {
        helloTimer.close();
        requests?.close();
        this.#link = undefined;
        this.#again(refusal ?? reason);
      },
      farewell: (reason) =>
        reason.code === 'bad-message' || reason.code === 'too-large'
          ? { type: 'error', code: 'invalid', message: reason.message.slice(0, MAX_ERROR_TEXT) }
          : undefined,
    });
    this.#link = link;
    const helloTimer = this.#clock.after(this.#limits.helloMs, () =>
      link.close(new ChannelError('timeout', 'the controller did not answer the hello')),
    );
    if (!this.#options.identity && !isLoopback(link.remoteAddress)) {
      link.close(tlsNeeded(link.remoteAddress));
      return;
    }
    try {
      link.send({ type: 'hello', protocol: PROTOCOL_VERSION, domain: domain.name, capabilities });
    } catch (error) {
      link.close(error instanceof ChannelError ? error : new ChannelError('bad-message', messageOf(error)));
    }
  }

  #again(reason: ChannelError): void {
    this.#connected = false;
    if (!this.#closed) {
      const ms = Math.round(
        backoffMs(this.#attempt++, this.#limits, (this.#options.random ?? Math.random)()),
      );
      this.#quiet.say(
        `no link ${reason.code}`,
        'warn',
        { problem: reason.message, againInMs: ms },
        'no link to the controller',
        MOST_COMINGS,
      );
      this.#dialTimer = this.#clock.after(ms, () => void this.#dial());
    }
    this.#options.onConnection?.(false, reason);
  }
}
