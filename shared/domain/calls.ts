/**
 * Calls to one domain: those for one terminal run one after another, each fenced by its epoch; what fails, fails with a DomainError.
 */
import { KeyedQueue } from '../runtime/keyed-queue.js';
import type { DomainError, InstanceId } from './domain.js';
import type { InstanceTable } from './instance-table.js';

export class Calls<Instance> {
  readonly #queue = new KeyedQueue();
  readonly #instances: InstanceTable<Instance>;
  readonly #explain: (error: unknown) => DomainError;
  #closed: DomainError | undefined;

  /** `explain`: what whoever called is told of an error. */
  constructor(instances: InstanceTable<Instance>, explain: (error: unknown) => DomainError) {
    this.#instances = instances;
    this.#explain = explain;
  }

  /** A call of which the instance need not be there. Fails with `stale-epoch`, or as `act` does. */
  run<T>(id: InstanceId, act: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    return this.anyway(id.terminal, () => {
      this.#instances.fence(id);
      return act();
    });
  }

  /** A call to an instance. Fails with `stale-epoch` or `no-instance`, or as `act` does. */
  on<T>(id: InstanceId, act: (instance: Instance) => Promise<T>): Promise<T> {
    return this.run(id, () => act(this.#instances.get(id)));
  }

  /** What the domain itself does, in the queue of the terminal; also when no more calls are taken. */
  anyway<T>(terminal: string, act: () => Promise<T>): Promise<T> {
    return this.#queue.run(terminal, async () => {
      try {
        return await act();
      } catch (error) {
        throw this.#explain(error);
      }
    });
  }

  /** Calls from now on fail with this. */
  close(why: DomainError): void {
    this.#closed = why;
  }
}
