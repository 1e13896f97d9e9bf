/**
 * The connections of one instance: the kernel's table, what the agent believes it to hold, and the stream of events that keeps the two alike.
 *
 * Events that were lost are not passed over: the stream is started anew and the belief compared with the whole table.
 */
import type { ChangeLog } from '../../shared/domain/change-log.js';
import { DomainError, type InstanceId } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import type { Change } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { EventStream } from '../conntrack/events.js';
import { ownAddresses, type ParsedEvent } from '../conntrack/parse.js';
import { ConnectionTable } from '../conntrack/table.js';
import type { Compartment } from '../runtime/runtime.js';
import { ConnectionMirror } from './connection-mirror.js';
import { withDeadline } from './timer.js';

export interface TrackingParts {
  readonly id: InstanceId;
  readonly compartment: Compartment;
  readonly terminal: Terminal;
  /** Where what happens is told. */
  readonly changes: ChangeLog;
  readonly log: Log;
  /** Runs an action of an event's in the terminal's queue, where no call is under way. */
  readonly enqueue: (act: () => Promise<void>) => void;
  /** The least time that loaded entries begin with. */
  readonly standbySeconds: number;
  /** The socket's buffer for events, in bytes. */
  readonly eventBufferBytes: number | undefined;
}

/** How often the stream of events may break and be mended before the instance gives up reporting changes. */
const MAX_RESYNCS_IN_A_ROW = 5;
const RESYNC_CALM_MS = 10_000;
/** Doubled with each try. */
const FIRST_RETRY_MS = 500;

export class TrackedConnections {
  /** The terminal's addresses; whoever holds the set sees them change. */
  readonly #own: Set<string>;
  readonly #table: ConnectionTable;
  readonly #mirror: ConnectionMirror;
  #stream: EventStream | undefined;
  #resyncs = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    private readonly parts: TrackingParts,
    connections: readonly Connection[],
  ) {
    this.#own = new Set(ownAddresses(parts.terminal));
    this.#table = new ConnectionTable(parts.compartment, this.#own, parts.standbySeconds);
    this.#mirror = new ConnectionMirror(connections);
  }

  /** Listens, then loads: nothing that happens to what is loaded is missed. */
  async start(connections: readonly Connection[]): Promise<void> {
    await this.#listen();
    await this.#table.load(connections);
  }

  /** Takes connections of another instance over, and tells of what is new by it. `advanceOnly`: see ConnectionMirror. */
  async apply(changes: readonly Change[], advanceOnly: boolean): Promise<void> {
    const result = this.#mirror.apply(changes, advanceOnly);
    try {
      await this.#table.change(result.table);
    } catch (error) {
      // Who repeats the call finds everything still to be done.
      result.undo();
      throw error;
    }
    this.parts.changes.append(result.changes);
  }

  /** What the kernel is believed to hold. */
  known(): Iterable<Connection> {
    return this.#mirror.known();
  }

  /** Every connection that the kernel knows. */
  dump(): Promise<readonly Connection[]> {
    return this.#table.dump();
  }

  /** Connections of addresses that the terminal has no more are over. The rules let nothing of them begin by now. */
  async setTerminal(terminal: Terminal): Promise<void> {
    const next = ownAddresses(terminal);
    const gone = [...this.#own].filter((address) => !next.has(address));
    for (const address of next) this.#own.add(address);
    for (const address of gone) {
      this.#own.delete(address);
      this.#mirror.forget(address);
    }
    await this.#table.deleteAddresses(gone);
  }

  /** May be called twice. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stream?.close();
  }

  async #listen(): Promise<void> {
    const { compartment, eventBufferBytes } = this.parts;
    const stream = await EventStream.start(
      compartment,
      this.#own,
      {
        events: (events) => this.#observe(events),
        lost: (reason) => this.#lost(reason),
      },
      eventBufferBytes,
    );
    if (this.#closed) stream.close();
    else this.#stream = stream;
  }

  #observe(events: readonly ParsedEvent[]): void {
    this.parts.changes.append(events.flatMap((event) => this.#mirror.observe(event) ?? []));
  }

  #lost(reason: string): void {
    if (this.#closed) return;
    const { id, log, enqueue } = this.parts;
    this.#resyncs += 1;
    clearTimeout(this.#timer);
    log.warn({ ...id, reason }, 'conntrack events were lost: comparing with the whole table');
    enqueue(() => this.#resync(reason));
  }

  /**
   * Listens anew first, then takes the whole table: what happens in between is reported, too. What can't be mended after some tries is told to
   * whoever follows the changes: they take new snapshots then, and no change is silently left out.
   */
  async #resync(reason: string): Promise<void> {
    if (this.#closed) return;
    if (this.#resyncs > MAX_RESYNCS_IN_A_ROW) {
      const message = `conntrack events are lost again and again: ${reason}`;
      this.parts.changes.end(new DomainError('changes-lost', message));
      return;
    }
    try {
      await this.#listen();
      this.parts.changes.append(this.#mirror.replace(await this.#table.dump()));
      this.#timer = withDeadline(RESYNC_CALM_MS, () => {
        this.#resyncs = 0;
      });
    } catch (error) {
      const waitMs = FIRST_RETRY_MS * 2 ** this.#resyncs;
      this.#timer = withDeadline(waitMs, () => this.#lost(messageOf(error)));
      throw error;
    }
  }
}
