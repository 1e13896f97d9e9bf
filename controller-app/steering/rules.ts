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
import type { Rule } from '../core/plugin.js';
import { apply, goto, SIDE } from '../pipeline/index.js';
import { attachmentRules } from './attachment-rules.js';
import { floodRule, localFloodRules } from './flood-rules.js';
import { Here } from './here.js';
import { handOnRules, pathRules } from './path-rules.js';
import type { Path, SteeringView, TerminalView } from './view.js';
import { FORGET_IN_PORT, output, PRIORITY, type SteeringTables, UNTAGGED } from './words.js';

/** The group of the rules for one instance. */
export const pathGroup = (terminal: string, { number }: Path): string => `path ${terminal} ${number}`;

/**
 * Rules by group: two for the switch itself, and of each of `terminals` one for where it is and where it is led, and one for each instance. What changes
 * together is in one group, and few rules are in those that change often.
 */
export function steeringRules(
  view: SteeringView,
  dpid: Dpid,
  tables: SteeringTables,
  terminals: readonly TerminalView[] = view.terminals,
): Map<string, Rule[]> {
  const here = new Here(view, dpid, tables);
  const hostPorts = here.hostPorts();
  const groups = new Map([
    ['switch', switchRules(here, hostPorts)],
    ['flood', localFloodRules(here, hostPorts)],
  ]);
  for (const one of terminals) {
    const { name } = one.terminal;
    const handOn = one.paths.flatMap((path) => handOnRules(here, one, path));
    groups.set(`terminal ${name}`, [...attachmentRules(here, one), ...handOn]);
    for (const path of one.paths) groups.set(pathGroup(name, path), pathRules(here, one, path));
  }
  return groups;
}

/** What does not depend on one terminal: hosts, trunks, flooding. */
function switchRules(here: Here, hostPorts: readonly number[]): Rule[] {
  const { ingress, lead, network } = here.tables;
  return [
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
    ...[...hostPorts, ...here.trunks].flatMap((port): Rule[] => [
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
    ]),
    floodRule(here, PRIORITY.flood, {}, []),
  ];
}
