/**
 * The behaviours of a domain that its interface alone can show.
 */
import assert from 'node:assert/strict';
import { connectionKey } from '../firewall/connection.js';
import type { Policy } from '../firewall/policy.js';
import { epoch, type RuleCounter, type Snapshot } from '../firewall/state.js';
import {
  assertFails,
  assertSameConnections,
  type Bench,
  DRAIN_MS,
  firstChanges,
  hasConnection,
  LEASE_MS,
  numbered,
  SNAPSHOT_SEQUENCE,
  sampleConnections,
  tcpConnection,
} from './conformance-tools.js';
import type { InstanceId } from './domain.js';

export interface ConformanceCase {
  readonly behaviour: string;
  readonly run: (bench: Bench) => Promise<void>;
}

export const interfaceCases: readonly ConformanceCase[] = [
  { behaviour: 'says what it is', run: saysWhatItIs },
  { behaviour: 'prepare builds a standby instance and gives its ends', run: preparesStandby },
  { behaviour: 'prepare repeated gives the same ends of the same instance', run: preparesOnce },
  { behaviour: 'a bad snapshot is refused and leaves nothing', run: refusesBadSnapshots },
  { behaviour: 'the state that goes in comes out', run: keepsState },
  { behaviour: 'apply brings new, changed and ended connections', run: appliesChanges },
  { behaviour: 'apply brings an active instance up to date too', run: appliesToActive },
  { behaviour: 'deltas repeated have no effect', run: appliesOnce },
  { behaviour: 'a gap between deltas is refused with changes-lost', run: refusesGaps },
  { behaviour: 'a policy that is set shows in the export', run: setsPolicy },
  { behaviour: 'activate makes it active, and may be repeated', run: activates },
  { behaviour: 'drain makes it draining, may be repeated, and keeps the state', run: drains },
  { behaviour: 'retire removes it, and may be repeated', run: retires },
  { behaviour: 'calls for an instance that never was fail with no-instance', run: missesInstances },
  { behaviour: 'every call of an older epoch is refused', run: refusesStaleEpochs },
  { behaviour: 'changes are numbered, and start after the sequence asked for', run: numbersChanges },
  { behaviour: 'changes end when the signal aborts', run: abortsChanges },
  { behaviour: 'changes end when the instance is retired', run: endsChanges },
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

async function keepsState(bench: Bench): Promise<void> {
  const { policy, terminal } = bench.environment;
  const connections = sampleConnections(terminal);
  const counters: RuleCounter[] = [...policy.rules.map(({ name }) => name), 'default outbound'].map(
    (rule, index) => ({ rule, packets: 100 + index, bytes: 10_000 + index }),
  );
  const { id } = await bench.prepared({ connections, counters });
  const state = await bench.domain.export(id);
  assert.equal(state.epoch, id.epoch);
  assert.deepEqual(state.terminal, terminal);
  assert.deepEqual(plain(state.policy), plain(policy));
  assertSameConnections(state.connections, connections);
  for (const { rule, packets, bytes } of counters) {
    const counter = state.counters.find((one) => one.rule === rule);
    assert.ok(
      counter && counter.packets >= packets && counter.bytes >= bytes,
      `the counter of "${rule}" went back`,
    );
  }
}

async function appliesChanges(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const [old, fresh] = [
    tcpConnection(terminal, 40_200, 'established'),
    tcpConnection(terminal, 40_201, 'opening'),
  ];
  const { id } = await bench.prepared({ connections: [old] });
  const established = tcpConnection(terminal, 40_201, 'established');
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE, [{ kind: 'connection', connection: fresh }]));
  assertSameConnections((await bench.domain.export(id)).connections, [old, fresh]);
  await bench.domain.apply(
    id,
    numbered(SNAPSHOT_SEQUENCE + 1, [
      { kind: 'connection', connection: established },
      { kind: 'ended', key: connectionKey(old) },
    ]),
  );
  assertSameConnections((await bench.domain.export(id)).connections, [established]);
  const policy = changedPolicy(bench.environment.policy);
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE + 3, [{ kind: 'policy', policy }]));
  assert.deepEqual(plain((await bench.domain.export(id)).policy), plain(policy));
}

async function appliesToActive(bench: Bench): Promise<void> {
  const id = await bench.activated();
  const connection = tcpConnection(bench.environment.terminal, 40_210, 'established');
  await bench.domain.apply(id, numbered(SNAPSHOT_SEQUENCE, [{ kind: 'connection', connection }]));
  assertSameConnections((await bench.domain.export(id)).connections, [connection]);
  assert.equal(await bench.role(id), 'active');
}

async function appliesOnce(bench: Bench): Promise<void> {
  const connection = tcpConnection(bench.environment.terminal, 40_300, 'established');
  const other = tcpConnection(bench.environment.terminal, 40_301, 'established');
  const { id } = await bench.prepared();
  const deltas = numbered(SNAPSHOT_SEQUENCE, [
    { kind: 'connection', connection },
    { kind: 'ended', key: connectionKey(connection) },
    { kind: 'connection', connection: other },
  ]);
  await bench.domain.apply(id, deltas.slice(0, 2));
  await bench.domain.apply(id, deltas.slice(0, 2));
  await bench.domain.apply(id, deltas.slice(0, 1));
  await bench.domain.apply(id, deltas.slice(1));
  assertSameConnections((await bench.domain.export(id)).connections, [other]);
}

async function refusesGaps(bench: Bench): Promise<void> {
  const { terminal } = bench.environment;
  const [first, second] = [
    tcpConnection(terminal, 40_400, 'established'),
    tcpConnection(terminal, 40_401, 'established'),
  ];
  const { id } = await bench.prepared();
  const deltas = numbered(SNAPSHOT_SEQUENCE, [
    { kind: 'connection', connection: first },
    { kind: 'connection', connection: second },
  ]);
  await assertFails('a gap', () => bench.domain.apply(id, deltas.slice(1)), 'changes-lost');
  assert.ok(!hasConnection(await bench.domain.export(id), second), 'what comes after a gap has an effect');
  await bench.domain.apply(id, deltas);
  assertSameConnections((await bench.domain.export(id)).connections, [first, second]);
}

async function setsPolicy(bench: Bench): Promise<void> {
  const connection = tcpConnection(bench.environment.terminal, 40_500, 'established');
  const { id } = await bench.prepared({ connections: [connection] });
  const policy = changedPolicy(bench.environment.policy);
  for (const _ of ['once', 'again']) {
    await bench.domain.setPolicy(id, policy);
    const state = await bench.domain.export(id);
    assert.deepEqual(plain(state.policy), plain(policy));
    assertSameConnections(state.connections, [connection]);
  }
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

async function numbersChanges(bench: Bench): Promise<void> {
  const id = await bench.activated();
  const { sequence } = await bench.domain.export(id);
  const early = bench.follow(id, sequence);
  const first = changedPolicy(bench.environment.policy);
  await bench.domain.setPolicy(id, first);
  await bench.domain.setPolicy(id, bench.environment.policy);
  await bench.until(
    'two changes are reported',
    () => early.deltas.length >= 2 || early.outcome() !== undefined,
  );
  assert.equal(early.outcome()?.error, undefined);
  const numbers = early.deltas.map((delta) => delta.sequence);
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => sequence + 1 + index),
    'numbers rise by one',
  );
  const policies = early.deltas.flatMap(({ change }) =>
    change.kind === 'policy' ? [change.policy.name] : [],
  );
  assert.deepEqual(policies, [first.name, bench.environment.policy.name]);
  const state = await bench.domain.export(id);
  assert.ok(state.sequence >= sequence + 2, 'the export holds the last change');

  const later = bench.follow(id, sequence + 1);
  await bench.until(
    'the second change is reported again',
    () => later.deltas.length >= 1 || later.outcome() !== undefined,
  );
  assert.deepEqual(plain(later.deltas[0]), plain(early.deltas[1]), 'from where it was asked for');
}

/** An active instance whose changes are followed, and the first of them has been reported. */
async function followed(bench: Bench) {
  const id = await bench.activated();
  const { sequence } = await bench.domain.export(id);
  const follower = bench.follow(id, sequence);
  await bench.domain.setPolicy(id, changedPolicy(bench.environment.policy));
  await bench.until(
    'a change is reported',
    () => follower.deltas.length > 0 || follower.outcome() !== undefined,
  );
  return { id, sequence, follower };
}

async function abortsChanges(bench: Bench): Promise<void> {
  const { id, sequence, follower } = await followed(bench);
  assert.equal(follower.outcome(), undefined, 'changes go on');
  follower.abort();
  await bench.until('the changes end', () => follower.outcome() !== undefined);
  assert.equal(follower.outcome()?.error, undefined, 'without an error');
  const aborted = AbortSignal.abort();
  for await (const _ of bench.domain.changes(id, sequence, aborted))
    assert.fail('an aborted reader got changes');
}

async function endsChanges(bench: Bench): Promise<void> {
  const { id, follower } = await followed(bench);
  await bench.domain.retire(id);
  await bench.until('the changes end', () => follower.outcome() !== undefined);
  assert.equal(follower.outcome()?.error, undefined, 'without an error');
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

/** Another policy than this one, and as easy to run. */
function changedPolicy(policy: Policy): Policy {
  return { ...policy, name: `${policy.name.slice(0, 50)} changed`, rules: policy.rules.slice(1) };
}

/** Without fields that are there but undefined: an optional field may be either. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null));
}
