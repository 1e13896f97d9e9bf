/**
 * The connections of one instance that wait for the switch to track them, or have adoption rules there, and when those rules must go. No I/O. They are
 * imported ones that the switch does not track yet, and silent ones: known here, but the switch forgets them before their time is over.
 *
 * A live adoption rule admits packets from the middle of its connection, also after that has closed: so it goes
 *   - `settleMs` after the switch tracks the connection in both directions (a datagram's: after it tracks it at all),
 *   - `settleMs` after the connection was seen closed; one that is closed when it is imported never gets one,
 *   - when the time the connection had left runs out, counted from activation: a standby does not age.
 *     The time of silent ones is the connection table's.
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import { isSameConnection } from '../../../shared/firewall/digest.js';
import { adoptionKey } from '../../pipeline/index.js';
import type { Tracking } from './record.js';
import { imported, type Tracked } from './tracker.js';

interface Entry {
  connection: Connection;
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

  /** Adds an imported connection, or renews what was told of it. True when something is new. Time: constant. */
  put(connection: Connection, nowMs: number): boolean {
    const key = connectionKey(connection);
    const before = this.#entries.get(key);
    if (before?.tracked) return false;
    if (before && isSameConnection(before.connection, connection)) return false;
    const startedMs = this.#startedMs === undefined ? undefined : nowMs;
    if (before && haveSameRules(before.connection, connection)) {
      before.connection = connection;
      before.startedMs = startedMs;
      this.#sharers.get(adoptionKey(connection))?.set(key, connection);
      return true;
    }
    this.remove(key);
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
    this.remove(key);
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

  /** As an earlier controller kept it: its rules are in the switch. Its time begins anew. */
  resume(connection: Connection, tracking: Exclude<Tracking, 'tracked'>, nowMs: number): void {
    const waits = tracking === 'waiting';
    this.#add(connectionKey(connection), {
      connection,
      startedMs: waits && this.#startedMs !== undefined ? nowMs : undefined,
      tracked: !waits,
      removeAtMs: tracking === 'settling' ? nowMs + this.#settleMs : undefined,
      silent: tracking === 'silent',
    });
  }

  /** How far the adoption of a connection is; undefined when it needs none. */
  tracking(key: string): Exclude<Tracking, 'tracked'> | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (!entry.tracked) return 'waiting';
    if (entry.silent) return 'silent';
    return entry.removeAtMs === undefined ? 'adopting' : 'settling';
  }

  keys(): Iterable<string> {
    return this.#entries.keys();
  }

  /** The connection need not be adopted any more. */
  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#speaks(entry);
    this.#entries.delete(key);
    if (!needsRules(entry.connection)) return;
    const rules = adoptionKey(entry.connection);
    const sharers = this.#sharers.get(rules);
    sharers?.delete(key);
    if (sharers?.size === 0) this.#sharers.delete(rules);
    this.#stale.add(rules);
  }

  /** The other domain says that a connection has ended. One that the switch tracks by now lives on. True when it was known. */
  end(key: string): boolean {
    if (this.#entries.get(key)?.tracked !== false) return false;
    this.remove(key);
    return true;
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
   * Removes what need not be adopted any more. `late` are connections that never showed up in their time, `done` the keys of those whose rules have
   * done their work. `isTracked` says whether the connection table still knows a connection.
   */
  sweep(
    nowMs: number,
    isTracked: (key: string) => boolean,
  ): { readonly late: Connection[]; readonly done: string[] } {
    const late: Connection[] = [];
    const done: string[] = [];
    for (const [key, entry] of this.#entries) {
      if (!entry.tracked && left(entry, nowMs) <= 0) late.push(entry.connection);
      else if (entry.tracked && (!isTracked(key) || (entry.removeAtMs ?? Number.POSITIVE_INFINITY) <= nowMs))
        done.push(key);
    }
    for (const key of [...late.map(connectionKey), ...done]) this.remove(key);
    return { late, done };
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
    if (!needsRules(entry.connection)) return;
    const rules = adoptionKey(entry.connection);
    const sharers = this.#sharers.get(rules) ?? new Map<string, Connection>();
    this.#sharers.set(rules, sharers.set(key, entry.connection));
    this.#stale.add(rules);
  }

  #speaks(entry: Entry): void {
    if (entry.silent) this.#silent--;
    entry.silent = false;
  }
}

function needsRules(connection: Connection): boolean {
  return connection.protocol !== 'tcp' || connection.state !== 'closed';
}

/** Of the same key: do the rules say the same? Of TCP they say who opened it, of datagrams also whether there was a reply. */
function haveSameRules(a: Connection, b: Connection): boolean {
  if (a.opener !== b.opener || needsRules(a) !== needsRules(b)) return false;
  return a.protocol === 'tcp' || (b.protocol !== 'tcp' && a.replied === b.replied);
}

/** ms. */
function left(entry: Entry, nowMs: number): number {
  const elapsed = entry.startedMs === undefined ? 0 : nowMs - entry.startedMs;
  return entry.connection.timeLeftSeconds * 1000 - elapsed;
}
