/**
 * Instance numbers: one for each (terminal, epoch), controller-wide. Register value, conntrack zone and the two tags on trunks all
 * derive from it, so two instances never share one.
 *
 * Whoever has rules or connections in a switch under a number holds it: steering and the domain, each for itself. When the last has released it,
 * the number rests: packets that a switch had begun to look at may still come out of it, and commit to its zone.
 */
import type { InstanceId } from '../../shared/domain/domain.js';
import { type Clock, realClock } from '../../shared/runtime/clock.js';

/** Tags are 2n and 2n + 1, and 4095 is no VLAN id (IEEE 802.1Q, table 9-2). */
export const MAX_INSTANCE_NUMBER = 2046;

/** A switch uses a rule that is gone for some tens of ms (measured: 36): this is far longer. */
const REST_MS = 10_000;

/** Who has something in a switch under an instance's number. */
export type NumberHolder = 'steering' | 'domain';

interface Taken {
  readonly number: number;
  readonly holders: Set<NumberHolder>;
}

export class InstanceNumbers {
  readonly #instances = new Map<string, Taken>();
  readonly #taken = new Set<number>();
  /** When their rest is over, in monotonic ms; the first to rest is the first here. */
  readonly #resting = new Map<number, number>();
  readonly #clock: Clock;
  #next = 1;

  constructor(clock: Clock = realClock) {
    this.#clock = clock;
  }

  /** The instance's number, from now on held; a new one the first time. A released number is used again as late as possible. */
  of(id: InstanceId, holder: NumberHolder): number {
    const known = this.#instances.get(keyOf(id));
    if (known) {
      known.holders.add(holder);
      return known.number;
    }
    this.#wake();
    if (this.#taken.size + this.#resting.size >= MAX_INSTANCE_NUMBER) {
      throw new Error(
        `${MAX_INSTANCE_NUMBER} instances are the most one controller can tell apart, and a number rests for ${REST_MS / 1000} s: retire some`,
      );
    }
    while (this.#taken.has(this.#next) || this.#resting.has(this.#next)) this.#advance();
    const number = this.#next;
    this.#advance();
    this.#take(id, number, holder);
    return number;
  }

  /** The number that the instance has, if it has one. */
  known(id: InstanceId): number | undefined {
    return this.#instances.get(keyOf(id))?.number;
  }

  /**
   * The instance had this number before the controller began; who holds it says so. Throws when another has it: what was kept contradicts
   * itself.
   */
  restore(id: InstanceId, number: number, holder: NumberHolder): void {
    const known = this.#instances.get(keyOf(id));
    if (known?.number === number) {
      known.holders.add(holder);
      return;
    }
    if (known || this.#taken.has(number)) {
      throw new Error(
        `instance number ${number} of ${id.terminal} epoch ${id.epoch} contradicts another that was kept: restore an older backup, or begin with an empty store`,
      );
    }
    this.#take(id, number, holder);
    // Numbers that were released before the controller began rest, too: those are not known, but they come last.
    if (number >= this.#next) this.#next = (number % MAX_INSTANCE_NUMBER) + 1;
  }

  /** This holder has nothing under the number any more. May be repeated. */
  release(id: InstanceId, holder: NumberHolder): void {
    const known = this.#instances.get(keyOf(id));
    if (!known?.holders.delete(holder) || known.holders.size > 0) return;
    this.#instances.delete(keyOf(id));
    this.#taken.delete(known.number);
    this.#resting.set(known.number, this.#clock.monotonic() + REST_MS);
  }

  #take(id: InstanceId, number: number, holder: NumberHolder): void {
    this.#instances.set(keyOf(id), { number, holders: new Set([holder]) });
    this.#taken.add(number);
    this.#resting.delete(number);
  }

  #wake(): void {
    const now = this.#clock.monotonic();
    for (const [number, until] of this.#resting) {
      if (until > now) return;
      this.#resting.delete(number);
    }
  }

  #advance(): void {
    this.#next = (this.#next % MAX_INSTANCE_NUMBER) + 1;
  }
}

function keyOf({ terminal, epoch }: InstanceId): string {
  return `${terminal} ${epoch}`;
}
