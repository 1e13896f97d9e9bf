/**
 * The behaviours of a domain that its interface alone can show: what becomes of instances, from prepare to retire.
 */
import assert from 'node:assert/strict';
import { epoch, type Snapshot } from '../firewall/state.js';
import {
  assertFails,
  assertSameConnections,
  type Bench,
  type ConformanceCase,
  changedPolicy,
  DRAIN_MS,
  firstChanges,
  LEASE_MS,
  numbered,
  plain,
  SNAPSHOT_SEQUENCE,
  sampleConnections,
  tcpConnection,
} from './conformance-tools.js';
import type { InstanceId } from './domain.js';

export const lifeCases: readonly ConformanceCase[] = [
  { behaviour: 'says what it is', run: saysWhatItIs },
  { behaviour: 'prepare builds a standby instance and gives its ends', run: preparesStandby },
  { behaviour: 'prepare repeated gives the same ends of the same instance', run: preparesOnce },
  { behaviour: 'a bad snapshot is refused and leaves nothing', run: refusesBadSnapshots },
  { behaviour: 'activate makes it active, and may be repeated', run: activates },
  { behaviour: 'drain makes it draining, may be repeated, and keeps the state', run: drains },
  { behaviour: 'retire removes it, and may be repeated', run: retires },
  { behaviour: 'calls for an instance that never was fail with no-instance', run: missesInstances },
  { behaviour: 'every call of an older epoch is refused', run: refusesStaleEpochs },
  { behaviour: 'two terminals beside each other do not mix', run: keepsTerminalsApart },
];

async function saysWhatItIs({ domain }: Bench): Promise<void> {
  assert.match(domain.name, /^[a-z][a-z0-9-]*$/);
  const { implementation, serves } = await domain.capabilities();
  assert.ok(implementation.length > 0, 'an implementation has a name');
  for (const dpid of serves) assert.match(dpid, /^[0-9a-f]{16}$/);
  const { ok, problem } = await domain.health();
  assert.ok(ok, `the domain is not well: ${problem}`);
}

async function preparesStandby(bench: Bench): Promise<void> {
  const { id, ends } = await bench.prepared();
  assert.match(ends.dpid, /^[0-9a-f]{16}$/);
  if (ends.kind === 'ports') assert.notEqual(ends.terminalSide, ends.networkSide);
  else assert.ok(ends.instance > 0);
  assert.equal(await bench.role(id), 'standby');
}

async function preparesOnce(bench: Bench): Promise<void> {
  const id = bench.newId();
  const snapshot = bench.snapshot(id, { connections: sampleConnections(bench.environment.terminal) });
  const first = await bench.domain.prepare(snapshot, id.epoch);
  assert.deepEqual(await bench.domain.prepare(snapshot, id.epoch), first);
  assert.equal(await bench.role(id), 'standby');
  assertSameConnections((await bench.domain.export(id)).connections, snapshot.connections);
}

async function refusesBadSnapshots(bench: Bench): Promise<void> {
  const { policy, terminal } = bench.environment;
  const good = tcpConnection(terminal, 40_100, 'established');
  const rule = { name: 'twice', direction: 'outbound', action: 'accept' } as const;
  const bad: Readonly<Record<string, Partial<Snapshot>>> = {
    'a port out of range': {
      connections: [{ ...good, local: { ...good.local, port: 70_000 } }],
    },
    'ends of two families': {
      connections: [{ ...good, remote: { ...good.remote, address: '2001:db8::9' } }],
    },
    'a text where an address belongs': {
      connections: [{ ...good, remote: { ...good.remote, address: 'drop table' } }],
    },
    'two rules of one name': { policy: { ...policy, rules: [rule, rule] } },
  };
  for (const [what, change] of Object.entries(bad)) {
    const id = bench.newId();
    await assertFails(
      `a snapshot with ${what}`,
      () => bench.domain.prepare(bench.snapshot(id, change), id.epoch),
      'invalid',
      'refused',
    );
    assert.equal(await bench.role(id), undefined, `a snapshot with ${what} left something`);
    await assertFails('its export', () => bench.domain.export(id), 'no-instance');
  }
  const id = await bench.activated();
  assert.equal(await bench.role(id), 'active', 'a good one afterwards is taken');
}

async function activates(bench: Bench): Promise<void> {
  const { id } = await bench.prepared();
  await bench.domain.activate(id, LEASE_MS);
  assert.equal(await bench.role(id), 'active');
  await bench.domain.activate(id, LEASE_MS);
  assert.equal(await bench.role(id), 'active');
}

async function drains(bench: Bench): Promise<void> {
  const connections = sampleConnections(bench.environment.terminal);
  const id = await bench.activated({ connections });
  for (const _ of ['once', 'again']) {
    await bench.domain.drain(id, DRAIN_MS);
    assert.equal(await bench.role(id), 'draining');
    assertSameConnections((await bench.domain.export(id)).connections, connections);
  }
}

async function retires(bench: Bench): Promise<void> {
  for (const active of [true, false]) {
    const id = active ? await bench.activated() : (await bench.prepared()).id;
    await bench.domain.retire(id);
    assert.equal(await bench.role(id), undefined);
    await bench.domain.retire(id);
    await assertAllFail(bench, id, 'no-instance', ['prepare', 'retire']);
  }
}

async function missesInstances(bench: Bench): Promise<void> {
  const { id } = await bench.prepared();
  const never = { ...id, epoch: epoch(id.epoch + 1) };
  assert.ok(bench.newId().epoch === never.epoch);
  await assertAllFail(bench, { terminal: 'nobody', epoch: id.epoch }, 'no-instance', ['prepare', 'retire']);
  await assertAllFail(bench, never, 'no-instance', ['prepare', 'retire']);
}

async function refusesStaleEpochs(bench: Bench): Promise<void> {
  const old = await bench.activated();
  const { id } = await bench.prepared();
  await assertAllFail(bench, old, 'stale-epoch', []);
  assert.equal(await bench.role(id), 'standby', 'the newer instance is touched by what is refused');
  await bench.domain.activate(id, LEASE_MS);
  await assertFails('activate of the older', () => bench.domain.activate(old, LEASE_MS), 'stale-epoch');
  await bench.domain.retire(id);
  await assertFails('activate after retire', () => bench.domain.activate(old, LEASE_MS), 'stale-epoch');
}

async function keepsTerminalsApart(bench: Bench): Promise<void> {
  const { terminal, otherTerminal, policy } = bench.environment;
  const [mine, theirs] = [sampleConnections(terminal), sampleConnections(otherTerminal)];
  const one = await bench.prepared({ connections: mine });
  const two = await bench.prepared({ connections: theirs }, otherTerminal);
  assert.notDeepEqual(one.ends, two.ends);
  await bench.domain.activate(two.id, LEASE_MS);
  assert.equal(await bench.role(one.id), 'standby');
  await bench.domain.setPolicy(two.id, changedPolicy(policy));
  const connection = tcpConnection(otherTerminal, 40_600, 'established');
  await bench.domain.apply(two.id, numbered(SNAPSHOT_SEQUENCE, [{ kind: 'connection', connection }]));
  const state = await bench.domain.export(one.id);
  assert.deepEqual(state.terminal, terminal);
  assert.deepEqual(plain(state.policy), plain(policy));
  assertSameConnections(state.connections, mine);
  assertSameConnections((await bench.domain.export(two.id)).connections, [...theirs, connection]);
  await bench.domain.retire(one.id);
  assert.equal(await bench.role(two.id), 'active');
}

type Call =
  | 'prepare'
  | 'apply'
  | 'setPolicy'
  | 'setTerminal'
  | 'activate'
  | 'drain'
  | 'retire'
  | 'export'
  | 'changes';

/** Every call but those left out fails with this code; a `retire` that is left out must succeed. */
async function assertAllFail(
  bench: Bench,
  id: InstanceId,
  code: 'no-instance' | 'stale-epoch',
  except: readonly Call[],
): Promise<void> {
  const { domain, environment } = bench;
  const connection = tcpConnection(environment.terminal, 40_700, 'established');
  const deltas = numbered(SNAPSHOT_SEQUENCE, [{ kind: 'connection', connection }]);
  const calls: Readonly<Record<Call, () => Promise<unknown>>> = {
    prepare: () => domain.prepare(bench.snapshot(id), id.epoch),
    apply: () => domain.apply(id, deltas),
    setPolicy: () => domain.setPolicy(id, environment.policy),
    setTerminal: () => domain.setTerminal(id, environment.terminal),
    activate: () => domain.activate(id, LEASE_MS),
    drain: () => domain.drain(id, DRAIN_MS),
    export: () => domain.export(id),
    changes: () => firstChanges(domain, id, SNAPSHOT_SEQUENCE),
    retire: () => domain.retire(id),
  };
  for (const [name, call] of Object.entries(calls)) {
    if (!except.some((one) => one === name)) await assertFails(name, call, code);
    else if (name === 'retire') await call();
  }
}
