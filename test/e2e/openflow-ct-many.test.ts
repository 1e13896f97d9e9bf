/**
 * Very many connections in a real switch: a standby takes them as they come and is compared without asking, and they leave by few messages, with nothing
 * of another instance.
 */
import '../lab/enter.js';
import t from 'tap';
import type { Connection } from '../../shared/firewall/connection.js';
import { connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import type { Delta } from '../../shared/firewall/state.js';
import { FAMILIES, fresh, openPolicy, SdnBench } from '../fixtures/sdn-bench.js';
import { bob, startSdnLab } from '../fixtures/sdn-lab.js';

const COUNT = 2_000;
const BATCH = 500;

t.setTimeout(180_000);
const lab = await startSdnLab();
t.teardown(() => lab.close());
const { domain } = lab;
const bench = new SdnBench(lab, openPolicy);

/** Rules of an instance that the switch has, of all its tables. */
async function rulesOf(number: number): Promise<string[]> {
  const one = new RegExp(`reg1=0x${number.toString(16)}[, ]`);
  return (await lab.rules()).flatMap(({ rule }) => (one.test(rule) ? [rule] : []));
}

t.test(`a standby with ${COUNT} connections follows, takes over and leaves`, async (t) => {
  const other = { terminal: bob.name, epoch: bench.newId().epoch };
  const ofBob = fresh('tcp', 'ipv4', 'terminal', bob.ipv4[0]);
  await domain.prepare(bench.state([ofBob], { terminal: bob }), other.epoch);
  await domain.activate(other, 600_000);
  const id = bench.newId();
  const ends = await domain.prepare(bench.state([]), id.epoch);
  const number = lab.numbers.known(id) ?? 0;
  const neighbour = await rulesOf(lab.numbers.known(other) ?? 0);
  t.ok(neighbour.length > 30);
  const empty = (await rulesOf(number)).length;

  const connections: Connection[] = Array.from({ length: COUNT }, (_, index) =>
    fresh('tcp', FAMILIES[index % 2] ?? 'ipv4', index % 3 ? 'terminal' : 'remote'),
  );
  const deltas = connections.map(
    (connection, index): Delta => ({
      sequence: index + 1,
      change: { kind: 'connection', connection },
    }),
  );
  const batches = Array.from({ length: COUNT / BATCH }, (_, index) =>
    deltas.slice(index * BATCH, (index + 1) * BATCH),
  );
  const began = performance.now();
  await Promise.all(batches.map((batch) => domain.apply(id, batch)));
  t.comment(`${COUNT} changes are in the switch after ${Math.round(performance.now() - began)} ms`);
  t.equal((await rulesOf(number)).length, empty + 6 * COUNT);
  const { value, count } = new ConnectionsDigest(connections);
  t.match(await domain.digest(id), { digest: value, connections: count });

  await domain.activate(id, 600_000);
  await bench.lead(ends);
  for (const family of FAMILIES) {
    const one = connections.find((each) => each.local.address.includes(':') === (family === 'ipv6'));
    if (!one) throw new Error(`none of ${family}`);
    t.ok(await bench.arrives(bench.packetOf(one, 'remote')), `${family}: adopted at its first packet`);
    t.match(await bench.known(id, connectionKey(one)), { opener: one.opener });
  }
  const retired = performance.now();
  await bench.retired({ id, ends });
  t.comment(`and out of it within ${Math.round(performance.now() - retired)} ms`);
  t.same(await rulesOf(number), [], 'nothing of it is left');
  t.same((await rulesOf(lab.numbers.known(other) ?? 0)).length, neighbour.length, 'and all of another');
  await domain.retire(other);
});
