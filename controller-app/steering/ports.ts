/**
 * The ports that the switches have and whose link is up: an end of an instance may be told by its domain before its switch tells of its port.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Clock } from '../../shared/runtime/clock.js';
import { SteeringError } from './errors.js';

/** How long a switch may take to tell of a port that is there. */
const PORT_WAIT_MS = 5_000;

export class SwitchPorts {
  readonly #clock: Clock;
  readonly #ports = new Map<Dpid, ReadonlyMap<string, number>>();
  readonly #waiters = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Their names and numbers, by switch. */
  get all(): ReadonlyMap<Dpid, ReadonlyMap<string, number>> {
    return this.#ports;
  }

  /** Those of a switch, as they are now. */
  set(dpid: Dpid, ports: ReadonlyMap<string, number>): void {
    this.#ports.set(dpid, ports);
    for (const wake of [...this.#waiters]) wake();
  }

  /** Settles when the switch has this port. Fails with `no-port` when it has not after some seconds. */
  known(dpid: Dpid, name: string): Promise<void> {
    const isKnown = (): boolean => this.#ports.get(dpid)?.has(name) ?? false;
    if (isKnown()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!isKnown()) return;
        timer.close();
        this.#waiters.delete(check);
        resolve();
      };
      const timer = this.#clock.after(PORT_WAIT_MS, () => {
        this.#waiters.delete(check);
        const problem = `switch ${dpid} has no port ${name} with its link up: is the agent's bridge that switch, and is it connected?`;
        reject(new SteeringError('no-port', problem));
      });
      this.#waiters.add(check);
    });
  }
}
