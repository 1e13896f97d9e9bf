/**
 * Steering as a function: (where each terminal is, where its instances are) → the rules of every switch. Pure.
 *
 * classify  where a frame came from: a terminal's port, a tag on a trunk, an end of an instance, a host
 * enter     on the way into instance reg1, from the side reg0
 * deliver   out of instance reg1: to the terminal, or on into the network
 * lead      on the network side: a frame for a terminal enters its active instance
 * egress    how a frame leaves by port reg2: what was filtered has its instance's tag on trunks, so no untagged
 *           frame on a trunk is a terminal's
 */
import type { Dpid } from '../../shared/domain/domain.js';
import { isEndPort } from '../../shared/domain/ends.js';
import type { Rule } from '../core/plugin.js';
import { FLOOD } from '../forwarding/flood.js';
import { type Action, type Instruction, type Match, OFPP, OFPVID_PRESENT } from '../openflow/index.js';
import { apply, goto, SIDE } from '../pipeline/index.js';
import { heardRules } from './heard.js';
import { networkSideTag, type Path, type SteeringView, type TerminalView, terminalSideTag } from './view.js';

export interface SteeringTables {
  readonly guard: number;
  readonly enter: number;
  readonly firewall: number;
  readonly deliver: number;
  readonly lead: number;
  /** Where frames of hosts go first. */
  readonly ingress: number;
  /** Where frames on the network side go after `lead`. */
  readonly network: number;
  readonly egress: number;
}

const PRIORITY = {
  reserved: 1000,
  tagged: 40,
  attachment: 30,
  attachmentOther: 29,
  terminalOnTrunk: 22,
  terminalElsewhere: 20,
  port: 10,
  rest: 0,
  floodOfInstance: 30,
  flood: 20,
  floodGroup: 21,
  ownFrame: 20,
  trunkOfInstance: 12,
  handedOn: 30,
  handedOnToNobody: 29,
} as const;

/** Register 2 while a flooded frame visits the ports and instances of this switch. */
const FLOOD_HERE = FLOOD + 1;

/** OFPVID_NONE (OpenFlow 1.3.5, table 13). */
const UNTAGGED = 0;
const GROUP_BIT = { value: '01:00:00:00:00:00', mask: '01:00:00:00:00:00' } as const;

const set = (field: Match): Action => ({ type: 'set_field', field });
const output = (port: number): Action => ({ type: 'output', port });
/** Lets a frame leave through the port it came in by: a firewall in between makes it another frame. */
const FORGET_IN_PORT: Action = set({ in_port_nxm: 0 });
const push = (vid: number): Action[] => [
  { type: 'push_vlan', ethertype: 0x8100 },
  set({ vlan_vid: vid | OFPVID_PRESENT }),
];

/** Rules by group: one for the switch itself, and one for each of `terminals` (which do not depend on one another). */
export function steeringRules(
  view: SteeringView,
  dpid: Dpid,
  tables: SteeringTables,
  terminals: readonly TerminalView[] = view.terminals,
): Map<string, Rule[]> {
  const here = new SwitchSteering(view, dpid, tables);
  return new Map([
    ['switch', here.switchRules()],
    ...terminals.map((terminal): [string, Rule[]] => [
      `terminal ${terminal.terminal.name}`,
      here.terminalRules(terminal),
    ]),
  ]);
}

class SwitchSteering {
  readonly #ports: ReadonlyMap<string, number>;
  readonly #trunks: readonly number[];
  /** Ports where hosts that are no terminals may be. */
  readonly #hostPorts: readonly number[];

  constructor(
    readonly view: SteeringView,
    readonly dpid: Dpid,
    readonly tables: SteeringTables,
  ) {
    const { topology } = view;
    this.#ports = view.ports.get(dpid) ?? new Map();
    const attached = new Set(
      view.terminals.flatMap(({ attachment }) => (attachment?.dpid === dpid ? [attachment.port] : [])),
    );
    const used = topology.usedTrunkPorts(dpid);
    this.#trunks = [...this.#ports].flatMap(([name, number]) => (used.has(name) ? [number] : []));
    const notHosts = topology.trunkPorts(dpid);
    this.#hostPorts = [...this.#ports].flatMap(([name, number]) =>
      notHosts.has(name) || isEndPort(name) || attached.has(number) || number > OFPP.MAX ? [] : [number],
    );
    if (topology.terminalsOnly.has(dpid)) this.#hostPorts = [];
  }

  /** What does not depend on one terminal: hosts, trunks, flooding. */
  switchRules(): Rule[] {
    const { ingress, lead, network } = this.tables;
    const rules: Rule[] = [
      {
        table: 'classify',
        priority: PRIORITY.reserved,
        match: { eth_dst: { value: '01:80:c2:00:00:00', mask: 'ff:ff:ff:00:00:00' } },
        instructions: [],
      },
      { table: 'lead', priority: PRIORITY.rest, match: {}, instructions: [goto(network)] },
      {
        table: 'deliver',
        priority: PRIORITY.port,
        match: { reg0: SIDE.terminal, reg4: 0 },
        instructions: [apply(FORGET_IN_PORT), goto(lead)],
      },
    ];
    for (const port of [...this.#hostPorts, ...this.#trunks]) {
      rules.push(
        {
          table: 'classify',
          priority: PRIORITY.port,
          match: { in_port: port, vlan_vid: UNTAGGED },
          instructions: [goto(ingress)],
        },
        {
          table: 'egress',
          priority: PRIORITY.port,
          match: { reg2: port },
          instructions: [apply(output(port))],
        },
      );
    }
    rules.push(...this.#localFloodRules(), this.#floodRule(PRIORITY.flood, {}, []));
    return rules;
  }

  terminalRules(view: TerminalView): Rule[] {
    const active = view.paths.find((path) => path.number === view.active);
    return [
      ...this.#attachmentRules(view, active),
      ...this.#leadRules(view, active),
      ...view.paths.flatMap((path) => [
        ...this.#tagRules(view, path),
        ...this.#endRules(view, path),
        ...this.#enterRules(view, path),
        ...this.#deliverRules(view, path, active),
        ...this.#egressRules(path),
      ]),
    ];
  }

  #attachmentRules({ terminal, attachment }: TerminalView, active: Path | undefined): Rule[] {
    const rules: Rule[] = [
      {
        table: 'classify',
        priority: PRIORITY.terminalElsewhere,
        match: { eth_src: terminal.mac },
        instructions: [apply({ type: 'output', port: OFPP.CONTROLLER, maxLen: 0xffff })],
      },
      ...this.#trunks.map(
        (port): Rule => ({
          table: 'classify',
          priority: PRIORITY.terminalOnTrunk,
          match: { in_port: port, eth_src: terminal.mac },
          instructions: [],
        }),
      ),
    ];
    if (attachment?.dpid !== this.dpid) return rules;
    rules.push({
      table: 'classify',
      priority: PRIORITY.attachmentOther,
      match: { in_port: attachment.port },
      instructions: [],
    });
    if (active) {
      rules.push({
        table: 'classify',
        priority: PRIORITY.attachment,
        match: { in_port: attachment.port, vlan_vid: UNTAGGED },
        instructions: [
          apply(set({ reg0: SIDE.terminal }), set({ reg1: active.number })),
          goto(this.tables.guard),
        ],
      });
    }
    return rules;
  }

  #leadRules({ terminal }: TerminalView, active: Path | undefined): Rule[] {
    return [
      {
        table: 'lead',
        priority: PRIORITY.port,
        match: { eth_dst: terminal.mac },
        instructions: active ? [apply(...this.#into(active))] : [],
      },
    ];
  }

  /** From the network side into an instance, wherever it is. */
  #into(path: Path): Action[] {
    return [
      set({ reg0: SIDE.network }),
      set({ reg1: path.number }),
      { type: 'resubmit', table: this.tables.enter },
    ];
  }

  #tagRules({ attachment }: TerminalView, path: Path): Rule[] {
    const at = path.ends.dpid;
    const rules: Rule[] = [];
    const tagged = (port: number, vid: number, instructions: Instruction[]): void => {
      const match = { in_port: port, vlan_vid: vid | OFPVID_PRESENT };
      rules.push({ table: 'classify', priority: PRIORITY.tagged, match, instructions });
    };
    const arrive = (side: number, table: number): Instruction[] => [
      apply({ type: 'pop_vlan' }, set({ reg0: side }), set({ reg1: path.number })),
      goto(table),
    ];
    const { enter, deliver, lead } = this.tables;
    const toInstance = this.#towards(at);
    const toTerminal = attachment && this.#towards(attachment.dpid);
    for (const port of this.#trunks) {
      const towardsInstance = this.dpid !== at && port === toInstance;
      if (this.dpid === at) tagged(port, networkSideTag(path.number), arrive(SIDE.network, enter));
      else if (towardsInstance) tagged(port, networkSideTag(path.number), arrive(SIDE.terminal, lead));
      else if (toInstance !== undefined)
        tagged(port, networkSideTag(path.number), [apply(output(toInstance))]);

      if (!attachment) continue;
      const tag = terminalSideTag(path.number);
      if (this.dpid === at) {
        if (port === toTerminal) tagged(port, tag, arrive(SIDE.terminal, enter));
      } else if (towardsInstance) {
        if (this.dpid === attachment.dpid) tagged(port, tag, arrive(SIDE.network, deliver));
        else if (toTerminal !== undefined && toTerminal !== port)
          tagged(port, tag, [apply(output(toTerminal))]);
      } else if (port === toTerminal && toInstance !== undefined) {
        tagged(port, tag, [apply(output(toInstance))]);
      }
    }
    return rules;
  }

  #endRules({ terminal }: TerminalView, { ends, number }: Path): Rule[] {
    const ports = this.#endPorts(ends);
    if (!ports) return [];
    const from = (port: number, match: Match, side: number, table: number): Rule => ({
      table: 'classify',
      priority: PRIORITY.tagged,
      match: { in_port: port, vlan_vid: UNTAGGED, ...match },
      instructions: [apply(set({ reg0: side }), set({ reg1: number })), goto(table)],
    });
    return [
      from(ports.terminalSide, {}, SIDE.network, this.tables.deliver),
      from(ports.networkSide, { eth_src: terminal.mac }, SIDE.terminal, this.tables.lead),
    ];
  }

  #enterRules({ terminal }: TerminalView, { ends, number }: Path): Rule[] {
    const enter = (match: Match, ...instructions: Instruction[]): Rule => ({
      table: 'enter',
      priority: PRIORITY.port,
      match: { reg1: number, ...match },
      instructions,
    });
    if (ends.dpid !== this.dpid) {
      const port = this.#towards(ends.dpid);
      if (port === undefined) return [];
      return [
        enter({ reg0: SIDE.terminal }, apply(...push(terminalSideTag(number)), output(port))),
        enter({ reg0: SIDE.network }, apply(...push(networkSideTag(number)), output(port))),
      ];
    }
    // The terminal's own frame to a group, flooded: it has no use for it (an echo of its own ND probe is a duplicate address, RFC 4862, 5.4.3).
    const ownFrame: Rule = {
      table: 'enter',
      priority: PRIORITY.ownFrame,
      match: { reg1: number, reg0: SIDE.network, eth_src: terminal.mac },
      instructions: [],
    };
    if (ends.kind === 'pipeline') return [ownFrame, enter({}, goto(this.tables.firewall))];
    const ports = this.#endPorts(ends);
    if (!ports) return [];
    return [
      ownFrame,
      enter({ reg0: SIDE.terminal }, apply(output(ports.terminalSide))),
      enter({ reg0: SIDE.network }, apply(output(ports.networkSide))),
    ];
  }

  #deliverRules({ attachment, listening }: TerminalView, { number }: Path, active: Path | undefined): Rule[] {
    const rules: Rule[] = [];
    const handOn = (priority: number, instructions: Instruction[]): void => {
      rules.push({ table: 'deliver', priority, match: { reg1: number, reg4: 1 }, instructions });
    };
    if (active && active.number !== number) {
      const toActive = [set({ reg1: active.number }), set({ reg4: 0 }), FORGET_IN_PORT];
      handOn(PRIORITY.handedOn, [apply(...toActive, { type: 'resubmit', table: this.tables.enter })]);
    } else handOn(PRIORITY.handedOnToNobody, []);
    if (!attachment) return rules;
    const match = { reg1: number, reg0: SIDE.network, reg4: 0 };
    const port = this.#towards(attachment.dpid);
    if (attachment.dpid === this.dpid) {
      rules.push({
        table: 'deliver',
        priority: PRIORITY.port,
        match,
        instructions: [apply(output(attachment.port))],
      });
      if (listening) rules.push(...heardRules(listening, match, attachment.port));
    } else if (port !== undefined) {
      const actions = [FORGET_IN_PORT, ...push(terminalSideTag(number)), output(port)];
      rules.push({ table: 'deliver', priority: PRIORITY.port, match, instructions: [apply(...actions)] });
    }
    return rules;
  }

  /** How filtered frames leave: tagged on trunks. Towards its own instance no filtered frame goes. */
  #egressRules({ number, ends }: Path): Rule[] {
    const tag = push(networkSideTag(number));
    const rules = this.#trunks.map(
      (port): Rule => ({
        table: 'egress',
        priority: PRIORITY.trunkOfInstance,
        match: { reg1: number, reg2: port },
        instructions:
          ends.dpid !== this.dpid && port === this.#towards(ends.dpid) ? [] : [apply(...tag, output(port))],
      }),
    );
    return [...rules, this.#floodRule(PRIORITY.floodOfInstance, { reg1: number }, tag)];
  }

  /**
   * Flooding. On this switch it reaches hosts, and, for frames to a group, a copy enters each active instance here, which decides for its
   * terminal; a frame for one unknown host never reaches a terminal.
   */
  #localFloodRules(): Rule[] {
    const toHosts = this.#hostPorts.map(output);
    const toInstances = this.view.terminals.flatMap(({ paths, active }) =>
      paths
        .filter((path) => path.number === active && path.ends.dpid === this.dpid)
        .map((path): Action => ({ type: 'clone', actions: this.#into(path) })),
    );
    const local = (priority: number, match: Match, actions: Action[]): Rule => ({
      table: 'egress',
      priority,
      match: { reg2: FLOOD_HERE, ...match },
      instructions: actions.length > 0 ? [apply(...actions)] : [],
    });
    return [
      local(PRIORITY.flood, {}, toHosts),
      local(PRIORITY.floodGroup, { eth_dst: GROUP_BIT }, [...toInstances, ...toHosts]),
    ];
  }

  /** Here first, untagged; then on the trunks, with the tag of the instance that the frame comes from. */
  #floodRule(priority: number, match: Match, tag: readonly Action[]): Rule {
    const here = [set({ reg2: FLOOD_HERE }), { type: 'resubmit', table: this.tables.egress } as const];
    return {
      table: 'egress',
      priority,
      match: { ...match, reg2: FLOOD },
      instructions: [apply(...here, ...tag, ...this.#trunks.map(output))],
    };
  }

  #towards(dpid: Dpid): number | undefined {
    const name = this.view.topology.towards(this.dpid, dpid);
    return name === undefined ? undefined : this.#ports.get(name);
  }

  #endPorts(ends: Path['ends']): { terminalSide: number; networkSide: number } | undefined {
    if (ends.kind !== 'ports' || ends.dpid !== this.dpid) return undefined;
    const terminalSide = this.#ports.get(ends.terminalSide);
    const networkSide = this.#ports.get(ends.networkSide);
    return terminalSide === undefined || networkSide === undefined
      ? undefined
      : { terminalSide, networkSide };
  }
}
