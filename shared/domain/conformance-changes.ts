/**
 * The behaviours of a domain that its interface alone can show: what an instance holds, what it is told, and what it tells.
 */
import assert from 'node:assert/strict';
import { connectionKey } from '../firewall/connection.js';
import type { RuleCounter } from '../firewall/state.js';
import {
  assertFails,
  assertSameConnections,
  type Bench,
  type ConformanceCase,
  changedPolicy,
  hasConnection,
  numbered,
  plain,
  SNAPSHOT_SEQUENCE,
  sampleConnections,
  tcpConnection,
} from './conformance-tools.js';

export const changeCases: readonly ConformanceCase[] = [
  { behaviour: 'the state that goes in comes out', run: keepsState },
  { behaviour: 'apply brings new, changed and ended connections', run: appliesChanges },
  { behaviour: 'apply brings an active instance up to date too', run: appliesToActive },
  { behaviour: 'deltas repeated have no effect', run: appliesOnce },
  { behaviour: 'a gap between deltas is refused with changes-lost', run: refusesGaps },
  { behaviour: 'a policy that is set shows in the export', run: setsPolicy },
  { behaviour: 'changes are numbered, and start after the sequence asked for', run: numbersChanges },
  { behaviour: 'changes end when the signal aborts', run: abortsChanges },
  { behaviour: 'changes end when the instance is retired', run: endsChanges },
];

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
  // It is older by then than when it was told first.
  const [told, again] = [early.deltas[1], later.deltas[0]].map((delta) =>
    plain({ ...delta, ageMs: undefined }),
  );
  assert.deepEqual(again, told, 'from where it was asked for');
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
