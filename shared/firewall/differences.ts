/**
 * What turns one firewall state into another, as changes: by it a copy that has fallen behind is mended without being built anew. Pure.
 */
import { type Connection, connectionKey } from './connection.js';
import { isSameConnection } from './digest.js';
import { isSamePolicy } from './policy-history.js';
import type { Change, FirewallState } from './state.js';
import { isSameTerminal } from './terminal.js';

/**
 * The changes after which `from` means what `to` means. Addresses and policy come first, because connections are judged by them; then what has
 * ended. Counters and numbers are left out. Time: the connections of both.
 */
export function differences(from: FirewallState, to: FirewallState): Change[] {
  return [
    ...(isSameTerminal(from.terminal, to.terminal)
      ? []
      : [{ kind: 'terminal' as const, terminal: to.terminal }]),
    ...(isSamePolicy(from.policy, to.policy) ? [] : [{ kind: 'policy' as const, policy: to.policy }]),
    ...connectionDifferences(from.connections, to.connections),
  ];
}

/** The same for connections alone. */
export function connectionDifferences(
  from: Iterable<Connection>,
  to: Iterable<Connection>,
): Extract<Change, { kind: 'connection' | 'ended' }>[] {
  const wanted = new Map([...to].map((connection) => [connectionKey(connection), connection]));
  const known = new Map([...from].map((connection) => [connectionKey(connection), connection]));
  const ended = [...known.keys()].filter((key) => !wanted.has(key));
  const changed = [...wanted].filter(([key, connection]) => {
    const before = known.get(key);
    return !before || !isSameConnection(before, connection);
  });
  return [
    ...ended.map((key) => ({ kind: 'ended' as const, key })),
    ...changed.map(([, connection]) => ({ kind: 'connection' as const, connection })),
  ];
}
