/**
 * The controller's side of the channel: listens on loopback, greets agents, and hands each on to whoever expects its name.
 */
import type { IncomingMessage } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import { type Clock, realClock, type Timer } from '../runtime/clock.js';
import type { Log } from '../runtime/log.js';
import { isLoopback } from '../runtime/loopback.js';
import { messageOf } from '../runtime/message-of.js';
import { controllerCodec } from './codec.js';
import { ChannelError } from './errors.js';
import { DEFAULT_LIMITS, type Limits, MAX_ERROR_TEXT, MAX_HELLO_BYTES, MAX_STRANGERS } from './limits.js';
import { Link } from './link.js';
import { loopbackAddressOf, tlsNeeded } from './loopback.js';
import type { AgentMessage, ControllerMessage } from './messages.js';
import { AgentSession } from './session.js';

/** Who wants to hear of the agent of one name. */
export interface AgentHandler {
  connected(session: AgentSession): void;
  disconnected(session: AgentSession, reason: ChannelError): void;
}

export interface ChannelServerOptions {
  readonly log: Log;
  readonly clock?: Clock;
  readonly limits?: Partial<Limits>;
}

type Hello = Extract<AgentMessage, { type: 'hello' }>;

/** One connection, from its first byte to its end. */
interface Guest {
  readonly link: Link<ControllerMessage, AgentMessage>;
  session: AgentSession | undefined;
  greeted: boolean;
  helloTimer: Timer | undefined;
}

/**
 * Owns its connections. An agent is accepted when a domain of its name is expected and no living agent has that name.
 * `close` ends everything and may be called twice.
 */
export class ChannelServer {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #expected = new Map<string, AgentHandler>();
  readonly #sessions = new Map<string, AgentSession>();
  readonly #claimed = new Set<string>();
  readonly #guests = new Set<Guest>();
  #server: WebSocketServer | undefined;
  #closed = false;

  constructor(options: ChannelServerOptions) {
    this.#log = options.log;
    this.#clock = options.clock ?? realClock;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  /** Expects the agent of a domain. The function that comes back stops that, and closes the agent's connection. */
  expect(name: string, handler: AgentHandler): () => void {
    if (this.#expected.has(name))
      throw new ChannelError('refused', `two edge domains are named "${name}": give each a name of its own`);
    this.#expected.set(name, handler);
    return () => {
      if (this.#expected.get(name) !== handler) return;
      this.#sessions
        .get(name)
        ?.close(new ChannelError('refused', `the controller no longer has a domain "${name}"`));
      this.#expected.delete(name);
    };
  }

  /** Listens; `port` 0 is any free one. Fails with a ChannelError `tls-needed` or `listen`. */
  async listen(at: {
    readonly host: string;
    readonly port: number;
  }): Promise<{ readonly host: string; readonly port: number }> {
    if (this.#server || this.#closed)
      throw new ChannelError('listen', 'the channel listens already, or is closed');
    const host = await loopbackAddressOf(at.host);
    const server = new WebSocketServer({
      host,
      port: at.port,
      maxPayload: this.#limits.maxFrameBytes,
      perMessageDeflate: false,
      verifyClient: ({ req }: { req: IncomingMessage }) => this.#admits(req),
    });
    await new Promise<void>((resolve, reject) => {
      server.once('listening', resolve);
      server.once('error', (cause: Error) =>
        reject(
          new ChannelError(
            'listen',
            `the channel cannot listen on ${host} port ${at.port}: ${cause.message}. Is another controller running?`,
            { cause },
          ),
        ),
      );
    });
    server.on('error', (error) => this.#log.error({ error: messageOf(error) }, 'channel server'));
    server.on('connection', (socket, request) => this.#greet(socket, request));
    this.#server = server;
    const address = server.address();
    return { host, port: typeof address === 'object' && address ? address.port : at.port };
  }

  async close(): Promise<void> {
    this.#closed = true;
    const guests = [...this.#guests];
    for (const { link } of guests) link.close(new ChannelError('closed', 'the controller stops'));
    const server = this.#server;
    this.#server = undefined;
    await Promise.all(guests.map(({ link }) => link.finished));
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** Browsers send an origin: no page that a user visits may speak to the channel. */
  #admits(request: IncomingMessage): boolean {
    const address = request.socket.remoteAddress ?? '';
    if (!isLoopback(address)) {
      this.#log.warn(tlsNeeded(address).message);
      return false;
    }
    if (request.headers.origin !== undefined) {
      this.#log.warn({ origin: request.headers.origin }, 'a web page tried to open the channel: refused');
      return false;
    }
    const strangers = [...this.#guests].filter((guest) => !guest.session).length;
    return !this.#closed && strangers < MAX_STRANGERS;
  }

  #greet(socket: WebSocket, request: IncomingMessage): void {
    const guest: Guest = {
      session: undefined,
      greeted: false,
      helloTimer: undefined,
      link: new Link<ControllerMessage, AgentMessage>({
        socket,
        stream: request.socket,
        codec: controllerCodec,
        log: this.#log,
        clock: this.#clock,
        limits: this.#limits,
        firstBytes: MAX_HELLO_BYTES,
        message: (message, bytes) => {
          if (guest.session) guest.session.receive(message, bytes);
          else this.#stranger(guest, message);
        },
        closed: (reason) => {
          guest.helloTimer?.close();
          this.#guests.delete(guest);
          this.#ended(guest.session, reason);
        },
        farewell,
      }),
    };
    this.#guests.add(guest);
    guest.helloTimer = this.#clock.after(this.#limits.helloMs, () =>
      guest.link.close(new ChannelError('refused', `no hello within ${this.#limits.helloMs} ms`)),
    );
  }

  #stranger(guest: Guest, message: AgentMessage): void {
    if (message.type !== 'hello' || guest.greeted)
      throw new ChannelError('bad-message', `a ${message.type} came out of turn: say hello, once`);
    guest.greeted = true;
    this.#welcome(guest, message).catch((error: unknown) => {
      const reason =
        error instanceof ChannelError
          ? error
          : new ChannelError('refused', messageOf(error), { cause: error });
      this.#log.warn({ domain: message.domain, problem: reason.message }, 'an agent was refused');
      guest.link.close(reason);
    });
  }

  async #welcome(guest: Guest, hello: Hello): Promise<void> {
    const { domain: name, capabilities } = hello;
    if (!this.#expected.has(name))
      throw new ChannelError(
        'refused',
        `the controller has no edge domain "${name}": add it to its configuration, or correct the name in the agent's`,
      );
    if (this.#claimed.has(name))
      throw new ChannelError('refused', `another agent is just claiming the name "${name}": try again`);
    this.#claimed.add(name);
    try {
      await this.#makeRoom(name);
    } finally {
      this.#claimed.delete(name);
    }
    const handler = this.#expected.get(name);
    if (!guest.link.open || !handler) return;
    guest.helloTimer?.close();
    guest.link.trust();
    const session = new AgentSession(guest.link, capabilities, this.#limits, this.#clock);
    guest.session = session;
    this.#sessions.set(name, session);
    guest.link.send({ type: 'hello-ack', protocol: hello.protocol });
    this.#log.info({ domain: name, from: guest.link.remoteAddress }, 'agent connected');
    handler.connected(session);
  }

  /** A name belongs to the first who claims it, until that one is dead. */
  async #makeRoom(name: string): Promise<void> {
    const old = this.#sessions.get(name);
    if (!old) return;
    if (await old.probe())
      throw new ChannelError(
        'refused',
        `an agent "${name}" is connected already, from ${old.remoteAddress}: stop it, or give this one another name`,
      );
    old.close(new ChannelError('heartbeat', `another agent "${name}" came, and this one did not answer`));
  }

  #ended(session: AgentSession | undefined, reason: ChannelError): void {
    if (!session) return;
    session.ended(reason);
    for (const [name, known] of this.#sessions) {
      if (known !== session) continue;
      this.#sessions.delete(name);
      this.#log.info({ domain: name, reason: reason.message }, 'agent disconnected');
      this.#expected.get(name)?.disconnected(session, reason);
    }
  }
}

function farewell(reason: ChannelError): ControllerMessage | undefined {
  const message = reason.message.slice(0, MAX_ERROR_TEXT);
  if (reason.code === 'version' || reason.code === 'refused')
    return { type: 'refusal', code: reason.code, message };
  return reason.code === 'closed' ? undefined : { type: 'error', code: 'invalid', message };
}
