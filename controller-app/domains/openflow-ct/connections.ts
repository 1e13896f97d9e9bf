/**
 * The connections of one instance: those that the switch tracks, those that wait to be adopted, and those that the switch is about to
 * forget. No I/O: what is to be done in the switch is told by `adoption` (rules) and `takeEnded` (entries of its conntrack), what is to be kept by
 * `takeUnkept`.
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../../shared/firewall/digest.js';
import type { Change } from '../../../shared/firewall/state.js';
import { type IdleTimes, idleSeconds } from '../../../shared/firewall/timeouts.js';
import type { Match } from '../../openflow/index.js';
import { type Kind, MARK } from '../../pipeline/index.js';
import { AdoptionSet } from './adoption-set.js';
import { ConnectionTable } from './connection-table.js';
import { observe } from './observation.js';
import type { KeptConnection } from './record.js';
import type { Timings } from './timings.js';
import { sameConnection } from './tracker.js';

export class Connections {
  readonly adoption: AdoptionSet;
  readonly #table: ConnectionTable;
  /** Of all that an export has. */
  readonly #digest = new ConnectionsDigest();
  readonly #maxSilent: number;
  readonly #idleTimes: IdleTimes;
  #ended: Connection[] = [];
  /** Keys of connections that have changed since `takeUnkept`. */
  readonly #unkept = new Set<string>();
  readonly #keeps: boolean;

  /** `keeps`: somebody asks what is to be kept. */
  constructor(timings: Timings, keeps: boolean) {
    this.#table = new ConnectionTable(timings);
    this.adoption = new AdoptionSet(timings.settleMs);
    this.#maxSilent = timings.maxSilent;
    this.#idleTimes = timings.idleTimes;
    this.#keeps = keeps;
  }

  /** Of what `export` would say now. Time: constant. */
  get digest(): { readonly connections: number; readonly digest: string } {
    return { connections: this.#digest.count, digest: this.#digest.value };
  }

  /**
   * A copy of a packet; returns what has changed by it. `couldBe` is asked about a connection that nobody has heard of and that did not open just now: when it
   * says no, the switch is to forget it.
   */
  packetIn(
    kind: Kind,
    match: Match,
    data: Uint8Array,
    nowMs: number,
    couldBe: (connection: Connection) => boolean,
  ): Change | undefined {
    const seen = observe(kind, match, data);
    if (!seen) return undefined;
    const { key } = seen;
    return this.#change(key, () => {
      const origin = this.adoption.origin(key, nowMs);
      const isNew = !origin && !this.#table.get(key);
      const changed = this.#table.observe(seen, nowMs, origin);
      const connection = this.#table.get(key);
      if (isNew && connection && kind !== 'opening' && !couldBe(connection)) {
        this.#table.delete(key);
        this.#ended.push(connection);
        return undefined;
      }
      const closed = connection?.protocol === 'tcp' && connection.state === 'closed';
      // The copy of the first packet back may have been lost: the mark tells of it as well.
      const bothWays = kind === 'reply' || (seen.mark & MARK.replied) !== 0;
      this.adoption.seen(key, { adopted: kind === 'adopted', bothWays, closed }, nowMs);
      return changed && { kind: 'connection', connection: changed };
    });
  }

  /** What another instance tells. What the switch tracks here by now is known better here. Returns whether it was news. */
  take(change: Extract<Change, { kind: 'connection' | 'ended' }>, nowMs: number): boolean {
    const key = change.kind === 'ended' ? change.key : connectionKey(change.connection);
    if (this.#table.get(key)) return false;
    return this.#change(key, () => {
      if (change.kind === 'ended') return this.adoption.end(key);
      // Nothing waits longer than it could be idle.
      const most = idleSeconds(change.connection, this.#idleTimes);
      const timeLeftSeconds = Math.min(change.connection.timeLeftSeconds, most);
      return this.adoption.put({ ...change.connection, timeLeftSeconds }, nowMs);
    });
  }

  /** As an earlier controller kept it. */
  resume({ connection, tracking, finished }: KeptConnection, nowMs: number): void {
    if (tracking !== 'waiting') this.#table.resume({ connection, finished, lastSeenMs: nowMs });
    if (tracking !== 'tracked') this.adoption.resume(connection, tracking, nowMs);
    this.#digest.add(connection);
  }

  /**
   * Time passes. What has been silent for too long is over; what the switch will forget before that is adopted once more when it speaks. Returns the keys
   * of what is over.
   */
  sweep(nowMs: number): string[] {
    const { ended, silent } = this.#table.sweep(nowMs, (key) => this.adoption.isSilent(key));
    for (const connection of silent)
      this.#change(connectionKey(connection), () => this.adoption.putSilent(connection));
    // More than that many are too many rules: those that have been silent for the longest time go.
    const surplus = this.adoption.oldestSilent(this.adoption.silent - this.#maxSilent);
    const over = [...ended, ...surplus];
    for (const connection of over) this.#forget(connection);
    // The switch forgets echoes by themselves no later than this.
    this.#ended.push(...over.filter(({ protocol }) => protocol !== 'icmp'));
    const { late, done } = this.adoption.sweep(nowMs, (key) => this.#table.get(key) !== undefined);
    for (const connection of late) {
      this.#digest.remove(connection);
      this.#note(connectionKey(connection));
    }
    for (const key of done) this.#note(key);
    return [...over, ...late].map(connectionKey);
  }

  /** Connections of addresses that are not among these are over. */
  keepOnly(addresses: ReadonlySet<string>): void {
    const foreign = this.all().filter(({ local }) => !addresses.has(local.address));
    for (const connection of foreign) {
      const key = connectionKey(connection);
      if (this.#table.get(key)) this.#ended.push(connection);
      this.#forget(connection);
      this.adoption.remove(key);
    }
  }

  /** What is over and may still be in the switch's conntrack. Who takes it flushes it there, or gives it back. */
  takeEnded(): Connection[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  giveBack(ended: readonly Connection[]): void {
    this.#ended = [...ended, ...this.#ended];
  }

  /** Is there anything to do in the switch? */
  get stale(): boolean {
    return this.adoption.stale || this.#ended.length > 0;
  }

  get unkept(): boolean {
    return this.#unkept.size > 0;
  }

  /** What has changed since the last time, to be kept. */
  takeUnkept(): { readonly connections: readonly KeptConnection[]; readonly ended: readonly string[] } {
    const connections: KeptConnection[] = [];
    const ended: string[] = [];
    for (const key of this.#unkept) {
      const kept = this.#kept(key);
      if (kept) connections.push(kept);
      else ended.push(key);
    }
    this.#unkept.clear();
    return { connections, ended };
  }

  /** All, to be kept. */
  kept(): KeptConnection[] {
    return this.all().flatMap((connection) => this.#kept(connectionKey(connection)) ?? []);
  }

  /** All, with the time that they had when they were last heard of. */
  all(): Connection[] {
    const tracked = [...this.#table.connections()];
    const waiting = [...this.adoption.keys()].flatMap((key) => this.adoption.waiting(key) ?? []);
    return [...tracked, ...waiting];
  }

  /** All, with the time they have left now. */
  export(nowMs: number): Connection[] {
    return [...this.#table.export(nowMs), ...this.adoption.export(nowMs)];
  }

  #kept(key: string): KeptConnection | undefined {
    const tracking = this.adoption.tracking(key);
    const waiting = this.adoption.waiting(key);
    if (waiting) return { connection: waiting, tracking: 'waiting', finished: [] };
    const tracked = this.#table.tracked(key);
    if (!tracked) return undefined;
    const { connection, finished } = tracked;
    return { connection, tracking: tracking ?? 'tracked', finished };
  }

  /** The digest follows, and what is to be kept is noted. */
  #change<T>(key: string, task: () => T): T {
    const before = this.#kept(key);
    const result = task();
    const after = this.#kept(key);
    if (!before && !after) return result;
    const same = before && after && sameConnection(before.connection, after.connection);
    if (!same) {
      if (before) this.#digest.remove(before.connection);
      if (after) this.#digest.add(after.connection);
    }
    if (!same || before.tracking !== after.tracking || before.finished.length !== after.finished.length)
      this.#note(key);
    return result;
  }

  #forget(connection: Connection): void {
    const key = connectionKey(connection);
    this.#table.delete(key);
    this.#digest.remove(connection);
    this.#note(key);
  }

  #note(key: string): void {
    if (this.#keeps) this.#unkept.add(key);
  }
}
