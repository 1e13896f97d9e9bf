/**
 * A pair of jacks, for the terminal side and the network side: veth pairs whose outer sides are ports of the switch and whose inner sides are in the panel.
 *
 * They are up from their making on and are never changed: Open vSwitch's one thread looks at all its ports again after every change of a link that it can
 * see, and forwards nothing for 3 to 6 ms; for up to 22 when somebody holds the kernel's lock of all links just then. What changes with an
 * instance is in the panel, which the switch does not see.
 */
import { DomainError, type Dpid } from '../../../shared/domain/domain.js';
import { MTU } from '../inner.js';
import { explain } from './explain.js';
import type { Keepable } from './kept-jacks.js';
import type { LinkWatch } from './link-watch.js';
import { changeLinks, isUp, removeLinks, vethLinks } from './links.js';
import type { Panel } from './panel.js';
import { innerSide } from './panel-names.js';
import { connectedLinks } from './redirects.js';
import type { SwitchPorts } from './switch-ports.js';

export interface JacksParts {
  readonly dpid: Dpid;
  /** Of the outer sides. */
  readonly names: readonly [terminalSide: string, networkSide: string];
  readonly alias: string;
  readonly panel: Panel;
  readonly ports: SwitchPorts;
  /** Of the outer sides. */
  readonly watch: LinkWatch;
}

export class Jacks implements Keepable {
  constructor(
    readonly parts: JacksParts,
    /** Does what must be done, now or later, and never fails. */
    private readonly surely: (act: () => Promise<void>) => Promise<void>,
  ) {}

  get names(): readonly [string, string] {
    return this.parts.names;
  }

  /** Whatever goes wrong, `remove` undoes. */
  async make(): Promise<void> {
    const { alias, panel, ports } = this.parts;
    // Born there, the inner sides need not be moved.
    await changeLinks(
      this.names.flatMap((name) => [
        `link add ${name} mtu ${MTU} type veth peer name ${innerSide(name)} netns ${panel.path} mtu ${MTU}`,
        `link set ${name} alias ${alias} addrgenmode none`,
        `link set ${name} up`,
      ]),
    );
    await changeLinks(
      this.names.map(innerSide).flatMap((name) => [
        // In a command of its own: in one with "up" it comes too late.
        `link set ${name} addrgenmode none`,
        `link set ${name} up`,
      ]),
      panel.path,
    );
    await ports.add(this.names);
  }

  /** The switch must have both; should it have forgotten them they are told to it again. Fails with `not-ready` when it is another one. */
  async confirm(): Promise<void> {
    const { ports, dpid } = this.parts;
    const [now] = await Promise.all([ports.dpid(), ports.add(this.names)]);
    if (now !== dpid)
      throw new DomainError('not-ready', `the bridge is another one now: ${now}, not ${dpid}`);
  }

  /** Both are there and up, the switch has them, and nothing is plugged in. */
  async isOfUse(): Promise<boolean> {
    try {
      const [links, connected] = await Promise.all([vethLinks(), connectedLinks(this.parts.panel.path)]);
      const up = new Set(links.filter(isUp).map(({ ifname }) => ifname));
      if (!this.names.every((name) => up.has(name) && !connected.has(innerSide(name)))) return false;
      await this.confirm();
      return true;
    } catch {
      return false;
    }
  }

  /** Never fails: what can't be removed now is tried again. */
  remove(): Promise<void> {
    return this.surely(() => this.removeNow());
  }

  /** From the switch and from the machine. May be called again when it failed. */
  async removeNow(): Promise<void> {
    // The switch lets go of its ports first: it would complain of devices that vanish.
    const removed = await Promise.allSettled([this.parts.ports.remove(this.names)]);
    await removeLinks(this.names).catch((error: unknown) => {
      throw explain(error);
    });
    const [ports] = removed;
    if (ports.status === 'rejected') throw ports.reason;
  }
}
