/**
 * Tells the keeper of one instance: what concerns few and seldom at once, changes of connections a few ms later and together. What could not be kept
 * stops no firewall: it is said once, and the next time the whole instance is kept.
 */
import type { InstanceId } from '../../../shared/domain/domain.js';
import type { Clock, Timer } from '../../../shared/runtime/clock.js';
import type { InstanceHead, InstanceKeeper, InstancePart, KeptConnection } from './record.js';

/** Changes of connections wait for each other that long. */
const TOGETHER_MS = 5;

/** What there is to keep. */
export interface Kept {
  head(): InstanceHead;
  connections(): readonly KeptConnection[];
  unkept(): boolean;
  takeUnkept(): Required<Pick<InstancePart, 'connections' | 'ended'>>;
}

export interface KeepingOptions {
  readonly keeper: InstanceKeeper;
  readonly clock: Clock;
  /** Once, until it works again. */
  readonly onFailure: (error: unknown) => void;
}

export class Keeping {
  readonly #id: InstanceId;
  readonly #options: KeepingOptions;
  readonly #kept: Kept;
  #soon: Timer | undefined;
  /** The keeper has it, and every change so far. */
  #whole = false;
  #failing = false;
  #removed = false;

  /** `whole`: the keeper has it already. */
  constructor(id: InstanceId, options: KeepingOptions, kept: Kept, whole: boolean) {
    this.#id = id;
    this.#options = options;
    this.#kept = kept;
    this.#whole = whole;
  }

  /** The whole instance. Never fails. */
  put(): Promise<void> {
    this.#kept.takeUnkept();
    const record = { ...this.#kept.head(), connections: this.#kept.connections() };
    // What changes from now on comes after it.
    this.#whole = true;
    return this.#try(this.#options.keeper.put(this.#id, record));
  }

  /** What has changed of its head, and what else there is. Settles when it is kept. Never fails. */
  change(part: InstancePart = {}): Promise<void> {
    this.#soon?.close();
    this.#soon = undefined;
    if (this.#removed) return Promise.resolve();
    if (!this.#whole) return this.put();
    const { sequence, imported } = this.#kept.head();
    const rest = this.#kept.unkept() ? this.#kept.takeUnkept() : {};
    return this.#try(this.#options.keeper.change(this.#id, { sequence, imported, ...rest, ...part }));
  }

  /** Connections have changed, perhaps. */
  soon(): void {
    if (this.#soon || this.#removed || !this.#kept.unkept()) return;
    this.#soon = this.#options.clock.after(TOGETHER_MS, () => void this.change());
  }

  /** The instance is no more. May be repeated. */
  remove(): Promise<void> {
    this.#removed = true;
    this.#soon?.close();
    return this.#try(this.#options.keeper.remove(this.#id));
  }

  /** Nothing is lost by it: what waits is told at once. May be repeated. */
  close(): void {
    if (this.#soon) void this.change();
  }

  async #try(keeping: Promise<void>): Promise<void> {
    try {
      await keeping;
      this.#failing = false;
    } catch (error) {
      this.#whole = false;
      if (!this.#failing) this.#options.onFailure(error);
      this.#failing = true;
    }
  }
}
