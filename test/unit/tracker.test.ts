/**
 * The connection tracker and what is built on it: connections from copied packets, adoption, numbered changes, and the domain's
 * behaviour in time. The switch is played by the test where time or failure must come on cue.
 */
import t from 'tap';
import { AdoptionSet } from '../../controller-app/domains/openflow-ct/adoption-set.js';
import { ConnectionTable } from '../../controller-app/domains/openflow-ct/connection-table.js';
import { DEFAULT_TIMINGS } from '../../controller-app/domains/openflow-ct/index.js';
import { type Observation, observe } from '../../controller-app/domains/openflow-ct/observation.js';
import { DEFAULT_OUTBOUND, type Kind, MARK, packCookie } from '../../controller-app/pipeline/index.js';
import { ChangeLog } from '../../shared/domain/change-log.js';
import { DomainError } from '../../shared/domain/domain.js';
import { type Connection, connectionKey, type Opener } from '../../shared/firewall/connection.js';
import { type Delta, epoch } from '../../shared/firewall/state.js';
import { DEFAULT_IDLE_TIMES } from '../../shared/firewall/timeouts.js';
import { ip, TCP } from '../fixtures/frames.js';
import { frame, imported, LOCAL, policy, REMOTE, world } from '../fixtures/played-sdn.js';

const GRACE_MS = 15_000;

function seen(
  kind: Kind,
  sender: Opener,
  protocol: 'tcp' | 'udp' | 'icmp',
  flags = 0,
  mark = 0,
): Observation {
  const found = observe(
    kind,
    { reg0: sender === 'terminal' ? 1 : 2, ct_mark: mark },
    frame(sender, protocol, flags),
  );
  if (!found) throw new Error('not a packet of a connection');
  return found;
}

const table = (): ConnectionTable => new ConnectionTable({ ...DEFAULT_TIMINGS, generationMs: GRACE_MS });
const stateOf = (connection: Connection | undefined): string | undefined =>
  connection?.protocol === 'tcp' ? connection.state : undefined;
const KEY = `tcp ${LOCAL} 40000 ${REMOTE} 443`;

t.test('a TCP connection goes through its states, each told once', async (t) => {
  const known = table();
  const steps: readonly (readonly [Kind, Opener, number, string])[] = [
    ['opening', 'terminal', TCP.syn, 'opening'],
    ['state', 'terminal', TCP.syn, 'opening'],
    ['state', 'remote', TCP.syn | TCP.ack, 'answered'],
    ['handshake', 'terminal', TCP.ack, 'established'],
    ['announce', 'remote', TCP.ack, 'established'],
    ['state', 'remote', TCP.fin | TCP.ack, 'closing'],
    ['state', 'remote', TCP.fin | TCP.ack, 'closing'],
    ['state', 'terminal', TCP.fin | TCP.ack, 'closed'],
  ];
  let before: string | undefined;
  for (const [kind, sender, flags, state] of steps) {
    const changed = known.observe(seen(kind, sender, 'tcp', flags), 0);
    t.equal(stateOf(known.get(KEY)), state);
    t.equal(changed !== undefined, state !== before, `${kind} ${state} is told when it is new`);
    before = state;
  }
  t.equal(known.get(KEY)?.opener, 'terminal');
  known.observe(seen('opening', 'remote', 'tcp', TCP.syn), 1);
  t.match(
    known.get(KEY),
    { opener: 'remote', state: 'opening' },
    'the same ends again are another connection',
  );
});

t.test('a reset closes at once', async (t) => {
  const known = table();
  known.observe(seen('opening', 'terminal', 'tcp', TCP.syn), 0);
  known.observe(seen('state', 'remote', 'tcp', TCP.rst | TCP.ack), 0);
  t.equal(stateOf(known.get(KEY)), 'closed');
});

t.test('whatever copies are lost, the next one tells enough: also who opened', async (t) => {
  const mark = MARK.announced | MARK.openedByRemote | MARK.replied;
  for (const [kind, flags, state] of [
    ['announce', TCP.ack, 'established'],
    ['handshake', TCP.ack, 'established'],
    ['state', TCP.fin | TCP.ack, 'closing'],
    ['state', TCP.rst, 'closed'],
  ] as const) {
    const known = table();
    known.observe(seen(kind, 'terminal', 'tcp', flags, mark), 0);
    t.match(known.get(KEY), { opener: 'remote', state });
  }
  const datagrams = table();
  const one = seen('announce', 'terminal', 'udp', 0, MARK.announced | MARK.replied);
  datagrams.observe(one, 0);
  t.match(datagrams.get(one.key), { opener: 'terminal', replied: true });
});

t.test('udp and echo: one-way until the other end speaks', async (t) => {
  for (const protocol of ['udp', 'icmp'] as const) {
    const known = table();
    const first = seen('opening', 'terminal', protocol);
    t.match(known.observe(first, 0), { opener: 'terminal', replied: false });
    t.equal(known.observe(seen('announce', 'terminal', protocol, 0, MARK.announced), 0), undefined);
    t.match(known.observe(seen('reply', 'remote', protocol, 0, MARK.announced), 0), {
      opener: 'terminal',
      replied: true,
    });
  }
});

t.test('what is of no connection is not tracked', async (t) => {
  const match = { reg0: 1 };
  t.equal(observe('announce', match, frame('terminal', 'tcp').subarray(0, 40)), undefined, 'cut off');
  t.equal(observe('announce', {}, frame('terminal', 'tcp')), undefined, 'from no side');
  const error = ip(LOCAL, REMOTE, 1, Buffer.from('0301fcfe00000000', 'hex')).packet;
  t.equal(
    observe('announce', match, Buffer.concat([Buffer.alloc(12), Buffer.from([8, 0]), error])),
    undefined,
  );
});

t.test(
  'connections are forgotten when they were idle for too long, and live by announcing themselves',
  async (t) => {
    const known = table();
    const over = (nowMs: number): string[] => known.sweep(nowMs, () => false).ended.map(connectionKey);
    const one = seen('opening', 'terminal', 'udp');
    known.observe(one, 0);
    const idleMs = DEFAULT_IDLE_TIMES.udp * 1000;
    t.same(over(idleMs + GRACE_MS - 1), []);
    t.equal(known.export(idleMs + GRACE_MS - 1000)[0]?.timeLeftSeconds, 1, 'the time it has left is told');
    known.observe(seen('announce', 'terminal', 'udp', 0, MARK.announced), idleMs);
    t.same(over(idleMs + GRACE_MS), [], 'announced in time');
    t.equal(
      known.export(idleMs)[0]?.timeLeftSeconds,
      DEFAULT_IDLE_TIMES.udp,
      'and never more than its idle time',
    );
    t.same(over(2 * idleMs + GRACE_MS), [one.key]);
    t.equal(known.size, 0);
  },
);

t.test('adoption: a standby does not age, an active instance does', async (t) => {
  const set = new AdoptionSet(1000);
  set.put(imported, 0);
  t.same(set.sweep(1_000_000, () => false).late, []);
  set.start(1_000_000);
  t.equal(set.export(1_004_000)[0]?.timeLeftSeconds, 6);
  t.same(set.sweep(1_009_999, () => false).late, []);
  t.same(set.sweep(1_010_000, () => false).late.map(connectionKey), [connectionKey(imported)]);
  t.equal(set.size, 0);
});

t.test(
  'adoption rules go once both ways are tracked, or it has closed, each after the settle time',
  async (t) => {
    const key = connectionKey(imported);
    const after = (what: { adopted: boolean; bothWays: boolean; closed: boolean }): AdoptionSet => {
      const set = new AdoptionSet(1000);
      set.start(0);
      set.put(imported, 0);
      set.seen(key, { adopted: false, bothWays: false, closed: false }, 0);
      set.seen(key, what, 100);
      set.takeStale();
      return set;
    };
    for (const what of [
      { adopted: false, bothWays: true, closed: false },
      { adopted: false, bothWays: false, closed: true },
    ]) {
      const set = after(what);
      t.same(set.export(0), [], 'the connection table tells of it now');
      set.sweep(1099, () => true);
      t.notOk(set.stale);
      set.sweep(1100, () => true);
      const rules = set.takeStale();
      t.same(
        rules.map((one) => set.needing(one)),
        [[]],
        'nobody needs the rules any more',
      );
      set.giveBack(rules);
      t.same(set.takeStale(), rules, 'who could not state them gives them back');
      t.equal(set.size, 0);
    }
    const oneSided = after({ adopted: false, bothWays: false, closed: false });
    oneSided.sweep(9_000_000, () => true);
    t.equal(oneSided.size, 1, 'one-sided: they stay as long as it lives');
    oneSided.sweep(9_000_000, () => false);
    t.equal(oneSided.size, 0);
  },
);

t.test('adoption: echoes between the same hosts share rules, which go with the last', async (t) => {
  const echoOf = (id: number): Connection => ({
    protocol: 'icmp',
    opener: 'terminal',
    local: { address: LOCAL },
    remote: { address: REMOTE },
    id,
    replied: true,
    timeLeftSeconds: 30,
  });
  const set = new AdoptionSet(1000);
  set.put(echoOf(1), 0);
  set.put(echoOf(2), 0);
  const [rules = ''] = set.takeStale();
  set.end(connectionKey(echoOf(1)));
  t.equal(set.needing(rules).length, 1);
  set.end(connectionKey(echoOf(2)));
  t.same(set.needing(rules), []);
});

t.test('adoption: closed connections are not adopted, ended ones go, tracked ones stay', async (t) => {
  const set = new AdoptionSet(1000);
  set.put({ ...imported, state: 'closed' }, 0);
  t.notOk(set.stale, 'no rules for a closed one');
  t.equal(set.export(0).length, 1, 'though it is known until it ends');
  t.equal(set.put(imported, 0), true);
  const rules = set.takeStale();
  t.equal(set.needing(rules[0] ?? '').length, 1);
  t.equal(set.put({ ...imported, state: 'closing' }, 0), true);
  t.notOk(set.stale, 'the rules are the same in every other state');
  t.equal(set.put({ ...imported, state: 'closed' }, 0), true);
  t.same(set.takeStale(), rules);
  t.same(set.needing(rules[0] ?? ''), []);
  t.equal(set.put(imported, 0), true);
  t.equal(set.put(imported, 0), false, 'the same again changes no rules');
  t.equal(set.end(connectionKey(imported)), true);
  set.put(imported, 0);
  set.seen(connectionKey(imported), { adopted: false, bothWays: false, closed: false }, 0);
  t.equal(set.end(connectionKey(imported)), false, 'the old instance no longer sees its packets');
});

t.test('changes: from any remembered number on, in order, bounded', async (t) => {
  const log = new ChangeLog(10, 4);
  const read = async (from: number): Promise<number[]> => {
    const numbers: number[] = [];
    for await (const batch of log.follow(from, new AbortController().signal)) {
      numbers.push(...batch.map(({ sequence }: Delta) => sequence));
    }
    return numbers;
  };
  const waiting = read(10);
  for (const key of ['a', 'b', 'c']) log.append([{ kind: 'ended', key }]);
  log.end();
  t.same(await waiting, [11, 12, 13]);
  t.same(await read(12), [13]);
  await t.rejects(read(9), { code: 'changes-lost' }, 'before the beginning');
  await t.rejects(read(14), { code: 'changes-lost' }, 'after the end');
  const small = new ChangeLog(0, 4);
  for (let index = 0; index < 9; index++) small.append([{ kind: 'ended', key: `${index}` }]);
  const first = small.follow(5, new AbortController().signal);
  t.same(
    (await first.next()).value?.map(({ sequence }: Delta) => sequence),
    [6, 7, 8, 9],
  );
  await t.rejects(small.follow(4, new AbortController().signal).next(), { code: 'changes-lost' });
});

t.test('prepare that fails leaves nothing', async (t) => {
  const { host, taken, domain, snapshot, id } = world();
  host.isConnected = false;
  await t.rejects(domain.prepare(snapshot(), id.epoch), { code: 'not-ready', message: /set-controller/ });
  host.isConnected = true;
  host.failure = new Error('bundle refused');
  await t.rejects(domain.prepare(snapshot(), id.epoch), { code: 'refused', message: /bundle refused/ });
  t.same([taken.size, host.groups.size], [0, 0]);
  await t.rejects(domain.export(id), { code: 'no-instance' });
  host.failure = undefined;
  await domain.prepare(snapshot(), id.epoch);
  t.same(host.flushed.at(-1), 2, 'into an empty zone');
});

t.test('activation of a standby sends nothing to the switch', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
  const { changes } = host;
  await domain.activate(id, 1000);
  t.equal(host.changes, changes);
});

t.test('with the lease out nothing new is admitted, until it is renewed', async (t) => {
  const { host, clock, domain, snapshot, id, settled } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1000);
  const all = host.rules('policy');
  clock.advance(900);
  await domain.activate(id, 1000);
  clock.advance(900);
  await settled();
  t.equal(host.rules('policy'), all, 'renewed in time');
  clock.advance(100);
  await settled();
  t.ok(all > 0 && host.rules('policy') === 0, 'the policy is out of the switch');
  t.match(await domain.health(), { instances: [{ role: 'active' }] });
  await domain.activate(id, 1000);
  t.equal(host.rules('policy'), all);
});

t.test('a drain ends: then nothing passes; retire leaves nothing', async (t) => {
  const { host, clock, taken, domain, snapshot, id, settled } = world();
  await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
  await domain.activate(id, 1000);
  await domain.drain(id, 500);
  t.ok(host.rules('rules') > 0);
  t.equal(host.rules('adoption'), 6, 'what waits to be adopted is still known');
  clock.advance(500);
  await settled();
  t.equal(host.groups.size, 0);
  await domain.retire(id);
  await domain.retire(id);
  t.same([host.groups.size, taken.size], [0, 0]);
  clock.advance(60_000);
  t.equal(clock.pending, 0, 'no timer is left');
});

t.test('an adopted connection keeps its opener, and its rules go after the settle time', async (t) => {
  const { host, clock, domain, snapshot, id, copy, settled } = world();
  await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('adopted', 'terminal', 'tcp', TCP.ack);
  t.match(
    (await domain.export(id)).connections,
    [{ opener: 'remote', state: 'established' }],
    'once, not twice',
  );
  clock.advance(5000);
  await settled();
  t.equal(host.rules('adoption'), 6, 'one-sided yet');
  copy('reply', 'remote', 'tcp', TCP.ack, MARK.adopted | MARK.openedByRemote);
  clock.advance(2000);
  await settled();
  t.equal(host.rules('adoption'), 0);
  t.match((await domain.export(id)).connections, [{ opener: 'remote' }]);
});

t.test(
  'a connection that was adopted is not opened again by what the old instance still tells of it',
  async (t) => {
    const { host, clock, domain, snapshot, id, copy, settled } = world();
    await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
    await domain.activate(id, 1_000_000);
    copy('adopted', 'terminal', 'tcp', TCP.ack);
    copy('reply', 'remote', 'tcp', TCP.ack, MARK.adopted | MARK.openedByRemote);
    clock.advance(2000);
    await settled();
    t.equal(host.rules('adoption'), 0);
    const change = { kind: 'connection', connection: { ...imported, state: 'closing' } } as const;
    await domain.apply(id, [{ sequence: 1, change }]);
    t.equal(host.rules('adoption'), 0);
    t.match((await domain.export(id)).connections, [{ state: 'established' }]);
  },
);

t.test('prepare repeated leaves an active instance as it is', async (t) => {
  const { host, domain, snapshot, id, copy } = world();
  const ends = await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('opening', 'terminal', 'tcp', TCP.syn);
  const { changes } = host;
  t.same(await domain.prepare(snapshot(), id.epoch), ends);
  t.equal(host.changes, changes);
  t.equal((await domain.export(id)).connections.length, 1);
});

t.test('removing adoption rules is repeated until the switch has done it', async (t) => {
  const { host, clock, domain, snapshot, id, copy, settled } = world();
  await domain.prepare(snapshot({ connections: [imported] }), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('adopted-reset', 'remote', 'tcp', TCP.rst);
  host.failure = new Error('not now');
  clock.advance(2000);
  await settled();
  t.equal(host.rules('adoption'), 6);
  host.failure = undefined;
  clock.advance(1000);
  await settled();
  t.equal(host.rules('adoption'), 0);
});

t.test(
  'deltas of the old instance: news are adopted, what is tracked here is known better here',
  async (t) => {
    const { host, domain, snapshot, id, copy } = world();
    await domain.prepare(snapshot({ connections: [imported], sequence: 5 }), id.epoch);
    await domain.activate(id, 1_000_000);
    copy('adopted', 'terminal', 'tcp', TCP.ack);
    const other = { ...imported, local: { address: LOCAL, port: 40_001 } };
    const deltas: Delta[] = [
      { sequence: 6, change: { kind: 'ended', key: connectionKey(imported) } },
      { sequence: 7, change: { kind: 'connection', connection: other } },
    ];
    await domain.apply(id, deltas);
    const keys = (await domain.export(id)).connections.map(connectionKey).sort();
    t.same(keys, [connectionKey(imported), connectionKey(other)].sort());
    t.equal(host.rules('adoption'), 12);
    const { changes } = host;
    await domain.apply(id, deltas);
    t.equal(host.changes, changes, 'the same again changes nothing');
    await t.rejects(domain.apply(id, [{ sequence: 9, change: { kind: 'ended', key: 'x' } }]), {
      code: 'changes-lost',
    });
  },
);

t.test(
  'generations follow each other while the instance is active, also when nothing is known',
  async (t) => {
    const { host, clock, domain, snapshot, id, copy, settled } = world();
    await domain.prepare(snapshot(), id.epoch);
    const { changes } = host;
    clock.advance(60_000);
    await settled();
    t.equal(host.changes, changes, 'a standby stays in its first');
    await domain.activate(id, 1_000_000);
    clock.advance(15_000);
    await settled();
    t.equal(host.changes, changes + 1, 'the copies of all its connections may have been lost');
    copy('announce', 'terminal', 'tcp', TCP.ack, MARK.announced);
    t.equal((await domain.export(id)).connections.length, 1);
    await domain.drain(id, 60_000);
    clock.advance(15_000);
    await settled();
    t.equal(host.changes, changes + 2, 'not while it drains');
  },
);

t.test('counters: the imported, and what the switch counts; a new policy goes on from there', async (t) => {
  const { host, domain, snapshot, id } = world();
  const cookie = (policyRule: number, kind: Kind, instance = 2): number =>
    packCookie({ kind, instance, policyRule });
  await domain.prepare(snapshot({ counters: [{ rule: 'no mail', packets: 10, bytes: 1000 }] }), id.epoch);
  host.counts = new Map([
    [cookie(0, 'refused'), { packets: 2, bytes: 100 }],
    [cookie(DEFAULT_OUTBOUND, 'opening'), { packets: 5, bytes: 500 }],
    [cookie(0, 'opening', 3), { packets: 99, bytes: 99 }],
    [cookie(0, 'announce'), { packets: 99, bytes: 99 }],
  ]);
  const total = async (rule: string) =>
    (await domain.export(id)).counters.find((one) => one.rule === rule)?.packets;
  t.equal(await total('no mail'), 12);
  t.equal(await total('default outbound'), 5);
  await domain.setPolicy(id, { ...policy, name: 'q', rules: [] });
  t.equal(await total('no mail'), undefined);
  t.equal(await total('default outbound'), 5, 'counted once');
  host.counts = new Map([[cookie(DEFAULT_OUTBOUND, 'opening'), { packets: 6, bytes: 600 }]]);
  t.equal(await total('default outbound'), 6);
});

t.test('a policy that the switch refuses leaves the old one', async (t) => {
  const { host, domain, snapshot, id } = world();
  await domain.prepare(snapshot(), id.epoch);
  host.failure = new Error('table full');
  const error = await domain.setPolicy(id, { ...policy, name: 'q' }).catch((thrown: unknown) => thrown);
  t.ok(error instanceof DomainError && error.code === 'refused');
  host.failure = undefined;
  t.equal((await domain.export(id)).policy.name, 'p');
});

t.test('a newer instance in the same domain ends the older one', async (t) => {
  const { host, clock, taken, domain, snapshot, id, settled } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  const newer = { ...id, epoch: epoch(3) };
  await domain.prepare(snapshot(), newer.epoch);
  t.match(await domain.health(), { instances: [{ role: 'active' }, { role: 'standby' }] });
  await domain.activate(newer, 1_000_000);
  await domain.export(newer);
  t.match(await domain.health(), { instances: [{ role: 'draining' }, { role: 'active' }] });
  clock.advance(1000);
  await domain.export(newer);
  await settled();
  t.same([...taken], ['alice 3']);
  t.notOk([...host.groups.keys()].some((name) => name.startsWith('alice 2 ')));
});

t.test(
  'a silent connection is adopted again before the switch forgets it, until it speaks or is over',
  async (t) => {
    const { host, domain, snapshot, id, copy, pass } = world();
    await domain.prepare(snapshot(), id.epoch);
    await domain.activate(id, 1_000_000);
    const { sequence } = await domain.export(id);
    copy('opening', 'terminal', 'udp');
    copy('reply', 'remote', 'udp', 0, MARK.announced);
    await pass(24_000);
    t.equal(host.rules('adoption'), 0, 'the switch still knows it');
    await pass(2_000);
    t.equal(host.rules('adoption'), 2, 'in both directions, before the 30 s of the switch are over');
    t.equal((await domain.export(id)).connections.length, 1, 'once, not twice');
    await pass(60_000);
    t.equal(host.rules('adoption'), 2);
    copy('adopted', 'remote', 'udp');
    await pass(2_000);
    t.equal(host.rules('adoption'), 0, 'it spoke: the switch tracks it');
    t.match(
      (await domain.export(id)).connections,
      [{ opener: 'terminal', replied: true }],
      'its opener is who it was',
    );
    await pass(28_000);
    t.equal(host.rules('adoption'), 2, 'silent once more');
    t.same(host.forgotten, []);
    // 120 s and the generation in which it may have sent without telling.
    await pass(120_000 + GRACE_MS - 30_000);
    t.equal(host.rules('adoption'), 0);
    t.same((await domain.export(id)).connections, []);
    t.same(host.forgotten, [`udp ${LOCAL} 40000 ${REMOTE} 443`], 'and what the switch has of it goes');
    const told: string[] = [];
    domain.close();
    for await (const batch of domain.changes(id, sequence, new AbortController().signal))
      told.push(...batch.map(({ change }) => change.kind));
    t.same(told, ['connection', 'connection', 'ended']);
  },
);

t.test('silent connections are bounded: the longest silent are over, here and in the switch', async (t) => {
  const { host, domain, snapshot, id, copy, pass } = world({ maxSilent: 3 });
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  for (let port = 1; port <= 5; port++) {
    copy('opening', 'terminal', 'udp', 0, 0, port);
    copy('reply', 'remote', 'udp', 0, MARK.announced, port);
    await pass(1000);
  }
  await pass(30_000);
  t.equal(host.rules('adoption'), 6);
  const ports = (await domain.export(id)).connections.map((one) => one.protocol === 'udp' && one.local.port);
  t.same(ports.sort(), [3, 4, 5]);
  t.same(
    host.forgotten,
    [1, 2].map((port) => `udp ${LOCAL} ${port} ${REMOTE} 443`),
  );
});

t.test('what the switch would know for longer is flushed there when its time is over', async (t) => {
  const { host, domain, snapshot, id, copy, pass } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('opening', 'terminal', 'tcp', TCP.syn, 0, 1);
  copy('state', 'remote', 'tcp', TCP.rst | TCP.ack, MARK.announced, 1);
  copy('opening', 'terminal', 'udp', 0, 0, 2);
  copy('opening', 'terminal', 'tcp', TCP.syn, 0, 3);
  copy('opening', 'terminal', 'icmp', 0, 0, 4);
  const key = (protocol: string, port: number): string => `${protocol} ${LOCAL} ${port} ${REMOTE} 443`;
  await pass(9_500);
  t.same(host.forgotten, []);
  await pass(500);
  t.same(host.forgotten, [key('tcp', 1)], 'closed: 10 s');
  await pass(20_000);
  t.same(host.forgotten, [key('tcp', 1), key('tcp', 3)], 'never answered: 30 s');
  await pass(GRACE_MS);
  t.same(host.forgotten.slice(2), [key('udp', 2)], 'one-way: 30 s and a generation');
  t.equal(host.rules('adoption'), 0, 'none of them is adopted again');
  host.failure = new Error('not now');
  await pass(30_500);
  t.same(
    (await domain.export(id)).connections,
    [],
    'an echo: 60 s and a generation, no less than in the switch',
  );
  t.equal(host.forgotten.length, 3);
});

t.test('a flush that fails is repeated', async (t) => {
  const { host, domain, snapshot, id, copy, pass } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('opening', 'terminal', 'tcp', TCP.syn);
  host.failure = new Error('not now');
  await pass(31_000);
  t.same(host.forgotten, []);
  host.failure = undefined;
  await pass(1_000);
  t.same(host.forgotten, [KEY]);
});

t.test('nothing imported waits longer than it could be idle', async (t) => {
  const { domain, snapshot, id, pass } = world();
  const long: Connection = { ...datagram, timeLeftSeconds: 432_000 };
  await domain.prepare(snapshot({ connections: [long] }), id.epoch);
  await domain.activate(id, 10_000_000);
  t.match((await domain.export(id)).connections, [{ timeLeftSeconds: 120 }]);
  await pass(120_000);
  t.same((await domain.export(id)).connections, []);
});

const datagram: Connection = {
  protocol: 'udp',
  opener: 'remote',
  local: { address: LOCAL, port: 40_000 },
  remote: { address: REMOTE, port: 443 },
  replied: true,
  timeLeftSeconds: 120,
};

t.test('a connection that no policy ever allowed is not told of, and the switch forgets it', async (t) => {
  const { host, domain, snapshot, id, copy, pass } = world();
  const inbound = MARK.announced | MARK.openedByRemote | MARK.replied;
  await domain.prepare(snapshot({ earlier: [] }), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('announce', 'remote', 'udp', 0, inbound);
  await pass(250);
  t.same((await domain.export(id)).connections, []);
  t.same(host.forgotten, [connectionKey(datagram)]);
  const other = world();
  await other.domain.prepare(other.snapshot(), id.epoch);
  await other.domain.activate(id, 1_000_000);
  other.copy('announce', 'remote', 'udp', 0, inbound);
  t.match(
    (await other.domain.export(id)).connections,
    [{ opener: 'remote' }],
    'control: an earlier policy did',
  );
});

t.test('rejected packets are answered through the instance, as often as may be', async (t) => {
  const { host, clock, domain, snapshot, id, copy } = world();
  await domain.prepare(snapshot(), id.epoch);
  await domain.activate(id, 1_000_000);
  copy('rejected', 'remote', 'udp');
  t.match(host.sent[0]?.actions, [
    { type: 'set_field', field: { reg0: 1 } },
    { type: 'set_field', field: { reg1: 2 } },
    { type: 'resubmit', table: host.table('deliver') },
  ]);
  t.same((await domain.export(id)).connections, [], 'and nothing of it is known');
  for (let count = 0; count < 100; count++) copy('rejected', 'remote', 'udp');
  t.equal(host.sent.length, 10, 'at once');
  clock.advance(1000);
  for (let count = 0; count < 100; count++) copy('rejected', 'remote', 'udp');
  t.equal(host.sent.length, 20, 'never more than the bucket holds');
  for (let second = 0; second < 100; second++) {
    clock.advance(10);
    copy('rejected', 'remote', 'udp');
    copy('rejected', 'remote', 'udp');
  }
  t.equal(host.sent.length, 120, 'a hundred a second');
  copy('rejected', 'remote', 'tcp', TCP.rst);
  t.equal(host.sent.length, 120);
});
