/**
 * The instances that one domain has, by terminal and epoch, and its fence: what names an epoch older than one that there has been an instance of is
 * refused. No I/O.
 */
import type { Epoch } from '../firewall/state.js';
import { DomainError, type InstanceId } from './domain.js';

export class InstanceTable<Instance> {
  readonly #domain: string;
  readonly #instances = new Map<string, Map<Epoch, Instance>>();
  /** The highest epoch of which there was an instance, by terminal. */
  readonly #seen = new Map<string, Epoch>();

  /** `domain`: its name, for those who are refused. */
  constructor(domain: string) {
    this.#domain = domain;
  }

  get size(): number {
    return [...this.#instances.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Throws DomainError `stale-epoch`. */
  fence({ terminal, epoch }: InstanceId): void {
    const seen = this.#seen.get(terminal);
    if (seen === undefined || epoch >= seen) return;
    throw new DomainError(
      'stale-epoch',
      `epoch ${epoch} of ${terminal} is over: ${this.#domain} has seen ${seen}; ask for the terminal's state again`,
    );
  }

  /** Throws DomainError `stale-epoch` or `no-instance`. */
  get(id: InstanceId): Instance {
    this.fence(id);
    const instance = this.find(id);
    if (instance !== undefined) return instance;
    throw new DomainError(
      'no-instance',
      `${this.#domain} has no firewall of ${id.terminal} in epoch ${id.epoch}: it was removed, or the domain has begun anew since; place a new one`,
    );
  }

  /** Whatever its epoch. */
  find({ terminal, epoch }: InstanceId): Instance | undefined {
    return this.#instances.get(terminal)?.get(epoch);
  }

  /** In place of one that was there. From now on older epochs are over. */
  set(id: InstanceId, instance: Instance): void {
    const { terminal, epoch } = id;
    const instances = this.#instances.get(terminal) ?? new Map<Epoch, Instance>();
    this.#instances.set(terminal, instances.set(epoch, instance));
    const seen = this.#seen.get(terminal);
    if (seen === undefined || epoch > seen) this.#seen.set(terminal, epoch);
  }

  /** May be repeated. */
  delete({ terminal, epoch }: InstanceId): void {
    const instances = this.#instances.get(terminal);
    instances?.delete(epoch);
    if (instances?.size === 0) this.#instances.delete(terminal);
  }

  terminals(): readonly string[] {
    return [...this.#instances.keys()];
  }

  of(terminal: string): readonly Instance[] {
    return [...(this.#instances.get(terminal)?.values() ?? [])];
  }

  all(): readonly Instance[] {
    return this.terminals().flatMap((terminal) => this.of(terminal));
  }
}
