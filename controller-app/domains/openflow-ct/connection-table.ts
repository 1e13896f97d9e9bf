/**
 * The connections that the switch tracks for one instance, as the controller knows them.
 */
import { type Connection, connectionKey } from '../../../shared/firewall/connection.js';
import { MAX_CONNECTIONS } from '../../../shared/firewall/state.js';
import type { Observation } from './observation.js';
import { switchIdleSeconds, type Timings } from './timings.js';
import { sameConnection, type Tracked, track } from './tracker.js';

export class ConnectionTable {
  readonly #entries = new Map<string, Tracked>();
  readonly #timings: Timings;

  constructor(timings: Timings) {
    this.#timings = timings;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Connection | undefined {
    return this.#entries.get(key)?.connection;
  }

  tracked(key: string): Tracked | undefined {
    return this.#entries.get(key);
  }

  connections(): Connection[] {
    return [...this.#entries.values()].map(({ connection }) => connection);
  }

  /** As an earlier controller kept it. */
  resume(entry: Tracked): void {
    this.#entries.set(connectionKey(entry.connection), entry);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  /** Takes in one packet; returns the connection when it is new or another than before. `origin`: what an import told of it. */
  observe(seen: Observation, nowMs: number, origin?: Tracked): Connection | undefined {
    const before = this.#entries.get(seen.key) ?? origin;
    // A firewall state can't hold more. The packet passes all the same; the connection ends with the next handover.
    if (!before && this.#entries.size >= MAX_CONNECTIONS) return undefined;
    const after = track(before, seen, nowMs, this.#timings.idleTimes);
    this.#entries.set(seen.key, after);
    const told = before && sameConnection(before.connection, after.connection);
    return told ? undefined : after.connection;
  }

  /**
   * Forgets what has been idle for too long. Of the rest, `silent` are those that the switch itself may soon forget, but for those that `isKnown` says
   * are known to be so.
   */
  sweep(
    nowMs: number,
    isKnown: (key: string) => boolean,
  ): { readonly ended: Connection[]; readonly silent: Connection[] } {
    const ended: Connection[] = [];
    const silent: Connection[] = [];
    for (const [key, entry] of this.#entries) {
      const deadline = this.#deadline(entry);
      const forgotten = this.#forgottenAt(entry);
      if (deadline <= nowMs) ended.push(entry.connection);
      else if (forgotten < deadline && forgotten - this.#timings.aheadMs <= nowMs && !isKnown(key))
        silent.push(entry.connection);
    }
    for (const connection of ended) this.#entries.delete(connectionKey(connection));
    return { ended, silent };
  }

  /** The connections with the time they have left now. */
  export(nowMs: number): Connection[] {
    return [...this.#entries.values()].map((entry) => {
      const seconds = Math.ceil((this.#deadline(entry) - nowMs) / 1000);
      const { connection } = entry;
      return { ...connection, timeLeftSeconds: Math.max(0, Math.min(seconds, connection.timeLeftSeconds)) };
    });
  }

  /**
   * A live connection tells of itself once a generation and not at every packet, so it may have sent that much later than we know. Not so one that has only begun or is
   * closed: what it still sends either tells of itself or may as well begin anew.
   */
  #deadline({ connection, lastSeenMs }: Tracked): number {
    const { state } = connection.protocol === 'tcp' ? connection : { state: 'established' };
    const grace = state === 'established' || state === 'closing' ? this.#timings.generationMs : 0;
    return lastSeenMs + connection.timeLeftSeconds * 1000 + grace;
  }

  /** When the switch itself forgets it, at the earliest. */
  #forgottenAt({ connection, lastSeenMs }: Tracked): number {
    return lastSeenMs + switchIdleSeconds(connection, this.#timings.switchTimes) * 1000;
  }
}
