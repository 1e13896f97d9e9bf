/**
 * The connections of one instance that have adoption rules in the switch, and when those rules must go. No I/O. They are imported ones that the switch
 * does not track yet, and silent ones: known here, but the switch forgets them before their time is over.
 *
 * A live adoption rule admits packets from the middle of its connection, also after that has closed: so it goes
 *   - `settleMs` after the switch tracks the connection in both directions (a datagram's: after it tracks it at all),
 *   - `settleMs` after the connection was seen closed,
 *   - when the time the connection had left runs out, counted from activation: a standby does not age.
 *     The time of silent ones is the connection table's.
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import { adoptionKey } from '../../pipeline/index.js';
import { imported, type Tracked } from './tracker.js';

interface Entry {
  readonly connection: Connection;
  /** The clock's ms at which the time left began to run; undefined on a standby. */
  startedMs: number | undefined;
  /** Does the switch track it? From then on the connection table knows it. */
  tracked: boolean;
  removeAtMs: number | undefined;
  /** Silent, and has not spoken since. */
  silent: boolean;
}

export class AdoptionSet {
  readonly #entries = new Map<string, Entry>();
  /** By rules that connections share: whose they are. */
  readonly #sharers = new Map<string, Map<string, Connection>>();
  /** Rules that have changed since `takeStale`. */
  readonly #stale = new Set<string>();
  readonly #settleMs: number;
  #silent = 0;
  #startedMs: number | undefined;

  constructor(settleMs: number) {
    this.#settleMs = settleMs;
  }

  get size(): number {
    return this.#entries.size;
  }

  get stale(): boolean {
    return this.#stale.size > 0;
  }

  /** The `adoptionKey`s of rules that have changed. Who takes them states them in the switch, or gives them back. */
  takeStale(): string[] {
    const keys = [...this.#stale];
    this.#stale.clear();
    return keys;
  }

  giveBack(keys: readonly string[]): void {
    for (const key of keys) this.#stale.add(key);
  }

  /** The connections that need the rules of this key; none when the rules must go. */
  needing(key: string): Connection[] {
    return [...(this.#sharers.get(key)?.values() ?? [])];
  }

  /** Adds an imported connection, or renews what was told of it. Closed ones are not adopted. True when something is new. */
  put(connection: Connection, nowMs: number): boolean {
    const key = connectionKey(connection);
    const before = this.#entries.get(key);
    if (before?.tracked) return false;
    if (before && JSON.stringify(before.connection) === JSON.stringify(connection)) return false;
    const had = this.#remove(key);
    if (connection.protocol === 'tcp' && connection.state === 'closed') return had;
    const startedMs = this.#startedMs === undefined ? undefined : nowMs;
    this.#add(key, { connection, startedMs, tracked: false, removeAtMs: undefined, silent: false });
    return true;
  }

  /** How many silent connections there are. */
  get silent(): number {
    return this.#silent;
  }

  isSilent(key: string): boolean {
    return this.#entries.get(key)?.silent === true;
  }

  /** A connection that the switch is about to forget. */
  putSilent(connection: Connection): void {
    const key = connectionKey(connection);
    this.#remove(key);
    const silent = { connection, startedMs: undefined, tracked: true, removeAtMs: undefined, silent: true };
    this.#add(key, silent);
  }

  /** The first of the silent connections, as they came. */
  oldestSilent(count: number): Connection[] {
    const found: Connection[] = [];
    if (count <= 0) return found;
    for (const { connection, silent } of this.#entries.values()) {
      if (silent) found.push(connection);
      if (found.length === count) break;
    }
    return found;
  }

  /** These need not be adopted any more. */
  removeIf(isOver: (connection: Connection) => boolean): void {
    for (const [key, { connection }] of this.#entries) if (isOver(connection)) this.#remove(key);
  }

  /** The other domain says that a connection has ended. One that the switch tracks by now lives on. True when it was known. */
  end(key: string): boolean {
    return this.#entries.get(key)?.tracked === false && this.#remove(key);
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

  /**
   * A packet of the connection: the switch tracks it. `adopted`: since this packet; `bothWays`: it has seen each end.
   */
  seen(key: string, what: { adopted: boolean; bothWays: boolean; closed: boolean }, nowMs: number): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.tracked = true;
    const remembered = entry.silent && !what.adopted;
    const done = what.closed || what.bothWays || entry.connection.protocol !== 'tcp' || remembered;
    this.#speaks(entry);
    if (done) entry.removeAtMs ??= nowMs + this.#settleMs;
  }

  /** The origin for the connection table. */
  origin(key: string, nowMs: number): Tracked | undefined {
    const connection = this.waiting(key);
    return connection && imported(connection, nowMs);
  }

  /**
   * Removes what need not be adopted any more; returns the keys of connections that never showed up in their time.
   * `isTracked` says whether the connection table still knows a connection.
   */
  sweep(nowMs: number, isTracked: (key: string) => boolean): string[] {
    const ended: string[] = [];
    for (const [key, entry] of this.#entries) {
      const late = !entry.tracked && left(entry, nowMs) <= 0;
      const gone = entry.tracked && !isTracked(key);
      if (!late && !gone && (entry.removeAtMs ?? Number.POSITIVE_INFINITY) > nowMs) continue;
      this.#remove(key);
      if (late) ended.push(key);
    }
    return ended;
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

  #add(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    if (entry.silent) this.#silent++;
    const rules = adoptionKey(entry.connection);
    const sharers = this.#sharers.get(rules) ?? new Map<string, Connection>();
    this.#sharers.set(rules, sharers.set(key, entry.connection));
    this.#stale.add(rules);
  }

  #speaks(entry: Entry): void {
    if (entry.silent) this.#silent--;
    entry.silent = false;
  }

  #remove(key: string): boolean {
    const entry = this.#entries.get(key);
    if (!entry) return false;
    this.#speaks(entry);
    this.#entries.delete(key);
    const rules = adoptionKey(entry.connection);
    const sharers = this.#sharers.get(rules);
    sharers?.delete(key);
    if (sharers?.size === 0) this.#sharers.delete(rules);
    this.#stale.add(rules);
    return true;
  }
}

/** ms. */
function left(entry: Entry, nowMs: number): number {
  const elapsed = entry.startedMs === undefined ? 0 : nowMs - entry.startedMs;
  return entry.connection.timeLeftSeconds * 1000 - elapsed;
}
