/**
 * One switch's rules for where a terminal is: what comes from it is guarded and led into its instance, from each of its ports; what is for
 * it on the network side enters its instance, too. Pure.
 */
import type { Rule } from '../core/plugin.js';
import { apply, goto, lookingAgain, SIDE } from '../pipeline/index.js';
import type { Here } from './here.js';
import { noticeAction, packNotice } from './notices.js';
import { enterInstructions } from './path-rules.js';
import { heldNumber, ledNumber, type TerminalView } from './view.js';
import { PRIORITY, set, UNTAGGED } from './words.js';

export function attachmentRules(here: Here, view: TerminalView): Rule[] {
  return [
    ...elsewhereRules(here, view),
    ...view.attachments.filter((at) => here.has(at)).flatMap(({ port }) => portRules(here, view, port)),
    ...otherLinkRules(here, view),
    ...leadRules(here, view),
    ...heldRules(view),
  ];
}

/** Its MAC where it is not attached. */
function elsewhereRules(here: Here, { terminal, index }: TerminalView): Rule[] {
  return [
    {
      table: 'classify',
      priority: PRIORITY.terminalElsewhere,
      match: { eth_src: terminal.mac },
      instructions: [apply(noticeAction('seen', index))],
      cookie: packNotice({ kind: 'seen', terminal: index, side: SIDE.terminal }),
    },
    ...here.trunks.map(
      (port): Rule => ({
        table: 'classify',
        priority: PRIORITY.terminalOnTrunk,
        match: { in_port: port, eth_src: terminal.mac },
        instructions: [],
      }),
    ),
  ];
}

function portRules(here: Here, view: TerminalView, in_port: number): Rule[] {
  const number = ledNumber(view);
  const closed: Rule = {
    table: 'classify',
    priority: PRIORITY.attachmentOther,
    match: { in_port },
    instructions: [],
  };
  if (number === undefined || view.led === undefined) return [closed];
  return [
    closed,
    {
      table: 'classify',
      priority: PRIORITY.attachment,
      match: { in_port, vlan_vid: UNTAGGED, ...lookingAgain(view.led) },
      instructions: [apply(set({ reg0: SIDE.terminal }), set({ reg1: number })), goto(here.tables.guard)],
    },
  ];
}

/**
 * What the terminal sends by a link that is not its primary goes into its instance like any other, and a copy says so. Behind the guard: only the
 * terminal's own frames count.
 */
function otherLinkRules(here: Here, view: TerminalView): Rule[] {
  const path = view.paths.find(({ number }) => number === view.led);
  if (!path || !view.watched) return [];
  const [forwards, ...rest] = enterInstructions(here, path, SIDE.terminal);
  if (!forwards) return [];
  const notice = noticeAction('sender', view.index);
  const instructions =
    forwards.type === 'apply_actions'
      ? [apply(notice, ...forwards.actions), ...rest]
      : [apply(notice), forwards, ...rest];
  return view.attachments.slice(1).flatMap((at): Rule[] =>
    here.has(at)
      ? [
          {
            table: 'enter',
            priority: PRIORITY.otherLink,
            match: { in_port: at.port, reg1: path.number, reg0: SIDE.terminal },
            instructions,
            cookie: packNotice({ kind: 'sender', terminal: view.index, side: SIDE.terminal }),
          },
        ]
      : [],
  );
}

function leadRules(here: Here, view: TerminalView): Rule[] {
  const number = ledNumber(view);
  return [
    {
      table: 'lead',
      priority: PRIORITY.port,
      match: { eth_dst: view.terminal.mac, ...(view.led === undefined ? {} : lookingAgain(view.led)) },
      instructions: number === undefined ? [] : [apply(...here.into(number))],
    },
  ];
}

/** What would enter the terminal's instance goes to the controller, behind the guard. */
function heldRules(view: TerminalView): Rule[] {
  if (view.led !== 'held') return [];
  return [SIDE.terminal, SIDE.network].map((side) => ({
    table: 'enter',
    priority: PRIORITY.port,
    match: { reg1: heldNumber(view), reg0: side },
    instructions: [apply(noticeAction('held', view.index))],
    cookie: packNotice({ kind: 'held', terminal: view.index, side }),
  }));
}
