/**
 * Which connections a new policy ends: those whose opening packet it would not admit. Pure.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import type { IcmpPacket, Packet } from '../../shared/firewall/packet.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { familyOf } from '../../shared/firewall/terminal.js';
import { verdict } from '../../shared/firewall/verdict.js';

export function policyCuts(policy: Policy, connections: readonly Connection[]): readonly Connection[] {
  const unknown = new Map<string, Connection>();
  return connections.filter((connection) => verdict(policy, unknown, openingOf(connection)).verdict === 'drop');
}
