/**
 * The connections that the switch tracks for one instance, as the controller knows them.
 */
import type { Connection } from '../../../shared/firewall/connection.js';
import { MAX_CONNECTIONS } from '../../../shared/firewall/state.js';
import type { IdleTimes } from '../../../shared/firewall/timeouts.js';
import type { Observation } from './observation.js';
import { sameConnection, type Tracked, track } from './tracker.js';

export class ConnectionTable {
  readonly #entries = new Map<string, Tracked>();
  readonly #times: IdleTimes;
  readonly #graceMs: number;

  /**
   * `graceMs`: a live connection tells of itself once a generation and not at every packet, so it may have sent that
   * much later than we know.
   */
  constructor(times: IdleTimes, graceMs: number) {
    this.#times = times;
    this.#graceMs = graceMs;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Connection | undefined {
    return this.#entries.get(key)?.connection;
  }

  /** Takes in one packet; returns the connection when it is new or another than before. `origin`: what an import told of it. */
  observe(seen: Observation, nowMs: number, origin?: Tracked): Connection | undefined {
    const before = this.#entries.get(seen.key) ?? origin;
    // A firewall state can't hold more. The packet passes all the same; the connection ends with the next handover.
    if (!before && this.#entries.size >= MAX_CONNECTIONS) return undefined;
    const after = track(before, seen, nowMs, this.#times);
    this.#entries.set(seen.key, after);
    const told = before && sameConnection(before.connection, after.connection);
    return told ? undefined : after.connection;
  }

  /** Forgets what has been idle for too long; returns the keys. */
  expire(nowMs: number): string[] {
    const ended: string[] = [];
    for (const [key, entry] of this.#entries) {
      if (this.#deadline(entry) <= nowMs) ended.push(key);
    }
    for (const key of ended) this.#entries.delete(key);
    return ended;
  }

  /** The connections with the time they have left now. */
  export(nowMs: number): Connection[] {
    return [...this.#entries.values()].map((entry) => {
      const seconds = Math.ceil((this.#deadline(entry) - nowMs) / 1000);
      const { connection } = entry;
      return { ...connection, timeLeftSeconds: Math.max(0, Math.min(seconds, connection.timeLeftSeconds)) };
    });
  }

  #deadline({ connection, lastSeenMs }: Tracked): number {
    const closed = connection.protocol === 'tcp' && connection.state === 'closed';
    return lastSeenMs + connection.timeLeftSeconds * 1000 + (closed ? 0 : this.#graceMs);
  }
}
