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
import { pathRules } from './path-rules.js';
import type { SteeringView, TerminalView } from './view.js';
import { FORGET_IN_PORT, output, PRIORITY, type SteeringTables, UNTAGGED } from './words.js';

/** Rules by group: one for the switch itself, and one for each of `terminals` (which do not depend on one another). */
export function steeringRules(
  view: SteeringView,
  dpid: Dpid,
  tables: SteeringTables,
  terminals: readonly TerminalView[] = view.terminals,
): Map<string, Rule[]> {
  const here = new Here(view, dpid, tables);
  return new Map([
    ['switch', switchRules(here)],
    ...terminals.map((terminal): [string, Rule[]] => [
      `terminal ${terminal.terminal.name}`,
      [
        ...attachmentRules(here, terminal),
        ...terminal.paths.flatMap((path) => pathRules(here, terminal, path)),
      ],
    ]),
  ]);
}

/** What does not depend on one terminal: hosts, trunks, flooding. */
function switchRules(here: Here): Rule[] {
  const { ingress, lead, network } = here.tables;
  const hostPorts = here.hostPorts();
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
    ...localFloodRules(here, hostPorts),
    floodRule(here, PRIORITY.flood, {}, []),
  ];
}
