/**
 * One switch as steering sees it: its ports, and where the ways to others begin. Pure.
 */
import type { Dpid, Ends } from '../../shared/domain/domain.js';
import { isEndPort } from '../../shared/domain/ends.js';
import { type Action, OFPP } from '../openflow/index.js';
import { SIDE } from '../pipeline/index.js';
import type { Attachment, SteeringView } from './view.js';
import { type SteeringTables, set } from './words.js';

export class Here {
  readonly #ports: ReadonlyMap<string, number>;
  /** Numbers of the ports to other switches that frames may be led and flooded through. */
  readonly trunks: readonly number[];

  constructor(
    readonly view: SteeringView,
    readonly dpid: Dpid,
    readonly tables: SteeringTables,
  ) {
    this.#ports = view.ports.get(dpid) ?? new Map();
    const used = view.topology.usedTrunkPorts(dpid);
    this.trunks = [...this.#ports].flatMap(([name, number]) => (used.has(name) ? [number] : []));
  }

  /** Numbers of the ports where hosts that are no terminals may be. */
  hostPorts(): readonly number[] {
    const { topology, terminals } = this.view;
    if (topology.terminalsOnly.has(this.dpid)) return [];
    const attached = new Set(
      terminals.flatMap(({ attachments }) =>
        attachments.filter((at) => this.has(at)).map(({ port }) => port),
      ),
    );
    const notHosts = topology.trunkPorts(this.dpid);
    return [...this.#ports].flatMap(([name, number]) =>
      notHosts.has(name) || isEndPort(name) || attached.has(number) || number > OFPP.MAX ? [] : [number],
    );
  }

  has({ dpid }: Attachment): boolean {
    return dpid === this.dpid;
  }

  /** The number of the port where the way to a switch begins; nothing when it is this one, or that port is down. */
  towards(dpid: Dpid): number | undefined {
    const name = this.view.topology.towards(this.dpid, dpid);
    return name === undefined ? undefined : this.#ports.get(name);
  }

  /** The ports of an instance's ends, if they are here and up. */
  endPorts(ends: Ends): { terminalSide: number; networkSide: number } | undefined {
    if (ends.kind !== 'ports' || ends.dpid !== this.dpid) return undefined;
    const terminalSide = this.#ports.get(ends.terminalSide);
    const networkSide = this.#ports.get(ends.networkSide);
    return terminalSide === undefined || networkSide === undefined
      ? undefined
      : { terminalSide, networkSide };
  }

  /** From the network side into the instance of this number, wherever it is. */
  into(number: number): Action[] {
    return [
      set({ reg0: SIDE.network }),
      set({ reg1: number }),
      { type: 'resubmit', table: this.tables.enter },
    ];
  }
}
