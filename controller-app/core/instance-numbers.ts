/**
 * Instance numbers: one for each (terminal, epoch), controller-wide. Register value, conntrack zone and the two tags on trunks all
 * derive from it, so two instances never share one.
 */
import type { InstanceId } from '../../shared/domain/domain.js';

/** Tags are 2n and 2n + 1, and 4095 is no VLAN id (IEEE 802.1Q, table 9-2). */
export const MAX_INSTANCE_NUMBER = 2046;

export class InstanceNumbers {
  readonly #numbers = new Map<string, number>();
  readonly #taken = new Set<number>();
  #next = 1;

  /** The instance's number; a new one the first time. A released number is used again as late as possible. */
  of(id: InstanceId): number {
    const key = `${id.terminal} ${id.epoch}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#taken.size >= MAX_INSTANCE_NUMBER) {
      throw new Error(
        `${MAX_INSTANCE_NUMBER} instances are the most one controller can tell apart: retire some`,
      );
    }
    while (this.#taken.has(this.#next)) this.#advance();
    const number = this.#next;
    this.#advance();
    this.#numbers.set(key, number);
    this.#taken.add(number);
    return number;
  }

  release(id: InstanceId): void {
    const key = `${id.terminal} ${id.epoch}`;
    const number = this.#numbers.get(key);
    if (number === undefined) return;
    this.#numbers.delete(key);
    this.#taken.delete(number);
  }

  #advance(): void {
    this.#next = (this.#next % MAX_INSTANCE_NUMBER) + 1;
  }
}
