/**
 * The agent's way to the connection table of one compartment's kernel: the relay (relay.pl), a process that lives as long as the compartment is used.
 *
 * Who closes what: `close` ends the process; when that ends by itself, or says what has no meaning, everything that waits fails and the listener
 * is told once.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DomainError } from '../../shared/domain/domain.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { projectRoot } from '../../shared/runtime/project-root.js';
import type { Compartment, LongRunning } from '../runtime/runtime.js';
import { type ConnectionEvent, eventOf, type OwnAddresses } from './connection.js';
import { type Frame, FrameCutter, frameFor } from './frames.js';
import { messagesOf } from './netlink.js';
import { Requests, type Visit } from './requests.js';

export interface RelayListener {
  /** In the order in which the kernel reported them; what a request causes comes before the request is answered. */
  events(events: readonly ConnectionEvent[]): void;
  /** Events were lost: what was reported so far is no longer the whole truth. Later ones come again. */
  overrun(): void;
  /** It has ended: nothing comes any more. */
  ended(reason: string): void;
}

export interface RelayOptions {
  /** For events that were not read yet. Default 16 MiB: room for some 20,000. */
  readonly eventBufferBytes?: number | undefined;
}

const PERL = '/usr/bin/perl';
/** Where the program is read from once. It is handed over as an argument: who runs it may not read the agent's files. */
const PROGRAM = join('edge-agent', 'conntrack', 'relay.pl');
const EVENT_BUFFER_BYTES = 16 * 2 ** 20;
const START_DEADLINE_MS = 10_000;
const MAX_COMPLAINT_CHARACTERS = 2000;

let program: string | undefined;

export class Relay {
  readonly #frames = new FrameCutter();
  readonly #requests = new Requests((messages) => this.child.stdin.write(frameFor(messages)));
  #port: number | undefined;
  #ready: (error?: Error) => void = () => {};
  #complaint = '';
  #closed = false;

  private constructor(
    private readonly child: LongRunning,
    private readonly own: OwnAddresses,
    private readonly listener: RelayListener,
  ) {
    child.stdout.on('data', (bytes: Buffer) => this.#read(bytes));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-MAX_COMPLAINT_CHARACTERS);
    });
    // Its end says more.
    child.stdin.on('error', () => {});
    child.on('error', (error) => this.#end(error.message));
    child.on('close', (code, signal) =>
      this.#end(`the relay ended (${signal ?? `exit code ${code}`}) ${this.#complaint}`.trim()),
    );
  }

  /** Starts it; when the promise settles it listens, and no event is missed any more. Fails with `refused`. */
  static async start(
    compartment: Compartment,
    own: OwnAddresses,
    listener: RelayListener,
    { eventBufferBytes = EVENT_BUFFER_BYTES }: RelayOptions = {},
  ): Promise<Relay> {
    program ??= readFileSync(join(projectRoot(), PROGRAM), 'utf8');
    const relay = new Relay(compartment.start(PERL, ['-e', program, `${eventBufferBytes}`]), own, listener);
    await relay.#listening();
    return relay;
  }

  /**
   * Carries out messages one after another; settles with the errnos of those that the kernel refused, by index. What they ask for is shown to `visit`. Fails
   * with `refused`.
   */
  each(messages: readonly Buffer[], visit?: Visit): Promise<ReadonlyMap<number, number>> {
    return this.#requests.each(messages, visit);
  }

  /** Asks for what the kernel answers with many messages. Fails with `refused`. */
  dump(request: Buffer, visit: Visit): Promise<void> {
    return this.#requests.dump(request, visit);
  }

  /** Was this event caused by a request of this relay's? */
  isOurs(event: ConnectionEvent): boolean {
    return event.causedBy === this.#port;
  }

  /** May be called twice. */
  close(): void {
    this.#end(undefined);
  }

  #listening(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#end('it did not begin in time'), START_DEADLINE_MS);
      this.#ready = (error) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve();
      };
    });
  }

  #read(bytes: Buffer): void {
    if (this.#closed) return;
    try {
      for (const frame of this.#frames.push(bytes)) this.#take(frame);
    } catch (error) {
      this.#end(messageOf(error));
    }
  }

  #take(frame: Frame): void {
    switch (frame.kind) {
      case 'ready':
        this.#port ??= frame.port;
        this.#ready();
        break;
      case 'event':
        this.#report(frame.datagram);
        break;
      case 'reply':
        this.#requests.received(frame.datagram);
        break;
      case 'events-lost':
        this.listener.overrun();
        break;
      case 'replies-lost':
        this.#requests.repliesLost();
        break;
      case 'not-sent':
        this.#requests.notSent(frame.sequence, frame.errno);
        break;
    }
  }

  #report(datagram: Buffer): void {
    const events: ConnectionEvent[] = [];
    for (const message of messagesOf(datagram)) {
      const event = eventOf(message, this.own);
      if (event) events.push(event);
    }
    if (events.length > 0) this.listener.events(events);
  }

  /** With a reason it ended by itself. */
  #end(reason: string | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.child.kill('SIGKILL');
    const error = new DomainError(
      'refused',
      `the kernel's connection table is out of reach: ${reason ?? 'it was closed'}; look whether the kernel has nf_conntrack_netlink, and perl runs`,
    );
    this.#requests.fail(error);
    const wasReady = this.#port !== undefined;
    this.#ready(error);
    if (wasReady && reason !== undefined) this.listener.ended(reason);
  }
}
