/**
 * What all stores have in common: contents in memory, and those who say what becomes of them.
 */
import type { InstanceRecord } from '../domains/openflow-ct/record.js';
import type { Contents } from './contents.js';
import type { Keep } from './entry.js';
import { Instances } from './instances.js';
import { Keeper } from './keeper.js';
import type { ControllerStore, StoreHealth, TerminalKeeper } from './store.js';

export abstract class KeptStore implements ControllerStore {
  readonly instances: Instances;
  readonly #keepers = new Map<string, Keeper>();

  protected constructor(
    readonly contents: Contents,
    readonly keep: Keep,
  ) {
    this.instances = new Instances(contents, keep);
  }

  terminals(): readonly string[] {
    return this.contents.terminals();
  }

  terminal(name: string): TerminalKeeper {
    const known = this.#keepers.get(name);
    if (known) return known;
    const keeper = new Keeper(name, this.contents, this.keep);
    this.#keepers.set(name, keeper);
    return keeper;
  }

  forget(terminal: string): void {
    this.#keepers.get(terminal)?.forgotten();
    void this.keep([{ kind: 'forget', terminal }], 'fact');
  }

  instanceRecords(): readonly InstanceRecord[] {
    return this.contents.instances();
  }

  abstract flushed(): Promise<void>;
  abstract health(): StoreHealth;
  abstract close(): Promise<void>;
}
