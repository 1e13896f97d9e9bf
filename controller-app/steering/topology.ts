/**
 * How the switches hang together: the trunks of the configuration, and on which port of one switch the way to another begins. Pure.
 */
import type { Dpid } from '../../shared/domain/domain.js';

export interface TrunkEnd {
  readonly dpid: Dpid;
  readonly port: string;
}

export class Topology {
  readonly #nextHop = new Map<Dpid, ReadonlyMap<Dpid, string>>();
  readonly #trunks = new Map<Dpid, Set<string>>();

  /** Links that would close a loop are left out of use: frames are led along a tree, the shortest from the first switch. */
  constructor(
    readonly switches: readonly Dpid[],
    links: readonly (readonly [TrunkEnd, TrunkEnd])[],
    /** Switches whose ports, but for trunks, are closed until a terminal is seen there. */
    readonly terminalsOnly: ReadonlySet<Dpid> = new Set(),
  ) {
    for (const dpid of switches) this.#trunks.set(dpid, new Set());
    for (const end of links.flat()) this.#trunks.get(end.dpid)?.add(end.port);
    const tree = spanningTree(switches, links);
    for (const dpid of switches) this.#nextHop.set(dpid, firstPorts(dpid, tree));
  }

  /** Names of all ports of a switch that lead to other switches, in use or not. */
  trunkPorts(dpid: Dpid): ReadonlySet<string> {
    return this.#trunks.get(dpid) ?? new Set();
  }

  /** Names of the ports of a switch that frames may be led and flooded through. */
  usedTrunkPorts(dpid: Dpid): ReadonlySet<string> {
    return new Set(this.#nextHop.get(dpid)?.values() ?? []);
  }

  /** The name of the port on `from` where the way to `to` begins; nothing when they are one switch or not connected. */
  towards(from: Dpid, to: Dpid): string | undefined {
    return this.#nextHop.get(from)?.get(to);
  }
}

type Neighbours = ReadonlyMap<Dpid, readonly { port: string; peer: Dpid }[]>;

function spanningTree(
  switches: readonly Dpid[],
  links: readonly (readonly [TrunkEnd, TrunkEnd])[],
): Neighbours {
  const tree = new Map<Dpid, { port: string; peer: Dpid }[]>(switches.map((dpid) => [dpid, []]));
  const seen = new Set<Dpid>();
  for (const root of switches) {
    if (seen.has(root)) continue;
    seen.add(root);
    const queue = [root];
    for (let here: Dpid | undefined = queue.shift(); here !== undefined; here = queue.shift()) {
      for (const link of links) {
        const near = link.find((end) => end.dpid === here);
        const far = link.find((end) => end.dpid !== here);
        if (!near || !far || seen.has(far.dpid)) continue;
        seen.add(far.dpid);
        tree.get(near.dpid)?.push({ port: near.port, peer: far.dpid });
        tree.get(far.dpid)?.push({ port: far.port, peer: near.dpid });
        queue.push(far.dpid);
      }
    }
  }
  return tree;
}

function firstPorts(from: Dpid, tree: Neighbours): ReadonlyMap<Dpid, string> {
  const ports = new Map<Dpid, string>();
  const queue: { at: Dpid; first: string | undefined }[] = [{ at: from, first: undefined }];
  for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
    for (const { port, peer } of tree.get(step.at) ?? []) {
      if (peer === from || ports.has(peer)) continue;
      const first = step.first ?? port;
      ports.set(peer, first);
      queue.push({ at: peer, first });
    }
  }
  return ports;
}
