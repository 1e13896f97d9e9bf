/**
 * The shape of a rule, as plugins state it.
 */
import type { Flow } from '../openflow/index.js';

/** A rule as a plugin states it: the core gives it the number of its table and the plugin's cookie class. */
export interface Rule {
  /** One of the plugin's own tables, by name. */
  readonly table: string;
  readonly priority: number;
  readonly match: Flow['match'];
  readonly instructions: Flow['instructions'];
  /** The plugin's own 32 bits of the cookie: what packet-ins and flow statistics are told apart by. Default 0. */
  readonly cookie?: number;
  /** Seconds. A rule whose time is over is stated no more, and the plugin's `flowRemoved` is told; stated again, it begins again. */
  readonly idleTimeout?: number;
  readonly hardTimeout?: number;
}
