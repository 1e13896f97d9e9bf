/**
 * Tells a terminal's firewalls which addresses it has. A change waits for no handover: the old instance is told, and the change goes to the new one
 * with all others, in their order; so a connection never arrives there before the address that it is of.
 */
import type { FirewallState } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import type { Feed } from './feed.js';
import type { FirewallRecord, Placed } from './firewall-record.js';

/** How long a change of addresses may take from one instance to the other of a handover under way. */
export const FOLLOW_MS = 1_000;

/** Says that a call of a domain failed. */
export type Complain = (placed: Placed, error: unknown) => void;

/** The addresses of the record, to whoever must know. Changes go out one after another; the last one said counts. */
export function tellAddresses(record: FirewallRecord, complain: Complain): Promise<void> {
  const told = record.addressTail.then(async () => {
    const { active, feed, terminal } = record;
    if (!active || (record.told && isSameTerminal(record.told, terminal))) return;
    record.told = undefined;
    const tell = ({ domain, id }: Placed): Promise<void> => domain.setTerminal(id, terminal);
    if (!feed || feed.from === active) await tell(active);
    else await tell(feed.from).catch((error: unknown) => complain(feed.from, error));
    const carried = feed === undefined || (await feed.carried(terminal, FOLLOW_MS));
    if (!carried && record.active === feed.to) await tell(feed.to);
    record.told = terminal;
  });
  record.addressTail = told.catch(() => {});
  return told;
}

/** Tells them again if that has failed; what fails now is to be tried again. */
export async function mendAddresses(record: FirewallRecord, complain: Complain): Promise<void> {
  try {
    await tellAddresses(record, complain);
  } catch (error) {
    if (record.active) complain(record.active, error);
  }
}

/** No more changes are carried: what the new instance has not got by now it must be told. */
export async function endFeed(
  record: FirewallRecord,
  feed: Feed | undefined,
  complain: Complain,
): Promise<void> {
  if (!feed) return;
  await feed.end();
  record.feed = undefined;
  if (feed.problem) complain(feed.from, feed.problem);
  const { terminal } = record;
  record.told = (await feed.carried(terminal, 0)) ? terminal : undefined;
}

/** The state with these addresses: connections of others are over. */
export function withTerminal(state: FirewallState, terminal: Terminal): FirewallState {
  const own = new Set([...terminal.ipv4, ...terminal.ipv6]);
  return { ...state, terminal, connections: state.connections.filter(({ local }) => own.has(local.address)) };
}
