/**
 * The kernel's stream of conntrack events of one compartment, through `conntrack -E`.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../shared/domain/domain.js';
import type { Compartment, LongRunning } from '../runtime/runtime.js';
import { LineCutter } from './lines.js';
import { type OwnAddresses, type ParsedEvent, parseEvent } from './parse.js';
import { CONNTRACK } from './table.js';

export interface EventListener {
  /** In the order in which the kernel reported them. */
  events(events: readonly ParsedEvent[]): void;
  /** Events were lost: what was reported so far is no longer the whole truth. The stream has closed itself. */
  lost(reason: string): void;
}

/** The socket's buffer: room for some 100,000 events while the reader is busy. */
const BUFFER_BYTES = 16 * 2 ** 20;
const MAX_COMPLAINT_CHARACTERS = 2000;
const LISTENING_DEADLINE_MS = 5000;
const LISTENING_POLL_MS = 3;
const NETLINK_NETFILTER = '12';

export class EventStream {
  readonly #lines = new LineCutter();
  #complaint = '';
  #closed = false;

  private constructor(
    private readonly child: LongRunning,
    private readonly own: OwnAddresses,
    private readonly listener: EventListener,
  ) {
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.#complain(text));
    child.on('error', (error) => this.#lose(error.message));
    child.on('close', (code, signal) =>
      this.#lose(`conntrack -E ended (${signal ?? `exit code ${code}`}) ${this.#complaint}`),
    );
  }

  /** Starts listening; when the promise settles no event will be missed any more. */
  static async start(
    compartment: Compartment,
    own: OwnAddresses,
    listener: EventListener,
    bufferBytes: number = BUFFER_BYTES,
  ): Promise<EventStream> {
    const child = compartment.start(CONNTRACK, ['-E', '-o', 'extended', '-b', `${bufferBytes}`]);
    const stream = new EventStream(child, own, listener);
    try {
      await stream.#listening();
      return stream;
    } catch (error) {
      stream.close();
      throw error;
    }
  }

  /** May be called twice. */
  close(): void {
    this.#closed = true;
    this.child.kill('SIGKILL');
  }

  /** conntrack does not say when it listens; its network namespace does: a netfilter socket with groups. */
  async #listening(): Promise<void> {
    const deadline = Date.now() + LISTENING_DEADLINE_MS;
    while (!this.#closed && Date.now() < deadline) {
      const sockets = await readFile(`/proc/${this.child.pid}/net/netlink`, 'utf8').catch(() => '');
      // nsenter's first moments show the namespace of the agent, where somebody else may listen.
      if (isListening(sockets) && (await this.#entered())) return;
      await delay(LISTENING_POLL_MS);
    }
    throw new DomainError(
      'refused',
      `conntrack does not report events: ${this.#complaint.trim() || 'no answer'}; look whether the kernel has nf_conntrack_netlink`,
    );
  }

  async #entered(): Promise<boolean> {
    const command = await readFile(`/proc/${this.child.pid}/cmdline`, 'utf8').catch(() => '');
    return command.startsWith(CONNTRACK);
  }

  #read(text: string): void {
    if (this.#closed) return;
    const lines = this.#lines.push(text);
    if (!lines) {
      this.#lose('conntrack -E printed a line without end');
      return;
    }
    const events = lines.flatMap((line) => parseEvent(line, this.own) ?? []);
    if (events.length > 0) this.listener.events(events);
  }

  #complain(text: string): void {
    this.#complaint = (this.#complaint + text).slice(-MAX_COMPLAINT_CHARACTERS);
    if (this.#complaint.includes('ENOBUFS')) this.#lose('more events than the socket holds');
  }

  #lose(reason: string): void {
    if (this.#closed) return;
    this.close();
    this.listener.lost(reason.trim());
  }
}

/** Whether `/proc/…/net/netlink` shows a netfilter socket that is a member of groups (columns: sk Eth Pid Groups …). */
export function isListening(sockets: string): boolean {
  return sockets.split('\n').some((line) => {
    const [, protocol, , groups = '0'] = line.trim().split(/\s+/);
    return protocol === NETLINK_NETFILTER && !/^0+$/.test(groups);
  });
}
