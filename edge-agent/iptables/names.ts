/**
 * The names and marks that rules, counters, the gate and the answering of rejected packets agree on.
 */
import type { Direction } from '../../shared/firewall/policy.js';
import type { Family } from '../../shared/firewall/terminal.js';

export const CHAINS = {
  fromTerminal: 'paguro-from-terminal',
  fromNetwork: 'paguro-from-network',
  ndSource: 'paguro-nd-source',
  known: 'paguro-known',
  admit: 'paguro-admit',
  accept: 'paguro-accept',
  reject: 'paguro-reject',
  pass: 'paguro-pass',
} as const;

export const POLICY_CHAINS: Readonly<Record<Direction, string>> = {
  outbound: 'paguro-outbound',
  inbound: 'paguro-inbound',
};

/** Bits of the marks of connections: it was admitted, here or by an earlier instance; it is over, and a SYN begins another one. */
export const CONNECTION_MARKS = { admitted: 1, over: 2 } as const;

/** The verdict on one packet, from the rules to whoever carries it out. No packet comes in with a mark: its own namespace's is not this one. */
export const PACKET_MARKS = { pass: 1, rejectOutbound: 2, rejectInbound: 3 } as const;

/** The lists that are the gate, one a family, as files under /proc/net/xt_recent. */
export const GATES: Readonly<Record<Family, string>> = { ipv4: 'paguro4', ipv6: 'paguro6' };
