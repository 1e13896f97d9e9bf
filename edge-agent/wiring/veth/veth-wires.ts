/**
 * The wires of one instance: a pair of jacks, which it has for as long as it lives, and cords from there to its compartment, which are its own.
 */
import type { Ends } from '../../../shared/domain/domain.js';
import { Once } from '../../../shared/runtime/once.js';
import type { Compartment } from '../../runtime/runtime.js';
import type { Wires } from '../wiring.js';
import { Cords } from './cords.js';
import { explain } from './explain.js';
import type { Jacks } from './jacks.js';

export class VethWires implements Wires {
  readonly ends: Ends;
  readonly lost: Promise<void>;
  #lose = (): void => {};
  #isJackLost = false;
  #cords: Cords | undefined;
  readonly #closed = new Once(() => this.#close());

  /** `keep`: takes the jacks if there is a use for them. */
  constructor(
    private readonly jacks: Jacks,
    private readonly keep: (jacks: Jacks) => boolean,
  ) {
    const { dpid, names } = jacks.parts;
    const [terminalSide, networkSide] = names;
    this.ends = { kind: 'ports', dpid, terminalSide, networkSide };
    this.lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
  }

  async watch(): Promise<void> {
    const { watch, names } = this.jacks.parts;
    const lose = (): void => {
      this.#isJackLost = true;
      this.#lose();
    };
    await Promise.all(names.map((name) => watch.watch(name, lose)));
  }

  async enter(compartment: Compartment): Promise<void> {
    const { panel, names } = this.jacks.parts;
    this.#cords = new Cords(panel, names);
    try {
      await this.#cords.plug(compartment, this.#lose);
    } catch (error) {
      throw explain(error);
    }
  }

  confirm(): Promise<void> {
    return this.jacks.confirm();
  }

  async detach(): Promise<void> {
    const { watch, names } = this.jacks.parts;
    for (const name of names) watch.forget(name);
    await this.#cords?.cut().catch((error: unknown) => {
      throw explain(error);
    });
  }

  close(): Promise<void> {
    return this.#closed.run();
  }

  async #close(): Promise<void> {
    if ((await this.#isUnplugged()) && !this.#isJackLost && this.keep(this.jacks)) return;
    await this.jacks.removeNow();
  }

  /** Whether nothing is plugged into the jacks any more. If that isn't sure they must be removed, and whatever was connected with them leads nowhere. */
  async #isUnplugged(): Promise<boolean> {
    try {
      await this.detach();
      await this.#cords?.unplug();
      this.#cords = undefined;
      return true;
    } catch {
      return false;
    }
  }
}
