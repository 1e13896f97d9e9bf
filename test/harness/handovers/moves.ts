/**
 * The moves of a measurement, and their order.
 */
import type { HandoverReport } from '../../../shared/api/schema.js';
import type { Paguro } from '../paguro.js';

/**
 * role: the active role moves on demand, and the terminal stays. link: the terminal, which receives on two links, sends on the other from now on, and its
 * firewall follows by itself.
 */
export type MoveKind = 'role' | 'link';

/** Half of each. Roles move away from where the terminal is and back, while it is in either place. */
const ORDER: readonly MoveKind[] = ['role', 'role', 'link', 'role', 'role', 'link', 'link', 'link'];

/** The kind of the `number`-th move. */
export function moveKind(number: number): MoveKind {
  return ORDER[number % ORDER.length] ?? 'role';
}

/** Where a firewall is active, where it moves to. */
const OTHER: Readonly<Record<string, string>> = { 'sdn-1': 'edge-1', 'edge-1': 'sdn-1' };
const OTHER_SWITCH: Readonly<Record<string, string>> = { s1: 's2', s2: 's1' };

/** The role alone. */
export async function moveRole(
  paguro: Paguro,
  terminal: string,
  options: { readonly breakBeforeMake?: boolean } = {},
): Promise<HandoverReport> {
  const { active } = await paguro.terminal(terminal);
  return paguro.handover(terminal, OTHER[active?.domain ?? ''] ?? 'sdn-1', options);
}

/** The sending link, to the other switch. */
export async function moveLink(paguro: Paguro, terminal: string, host: string): Promise<HandoverReport> {
  const seen = paguro.events.length;
  const { attachment } = await paguro.terminal(terminal);
  await paguro.sendBy(host, OTHER_SWITCH[attachment?.switch ?? ''] ?? 's1');
  return paguro.nextHandover(terminal, seen);
}
