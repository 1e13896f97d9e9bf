/**
 * Flooding. On one switch it reaches hosts, and, for frames to a group, a copy enters each instance here that is led to, which decides for its
 * terminal; a frame for one unknown host never reaches a terminal. Where a terminal's traffic is held its copy is made at its primary attachment. Pure.
 */
import type { Rule } from '../core/plugin.js';
import { FLOOD } from '../forwarding/flood.js';
import type { Action, Match } from '../openflow/index.js';
import { apply } from '../pipeline/index.js';
import type { Here } from './here.js';
import { ledNumber, type TerminalView } from './view.js';
import { FLOOD_HERE, GROUP_BIT, output, PRIORITY, set } from './words.js';

/** Here first, untagged; then on the trunks, with the tag of the instance that the frame comes from. */
export function floodRule(here: Here, priority: number, match: Match, tag: readonly Action[]): Rule {
  const local = [set({ reg2: FLOOD_HERE }), { type: 'resubmit', table: here.tables.egress } as const];
  return {
    table: 'egress',
    priority,
    match: { ...match, reg2: FLOOD },
    instructions: [apply(...local, ...tag, ...here.trunks.map(output))],
  };
}

/** What a flooded frame reaches on this switch itself. */
export function localFloodRules(here: Here, hostPorts: readonly number[]): Rule[] {
  const toHosts = hostPorts.map(output);
  const toInstances = here.view.terminals.flatMap((view): Action[] => {
    const number = ledNumber(view);
    return number !== undefined && entersHere(here, view)
      ? [{ type: 'clone', actions: here.into(number) }]
      : [];
  });
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

function entersHere(here: Here, { led, paths, attachments }: TerminalView): boolean {
  if (led === 'held') return attachments[0] !== undefined && here.has(attachments[0]);
  return paths.some(({ number, ends }) => number === led && ends.dpid === here.dpid);
}
