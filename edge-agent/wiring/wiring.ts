/**
 * How the two ends of an instance reach the network. Nothing here says how the ends are made.
 */
import type { Ends } from '../../shared/domain/domain.js';
import type { Compartment } from '../runtime/runtime.js';

/** The two ends of one instance. */
export interface Wires {
  readonly ends: Ends;
  /** Moves the inner sides into the compartment, by the names of inner.ts. Nothing passes between them yet. Fails with `refused`. */
  enter(compartment: Compartment): Promise<void>;
  /** Removes both ends from the switch and from the machine. May be called twice, and again when it failed. */
  close(): Promise<void>;
}

export interface Wiring {
  /** The switch that the ends are ports of. Fails with `not-ready` when it is not there. */
  check(): Promise<Ends['dpid']>;
  /** Two new ends. Whatever goes wrong is undone before the call fails. */
  create(): Promise<Wires>;
  /** Removes what an earlier life of this agent left. */
  removeLeftovers(): Promise<void>;
}
