/**
 * How a firewall state changes: the same function wherever a copy of one is kept.
 */
import { type Connection, connectionKey } from './connection.js';
import { DEFAULT_NAMES, type Policy } from './policy.js';
import { isSamePolicy } from './policy-history.js';
import {
  type Delta,
  type FirewallState,
  MAX_CONNECTIONS,
  MAX_EARLIER_POLICIES,
  type RuleCounter,
} from './state.js';
import type { Terminal } from './terminal.js';

export class StateError extends Error {
  override readonly name = 'StateError';
  constructor(
    readonly code: 'changes-lost' | 'too-many-connections',
    message: string,
  ) {
    super(message);
  }
}

/**
 * The state after these changes. What it already holds is passed over, so that a repetition has no effect; a gap fails with
 * `changes-lost`. The state given is not changed. Time: connections + deltas, so give many deltas in one call.
 */
export function applyDeltas(state: FirewallState, deltas: readonly Delta[]): FirewallState {
  const fresh = deltas.filter(({ sequence }) => sequence > state.sequence);
  if (fresh.length === 0) return state;
  const connections = new Map(state.connections.map((connection) => [connectionKey(connection), connection]));
  let { sequence, policy, earlier, terminal } = state;
  for (const delta of fresh) {
    if (delta.sequence <= sequence) continue;
    if (delta.sequence !== sequence + 1) {
      throw new StateError(
        'changes-lost',
        `changes ${sequence + 1} to ${delta.sequence - 1} of ${state.terminal.name} are missing: take a new snapshot`,
      );
    }
    sequence = delta.sequence;
    const { change } = delta;
    switch (change.kind) {
      case 'connection':
        setConnection(connections, change.connection);
        break;
      case 'ended':
        connections.delete(change.key);
        break;
      case 'policy':
        if (!isSamePolicy(policy, change.policy))
          earlier = [policy, ...earlier].slice(0, MAX_EARLIER_POLICIES);
        policy = change.policy;
        break;
      case 'terminal':
        terminal = change.terminal;
        endForeign(connections, terminal);
        break;
    }
  }
  return {
    ...state,
    terminal,
    sequence,
    policy,
    earlier,
    connections: [...connections.values()],
    counters: policy === state.policy ? state.counters : countersFor(policy, state.counters),
  };
}

/** Connections of addresses that the terminal does not have (any more) are over. */
function endForeign(connections: Map<string, Connection>, { ipv4, ipv6 }: Terminal): void {
  const own = new Set([...ipv4, ...ipv6]);
  for (const [key, { local }] of connections) if (!own.has(local.address)) connections.delete(key);
}

function setConnection(connections: Map<string, Connection>, connection: Connection): void {
  const key = connectionKey(connection);
  if (connections.size >= MAX_CONNECTIONS && !connections.has(key)) {
    throw new StateError(
      'too-many-connections',
      `a firewall state holds at most ${MAX_CONNECTIONS} connections`,
    );
  }
  connections.set(key, connection);
}

/** The counters of the rules that a policy has, in its order, the defaults last: those that were, and zeros for new ones. */
export function countersFor(policy: Policy, before: readonly RuleCounter[] = []): RuleCounter[] {
  const known = new Map(before.map((counter) => [counter.rule, counter]));
  const names = [...policy.rules.map((rule) => rule.name), DEFAULT_NAMES.outbound, DEFAULT_NAMES.inbound];
  return names.map((rule) => known.get(rule) ?? { rule, packets: 0, bytes: 0 });
}
