/**
 * Two veth pairs: the outer sides are ports of the switch, the inner sides are in the compartment of the instance that has them, or wait in the parking.
 *
 * An outer side is up only while its inner side is in a compartment. Moving a link to another namespace holds the kernel's lock of all links for a grace period
 * of RCU, 20 ms or so: who has just heard of a change of a link, as Open vSwitch does, waits for it with everything that it has to do. So nothing is moved
 * when the switch has something to look at.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError, type Dpid, type Ends } from '../../../shared/domain/domain.js';
import { Once } from '../../../shared/runtime/once.js';
import type { Compartment } from '../../runtime/runtime.js';
import { INNER, MTU } from '../inner.js';
import type { Wires } from '../wiring.js';
import { explain } from './explain.js';
import type { Keepable } from './kept-wires.js';
import type { LinkWatch } from './link-watch.js';
import { changeLinks, linkNames, removeLinks, shutLinks } from './links.js';
import type { Parking } from './parking.js';
import type { SwitchPorts } from './switch-ports.js';

/** By then the switch has taken note of a link that went down. */
const NOTED_MS = 100;
const INNER_NAMES = [INNER.terminalSide, INNER.networkSide] as const;

export interface VethWiresParts {
  readonly dpid: Dpid;
  /** Of the outer sides. */
  readonly names: readonly [terminalSide: string, networkSide: string];
  readonly alias: string;
  readonly parking: Parking;
  readonly ports: SwitchPorts;
  readonly watch: LinkWatch;
}

/** The pairs, whoever has them. */
export class VethPairs implements Keepable {
  constructor(
    readonly parts: VethWiresParts,
    /** Does what must be done, now or later, and never fails. */
    private readonly surely: (act: () => Promise<void>) => Promise<void>,
  ) {}

  get names(): readonly [string, string] {
    return this.parts.names;
  }

  /** Whatever goes wrong, `remove` undoes. */
  async make(): Promise<void> {
    const { alias, parking, ports } = this.parts;
    // Born there, the inner sides need not be moved.
    await changeLinks(
      this.names.flatMap((name) => [
        `link add ${name} mtu ${MTU} type veth peer name ${parked(name)} netns ${parking.path} mtu ${MTU}`,
        `link set ${name} alias ${alias} addrgenmode none`,
      ]),
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

  async isOfUse(): Promise<boolean> {
    try {
      const there = await linkNames();
      if (!this.names.every((name) => there.includes(name))) return false;
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

/** The pairs as one instance has them. */
export class VethWires implements Wires {
  readonly ends: Ends;
  readonly lost: Promise<void>;
  #lose = (): void => {};
  #isLost = false;
  /** Where the inner sides are, if not in the parking. */
  #compartment: Compartment | undefined;
  readonly #closed = new Once(() => this.#close());

  /** `keep`: takes them if there is a use for them. */
  constructor(
    private readonly pairs: VethPairs,
    private readonly keep: (pairs: VethPairs) => boolean,
  ) {
    const { dpid, names } = pairs.parts;
    const [terminalSide, networkSide] = names;
    this.ends = { kind: 'ports', dpid, terminalSide, networkSide };
    this.lost = new Promise((resolve) => {
      this.#lose = () => {
        this.#isLost = true;
        resolve();
      };
    });
  }

  async watch(): Promise<void> {
    const { watch, names } = this.pairs.parts;
    await Promise.all(names.map((name) => watch.watch(name, this.#lose)));
  }

  async enter(compartment: Compartment): Promise<void> {
    const { names, parking } = this.pairs.parts;
    this.#compartment = compartment;
    try {
      const moves = names.map(
        (name, side) => `link set ${parked(name)} netns ${compartment.namespace} name ${INNER_NAMES[side]}`,
      );
      await changeLinks(moves, parking.path);
      await changeLinks(names.map((name) => `link set ${name} up`));
    } catch (error) {
      throw explain(error);
    }
  }

  confirm(): Promise<void> {
    return this.pairs.confirm();
  }

  async detach(): Promise<void> {
    const { watch, names } = this.pairs.parts;
    for (const name of names) watch.forget(name);
    await shutLinks(names).catch((error: unknown) => {
      throw explain(error);
    });
  }

  close(): Promise<void> {
    return this.#closed.run();
  }

  async #close(): Promise<void> {
    const problem = await this.detach().then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    if (!problem && !this.#isLost && (await this.#isBack()) && this.keep(this.pairs)) return;
    await this.pairs.removeNow();
  }

  /** Whether both inner sides are in the parking again. */
  async #isBack(): Promise<boolean> {
    const { names, parking } = this.pairs.parts;
    try {
      if (!this.#compartment) return true;
      await delay(NOTED_MS);
      const moves = names.map(
        (name, side) => `link set ${INNER_NAMES[side]} netns ${parking.path} name ${parked(name)}`,
      );
      await changeLinks(moves, this.#compartment.namespace);
      this.#compartment = undefined;
      return true;
    } catch {
      return false;
    }
  }
}

/** An inner side in the parking. */
const parked = (outer: string): string => `${outer}i`;
