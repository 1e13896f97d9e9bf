/**
 * How the two ends of an instance reach the network. Nothing here says how the ends are made.
 */
import type { Ends } from '../../shared/domain/domain.js';
import type { Compartment } from '../runtime/runtime.js';

/** The two ends of one instance. */
export interface Wires {
  readonly ends: Ends;
  /** Settles when an end has vanished by itself; never when both were closed. */
  readonly lost: Promise<void>;
  /** Leads both ends into the compartment, where they have the names of inner.ts. Nothing passes between them yet. Fails with `refused`. */
  enter(compartment: Compartment): Promise<void>;
  /** Makes sure that the switch still has both ends. Fails with `not-ready` when it is not the one that they were made for. */
  confirm(): Promise<void>;
  /** From then on nothing gets in or out. May be repeated. */
  detach(): Promise<void>;
  /**
   * Gives them up: nothing of them is left in the compartment. The wiring removes them, or keeps them for an instance to come.
   * May be called twice, and again when it failed.
   */
  close(): Promise<void>;
}

export interface Wiring {
  /** The switch that the ends are ports of. Fails with `not-ready` when it is not there. */
  check(): Promise<Ends['dpid']>;
  /** Two ends that nobody has. Whatever goes wrong is undone before the call fails. */
  create(): Promise<Wires>;
  /** Removes what an earlier life of this agent left. */
  removeLeftovers(): Promise<void>;
  /** Removes what was kept for instances to come; from then on nothing is kept. May be called twice, and again when it failed. */
  close(): Promise<void>;
}
