/**
 * The behaviours of a domain that only packets can show.
 */
import assert from 'node:assert/strict';
import { type Connection, connectionKey } from '../firewall/connection.js';
import type { Delta } from '../firewall/state.js';
import type { ConformanceWire } from './conformance.js';
import { type Bench, DRAIN_MS, hasConnection } from './conformance-tools.js';

export interface WireCase {
  readonly behaviour: string;
  readonly run: (bench: Bench, wire: ConformanceWire) => Promise<void>;
}

export const wireCases: readonly WireCase[] = [
  { behaviour: 'an active instance admits what the policy accepts, and reports it', run: admits },
  { behaviour: 'an active instance does not admit what the policy drops', run: forbids },
  { behaviour: 'a standby instance admits nothing new', run: standbyAdmitsNothing },
  { behaviour: 'a draining instance admits nothing new, and carries what it knows', run: drainingCarries },
  { behaviour: 'an imported connection is carried, one that never was is not', run: carriesImported },
  {
    behaviour: 'with its lease expired an instance carries what it knows and admits nothing new',
    run: leaseExpires,
  },
];

const SHORT_LEASE_MS = 50;

async function admits(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const { sequence } = await bench.domain.export(id);
  const follower = bench.follow(id, sequence);
  const connection = wire.allowed();
  assert.ok(await wire.admit(id, connection), 'an allowed connection did not pass');
  await bench.until('the change is reported', () => reported(follower.deltas, connection));
  assert.ok(hasConnection(await bench.domain.export(id), connection), 'the export does not show it');
  assert.ok(await wire.carries(id, connection));
}

async function forbids(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const connection = wire.forbidden();
  assert.ok(!(await wire.admit(id, connection)), 'a forbidden connection passed');
  assert.ok(!hasConnection(await bench.domain.export(id), connection));
}

async function standbyAdmitsNothing(bench: Bench, wire: ConformanceWire): Promise<void> {
  const { id } = await bench.prepared();
  const connection = wire.allowed();
  assert.ok(!(await wire.admit(id, connection)), 'a standby instance admitted a connection');
  assert.ok(!hasConnection(await bench.domain.export(id), connection));
}

async function drainingCarries(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const known = wire.allowed();
  assert.ok(await wire.admit(id, known));
  await bench.domain.drain(id, DRAIN_MS);
  assert.ok(await wire.carries(id, known), 'a draining instance dropped a connection that it knows');
  assert.ok(!(await wire.admit(id, wire.allowed())), 'a draining instance admitted a connection');
}

async function carriesImported(bench: Bench, wire: ConformanceWire): Promise<void> {
  const imported = established(wire.allowed());
  const id = await bench.activated({ connections: [imported] });
  assert.ok(await wire.carries(id, imported), 'an imported connection was dropped');
  assert.ok(!(await wire.carries(id, established(wire.allowed()))), 'a connection passed that nobody opened');
}

async function leaseExpires(bench: Bench, wire: ConformanceWire): Promise<void> {
  const { id } = await bench.prepared();
  const known = established(wire.allowed());
  await bench.domain.apply(id, [
    { sequence: bench.snapshot(id).sequence + 1, change: { kind: 'connection', connection: known } },
  ]);
  await bench.domain.activate(id, SHORT_LEASE_MS);
  await bench.until('it admits nothing new', async () => !(await wire.admit(id, wire.allowed())));
  assert.ok(await wire.carries(id, known), 'it dropped a connection that it knows');
}

function established(connection: Connection): Connection {
  return connection.protocol === 'tcp'
    ? { ...connection, state: 'established' }
    : { ...connection, replied: true };
}

function reported(deltas: readonly Delta[], connection: Connection): boolean {
  return deltas.some(
    ({ change }) =>
      change.kind === 'connection' && connectionKey(change.connection) === connectionKey(connection),
  );
}
