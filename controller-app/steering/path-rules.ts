/**
 * One switch's rules for the way to one instance of a terminal, and from there to the terminal and into the network. Pure.
 */
import type { Rule } from '../core/plugin.js';
import { type Action, type Instruction, type Match, OFPVID_PRESENT } from '../openflow/index.js';
import { apply, goto, lookingAgain, SIDE } from '../pipeline/index.js';
import { floodRule } from './flood-rules.js';
import { heardRules } from './heard.js';
import type { Here } from './here.js';
import {
  type Attachment,
  ledNumber,
  networkSideTag,
  type Path,
  type TerminalView,
  terminalSideTag,
} from './view.js';
import { FORGET_IN_PORT, output, PRIORITY, push, set, UNTAGGED } from './words.js';

/** What does not depend on where the terminal's traffic is led: so the switch from one instance to another states none of it again. */
export function pathRules(here: Here, view: TerminalView, path: Path): Rule[] {
  return [
    ...networkTagRules(here, path),
    ...terminalTagRules(here, view, path),
    ...endRules(here, view, path),
    ...enterRules(here, view, path),
    ...deliverRules(here, view, path),
    ...egressRules(here, path),
  ];
}

/** Of frames with a tag, from a port to another switch. */
function tagged(port: number, vid: number, instructions: Instruction[]): Rule {
  const match = { in_port: port, vlan_vid: vid | OFPVID_PRESENT };
  return { table: 'classify', priority: PRIORITY.tagged, match, instructions };
}

/** The tag goes, and the frame is at one side of the instance. */
function arrive({ number }: Path, side: number, table: number): Instruction[] {
  return [apply({ type: 'pop_vlan' }, set({ reg0: side }), set({ reg1: number })), goto(table)];
}

/** Between the instance and the network. */
function networkTagRules(here: Here, path: Path): Rule[] {
  const { enter, lead } = here.tables;
  const tag = networkSideTag(path.number);
  const toInstance = here.towards(path.ends.dpid);
  return here.trunks.flatMap((port): Rule[] => {
    if (here.dpid === path.ends.dpid) return [tagged(port, tag, arrive(path, SIDE.network, enter))];
    if (port === toInstance) return [tagged(port, tag, arrive(path, SIDE.terminal, lead))];
    return toInstance === undefined ? [] : [tagged(port, tag, [apply(output(toInstance))])];
  });
}

/**
 * Between the instance and the terminal's ports. Towards the instance the way is there before any port needs it, from every switch: a terminal
 * that appears somewhere needs rules on that switch only. Back it leads to one port.
 */
function terminalTagRules(here: Here, { attachments }: TerminalView, path: Path): Rule[] {
  const { enter, deliver } = here.tables;
  const tag = terminalSideTag(path.number);
  const toInstance = here.towards(path.ends.dpid);
  return here.trunks.flatMap((port): Rule[] => {
    if (here.dpid === path.ends.dpid) return [tagged(port, tag, arrive(path, SIDE.terminal, enter))];
    if (port !== toInstance)
      return toInstance === undefined ? [] : [tagged(port, tag, [apply(output(toInstance))])];
    if (localAttachment(here, attachments, path))
      return [tagged(port, tag, arrive(path, SIDE.network, deliver))];
    // To the primary; while that is where the frame comes from, to the other: that way must be there before the terminal changes its link.
    const toTerminal = attachments
      .map(({ dpid }) => here.towards(dpid))
      .find((way) => way !== undefined && way !== port);
    return toTerminal === undefined ? [] : [tagged(port, tag, [apply(output(toTerminal))])];
  });
}

/**
 * The port of this switch where what comes out of the instance reaches the terminal, if it does so here: its primary attachment, or another when the
 * way to the primary leads back to where the frame came from, because the terminal has just changed its link: it receives on both.
 */
function localAttachment(
  here: Here,
  attachments: readonly Attachment[],
  { ends }: Path,
): Attachment | undefined {
  const [primary, ...others] = attachments;
  if (!primary || here.has(primary)) return primary;
  const toPrimary = here.towards(primary.dpid);
  const onTheWay =
    here.dpid === ends.dpid || (toPrimary !== undefined && toPrimary !== here.towards(ends.dpid));
  return onTheWay ? undefined : others.find((at) => here.has(at));
}

/** What comes out of the instance's ends. */
function endRules(here: Here, { terminal }: TerminalView, { ends, number }: Path): Rule[] {
  const ports = here.endPorts(ends);
  if (!ports) return [];
  const from = (port: number, match: Match, side: number, table: number): Rule => ({
    table: 'classify',
    priority: PRIORITY.tagged,
    match: { in_port: port, vlan_vid: UNTAGGED, ...match },
    instructions: [apply(set({ reg0: side }), set({ reg1: number })), goto(table)],
  });
  return [
    from(ports.terminalSide, {}, SIDE.network, here.tables.deliver),
    from(ports.networkSide, { eth_src: terminal.mac }, SIDE.terminal, here.tables.lead),
  ];
}

/** How a frame goes into the instance from one side; nothing when there is no way. */
export function enterInstructions(here: Here, { ends, number }: Path, side: number): Instruction[] {
  if (ends.dpid !== here.dpid) {
    const port = here.towards(ends.dpid);
    const tag = side === SIDE.terminal ? terminalSideTag(number) : networkSideTag(number);
    return port === undefined ? [] : [apply(...push(tag), output(port))];
  }
  if (ends.kind === 'pipeline') return [goto(here.tables.firewall)];
  const ports = here.endPorts(ends);
  if (!ports) return [];
  return [apply(output(side === SIDE.terminal ? ports.terminalSide : ports.networkSide))];
}

function enterRules(here: Here, { terminal }: TerminalView, path: Path): Rule[] {
  const { number: reg1, ends } = path;
  const rules = [SIDE.terminal, SIDE.network].flatMap((reg0): Rule[] => {
    const instructions = enterInstructions(here, path, reg0);
    return instructions.length === 0
      ? []
      : [{ table: 'enter', priority: PRIORITY.port, match: { reg1, reg0 }, instructions }];
  });
  if (rules.length === 0 || ends.dpid !== here.dpid) return rules;
  // The terminal's own frame to a group, flooded: it has no use for it (an echo of its own ND probe is a duplicate address, RFC 4862, 5.4.3).
  const match = { reg1, reg0: SIDE.network, eth_src: terminal.mac };
  return [{ table: 'enter', priority: PRIORITY.ownFrame, match, instructions: [] }, ...rules];
}

/** What a draining instance of this switch does not know goes to where the terminal's traffic is led now; no other instance hands anything on. */
export function handOnRules(here: Here, view: TerminalView, { number, ends }: Path): Rule[] {
  if (ends.kind !== 'pipeline' || ends.dpid !== here.dpid) return [];
  const led = ledNumber(view);
  const onwards =
    led === undefined || led === number
      ? []
      : [
          apply(...[set({ reg1: led }), set({ reg4: 0 }), FORGET_IN_PORT], {
            type: 'resubmit',
            table: here.tables.enter,
          }),
        ];
  const match = { reg1: number, reg4: 1, ...(view.led === undefined ? {} : lookingAgain(view.led)) };
  return [{ table: 'deliver', priority: PRIORITY.handedOn, match, instructions: onwards }];
}

/** Out of the instance, to the terminal. */
function deliverRules(here: Here, { attachments, listening }: TerminalView, path: Path): Rule[] {
  const [primary] = attachments;
  if (!primary) return [];
  const turn = Number.parseInt(primary.dpid, 16) + primary.port;
  const match = { reg1: path.number, reg0: SIDE.network, reg4: 0, ...lookingAgain(turn) };
  const deliver = (...actions: Action[]): Rule => ({
    table: 'deliver',
    priority: PRIORITY.port,
    match,
    instructions: [apply(...actions)],
  });
  const local = localAttachment(here, attachments, path);
  if (local) {
    return [deliver(output(local.port)), ...(listening ? heardRules(listening, match, local.port) : [])];
  }
  const port = here.towards(primary.dpid);
  return port === undefined
    ? []
    : [deliver(FORGET_IN_PORT, ...push(terminalSideTag(path.number)), output(port))];
}

/** How filtered frames leave: tagged on trunks. Towards its own instance no filtered frame goes. */
function egressRules(here: Here, { number, ends }: Path): Rule[] {
  const tag = push(networkSideTag(number));
  const rules = here.trunks.map(
    (port): Rule => ({
      table: 'egress',
      priority: PRIORITY.trunkOfInstance,
      match: { reg1: number, reg2: port },
      instructions:
        ends.dpid !== here.dpid && port === here.towards(ends.dpid) ? [] : [apply(...tag, output(port))],
    }),
  );
  return [...rules, floodRule(here, PRIORITY.floodOfInstance, { reg1: number }, tag)];
}
