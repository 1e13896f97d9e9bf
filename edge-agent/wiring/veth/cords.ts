/**
 * The two cords of one instance: veth pairs between the panel and its compartment, plugged into a pair of jacks.
 *
 * Both sides are made where they stay: moving a link to another namespace holds the kernel's lock of all links for a grace period of RCU. They are connected with
 * their jacks when all else is done, and no cord serves two instances, so nothing of one instance's jacks can come to another's compartment.
 */
import type { Compartment } from '../../runtime/runtime.js';
import { INNER, MTU } from '../inner.js';
import { changeLinks, removeLinks, shutLinks } from './links.js';
import type { Panel } from './panel.js';
import { cordOf, innerSide } from './panel-names.js';
import { connectLinks, disconnectLinks } from './redirects.js';

const IN_COMPARTMENT = [INNER.terminalSide, INNER.networkSide] as const;

export class Cords {
  /** Of the sides in the panel. */
  readonly #names: readonly string[];

  /** `jacks`: the names of their outer sides, the terminal's first. */
  constructor(
    private readonly panel: Panel,
    private readonly jacks: readonly [terminalSide: string, networkSide: string],
  ) {
    this.#names = jacks.map(cordOf);
  }

  /** `lost` is called when one vanishes by itself later. Whatever goes wrong, `cut` and `unplug` undo. */
  async plug({ namespace }: Compartment, lost: () => void): Promise<void> {
    const { path, watch } = this.panel;
    await changeLinks(
      this.#names.flatMap((name, side) => [
        `link add ${name} mtu ${MTU} type veth peer name ${IN_COMPARTMENT[side]} netns ${namespace} mtu ${MTU}`,
        // In a command of its own: in one with "up" it comes too late.
        `link set ${name} addrgenmode none`,
        `link set ${name} up`,
      ]),
      path,
    );
    await Promise.all(this.#names.map((name) => watch.watch(name, lost)));
    await connectLinks(
      this.jacks.map((jack) => [cordOf(jack), innerSide(jack)]),
      path,
    );
  }

  /** From then on nothing gets in or out. May be repeated. */
  async cut(): Promise<void> {
    for (const name of this.#names) this.panel.watch.forget(name);
    await shutLinks(this.#names, this.panel.path);
  }

  /** Nothing of them is left, and the jacks are free. Fails when they were not plugged in wholly. */
  async unplug(): Promise<void> {
    const { path } = this.panel;
    try {
      await disconnectLinks(this.jacks.map(innerSide), path);
    } finally {
      await removeLinks(this.#names, path);
    }
  }
}
