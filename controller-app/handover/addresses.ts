/**
 * Tells a terminal's active firewall which addresses it has. A change waits for no handover: it goes on to the standbys with all other changes, in their
 * order, so a connection never arrives there before the address that it is of; and who becomes active is told again.
 */
import type { FirewallState } from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Complain } from './placed.js';

/** The addresses of the record, to whoever is active. Changes go out one after another; the last one said counts. */
export function tellAddresses(record: FirewallRecord): Promise<void> {
  const told = record.addressTail.then(async () => {
    while (record.active && !(record.told && isSameTerminal(record.told, record.terminal))) {
      const { active, terminal } = record;
      record.told = undefined;
      try {
        await active.domain.setTerminal(active.id, terminal);
      } catch (error) {
        // Whoever is active by now may take it.
        if (record.active === active) throw error;
      }
      if (record.active === active) record.told = terminal;
    }
  });
  record.addressTail = told.catch(() => {});
  return told;
}

/** Tells them again if that has failed; what fails now is to be tried again. */
export async function mendAddresses(record: FirewallRecord, complain: Complain): Promise<void> {
  try {
    await tellAddresses(record);
  } catch (error) {
    if (record.active) complain(record.active, error);
  }
}

/** The state with these addresses: connections of others are over. */
export function withTerminal(state: FirewallState, terminal: Terminal): FirewallState {
  const own = new Set([...terminal.ipv4, ...terminal.ipv6]);
  return { ...state, terminal, connections: state.connections.filter(({ local }) => own.has(local.address)) };
}
