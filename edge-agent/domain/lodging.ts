/**
 * A lodging: what an instance lives in, with nothing of any terminal in it. A compartment with its bridge, which is down, and both ends joined to that.
 *
 * It takes almost half a second to make and nothing to keep, so a domain keeps one ready (spares.ts). Each is used once: the compartment that a terminal
 * has been in is removed, never given to another. Its wires, which know of no terminal, may serve again.
 */
import { type BridgeLimits, joinEnds, makeBridge } from '../bridge/inner-bridge.js';
import type { Compartment, InstanceRuntime } from '../runtime/runtime.js';
import type { Unfinished } from '../unfinished.js';
import type { Wires, Wiring } from '../wiring/wiring.js';

export interface LodgingParts {
  readonly runtime: InstanceRuntime;
  readonly wiring: Wiring;
  /** Where what could not be removed at once goes. */
  readonly unfinished: Unfinished;
}

export class Lodging {
  /** Why it is of no use any more, once that is so. */
  broken: string | undefined;
  /** Settles with the reason when it is of no use any more; never when it was closed. */
  readonly lost: Promise<string>;
  #closing: Promise<void> | undefined;
  #removing: Promise<void> | undefined;

  private constructor(
    readonly compartment: Compartment,
    readonly wires: Wires,
    readonly limits: BridgeLimits,
    private readonly unfinished: Unfinished,
  ) {
    const ended = compartment.ended.then(() => 'its container has ended');
    const unwired = wires.lost.then(() => 'one of its ends is there no more');
    this.lost = new Promise((resolve) => {
      void Promise.race([ended, unwired]).then((reason) => {
        if (this.#closing !== undefined || this.#removing !== undefined) return;
        this.broken = reason;
        resolve(reason);
      });
    });
  }

  /** Whatever goes wrong is undone before the promise settles. */
  static async make({ runtime, wiring, unfinished }: LodgingParts): Promise<Lodging> {
    const parts = await Promise.allSettled([runtime.create(), wiring.create()]);
    const [compartment, wires] = parts;
    const undo = async (): Promise<void> => {
      for (const part of [wires, compartment]) {
        if (part.status === 'fulfilled')
          await unfinished.undo('a part of an instance', () => part.value.close());
      }
    };
    try {
      if (compartment.status === 'rejected') throw compartment.reason;
      if (wires.status === 'rejected') throw wires.reason;
      const steps = await Promise.allSettled([
        makeBridge(compartment.value),
        wires.value.enter(compartment.value),
      ]);
      const [bridge, entered] = steps;
      if (bridge.status === 'rejected') throw bridge.reason;
      if (entered.status === 'rejected') throw entered.reason;
      await joinEnds(compartment.value);
      return new Lodging(compartment.value, wires.value, bridge.value, unfinished);
    } catch (error) {
      await undo();
      throw error;
    }
  }

  /** Fails when it is of no use any more. */
  async confirm(): Promise<void> {
    if (this.broken !== undefined) throw new Error(this.broken);
    await this.wires.confirm();
  }

  /**
   * When the promise settles nothing gets in or out any more; what takes longer is then removed in the background, and tried again until it is
   * gone. May be called twice, and again when it failed.
   */
  close(): Promise<void> {
    this.#closing ??= this.wires.detach().then(
      () => void this.removed(),
      (error: unknown) => {
        this.#closing = undefined;
        throw error;
      },
    );
    return this.#closing;
  }

  /** Removes everything; settles when it is gone, or is left to be tried again. Never fails. */
  removed(): Promise<void> {
    this.#removing ??= this.#remove();
    return this.#removing;
  }

  async #remove(): Promise<void> {
    await this.unfinished.undo('the ends of an instance', () => this.wires.close());
    await this.unfinished.undo('a container', () => this.compartment.close());
  }
}
