/**
 * What is given to a domain is looked at before anything is made of it.
 */
import { z } from 'zod';
import { problemOfState } from '../firewall/admission.js';
import {
  type FirewallState,
  firewallStateSchema,
  MAX_CONNECTIONS,
  type Snapshot,
} from '../firewall/state.js';
import type { Terminal } from '../firewall/terminal.js';
import { DomainError } from './domain.js';

const MAX_PROBLEM_TEXT = 2000;

/** A state that is well-formed and proves its connections. Fails with `invalid` before anything is made of it. */
export function validState(given: Snapshot): FirewallState {
  // Before each of them is looked at.
  if (given.connections.length > MAX_CONNECTIONS) {
    throw new DomainError(
      'invalid',
      `not a snapshot: ${given.connections.length} connections, and at most ${MAX_CONNECTIONS} are taken over`,
    );
  }
  const state = valid(firewallStateSchema, given, 'snapshot');
  const problem = problemOfState(state);
  if (problem !== undefined) throw new DomainError('invalid', `the state is not taken over: ${problem}`);
  return state;
}

/** The value as the schema has it. Fails with `invalid`. */
export function valid<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new DomainError(
    'invalid',
    `not a ${what}: ${z.prettifyError(result.error).slice(0, MAX_PROBLEM_TEXT)}`,
  );
}

/** What an instance is told of its terminal: other addresses of the same one. Throws DomainError `invalid` when it is another. */
export function mustBeSame(known: Terminal, given: Terminal): void {
  if (given.name === known.name && given.mac === known.mac) return;
  throw new DomainError(
    'invalid',
    `${given.name} (${given.mac}) is not ${known.name} (${known.mac}), whose firewall this is: only its addresses may change`,
  );
}
