/**
 * The controller's side of the channel: greets agents, and hands each on to whoever expects its name.
 */
import type { WebSocket } from 'ws';
import { type Clock, realClock } from '../runtime/clock.js';
import type { Log } from '../runtime/log.js';
import { messageOf } from '../runtime/message-of.js';
import { QuietLog } from '../runtime/quiet-log.js';
import { type Identity, listed } from '../tls/index.js';
import { controllerCodec } from './codec.js';
import { ChannelError } from './errors.js';
import { DEFAULT_LIMITS, type Limits, MAX_ERROR_TEXT, MAX_HELLO_BYTES } from './limits.js';
import { Link } from './link.js';
import type { AgentMessage, ControllerMessage } from './messages.js';
import { Reception, type Visitor } from './reception.js';
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
  /** Who this controller is. With it the channel runs over TLS, on any address, and an agent acts only for the names in its certificate. */
  readonly identity?: Identity | undefined;
}

type Hello = Extract<AgentMessage, { type: 'hello' }>;

/** An agent may come and go this often within a minute before the log leaves some of it out. */
const MOST_COMINGS = 5;

/** One WebSocket, from its opening to its end. */
interface Guest {
  readonly link: Link<ControllerMessage, AgentMessage>;
  readonly visitor: Visitor;
  session: AgentSession | undefined;
  /** The name that it said in its hello, once one is expected. */
  name: string | undefined;
  greeted: boolean;
}

/**
 * Owns its connections. An agent is accepted when a domain of its name is expected and no living agent has that name.
 * `close` ends everything and may be called twice.
 */
export class ChannelServer {
  readonly #log: Log;
  readonly #quiet: QuietLog;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #expected = new Map<string, AgentHandler>();
  readonly #sessions = new Map<string, AgentSession>();
  readonly #claimed = new Set<string>();
  readonly #guests = new Set<Guest>();
  readonly #reception: Reception;
  #listening = false;
  #closed = false;

  constructor(options: ChannelServerOptions) {
    this.#log = options.log;
    this.#clock = options.clock ?? realClock;
    this.#quiet = new QuietLog(this.#log, this.#clock);
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#reception = new Reception({
      log: this.#quiet,
      clock: this.#clock,
      limits: this.#limits,
      identity: options.identity,
      greet: (socket, visitor) => this.#greet(socket, visitor),
    });
  }

  /** How many peers are there, those that have been told to go included, and how many bytes are held for them: of messages that are not whole yet or that wait to go. */
  get load(): { readonly strangers: number; readonly agents: number; readonly heldBytes: number } {
    let heldBytes = 0;
    for (const { link } of this.#guests) heldBytes += link.heldBytes;
    return { strangers: this.#reception.strangers, agents: this.#sessions.size, heldBytes };
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
    if (this.#listening || this.#closed)
      throw new ChannelError('listen', 'the channel listens already, or is closed');
    const bound = await this.#reception.listen(at);
    this.#listening = true;
    return bound;
  }

  /** Agents that come from now on are shown this certificate; those that are there stay. Not for a channel without TLS. */
  renew(identity: Identity): void {
    this.#reception.renew(identity);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const guests = [...this.#guests];
    for (const { link } of guests) link.close(new ChannelError('closed', 'the controller stops'));
    await Promise.all([this.#reception.close(), ...guests.map(({ link }) => link.finished)]);
    this.#quiet.close();
  }

  #greet(socket: WebSocket, visitor: Visitor): void {
    const guest: Guest = {
      visitor,
      session: undefined,
      name: undefined,
      greeted: false,
      link: new Link<ControllerMessage, AgentMessage>({
        socket,
        stream: visitor.stream,
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
          this.#ended(guest, reason);
          this.#reception.dismiss(visitor);
        },
        farewell,
      }),
    };
    this.#guests.add(guest);
    void guest.link.finished.then(() => this.#guests.delete(guest));
    visitor.onSendAway = (reason) => guest.link.close(reason);
    if (this.#closed) guest.link.close(new ChannelError('closed', 'the controller stops'));
  }

  #stranger(guest: Guest, message: AgentMessage): void {
    if (message.type !== 'hello' || guest.greeted)
      throw new ChannelError('bad-message', `a ${message.type} came out of turn: say hello, once`);
    guest.greeted = true;
    this.#welcome(guest, message).catch((error: unknown) =>
      guest.link.close(
        error instanceof ChannelError
          ? error
          : new ChannelError('refused', messageOf(error), { cause: error }),
      ),
    );
  }

  async #welcome(guest: Guest, hello: Hello): Promise<void> {
    const { domain: name, capabilities } = hello;
    const { agent } = guest.visitor;
    if (agent && !agent.domains.includes(name))
      throw new ChannelError(
        'refused',
        `this agent's certificate is for ${listed(agent.domains)}, not for "${name}": correct the name, or issue a certificate ("paguro pki issue agent ${name}")`,
      );
    if (!this.#expected.has(name))
      throw new ChannelError(
        'refused',
        `the controller has no edge domain "${name}": add it to its configuration, or correct the name in the agent's`,
      );
    guest.name = name;
    if (this.#claimed.has(name))
      throw new ChannelError('refused', `another agent is just claiming the name "${name}": try again`);
    this.#claimed.add(name);
    guest.visitor.considered = true;
    try {
      await this.#makeRoom(name);
    } finally {
      this.#claimed.delete(name);
    }
    const handler = this.#expected.get(name);
    if (!guest.link.open || !handler) return;
    this.#reception.accept(guest.visitor);
    guest.link.trust();
    const session = new AgentSession(guest.link, capabilities, this.#limits, this.#clock);
    guest.session = session;
    this.#sessions.set(name, session);
    guest.link.send({ type: 'hello-ack', protocol: hello.protocol });
    this.#quiet.say(
      `connected ${name}`,
      'info',
      { domain: name, from: guest.link.remoteAddress },
      'agent connected',
      MOST_COMINGS,
    );
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

  #ended({ session, name, visitor }: Guest, reason: ChannelError): void {
    const { from } = visitor;
    if (!session || name === undefined) {
      if (this.#closed) return;
      // Names that are expected or certified only: a peer could have each of its lines be of another kind.
      const who = name ?? visitor.agent?.domains[0];
      const kind = `refused ${from} ${reason.code} ${who ?? ''}`;
      this.#quiet.say(kind, 'warn', { from, domain: who, problem: reason.message }, 'a peer was refused');
      return;
    }
    session.ended(reason);
    if (this.#sessions.get(name) !== session) return;
    this.#sessions.delete(name);
    const misbehaved = reason.code === 'bad-message' || reason.code === 'too-large';
    this.#quiet.say(
      `disconnected ${name} ${reason.code}`,
      misbehaved ? 'warn' : 'info',
      { domain: name, from, reason: reason.message },
      misbehaved ? 'an agent misbehaved: hung up on it' : 'agent disconnected',
      misbehaved ? 1 : MOST_COMINGS,
    );
    this.#expected.get(name)?.disconnected(session, reason);
  }
}

function farewell(reason: ChannelError): ControllerMessage | undefined {
  const message = reason.message.slice(0, MAX_ERROR_TEXT);
  if (reason.code === 'version' || reason.code === 'refused')
    return { type: 'refusal', code: reason.code, message };
  return reason.code === 'closed' ? undefined : { type: 'error', code: 'invalid', message };
}
