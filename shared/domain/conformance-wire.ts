/**
 * The behaviours of a domain that only packets can show.
 */
import assert from 'node:assert/strict';
import { type Connection, connectionKey } from '../firewall/connection.js';
import type { Delta } from '../firewall/state.js';
import type { Terminal } from '../firewall/terminal.js';
import type { ConformanceWire } from './conformance.js';
import { CLOSED, NEW_ADDRESSES } from './conformance-state.js';
import { type Bench, DRAIN_MS, hasConnection, LEASE_MS } from './conformance-tools.js';

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
  {
    behaviour:
      'a connection is carried under a policy that would not admit it, and after a move, and another',
    run: carriesAcrossPolicies,
  },
  { behaviour: 'a new address opens connections, those of one that is gone are dead', run: movesAddresses },
  { behaviour: 'a connection of an address that was gone stays dead when it is back', run: revivesNothing },
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

async function carriesAcrossPolicies(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const known = wire.allowed();
  assert.ok(await wire.admit(id, known));
  await bench.until('it is known', async () => hasConnection(await bench.domain.export(id), known));
  let now = id;
  for (let move = 0; move < 3; move++) {
    await bench.domain.setPolicy(now, { ...CLOSED, name: `closed ${move}` });
    await bench.until('the policy is in effect', async () => !(await wire.admit(now, wire.allowed())));
    assert.ok(await wire.carries(now, known), `it is dropped after ${move} moves`);
    const next = bench.newId();
    await bench.domain.prepare(await bench.domain.export(now), next.epoch);
    await bench.domain.activate(next, LEASE_MS);
    now = next;
  }
  assert.ok(await wire.carries(now, known), 'it is dropped after the last move');
  assert.ok(
    !(await wire.carries(now, established(wire.allowed()))),
    'a connection passed that nobody opened',
  );
}

/** The bench's terminal, with another IPv4 address and without its own. */
function moved(bench: Bench): Terminal {
  return { ...bench.environment.terminal, ipv4: [NEW_ADDRESSES.ipv4] };
}

async function movesAddresses(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const [own] = bench.environment.terminal.ipv4;
  const [old, fresh] = [wire.allowed(own), wire.allowed(NEW_ADDRESSES.ipv4)];
  assert.ok(await wire.admit(id, old), 'control: an address of its own');
  assert.ok(!(await wire.admit(id, fresh)), 'an address that the terminal does not have opened a connection');
  await bench.until('it is known', async () => hasConnection(await bench.domain.export(id), old));
  await bench.domain.setTerminal(id, moved(bench));
  await bench.until('the old one is dead', async () => !(await wire.carries(id, old)));
  assert.ok(await wire.admit(id, wire.allowed(NEW_ADDRESSES.ipv4)), 'a new address opened no connection');
  assert.ok(!(await wire.admit(id, wire.allowed(own))), 'an address that is gone opened a connection');
  assert.ok(!hasConnection(await bench.domain.export(id), old), 'a connection of it is still known');
}

async function revivesNothing(bench: Bench, wire: ConformanceWire): Promise<void> {
  const id = await bench.activated();
  const { terminal } = bench.environment;
  const old = wire.allowed(terminal.ipv4[0]);
  assert.ok(await wire.admit(id, old));
  await bench.until('it is known', async () => hasConnection(await bench.domain.export(id), old));
  // Nothing new is admitted: what is carried is what was known.
  await bench.domain.setPolicy(id, CLOSED);
  assert.ok(await wire.carries(id, old), 'control: it lives');
  await bench.domain.setTerminal(id, moved(bench));
  await bench.until('it is dead', async () => !(await wire.carries(id, old)));
  await bench.domain.setTerminal(id, terminal);
  assert.ok(!(await wire.carries(id, old)), 'a connection that was over is carried');
  assert.ok(!hasConnection(await bench.domain.export(id), old), 'and it is known again');
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
