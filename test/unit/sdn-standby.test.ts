/**
 * Firewalls in a switch as hot standbys, and across the restart of their controller. The switch is played by the test.
 */
import t from 'tap';
import { OpenFlowCtDomain } from '../../controller-app/domains/openflow-ct/index.js';
import { MARK } from '../../controller-app/pipeline/index.js';
import { dpid } from '../../shared/domain/domain.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { type Change, type Delta, epoch } from '../../shared/firewall/state.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { TCP } from '../fixtures/frames.js';
import { KeptInstances } from '../fixtures/kept-instances.js';
import { alice, imported, LOCAL, PlayedHost, policy, world } from '../fixtures/played-sdn.js';
import { waitFor } from '../lab/wait.js';

const other = policySchema.parse({ ...policy, name: 'other' });
const tcp = (port: number, change: Partial<typeof imported> = {}): Connection => ({
  ...imported,
  local: { address: LOCAL, port },
  ...change,
});
const delta = (sequence: number, change: Change): Delta => ({ sequence, change });
const opened = (sequence: number, connection: Connection): Delta =>
  delta(sequence, { kind: 'connection', connection });

t.test('a standby has the rules of each change when it says that it has taken it', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.apply(id, [opened(1, tcp(1)), opened(2, tcp(2))]);
  t.equal(host.rules('adoption'), 12);
  await domain.apply(id, [delta(3, { kind: 'ended', key: connectionKey(tcp(1)) })]);
  t.equal(host.rules('adoption'), 6);
  await domain.apply(id, [opened(4, tcp(2, { state: 'closing' }))]);
  const { changes } = host;
  await domain.apply(id, [opened(5, tcp(2, { state: 'established' }))]);
  t.equal(host.changes, changes, 'rules are the same in every state of a live connection');
  await domain.apply(id, [opened(6, tcp(2, { state: 'closed' }))]);
  t.equal(host.rules('adoption'), 0, 'a closed one has none');
  t.match((await domain.export(id)).connections, [{ state: 'closed' }], 'but is known until it ends');
  await domain.apply(id, [delta(7, { kind: 'ended', key: connectionKey(tcp(2)) })]);
  t.same((await domain.export(id)).connections, []);
});

t.test('changes that come while the switch is busy do not wait for it one by one', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot(), id.epoch);
  let open = (): void => {};
  host.gate = new Promise((resolve) => {
    open = resolve;
  });
  const { changes } = host;
  const done: number[] = [];
  const applied = [1, 2, 3].map((n) => domain.apply(id, [opened(n, tcp(n))]).then(() => done.push(n)));
  await waitFor('all are on their way', () => host.changes === changes + 3);
  t.same(done, [], 'none is said to be taken before the switch has it');
  t.equal((await domain.digest(id)).connections, 3);
  open();
  await Promise.all(applied);
  t.equal(host.rules('adoption'), 18);
});

t.test('a change that the switch refuses fails, and is in the next bundle', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot(), id.epoch);
  host.failure = new Error('table full');
  await t.rejects(domain.apply(id, [opened(1, tcp(1))]), { code: 'refused', message: /table full/ });
  host.failure = undefined;
  await domain.apply(id, [opened(1, tcp(1))]);
  t.equal(host.rules('adoption'), 6);
});

t.test('a standby does not age, however long it waits', async (t) => {
  const { host, domain, snapshot, id, clock, pass } = world();
  await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
  clock.advance(3_600_000);
  await domain.apply(id, [opened(1, tcp(2))]);
  t.equal(host.rules('adoption'), 12);
  await domain.activate(id, 1_000_000);
  await pass(9_000);
  t.equal(host.rules('adoption'), 12);
  await pass(1_000);
  t.equal(host.rules('adoption'), 0, 'its 10 s begin with the activation');
});

t.test('the digest is that of what would be exported, whatever has happened', async (t) => {
  const { domain, snapshot, id, copy, pass } = world();
  const same = async (what: string): Promise<void> => {
    const { connections } = await domain.export(id);
    const whole = new ConnectionsDigest(connections);
    const { digest, connections: count } = await domain.digest(id);
    t.same([digest, count], [whole.value, whole.count], what);
  };
  await domain.prepare(snapshot({ connections: [tcp(1), tcp(2)] }), id.epoch);
  await same('prepared');
  await domain.apply(id, [
    opened(1, tcp(3, { state: 'closed' })),
    delta(2, { kind: 'ended', key: connectionKey(tcp(2)) }),
    delta(3, { kind: 'ended', key: 'nobody' }),
  ]);
  await same('after changes');
  await domain.sync(id, snapshot({ connections: [tcp(3), tcp(4)], sequence: 9 }));
  await same('after a whole state');
  t.equal((await domain.digest(id)).connections, 2);
  await domain.activate(id, 1_000_000);
  copy('adopted', 'terminal', 'tcp', TCP.ack, 0, 4);
  copy('opening', 'terminal', 'udp', 0, 0, 5);
  copy('reply', 'remote', 'udp', 0, MARK.announced, 5);
  copy('opening', 'terminal', 'tcp', TCP.syn, 0, 6);
  copy('state', 'remote', 'tcp', TCP.rst, MARK.announced, 6);
  await same('after packets');
  await pass(11_000);
  await same('after the end of one that was closed, and of one that never came');
  await pass(26_000);
  await same('while one is silent');
  await domain.setTerminal(id, { ...alice, ipv4: ['10.0.0.9'] });
  await same('with other addresses');
  await pass(200_000);
  t.same(await domain.digest(id).then(({ connections }) => connections), 0);
});

t.test('a whole state changes only what differs, and asks the switch nothing', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot({ connections: [tcp(1), tcp(2)] }), id.epoch);
  host.counters = () => Promise.reject(new Error('was asked'));
  const { changes } = host;
  const kept = host.groups.get(`alice 2 adoption ${connectionKey(tcp(2))}`);
  await domain.sync(id, snapshot({ connections: [tcp(2), tcp(3)], sequence: 7 }));
  t.equal(host.changes, changes + 1, 'one bundle');
  t.same(
    [...host.groups.keys()].filter((name) => name.includes('adoption')),
    [2, 3].map((port) => `alice 2 adoption ${connectionKey(tcp(port))}`),
  );
  t.equal(host.groups.get(`alice 2 adoption ${connectionKey(tcp(2))}`), kept, 'not stated again');
  await domain.apply(id, [opened(8, tcp(4))]);
  t.equal((await domain.digest(id)).connections, 3, 'and changes follow');
  await t.rejects(domain.apply(id, [opened(10, tcp(5))]), { code: 'changes-lost' });
});

/** A domain whose instances are kept, and the next controller's, with the rules that it states. */
function lives() {
  const kept = new KeptInstances();
  const first = world({}, kept);
  const restart = async () => {
    first.domain.close();
    const host = new PlayedHost();
    host.isConnected = false;
    const clock = new ManualClock(50_000);
    const numbers = new Map<string, number>();
    const domain = new OpenFlowCtDomain({
      ...{ name: 'sdn-1', dpid: dpid(1), host, clock, log: silentLog, keeper: kept },
      numbers: {
        of: () => {
          throw new Error('it has a number');
        },
        restore: ({ terminal, epoch: of }, number) => void numbers.set(`${terminal} ${of}`, number),
        release: ({ terminal, epoch: of }) => void numbers.delete(`${terminal} ${of}`),
      },
    });
    for (const record of kept.records) await domain.resume(record);
    return { host, clock, domain, numbers };
  };
  return { ...first, kept, restart };
}

/** Rules by group, and which of them are others than they were. */
function changed(before: PlayedHost, after: PlayedHost): string[] {
  const names = new Set([...before.groups.keys(), ...after.groups.keys()]);
  const text = (host: PlayedHost, name: string): string => JSON.stringify(host.groups.get(name) ?? []);
  return [...names].filter((name) => text(before, name) !== text(after, name));
}

t.test(
  'after a restart an active instance has the very rules that it had, but for the generation',
  async (t) => {
    const { host, domain, snapshot, id, copy, pass, kept, restart } = lives();
    await domain.prepare(snapshot({ connections: [tcp(1), tcp(2), tcp(3)] }), id.epoch);
    await domain.activate(id, 1_000_000);
    await domain.setPolicy(id, other);
    copy('adopted', 'terminal', 'tcp', TCP.ack, 0, 1);
    copy('adopted', 'terminal', 'tcp', TCP.ack, 0, 2);
    copy('reply', 'remote', 'tcp', TCP.ack, MARK.adopted, 2);
    copy('opening', 'terminal', 'udp', 0, 0, 4);
    await pass(500);
    const next = await restart();
    t.same([...next.numbers], [['alice 2', 2]]);
    t.same(changed(host, next.host), ['alice 2 rules'], 'only what has the generation in it');
    t.same(next.host.flushed, [], 'and nothing is flushed');
    const [before, after] = [await domain.export(id), await next.domain.export(id)];
    t.same(
      after.connections.map(connectionKey).sort(),
      before.connections.map(connectionKey).sort(),
      'it knows what was known',
    );
    t.equal(after.policy.name, 'other');
    t.same(after.earlier, before.earlier);
    await t.rejects(
      next.domain.changes(id, before.sequence, new AbortController().signal)[Symbol.asyncIterator]().next(),
      { code: 'changes-lost' },
      'whoever followed takes a new snapshot',
    );
    t.match(await next.domain.health(), { instances: [{ role: 'active' }] });
    t.ok(kept.changes.length < 12, 'few things were kept one by one');
  },
);

t.test('what was opened while nobody listened is known when it announces itself', async (t) => {
  const { domain, snapshot, id, copyTo, restart } = lives();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  const next = await restart();
  copyTo(next.domain)('announce', 'terminal', 'tcp', TCP.ack, MARK.announced, 7);
  t.match((await next.domain.export(id)).connections, [
    { local: { port: 7 }, opener: 'terminal', state: 'established' },
  ]);
});

t.test('what ended meanwhile ages out; what wears out its adoption rules loses them', async (t) => {
  const { domain, snapshot, id, copy, restart } = lives();
  await domain.prepare(snapshot({ connections: [tcp(1), tcp(2)] }), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('adopted', 'terminal', 'tcp', TCP.ack, 0, 2);
  copy('reply', 'remote', 'tcp', TCP.ack, MARK.adopted, 2);
  copy('opening', 'terminal', 'udp', 0, 0, 4);
  const next = await restart();
  t.equal(next.host.rules('adoption'), 12);
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 250) {
      next.clock.advance(250);
      await next.domain.export(id);
    }
  };
  next.host.isConnected = true;
  await pass(1_000);
  t.equal(next.host.rules('adoption'), 6, 'the switch tracks it, as far as the record knew');
  await pass(9_000);
  t.equal(next.host.rules('adoption'), 0, 'imported, and never came');
  await pass(30_000 + 15_000);
  t.same(
    (await next.domain.export(id)).connections.map(({ protocol }) => protocol),
    ['tcp'],
  );
});

t.test('standbys, draining instances and those whose drain is over are what they were', async (t) => {
  for (const role of ['standby', 'draining', 'drained', 'refusing'] as const) {
    const { host, clock, domain, snapshot, id, settled, restart } = lives();
    await domain.prepare(snapshot({ connections: [tcp(1)] }), id.epoch);
    await domain.apply(id, [opened(1, tcp(5))]);
    if (role !== 'standby') await domain.activate(id, 1_000);
    if (role === 'draining' || role === 'drained') await domain.drain(id, 500);
    if (role === 'drained') clock.advance(500);
    if (role === 'refusing') clock.advance(1_000);
    await settled();
    clock.advance(5);
    const next = await restart();
    t.same(changed(host, next.host), role === 'refusing' ? ['alice 2 rules'] : [], role);
    if (role === 'standby') {
      await next.domain.apply(id, [opened(2, tcp(6))]);
      t.equal((await next.domain.digest(id)).connections, 3, 'a standby goes on where it was');
      next.host.isConnected = true;
      await next.domain.activate(id, 1_000);
      t.equal(next.host.rules('policy'), host.rules('policy'));
    }
    if (role === 'draining') {
      next.clock.advance(500);
      await next.domain.export(id);
      t.equal(next.host.groups.size, 0, 'a drain ends, though its time began anew');
    }
    await next.domain.retire(id);
    t.same([next.host.groups.size, next.numbers.size], [0, 0]);
  }
});

t.test('a lease goes on after a restart, and runs out when nobody renews it', async (t) => {
  const { domain, snapshot, id, restart } = lives();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000);
  const { host, clock, domain: next } = await restart();
  t.ok(host.rules('policy') > 0);
  clock.advance(1_000);
  await next.export(id);
  t.equal(host.rules('policy'), 0);
});

t.test('counters go on from what they were', async (t) => {
  const { host, domain, snapshot, id, restart } = lives();
  const count = (to: PlayedHost, packets: number): void => {
    to.counts = new Map(to.policyCookies(2).map((cookie) => [cookie, { packets, bytes: 10 * packets }]));
  };
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  count(host, 5);
  await domain.setPolicy(id, other);
  count(host, 7);
  const before = (await domain.export(id)).counters;
  const next = await restart();
  count(next.host, 8);
  next.host.isConnected = true;
  const after = (await next.domain.export(id)).counters;
  t.ok(before.some(({ packets }) => packets > 0));
  t.same(
    after.map(({ packets }, index) => packets - (before[index]?.packets ?? 0)),
    before.map(({ packets }) => (packets > 0 ? 1 : 0)),
  );
});

t.test(
  'what cannot be kept stops nothing, is said once, and is kept whole when that works again',
  async (t) => {
    const { domain, snapshot, id, copy, clock, kept } = lives();
    await domain.prepare(snapshot(), id.epoch);
    await domain.activate(id, 1_000_000);
    kept.failure = new Error('disk full');
    await domain.setPolicy(id, other);
    copy('opening', 'terminal', 'udp', 0, 0, 4);
    clock.advance(5);
    await domain.export(id);
    t.equal(kept.records[0]?.policy.name, policy.name);
    kept.failure = undefined;
    copy('opening', 'terminal', 'udp', 0, 0, 5);
    clock.advance(5);
    await waitFor('the whole is kept', () => kept.puts === 2);
    t.equal(kept.records[0]?.policy.name, 'other');
    t.equal(kept.records[0]?.connections.length, 2);
    await domain.retire(id);
    t.same(kept.records, [], 'and nothing of a retired one');
  },
);

t.test('a record of another domain, or with a number that another has, is refused', async (t) => {
  const { domain, snapshot, id, kept } = lives();
  await domain.prepare(snapshot(), id.epoch);
  const [record] = kept.records;
  if (!record) throw new Error('nothing kept');
  await t.rejects(world().domain.resume({ ...record, domain: 'sdn-2' }), { code: 'invalid' });
  const next = world();
  next.taken.add('taken');
  await t.rejects(next.domain.resume(record), { code: 'refused', message: /contradicts/ });
  await t.rejects(next.domain.export(id), { code: 'no-instance' });
  t.equal(next.host.groups.size, 0);
  await world().domain.resume(record);
});

t.test('an older instance of the same domain is fenced off after a restart, too', async (t) => {
  const { domain, snapshot, id, restart } = lives();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  const newer = { ...id, epoch: epoch(3) };
  await domain.prepare(snapshot(), newer.epoch);
  await domain.activate(newer, 1_000_000);
  const next = await restart();
  await next.domain.export(newer);
  await t.rejects(next.domain.activate(id, 1_000), { code: 'stale-epoch' });
  t.match(await next.domain.health(), { instances: [{ role: 'draining' }, { role: 'active' }] });
  next.clock.advance(1_000);
  await next.domain.export(newer);
  t.match(await next.domain.health(), { instances: [{ epoch: 3, role: 'active' }] });
  t.notOk([...next.host.groups.keys()].some((name) => name.startsWith('alice 2 ')));
});
