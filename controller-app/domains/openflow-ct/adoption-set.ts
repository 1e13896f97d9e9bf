/**
 * The imported connections of one instance whose adoption rules are in the switch, and when those rules must go. No I/O.
 *
 * A live adoption rule admits packets from the middle of its connection, also after that has closed: so it goes
 *   - `settleMs` after the switch tracks the connection in both directions (a datagram's: after it tracks it at all),
 *   - `settleMs` after the connection was seen closed,
 *   - when the time the connection had left runs out, counted from activation: a standby does not age.
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import { imported, type Tracked } from './tracker.js';

interface Entry {
  readonly connection: Connection;
  /** The clock's ms at which the time left began to run; undefined on a standby. */
  startedMs: number | undefined;
  /** Does the switch track it? From then on the connection table knows it. */
  tracked: boolean;
  removeAtMs: number | undefined;
}

export class AdoptionSet {
  readonly #entries = new Map<string, Entry>();
  readonly #settleMs: number;
  #startedMs: number | undefined;

  constructor(settleMs: number) {
    this.#settleMs = settleMs;
  }

  /** What needs rules. */
  connections(): Connection[] {
    return [...this.#entries.values()].map((entry) => entry.connection);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Adds an imported connection, or renews what was told of it. Closed ones are not adopted. True when rules change. */
  put(connection: Connection, nowMs: number): boolean {
    const key = connectionKey(connection);
    const before = this.#entries.get(key);
    if (before?.tracked) return false;
    if (connection.protocol === 'tcp' && connection.state === 'closed') return this.#entries.delete(key);
    const startedMs = this.#startedMs === undefined ? undefined : nowMs;
    this.#entries.set(key, { connection, startedMs, tracked: false, removeAtMs: undefined });
    return !before || JSON.stringify(before.connection) !== JSON.stringify(connection);
  }

  /** The other domain says that a connection has ended. One that the switch tracks by now lives on. True when rules change. */
  end(key: string): boolean {
    return this.#entries.get(key)?.tracked === false && this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** The instance is active: the time that connections have left runs from now on. May be repeated. */
  start(nowMs: number): void {
    if (this.#startedMs !== undefined) return;
    this.#startedMs = nowMs;
    for (const entry of this.#entries.values()) entry.startedMs = nowMs;
  }

  /** What is known of a connection that waits to be adopted. */
  waiting(key: string): Connection | undefined {
    const entry = this.#entries.get(key);
    return entry && !entry.tracked ? entry.connection : undefined;
  }

  /** A packet of the connection: `waiting` became tracked; `bothWays` when conntrack has seen each end. */
  seen(key: string, what: { bothWays: boolean; closed: boolean }, nowMs: number): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.tracked = true;
    const done = what.closed || what.bothWays || entry.connection.protocol !== 'tcp';
    if (done) entry.removeAtMs ??= nowMs + this.#settleMs;
  }

  /** The origin for the connection table. */
  origin(key: string, nowMs: number): Tracked | undefined {
    const connection = this.waiting(key);
    return connection && imported(connection, nowMs);
  }

  /**
   * Removes what need not be adopted any more. `ended`: connections that never showed up in their time; `changed`: are there rules to
   * take out? `isTracked` says whether the connection table still knows a connection.
   */
  sweep(nowMs: number, isTracked: (key: string) => boolean): { ended: string[]; changed: boolean } {
    const ended: string[] = [];
    let changed = false;
    for (const [key, entry] of this.#entries) {
      const late = !entry.tracked && left(entry, nowMs) <= 0;
      const gone = entry.tracked && !isTracked(key);
      if (!late && !gone && (entry.removeAtMs ?? Number.POSITIVE_INFINITY) > nowMs) continue;
      this.#entries.delete(key);
      changed = true;
      if (late) ended.push(key);
    }
    return { ended, changed };
  }

  /** Connections that wait, with the time they have left now. */
  export(nowMs: number): Connection[] {
    return [...this.#entries.values()]
      .filter((entry) => !entry.tracked)
      .map((entry) => ({
        ...entry.connection,
        timeLeftSeconds: Math.max(0, Math.ceil(left(entry, nowMs) / 1000)),
      }));
  }
}

/** ms. */
function left(entry: Entry, nowMs: number): number {
  const elapsed = entry.startedMs === undefined ? 0 : nowMs - entry.startedMs;
  return entry.connection.timeLeftSeconds * 1000 - elapsed;
}
