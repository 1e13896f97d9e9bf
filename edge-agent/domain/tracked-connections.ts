/**
 * The connections of one instance: the kernel's table, what the agent knows of it, and the events that keep the two alike.
 *
 * What is known changes by the kernel's events alone, so that it is what is really there, whoever changed it. Events that were lost are
 * not passed over: what is known is compared with the whole table before anything else is done with it.
 *
 * On a standby entries do not age. From `begin` on each has its true time: those that are there get it in portions, in the terminal's queue, behind the
 * activation.
 */
import type { ChangeLog } from '../../shared/domain/change-log.js';
import { DomainError, type InstanceId } from '../../shared/domain/domain.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import type { Change } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { idleSeconds } from '../../shared/firewall/timeouts.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { type ConnectionEvent, ownAddresses } from '../conntrack/connection.js';
import { Relay } from '../conntrack/relay.js';
import { ConnectionTable, type TableChanges } from '../conntrack/table.js';
import type { Compartment } from '../runtime/runtime.js';
import { ConnectionMirror } from './connection-mirror.js';
import { LEAST_SECONDS, STANDBY_SECONDS, secondsAtActivation } from './idle-time.js';
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
  /** The least time that entries have at activation. */
  readonly leastSeconds: number | undefined;
  /** The socket's buffer for events, in bytes. */
  readonly eventBufferBytes: number | undefined;
}

/** When comparing fails and it is the so-manieth time in a row, followers are told that they miss changes. */
const PATIENCE = 5;
const CALM_MS = 10_000;
/** Doubled with each try. */
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
/** Entries that get their true time in one go, and the pause behind them: other calls come in between. */
const PORTION = 2048;
const PORTION_PAUSE_MS = 5;

export class TrackedConnections {
  /** The terminal's addresses; whoever holds the set sees them change. */
  readonly #own: Set<string>;
  readonly #mirror = new ConnectionMirror();
  #kernel: { readonly relay: Relay; readonly table: ConnectionTable } | undefined;
  /** What is known may not be what is there. */
  #isStale = false;
  /** How often in a row events were lost, or a comparison failed. */
  #losses = 0;
  #timer: NodeJS.Timeout | undefined;
  #calm: NodeJS.Timeout | undefined;
  #hasBegun = false;
  /** The connections whose entries do not age, as they were told. */
  readonly #ageless = new Map<string, Connection>();
  #isSettingTimes = false;
  #portions: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(private readonly parts: TrackingParts) {
    this.#own = new Set(ownAddresses(parts.terminal));
  }

  /** Listens, then loads: nothing that happens to what is loaded is missed. */
  async start(connections: readonly Connection[]): Promise<void> {
    const { table } = await this.#open();
    await this.#change(table, { ended: [], added: connections, updated: [] });
  }

  /**
   * Takes changes of another instance over; what is new by them is told before the call settles. `advanceOnly`: see ConnectionMirror. When it fails, what
   * was done is known and told, and a repetition does the rest.
   */
  async apply(changes: readonly Change[], advanceOnly: boolean): Promise<void> {
    const table = await this.#settled();
    await this.#change(table, this.#mirror.plan(changes, advanceOnly));
  }

  /** From now on entries age. Returns at once, may be repeated, and starts no process. */
  begin(): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#setTimes();
  }

  /** Every connection, with the time that the kernel says. Those that do not age yet have the time that was told. */
  async timed(): Promise<readonly Connection[]> {
    const table = await this.#settled();
    const read = await table.read([...this.#mirror.known()]);
    const times = new Map(read.map((connection) => [connectionKey(connection), connection.timeLeftSeconds]));
    // What the kernel has said meanwhile came before its answer.
    return [...this.#mirror.known()].map((connection) => {
      const timeLeftSeconds = times.get(connectionKey(connection)) ?? connection.timeLeftSeconds;
      return this.#asTold({ ...connection, timeLeftSeconds });
    });
  }

  /** The same without asking the kernel, whose events keep it true. Times are those of the last event. */
  async known(): Promise<Iterable<Connection>> {
    await this.#settled();
    return this.#mirror.known();
  }

  /** How many there are, and their digest. */
  async digest(): Promise<{ readonly connections: number; readonly digest: string }> {
    await this.#settled();
    return this.#mirror.digest;
  }

  /** Connections of addresses that the terminal has no more are over. The rules let nothing of them begin by now. */
  async setTerminal(terminal: Terminal): Promise<void> {
    const table = await this.#settled();
    const next = ownAddresses(terminal);
    const gone = [...this.#own].filter((address) => !next.has(address));
    for (const address of next) this.#own.add(address);
    for (const address of gone) {
      this.#own.delete(address);
      this.#mirror.forget(address);
    }
    await table.deleteAddresses(gone);
  }

  /** May be called twice. */
  close(): void {
    this.#isClosed = true;
    for (const timer of [this.#timer, this.#calm, this.#portions]) clearTimeout(timer);
    this.#kernel?.relay.close();
  }

  async #open(): Promise<{ readonly relay: Relay; readonly table: ConnectionTable }> {
    const { compartment, eventBufferBytes } = this.parts;
    const relay = await Relay.start(
      compartment,
      this.#own,
      {
        events: (events) => this.#observe(events),
        overrun: () => this.#lost('more came at once than the socket holds'),
        ended: (reason) => {
          this.#kernel = undefined;
          this.#lost(reason);
        },
      },
      { eventBufferBytes },
    );
    this.#kernel = { relay, table: new ConnectionTable(relay, this.#own) };
    if (this.#isClosed) relay.close();
    return this.#kernel;
  }

  async #change(table: ConnectionTable, changes: TableChanges): Promise<void> {
    if (!this.#hasBegun) {
      for (const connection of [...changes.added, ...changes.updated])
        this.#ageless.set(connectionKey(connection), connection);
    }
    const late = await table
      .change(changes, (connection) => this.#seconds(connection))
      .catch((error: unknown) => {
        for (const key of changes.added.map(connectionKey))
          if (!this.#mirror.get(key)) this.#ageless.delete(key);
        throw error;
      });
    // The events that say what is there have come before the answer.
    const later = late.flatMap((connection) => this.#mirror.get(connectionKey(connection)) ?? []);
    if (later.length > 0) await table.retime(later, (connection) => this.#seconds(connection));
  }

  #seconds(connection: Connection): number {
    return this.#hasBegun
      ? secondsAtActivation(connection, this.parts.leastSeconds ?? LEAST_SECONDS)
      : STANDBY_SECONDS;
  }

  #asTold(connection: Connection): Connection {
    const told = this.#ageless.get(connectionKey(connection));
    return told ? { ...connection, timeLeftSeconds: told.timeLeftSeconds } : connection;
  }

  #observe(events: readonly ConnectionEvent[]): void {
    const changes: Change[] = [];
    for (const event of events) {
      const isOurs = this.#kernel?.relay.isOurs(event) ?? true;
      const connection = isOurs ? this.#asTold(event.connection) : event.connection;
      const change = this.#mirror.observe({ ...event, connection });
      if (change) changes.push(change);
      if (event.event === 'destroy') this.#ageless.delete(connectionKey(connection));
      else if (isOurs) this.#watchTime(event.connection);
    }
    this.parts.changes.append(changes);
  }

  /** A packet may have changed the state just before an entry got the time of the state before. */
  #watchTime(connection: Connection): void {
    const key = connectionKey(connection);
    if (!this.#hasBegun || this.#ageless.has(key)) return;
    if (connection.timeLeftSeconds <= idleSeconds(connection)) return;
    this.#ageless.set(key, connection);
    this.#setTimes();
  }

  /** Gives the ageless entries their times, one portion after another. */
  #setTimes(): void {
    if (this.#isSettingTimes || this.#isClosed || this.#ageless.size === 0) return;
    this.#isSettingTimes = true;
    this.parts.enqueue(async () => {
      let waitMs = FIRST_RETRY_MS;
      try {
        await this.#setTimesOf([...this.#ageless].slice(0, PORTION));
        waitMs = PORTION_PAUSE_MS;
      } finally {
        this.#portions = withDeadline(waitMs, () => {
          this.#isSettingTimes = false;
          this.#setTimes();
        });
      }
    });
  }

  async #setTimesOf(portion: readonly (readonly [string, Connection])[]): Promise<void> {
    if (this.#isClosed) return;
    const table = await this.#settled();
    const there = portion.flatMap(([key, told]) => {
      const connection = this.#mirror.get(key);
      return connection ? [{ ...connection, timeLeftSeconds: told.timeLeftSeconds }] : [];
    });
    // Before they are set: what the kernel says of it then is not passed over.
    for (const [key] of portion) this.#ageless.delete(key);
    try {
      await table.retime(there, (connection) => this.#seconds(connection));
    } catch (error) {
      for (const [key, told] of portion) if (this.#mirror.get(key)) this.#ageless.set(key, told);
      throw error;
    }
  }

  #lost(reason: string): void {
    if (this.#isClosed) return;
    this.#isStale = true;
    const { id, log } = this.parts;
    log.warn({ ...id, reason }, 'conntrack events were lost: comparing with the whole table');
    this.#compareSoon();
  }

  /** At once the first time, then later and later. */
  #compareSoon(): void {
    clearTimeout(this.#calm);
    if (this.#timer || this.#isClosed) return;
    const waitMs = this.#losses === 0 ? 0 : Math.min(FIRST_RETRY_MS * 2 ** (this.#losses - 1), MAX_RETRY_MS);
    this.#losses += 1;
    this.#timer = withDeadline(waitMs, () => {
      this.#timer = undefined;
      this.parts.enqueue(async () => {
        if (!this.#isClosed) await this.#settled();
      });
    });
  }

  /**
   * The table, when what is known is what is there. Fails with `refused`; then it is tried again, and followers that have waited long are told to
   * take a new snapshot: no change is silently left out.
   */
  async #settled(): Promise<ConnectionTable> {
    if (this.#isClosed) throw new DomainError('refused', 'the instance is being removed');
    if (this.#kernel && !this.#isStale) return this.#kernel.table;
    try {
      return await this.#compare();
    } catch (error) {
      this.#isStale = true;
      this.#compareSoon();
      if (this.#losses >= PATIENCE) {
        const message = `conntrack events are lost again and again: ${messageOf(error)}; take a new snapshot`;
        this.parts.changes.interrupt(new DomainError('changes-lost', message));
      }
      throw error;
    }
  }

  /** Listens first, then takes the whole table: what happens in between is reported, too. */
  async #compare(): Promise<ConnectionTable> {
    const { table } = this.#kernel ?? (await this.#open());
    this.#isStale = false;
    this.#mirror.beginDump();
    const connections = await table.dump();
    this.parts.changes.append(this.#mirror.replace(connections.map((each) => this.#asTold(each))));
    if (this.#isStale) throw new DomainError('refused', 'events were lost again');
    this.#calm = withDeadline(CALM_MS, () => {
      this.#losses = 0;
    });
    return table;
  }
}
