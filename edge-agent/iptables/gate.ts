/**
 * The gate: whether the rules of a compartment admit new connections. It is a list of xt_recent for each family; the rules ask whether
 * the terminal's address is in it. Writing the list through /proc takes a fraction of a millisecond where iptables-restore takes 16.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { DomainError } from '../../shared/domain/domain.js';
import type { Family, Terminal } from '../../shared/firewall/terminal.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { Compartment } from '../runtime/runtime.js';
import { GATES } from './names.js';

/** The kernel counts whole seconds; the one more leaves the end of a lease to the agent, as long as there is one. */
export function gateSeconds(leaseMs: number): number {
  return Math.ceil(leaseMs / 1000) + 1;
}

/**
 * Opens the gate for the seconds that the rules say, or closes it; the rules must be in place. May be repeated. Throws a DomainError `refused`.
 * It waits for the kernel, some ten microseconds: nothing else is between a handover's decision and its effect.
 */
export function setGate(compartment: Compartment, terminal: Terminal, isOpen: boolean): void {
  setList(compartment, 'ipv4', terminal.ipv4, isOpen);
  setList(compartment, 'ipv6', terminal.ipv6, isOpen);
}

function setList(
  compartment: Compartment,
  family: Family,
  addresses: readonly string[],
  isOpen: boolean,
): void {
  const path = `/proc/${compartment.pid}/net/xt_recent/${GATES[family]}`;
  try {
    // The kernel takes one address with each write, and only at the beginning of an open file: a second one is ESPIPE.
    for (const address of addresses) {
      const file = openSync(path, 'r+');
      try {
        writeSync(file, `${isOpen ? '+' : '-'}${address}\n`);
      } finally {
        closeSync(file);
      }
    }
  } catch (error) {
    throw new DomainError(
      'refused',
      `the firewall's gate could not be ${isOpen ? 'opened' : 'closed'}: ${messageOf(error)}; look whether the kernel has xt_recent`,
      { cause: error },
    );
  }
}
