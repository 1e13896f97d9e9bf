/**
 * The connections of one instance: those that the switch tracks, those that wait to be adopted, and those that the switch is about to
 * forget. No I/O: what is to be done in the switch is told by `adoption` (rules) and `takeEnded` (entries of its conntrack).
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import type { Change } from '../../../shared/firewall/state.js';
import { type IdleTimes, idleSeconds } from '../../../shared/firewall/timeouts.js';
import type { Match } from '../../openflow/index.js';
import type { Kind } from '../../pipeline/index.js';
import { AdoptionSet } from './adoption-set.js';
import { ConnectionTable } from './connection-table.js';
import { observe } from './observation.js';
import type { Timings } from './timings.js';

export class Connections {
  readonly adoption: AdoptionSet;
  readonly #table: ConnectionTable;
  readonly #maxSilent: number;
  readonly #idleTimes: IdleTimes;
  #ended: Connection[] = [];

  constructor(timings: Timings) {
    this.#table = new ConnectionTable(timings);
    this.adoption = new AdoptionSet(timings.settleMs);
    this.#maxSilent = timings.maxSilent;
    this.#idleTimes = timings.idleTimes;
  }

  /** How many the switch tracks. */
  get tracked(): number {
    return this.#table.size;
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
    this.adoption.seen(key, { adopted: kind === 'adopted', bothWays: kind === 'reply', closed }, nowMs);
    return changed && { kind: 'connection', connection: changed };
  }

  /** What another instance tells. What the switch tracks here by now is known better here. Returns whether it was news. */
  take(change: Extract<Change, { kind: 'connection' | 'ended' }>, nowMs: number): boolean {
    const key = change.kind === 'ended' ? change.key : connectionKey(change.connection);
    if (this.#table.get(key)) return false;
    if (change.kind === 'ended') return this.adoption.end(key);
    // Nothing waits longer than it could be idle.
    const most = idleSeconds(change.connection, this.#idleTimes);
    const timeLeftSeconds = Math.min(change.connection.timeLeftSeconds, most);
    return this.adoption.put({ ...change.connection, timeLeftSeconds }, nowMs);
  }

  /**
   * Time passes. What has been silent for too long is over; what the switch will forget before that is adopted once more when it speaks. Returns the keys
   * of what is over.
   */
  sweep(nowMs: number): string[] {
    const { ended, silent } = this.#table.sweep(nowMs, (key) => this.adoption.isSilent(key));
    for (const connection of silent) this.adoption.putSilent(connection);
    // More than that many are too many rules: those that have been silent for the longest time go.
    const surplus = this.adoption.oldestSilent(this.adoption.silent - this.#maxSilent);
    for (const connection of surplus) this.#table.delete(connectionKey(connection));
    const over = [...ended, ...surplus];
    // The switch forgets echoes by themselves no later than this.
    this.#ended.push(...over.filter(({ protocol }) => protocol !== 'icmp'));
    const late = this.adoption.sweep(nowMs, (key) => this.#table.get(key) !== undefined);
    return [...over.map(connectionKey), ...late];
  }

  /** Connections of addresses that are not among these are over. */
  keepOnly(addresses: ReadonlySet<string>): void {
    const foreign = (connection: Connection): boolean => !addresses.has(connection.local.address);
    for (const connection of this.#table.connections().filter(foreign)) {
      this.#table.delete(connectionKey(connection));
      this.#ended.push(connection);
    }
    this.adoption.removeIf(foreign);
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

  /** All, with the time they have left now. */
  export(nowMs: number): Connection[] {
    return [...this.#table.export(nowMs), ...this.adoption.export(nowMs)];
  }
}
