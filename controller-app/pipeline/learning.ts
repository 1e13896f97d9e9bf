/**
 * What the tables `guard` and `deliver` send to the controller so that it learns a terminal's addresses, and how the rules that do are told
 * apart. Pure.
 *
 *   31..28 reason   27..8 index of the terminal   7..0 slot of the address
 */
import { type Action, OFPP } from '../openflow/index.js';

export const REASONS = [
  'none',
  /** A copy of what the terminal said to DHCP servers. */
  'dhcp-client',
  /** What a DHCP server said to the terminal: the frame waits in the controller. */
  'dhcp-server',
  /** The terminal asks whether anybody has an address that it may learn: the frame waits in the controller. */
  'probe',
  /** A frame from an address that is being probed: it waits, too. */
  'early',
  /** A copy of what somebody said about an address that is being probed. */
  'claim',
  /** Never sent: the rule counts how much a learnt address is used. */
  'use',
] as const;
export type Reason = (typeof REASONS)[number];

export interface LearningCookie {
  readonly reason: Reason;
  /** Of the terminal in the configuration. */
  readonly terminal: number;
  /** Of a learnt address, as long as the terminal has it: 0 to 255. */
  readonly slot: number;
}

const TERMINAL_BITS = 0x0fff_ff00;
const REASON_BITS = 0xf000_0000;

export function packLearning({ reason, terminal, slot }: LearningCookie): number {
  return ((REASONS.indexOf(reason) << 28) | (terminal << 8) | slot) >>> 0;
}

/** The parts of a cookie; nothing when it has no reason that is known. */
export function unpackLearning(cookie: number): LearningCookie | undefined {
  const reason = REASONS[cookie >>> 28];
  if (reason === undefined || reason === 'none') return undefined;
  return { reason, terminal: (cookie & TERMINAL_BITS) >>> 8, slot: cookie & 0xff };
}

/** The cookies of the rules that count how much a terminal's learnt addresses are used: those that have these bits under the mask. */
export function useCookies(terminal: number): { readonly value: number; readonly mask: number } {
  const value = packLearning({ reason: 'use', terminal, slot: 0 });
  return { value, mask: (REASON_BITS | TERMINAL_BITS) >>> 0 };
}

/** The whole frame to the controller. */
export const TO_CONTROLLER: Action = { type: 'output', port: OFPP.CONTROLLER, maxLen: 0xffff };
