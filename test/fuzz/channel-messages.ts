/**
 * Messages of the channel of every type, for targets to begin with.
 */
import fc from 'fast-check';
import { PROTOCOL_VERSION } from '../../shared/channel/limits.js';
import type { AgentMessage, ControllerMessage } from '../../shared/channel/messages.js';
import { dpid } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import type { Policy } from '../../shared/firewall/policy.js';
import { countersFor } from '../../shared/firewall/reduce.js';
import { type Delta, epoch, type FirewallState } from '../../shared/firewall/state.js';
import { anyConnection } from '../fixtures/connection-tables.js';
import { policyArbitrary } from '../fixtures/firewall-arbitraries.js';
import { alice } from '../fixtures/reference-environment.js';

const instance = { terminal: 'alice', epoch: epoch(2) };
const id = 7;

function state(policies: readonly Policy[], connections: readonly Connection[]): FirewallState {
  const [policy, ...earlier] = policies;
  if (!policy) throw new Error('a state has a policy');
  return {
    terminal: alice,
    epoch: instance.epoch,
    sequence: 41,
    policy,
    earlier,
    connections,
    counters: countersFor(policy),
  };
}

function sampled(seed: number): { states: FirewallState[]; deltas: Delta[] } {
  const connections = fc.array(anyConnection(alice), { maxLength: 6 });
  const policies = fc.array(policyArbitrary, { minLength: 1, maxLength: 3 });
  const states = fc
    .sample(fc.tuple(policies, connections), { numRuns: 5, seed })
    .map(([some, table]) => state(some, table));
  const deltas = states.flatMap(({ policy, connections: table }): Delta['change'][] => [
    { kind: 'policy', policy },
    { kind: 'terminal', terminal: alice },
    { kind: 'ended', key: 'udp 10.0.0.1 1 10.0.0.2 2' },
    ...table.map((connection) => ({ kind: 'connection' as const, connection })),
  ]);
  return { states, deltas: deltas.map((change, index) => ({ sequence: index + 1, change })) };
}

export function agentMessages(seed: number): readonly AgentMessage[] {
  const { states, deltas } = sampled(seed);
  const serves = [dpid(2)];
  return [
    {
      type: 'hello',
      protocol: PROTOCOL_VERSION,
      domain: 'edge-1',
      capabilities: { implementation: 'x', serves },
    },
    { type: 'ack', id },
    { type: 'ends', id, ends: { kind: 'ports', dpid: dpid(2), terminalSide: 'a', networkSide: 'b' } },
    { type: 'ends', id, ends: { kind: 'pipeline', dpid: dpid(2), instance: 3 } },
    ...states.map((each): AgentMessage => ({ type: 'state', id, state: each })),
    { type: 'health-report', id, health: { ok: true, instances: [{ ...instance, role: 'active' }] } },
    { type: 'health-report', id, health: { ok: false, problem: 'no Docker', instances: [] } },
    { type: 'delta', id, deltas },
    { type: 'end', id },
    { type: 'error', id, code: 'refused', message: 'no' },
    { type: 'error', code: 'invalid', message: 'no' },
    { type: 'ping', id },
    { type: 'pong', id },
  ];
}

export function controllerMessages(seed: number): readonly ControllerMessage[] {
  const { states, deltas } = sampled(seed);
  return [
    { type: 'hello-ack', protocol: PROTOCOL_VERSION },
    { type: 'refusal', code: 'refused', message: 'no' },
    ...states.map(
      (snapshot): ControllerMessage => ({ type: 'prepare', id, epoch: instance.epoch, snapshot }),
    ),
    { type: 'delta', id, instance, deltas },
    ...states.map(({ policy }): ControllerMessage => ({ type: 'set-policy', id, instance, policy })),
    { type: 'set-terminal', id, instance, terminal: alice },
    { type: 'activate', id, instance, leaseMs: 10_000 },
    { type: 'drain', id, instance, drainMs: 500 },
    { type: 'retire', id, instance },
    { type: 'export', id, instance },
    { type: 'health', id },
    { type: 'follow', id, instance, fromSequence: 41 },
    { type: 'unfollow', id },
    { type: 'ack', id },
    { type: 'error', code: 'invalid', message: 'no' },
    { type: 'ping', id },
    { type: 'pong', id },
  ];
}
