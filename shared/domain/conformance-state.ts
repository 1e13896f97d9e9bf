/**
 * The behaviours of a domain that keep a state true: what can't be is refused whole, what was admitted lives on under later policies, and a
 * terminal's connections are of its own addresses.
 */
import assert from 'node:assert/strict';
import { type Connection, connectionKey } from '../firewall/connection.js';
import { ConnectionsDigest } from '../firewall/digest.js';
import { type Policy, policySchema } from '../firewall/policy.js';
import { epoch, type FirewallState } from '../firewall/state.js';
import { familyOf, type Terminal } from '../firewall/terminal.js';
import {
  assertFails,
  assertSameConnections,
  type Bench,
  type ConformanceCase,
  hasConnection,
  LEASE_MS,
  numbered,
  SNAPSHOT_SEQUENCE,
  sampleConnections,
  tcpConnection,
} from './conformance-tools.js';
import type { InstanceId } from './domain.js';

export const stateCases: readonly ConformanceCase[] = [
  { behaviour: 'a state with a connection that cannot be is refused whole', run: refusesUnproven },
  { behaviour: 'changes with one that cannot be are refused whole', run: refusesUnprovenChanges },
  { behaviour: 'a policy change keeps connections, and so do the moves after it', run: keepsAcrossPolicies },
  {
    behaviour: 'a connection that a delta brings before its policy goes is kept, too',
    run: keepsWhatDeltasBring,
  },
  { behaviour: 'another name or MAC is no other address', run: refusesOtherTerminals },
  { behaviour: 'connections of addresses that the terminal has no more are over', run: endsForeign },
  { behaviour: 'a delta changes the addresses like a call', run: takesAddressesFromDeltas },
  { behaviour: 'a standby takes a whole state over, and changes follow it', run: syncs },
  { behaviour: 'only a standby takes a whole state over, and only one that can be', run: refusesSync },
  { behaviour: 'equal connections have equal digests, others have not', run: digests },
];

/** Nothing may be opened. */
export const CLOSED: Policy = policySchema.parse({
  name: 'closed',
  defaults: { outbound: 'drop', inbound: 'drop' },
  rules: [],
});
/** Anything may be opened. */
const OPEN: Policy = policySchema.parse({
  name: 'open',
  defaults: { outbound: 'accept', inbound: 'accept' },
  rules: [],
});
/** Addresses that no terminal of a test has (RFC 5737, RFC 3849). */
export const NEW_ADDRESSES = { ipv4: '192.0.2.77', ipv6: '2001:db8:77::1' } as const;

async function refusesUnproven(bench: Bench): Promise<void> {
  const { terminal, otherTerminal, policy } = bench.environment;
  const good = tcpConnection(terminal, 40_100, 'established');
  const theirs = tcpConnection(otherTerminal, 40_100, 'established');
  const bad: Readonly<Record<string, Partial<FirewallState>>> = {
    'a connection of another terminal': { connections: [good, theirs] },
    'a connection that no policy allowed': { policy: CLOSED, connections: [good] },
    'a connection from the wrong end': {
      policy: { ...CLOSED, defaults: { outbound: 'drop', inbound: 'accept' } },
      connections: [good],
    },
    'a connection twice': { connections: [good, { ...good, state: 'closing' }] },
  };
  for (const [what, change] of Object.entries(bad)) {
    const id = bench.newId();
    const prepare = () => bench.domain.prepare(bench.snapshot(id, change), id.epoch);
    await assertFails(`a state with ${what}`, prepare, 'invalid');
    assert.equal(await bench.role(id), undefined, `a state with ${what} left something`);
  }
  const { id } = await bench.prepared({ policy: CLOSED, earlier: [policy], connections: [good] });
  const state = await bench.domain.export(id);
  assertSameConnections(state.connections, [good]);
  assertProves(state, good);
}

async function refusesUnprovenChanges(bench: Bench): Promise<void> {
  const { terminal, otherTerminal } = bench.environment;
  const [kept, fresh] = [
    tcpConnection(terminal, 40_110, 'established'),
    tcpConnection(terminal, 40_111, 'established'),
  ];
  const inbound: Connection = { ...fresh, opener: 'remote', local: { ...fresh.local, port: 9 } };
  const { id } = await bench.prepared({ connections: [kept] });
  const good = { kind: 'connection', connection: fresh } as const;
  for (const [what, connection] of [
    ['a connection of another terminal', tcpConnection(otherTerminal, 40_112, 'established')],
    ['a connection that no policy allowed', inbound],
  ] as const) {
    const deltas = numbered(SNAPSHOT_SEQUENCE, [
      { kind: 'ended', key: connectionKey(kept) },
      { kind: 'policy', policy: CLOSED },
      good,
      { kind: 'connection', connection },
    ]);
    await assertFails(`a change to ${what}`, () => bench.domain.apply(id, deltas), 'invalid');
    const state = await bench.domain.export(id);
    assertSameConnections(state.connections, [kept]);
    assert.notEqual(state.policy.name, CLOSED.name, `${what}: the changes before it have an effect`);
  }
  // The same numbers once more, and this time they can be: the policy comes first.
  await bench.domain.apply(
    id,
    numbered(SNAPSHOT_SEQUENCE, [
      { kind: 'policy', policy: OPEN },
      good,
      { kind: 'connection', connection: inbound },
    ]),
  );
  assertSameConnections((await bench.domain.export(id)).connections, [kept, fresh, inbound]);
}

async function keepsAcrossPolicies(bench: Bench): Promise<void> {
  const connections = sampleConnections(bench.environment.terminal);
  const id = await bench.activated({ connections });
  await bench.domain.setPolicy(id, { ...CLOSED, name: 'closed 0' });
  let state = await bench.domain.export(id);
  for (let move = 1; move <= 3; move++) {
    assertSameConnections(state.connections, connections);
    for (const connection of connections) assertProves(state, connection);
    const next = bench.newId();
    await bench.domain.prepare(state, next.epoch);
    await bench.domain.activate(next, LEASE_MS);
    await bench.domain.setPolicy(next, { ...CLOSED, name: `closed ${move}` });
    state = await bench.domain.export(next);
    assert.equal(state.policy.name, `closed ${move}`);
  }
}

async function keepsWhatDeltasBring(bench: Bench): Promise<void> {
  const connection = tcpConnection(bench.environment.terminal, 40_120, 'established');
  const { id } = await bench.prepared();
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE, [{ kind: 'policy', policy: CLOSED }]));
  // What the policy before admitted is told late.
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE + 1, [{ kind: 'connection', connection }]));
  const state = await bench.domain.export(id);
  assertSameConnections(state.connections, [connection]);
  assertProves(state, connection);
}

/** Whoever gets this state can see that the connection was once allowed: a domain takes it with this connection. */
function assertProves(state: FirewallState, connection: Connection): void {
  assert.ok(hasConnection(state, connection), `${connectionKey(connection)} is not in the export`);
  assert.ok(
    state.policy.name !== CLOSED.name || state.earlier.length > 0,
    `the export names no policy that allowed ${connectionKey(connection)}`,
  );
}

async function refusesOtherTerminals(bench: Bench): Promise<void> {
  const { terminal, otherTerminal } = bench.environment;
  const id = await bench.activated({ connections: sampleConnections(terminal) });
  for (const other of [
    otherTerminal,
    { ...terminal, mac: otherTerminal.mac },
    { ...terminal, name: otherTerminal.name },
  ]) {
    await assertFails('another terminal', () => bench.domain.setTerminal(id, other), 'invalid');
    const changes = numbered(SNAPSHOT_SEQUENCE, [{ kind: 'terminal', terminal: other }]);
    await assertFails('a change to another terminal', () => bench.domain.apply(id, changes), 'invalid');
  }
  const state = await bench.domain.export(id);
  assert.deepEqual(state.terminal, terminal);
  assertSameConnections(state.connections, sampleConnections(terminal));
}

async function endsForeign(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const connections = sampleConnections(terminal);
  const id = await bench.activated({ connections });
  const { sequence } = await bench.domain.export(id);
  const follower = bench.follow(id, sequence);
  const moved: Terminal = { ...terminal, ipv4: [NEW_ADDRESSES.ipv4] };
  for (const _ of ['once', 'again']) {
    await bench.domain.setTerminal(id, moved);
    const state = await bench.domain.export(id);
    assert.deepEqual(state.terminal, moved);
    assertSameConnections(state.connections, connections.filter(isIpv6));
  }
  await bench.until('the change is reported', () => follower.deltas.length > 0);
  assert.deepEqual(follower.deltas[0]?.change, { kind: 'terminal', terminal: moved });
  await roundTrip(bench, id, connections.filter(isIpv6));
  // It has the address again: what was over stays over.
  const back = bench.environment.terminal;
  const now = await bench.activated({ terminal: moved, connections: connections.filter(isIpv6) });
  await bench.domain.setTerminal(now, back);
  assertSameConnections((await bench.domain.export(now)).connections, connections.filter(isIpv6));
}

async function takesAddressesFromDeltas(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const connections = sampleConnections(terminal);
  const { id } = await bench.prepared({ connections });
  const moved: Terminal = { ...terminal, ipv4: [NEW_ADDRESSES.ipv4] };
  const fresh = tcpConnection(moved, 40_130, 'established');
  const old = tcpConnection(terminal, 40_131, 'established');
  const changes = [
    { kind: 'terminal', terminal: moved },
    { kind: 'connection', connection: fresh },
  ] as const;
  const wrong = numbered(SNAPSHOT_SEQUENCE, [...changes, { kind: 'connection', connection: old }]);
  await assertFails('a connection of the old address', () => bench.domain.apply(id, wrong), 'invalid');
  assert.deepEqual((await bench.domain.export(id)).terminal, terminal);
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE, changes));
  const state = await bench.domain.export(id);
  assert.deepEqual(state.terminal, moved);
  assertSameConnections(state.connections, [...connections.filter(isIpv6), fresh]);
}

const isIpv6 = ({ local }: Connection): boolean => familyOf(local.address) === 'ipv6';

/** What the instance exports, a domain takes over. */
async function roundTrip(bench: Bench, id: InstanceId, connections: readonly Connection[]): Promise<void> {
  const state = await bench.domain.export(id);
  const next = bench.newId();
  await bench.domain.prepare({ ...state, epoch: epoch(id.epoch) }, next.epoch);
  assertSameConnections((await bench.domain.export(next)).connections, connections);
}

async function syncs(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const [kept, gone, come, later] = [1, 2, 3, 4].map((n) =>
    tcpConnection(terminal, 40_600 + n, 'established'),
  );
  assert.ok(kept && gone && come && later);
  const { id } = await bench.prepared({ connections: [kept, gone] });
  const state = await bench.domain.export(id);
  const sequence = state.sequence + 1000;
  await bench.domain.sync(id, { ...state, sequence, connections: [kept, come] });
  assertSameConnections((await bench.domain.export(id)).connections, [kept, come]);
  await bench.domain.apply(id, [
    { sequence: sequence + 1, change: { kind: 'connection', connection: later } },
    { sequence: sequence + 2, change: { kind: 'ended', key: connectionKey(kept) } },
  ]);
  assertSameConnections((await bench.domain.export(id)).connections, [come, later]);
}

async function refusesSync(bench: Bench): Promise<void> {
  const { terminal, otherTerminal } = bench.environment;
  const own = tcpConnection(terminal, 40_700, 'established');
  const theirs = tcpConnection(otherTerminal, 40_700, 'established');
  const { id } = await bench.prepared({ connections: [own] });
  const state = await bench.domain.export(id);
  await assertFails(
    'a foreign connection',
    () => bench.domain.sync(id, { ...state, connections: [theirs] }),
    'invalid',
  );
  await bench.domain.activate(id, LEASE_MS);
  await assertFails(
    'an active instance',
    () => bench.domain.sync(id, { ...state, connections: [] }),
    'refused',
  );
  assertSameConnections((await bench.domain.export(id)).connections, [own]);
}

async function digests(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const [a, b] = [40_801, 40_802].map((port) => tcpConnection(terminal, port, 'established'));
  assert.ok(a && b);
  const { id } = await bench.prepared({ connections: [b, a] });
  const expected = new ConnectionsDigest([a, b]);
  const { sequence } = await bench.domain.export(id);
  assert.deepEqual(await bench.domain.digest(id), {
    sequence,
    connections: 2,
    digest: expected.value,
  });
  const state = await bench.domain.export(id);
  await bench.domain.sync(id, { ...state, connections: [a] });
  assert.notEqual((await bench.domain.digest(id)).digest, expected.value);
}
