/**
 * Standbys: the mirror that they follow, how they are fed, compared and mended, and how one takes over. Domains are the reference ones, steering is written down.
 */
import t from 'tap';
import { Complaints } from '../../controller-app/handover/complaints.js';
import { Coordinator } from '../../controller-app/handover/coordinator.js';
import { added, beyond } from '../../controller-app/handover/counters.js';
import { Damping } from '../../controller-app/handover/damping.js';
import { Feed } from '../../controller-app/handover/feed.js';
import { Mirror } from '../../controller-app/handover/mirror.js';
import type { ApiEvent, HandoverReport } from '../../shared/api/schema.js';
import { DomainError, type InstanceId } from '../../shared/domain/domain.js';
import { type Connection, connectionKey, type TcpState } from '../../shared/firewall/connection.js';
import { connectionDifferences } from '../../shared/firewall/differences.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { type Delta, epoch, type FirewallState } from '../../shared/firewall/state.js';
import { ManualClock, realClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { listening } from '../fixtures/besieged.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { alice, examplePolicy } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/wait.js';

const https = (port: number, state: TcpState = 'established'): Connection => ({
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port },
  remote: { address: '198.51.100.20', port: 443 },
  state,
  timeLeftSeconds: 1000,
});
const ports = (state: FirewallState): number[] =>
  state.connections.map(({ local }) => ('port' in local ? local.port : 0)).sort((a, b) => a - b);
const nothing: FirewallState = {
  terminal: alice,
  epoch: epoch(1),
  sequence: 0,
  policy: examplePolicy,
  earlier: [],
  connections: [],
  counters: [],
};
const mirrorOf = (...connections: Connection[]): Mirror =>
  new Mirror({ ...nothing, connections }, () => performance.now());

t.test('the mirror', async (t) => {
  t.test('takes what is news, and passes over what is told again or late', async (t) => {
    const mirror = mirrorOf();
    for (const state of ['opening', 'established', 'opening', 'answered', 'established'] as const)
      mirror.absorb({ kind: 'connection', connection: https(1, state) });
    t.equal(mirror.sequence, 2, 'opening and established');
    mirror.absorb({ kind: 'connection', connection: { ...https(1), timeLeftSeconds: 5 } });
    t.equal(mirror.sequence, 2, 'time passes everywhere');
    t.match(mirror.snapshot(epoch(1)).connections, [{ state: 'established', timeLeftSeconds: 5 }]);
    mirror.absorb({ kind: 'connection', connection: https(1, 'closed') });
    mirror.absorb({ kind: 'connection', connection: https(1, 'opening') });
    t.match(mirror.snapshot(epoch(1)).connections, [{ state: 'opening' }], 'the same ends once more');
    mirror.absorb({ kind: 'ended', key: connectionKey(https(1)) });
    mirror.absorb({ kind: 'ended', key: connectionKey(https(1)) });
    t.equal(mirror.sequence, 5);
  });

  t.test('knows its digest after each change', async (t) => {
    const mirror = mirrorOf(https(1));
    mirror.absorb({ kind: 'connection', connection: https(2) });
    mirror.absorb({ kind: 'ended', key: connectionKey(https(1)) });
    t.equal(mirror.mark(0)?.digest, new ConnectionsDigest([https(1)]).value);
    t.equal(mirror.mark(1)?.digest, new ConnectionsDigest([https(2), https(1)]).value);
    t.equal(mirror.mark(2)?.digest, new ConnectionsDigest([https(2)]).value);
    t.equal(mirror.mark(3), undefined);
    t.not(mirror.mark(2)?.digest, new ConnectionsDigest([https(2, 'closing')]).value, 'control');
  });

  t.test('knows when each change was, however long it took to be told', async (t) => {
    let now = 1_000;
    const mirror = new Mirror(nothing, () => now);
    mirror.absorb({ kind: 'connection', connection: https(1) }, 40);
    now += 5;
    mirror.absorb({ kind: 'connection', connection: https(2) });
    t.equal(mirror.mark(1)?.at, 960);
    t.equal(mirror.mark(2)?.at, 1_005);
  });

  t.test('takes a whole state as the truth, also where it goes back', async (t) => {
    const mirror = mirrorOf(https(1), https(2, 'closing'));
    mirror.replace({ ...nothing, connections: [https(2, 'established'), https(3)] });
    t.same(ports(mirror.snapshot(epoch(1))), [2, 3]);
    t.equal(mirror.digest, new ConnectionsDigest([https(2), https(3)]).value);
    t.equal(mirror.replace({ ...nothing, connections: [https(3), https(2)] }), 0, 'the same again');
  });

  t.test('other addresses end the connections of those that are gone', async (t) => {
    const mirror = mirrorOf(https(1));
    mirror.absorb({ kind: 'terminal', terminal: { ...alice, ipv4: ['10.0.0.100'] } });
    t.same(mirror.snapshot(epoch(1)).connections, []);
    t.equal(mirror.digest, new ConnectionsDigest().value);
  });
});

t.test('differences turn one set of connections into the other', async (t) => {
  const [from, to] = [
    [https(1), https(2), https(3, 'opening')],
    [https(2), https(3, 'established'), https(4)],
  ];
  t.match(connectionDifferences(from, to), [
    { kind: 'ended', key: connectionKey(https(1)) },
    { kind: 'connection', connection: { local: { port: 3 }, state: 'established' } },
    { kind: 'connection', connection: { local: { port: 4 } } },
  ]);
  t.same(connectionDifferences(from, from), []);
});

t.test('counters of a whole life are those of the instance and what it does not know', async (t) => {
  const [a, b] = [
    [{ rule: 'x', packets: 7, bytes: 70 }],
    [
      { rule: 'x', packets: 5, bytes: 50 },
      { rule: 'y', packets: 1, bytes: 1 },
    ],
  ];
  t.same(beyond(a, b), [{ rule: 'x', packets: 2, bytes: 20 }]);
  t.same(added(b, beyond(a, b)), [{ rule: 'x', packets: 7, bytes: 70 }, b[1]]);
});

t.test('a domain that comes and goes is left alone for longer and longer', async (t) => {
  let now = 0;
  const damping = new Damping(() => now);
  damping.lost('a');
  damping.lost('a');
  t.equal(damping.heldFor('a'), 0, 'twice may happen');
  damping.lost('a');
  const first = damping.heldFor('a');
  t.ok(first > 30_000, `${first} ms`);
  t.equal(damping.heldFor('b'), 0, 'others are not meant');
  now += first - 1;
  t.ok(damping.heldFor('a') > 0);
  now += 2;
  t.equal(damping.heldFor('a'), 0, 'the time is over');
  for (let times = 0; times < 100; times += 1) damping.lost('a');
  t.ok(damping.heldFor('a') > first && damping.heldFor('a') < 300_000, 'and is bounded');
});

/** A standby that a feed brings up to date. */
async function fed(t: { teardown(done: () => Promise<void>): void }, digestMs = 60_000) {
  const domain = new ReferenceDomain('b');
  const mirror = mirrorOf(https(1));
  const id: InstanceId = { terminal: 'alice', epoch: epoch(2) };
  await domain.prepare(mirror.snapshot(epoch(1)), id.epoch);
  const syncs: string[] = [];
  const feed = new Feed({ domain, id }, mirror, mirror.sequence, {
    clock: realClock,
    digestMs,
    onSync: (_to, reason) => syncs.push(reason),
  });
  t.teardown(() => feed.end());
  const held = async (): Promise<number[]> => ports(await domain.export(id));
  return { domain, mirror, id, feed, syncs, held };
}

t.test('a feed', async (t) => {
  t.test('brings changes in their order, and measures how long that took', async (t) => {
    const { mirror, feed, held } = await fed(t);
    for (const port of [2, 3, 4]) mirror.absorb({ kind: 'connection', connection: https(port) });
    mirror.absorb({ kind: 'ended', key: connectionKey(https(3)) });
    t.equal(feed.lag.changes, 4);
    t.ok(await feed.caughtUp(mirror.sequence, 5_000));
    t.same(await held(), [1, 2, 4]);
    t.match(feed.lag, { changes: 0, p50Ms: Number, p99Ms: Number, maxMs: Number });
  });

  t.test('of a slow standby falls behind, and burdens nobody', async (t) => {
    const { domain, mirror, feed, syncs, held } = await fed(t);
    const apply = domain.apply.bind(domain);
    let release: () => void = () => {};
    let calls = 0;
    domain.apply = async (id, deltas) => {
      calls += 1;
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      await apply(id, deltas);
    };
    mirror.absorb({ kind: 'connection', connection: https(2) });
    await waitFor('it is asked', () => calls === 1);
    for (let times = 0; times < 35_000; times += 1)
      for (const change of [
        { kind: 'connection', connection: https(3) } as const,
        { kind: 'ended', key: connectionKey(https(3)) } as const,
      ])
        mirror.absorb(change);
    t.equal(calls, 1, 'one call at a time');
    t.equal(feed.lag.changes, 70_001);
    t.notOk(await feed.caughtUp(mirror.sequence, 1), 'who waits is told');
    domain.apply = apply;
    release();
    t.ok(await feed.caughtUp(mirror.sequence, 5_000));
    t.match(syncs, [/too far behind/], 'more than is remembered: the whole state instead');
    t.same(await held(), [1, 2]);
  });

  t.test('compares digests, and mends what differs', async (t) => {
    const { domain, mirror, feed, syncs, held } = await fed(t, 20);
    mirror.absorb({ kind: 'connection', connection: https(2) });
    t.ok(await feed.caughtUp(mirror.sequence, 5_000));
    let compared = 0;
    const digest = domain.digest.bind(domain);
    domain.digest = (id) => {
      compared += 1;
      return digest(id);
    };
    await waitFor('they are compared', () => compared > 1);
    t.same(syncs, [], 'control: nothing differs');
    const { sync } = domain;
    await sync.call(
      domain,
      { terminal: 'alice', epoch: epoch(2) },
      { ...mirror.snapshot(epoch(1)), connections: [https(1), https(9)] },
    );
    await waitFor('it is mended', () => syncs.length > 0);
    await waitFor('it holds what it should', async () => String(await held()) === '1,2');
    t.match(syncs, [/it held 2 connections where 2 were to be, or others/]);
  });

  t.test('whose changes are lost, or refused, gives the whole state', async (t) => {
    const { domain, mirror, feed, syncs, held } = await fed(t);
    const apply = domain.apply.bind(domain);
    for (const code of ['changes-lost', 'invalid'] as const) {
      domain.apply = async () => {
        domain.apply = apply;
        throw new DomainError(code, code);
      };
      mirror.absorb({ kind: 'connection', connection: https(code.length) });
      t.ok(await feed.caughtUp(mirror.sequence, 5_000));
    }
    t.same(syncs, ['changes-lost', 'invalid']);
    t.same(await held(), [1, 7, 12]);
    domain.apply = async () => {
      throw new DomainError('no-instance', 'gone');
    };
    mirror.absorb({ kind: 'connection', connection: https(5) });
    await feed.done;
    t.match(feed.problem, { code: 'no-instance' }, 'an instance that is gone ends it');
  });
});

/** A coordinator with three domains, alice being active in a. */
async function system(
  t: { teardown(done: () => Promise<void>): void },
  standbys: readonly string[] = ['a', 'b', 'c'],
  log = silentLog,
) {
  const domains = new Map(['a', 'b', 'c'].map((name) => [name, new ReferenceDomain(name)]));
  const [a, b, c] = [...domains.values()];
  if (!a || !b || !c) throw new Error('three domains');
  const steered: string[] = [];
  const lost: string[] = [];
  const reports: HandoverReport[] = [];
  const note =
    (what: string) =>
    async (id: InstanceId | string): Promise<void> =>
      void steered.push(`${what} ${typeof id === 'string' ? id : id.epoch}`);
  const coordinator = new Coordinator({
    domains,
    steering: {
      addPath: note('add'),
      stage: async () => {},
      setActive: note('active'),
      removePath: note('remove'),
      takeOver: note('takeOver'),
      hold: note('hold'),
    },
    firewalls: [{ terminal: alice, policy: examplePolicy, standbys }],
    timings: { drainMs: 20, leaseMs: 60_000, takeoverMs: 30, digestMs: 30, retryMs: 30 },
    firstEpoch: 1,
    transfers: { read: () => ({ snapshot: 0, delta: 0 }) },
    log,
    clock: realClock,
    onEvent: (event: ApiEvent) => {
      if (event.kind === 'handover') reports.push(event.report);
    },
    onLost: (terminal) => lost.push(terminal),
    reclaim: () => alice,
  });
  t.teardown(() => coordinator.close());
  await coordinator.place('alice', 'a');
  const states = (): Record<string, string> =>
    Object.fromEntries(coordinator.standbys('alice').map(({ domain, state }) => [domain, state]));
  const ready = (...names: string[]): Promise<unknown> =>
    waitFor(
      `standbys are ready: ${names}`,
      () =>
        names.every((name) => states()[name] === 'ready') && Object.keys(states()).length === names.length,
    );
  const active = () => {
    const placed = coordinator.record('alice').active;
    if (!placed) throw new Error('no active instance');
    return placed;
  };
  const holds = async (name: string): Promise<number[]> => {
    const domain = domains.get(name);
    const [instance] = (await domain?.health())?.instances ?? [];
    return domain && instance ? ports(await domain.export(instance)) : [];
  };
  return { a, b, c, domains, coordinator, steered, lost, reports, states, ready, active, holds };
}

t.test('standbys', async (t) => {
  t.test('are where they are wanted, and hold what the active firewall holds', async (t) => {
    const { a, ready, active, holds, coordinator } = await system(t);
    await ready('b', 'c');
    for (const port of [1, 2]) a.admit(active().id, https(port));
    for (const name of ['b', 'c'])
      await waitFor(`${name} follows`, async () => String(await holds(name)) === '1,2');
    t.match(coordinator.standbys('alice'), [
      { domain: 'b', state: 'ready', behind: 0, lagMs: { p50: Number, p99: Number, max: Number } },
      { domain: 'c', state: 'ready', behind: 0 },
    ]);
  });

  t.test('make a handover without a prepare, and the old domain holds one afterwards', async (t) => {
    const { a, b, steered, ready, active, holds, coordinator, reports } = await system(t);
    await ready('b', 'c');
    a.admit(active().id, https(1));
    let prepared = 0;
    const prepare = b.prepare.bind(b);
    b.prepare = (...args) => {
      prepared += 1;
      return prepare(...args);
    };
    const before = steered.length;
    const report = await coordinator.handover('alice', { to: 'b', cause: 'demand' }).report;
    t.equal(report.outcome, 'done');
    t.equal(report.connections, 1);
    t.equal(prepared, 0);
    t.match(steered.slice(before)[0], /active/, 'the switch comes first');
    b.admit(active().id, https(2));
    await ready('a', 'c');
    for (const name of ['a', 'c'])
      await waitFor(`${name} follows`, async () => String(await holds(name)) === '1,2');
    for (const to of ['c', 'a', 'b', 'a', 'c', 'b']) {
      t.equal((await coordinator.handover('alice', { to, cause: 'demand' }).report).outcome, 'done');
      await ready(...['a', 'b', 'c'].filter((name) => name !== to));
    }
    t.same(await holds('b'), [1, 2], 'and so through a chain');
    t.ok(reports.every(({ outcome }) => outcome === 'done'));
  });

  t.test('that are lost are built again, and what they missed is there', async (t) => {
    const { a, b, ready, active, holds, coordinator } = await system(t, ['b']);
    await ready('b');
    const [instance] = (await b.health()).instances;
    if (!instance) throw new Error('no standby');
    await b.retire(instance);
    a.admit(active().id, https(1));
    await waitFor('another is there', async () => String(await holds('b')) === '1');
    const prepare = b.prepare.bind(b);
    b.prepare = async () => {
      throw new DomainError('not-ready', 'start Docker');
    };
    const [next] = (await b.health()).instances;
    if (next) await b.retire(next);
    a.admit(active().id, https(2));
    await waitFor(
      'it says what is missing',
      () => coordinator.standbys('alice')[0]?.problem === 'start Docker',
    );
    const report = await coordinator.handover('alice', { to: 'b', cause: 'demand' }).report;
    t.match(report, { outcome: 'undone', error: 'start Docker' }, 'who asks for it is told');
    b.prepare = prepare;
    await waitFor('it comes back by itself', async () => String(await holds('b')) === '1,2');
  });

  t.test('do not follow what a standby must not hold', async (t) => {
    const { a, ready, active, holds, coordinator } = await system(t, ['b']);
    await ready('b');
    a.admit(active().id, https(1));
    await waitFor('it follows', async () => String(await holds('b')) === '1');
    await coordinator.handover('alice', { to: 'b', cause: 'demand', omitConnections: true }).report;
    t.same(await holds('b'), [], 'for experiments, without connections');
  });
});

t.test('takeover', async (t) => {
  t.test('when the active instance is gone, at once, by a standby that has its connections', async (t) => {
    const { a, steered, lost, reports, ready, active, holds } = await system(t);
    await ready('b', 'c');
    const { id } = active();
    a.admit(id, https(1));
    await waitFor(
      'they follow',
      async () => String(await holds('c')) === '1' && String(await holds('b')) === '1',
    );
    await a.retire(id);
    await waitFor('another is active', () => active().id !== id);
    t.match(reports, [{ cause: 'takeover', outcome: 'done', from: 'a' }]);
    const hold = steered.indexOf('hold alice');
    t.ok(hold >= 0 && steered.lastIndexOf(`active ${active().id.epoch}`) > hold, 'what arrives waits');
    t.notOk(steered.slice(hold).includes(`active ${id.epoch}`), 'nothing is led back to it');
    t.same(await holds(active().domain.name), [1]);
    t.same(lost, []);
    await ready(...['a', 'b', 'c'].filter((name) => name !== active().domain.name));
  });

  t.test('when its domain stays silent, and not when it comes back in time', async (t) => {
    const { a, coordinator, ready, active, steered } = await system(t, ['b']);
    await ready('b');
    const { id } = active();
    coordinator.domainAway('a');
    coordinator.domainBack('a');
    await a.health();
    await new Promise((resolve) => setTimeout(resolve, 60));
    t.equal(active().id, id, 'control: it came back');
    coordinator.domainAway('a');
    await waitFor('another is active', () => active().domain.name === 'b');
    t.notOk(steered.includes('hold alice'), 'the old one may still forward: nothing is held');
    coordinator.domainBack('a');
  });

  t.test('comes later when no standby is ready at first', async (t) => {
    const { b, coordinator, active, reports } = await system(t, ['b']);
    const prepare = b.prepare.bind(b);
    let tried = 0;
    b.prepare = async () => {
      tried += 1;
      throw new DomainError('not-ready', 'start Docker');
    };
    const [standby] = (await b.health()).instances;
    if (standby) await b.retire(standby);
    coordinator.domainAway('a');
    await waitFor('the domain has been silent for long', () => tried > 4);
    t.equal(active().domain.name, 'a', 'control: nobody could take over');
    b.prepare = prepare;
    await waitFor('another is active', () => active().domain.name === 'b');
    await waitFor('it is told', () => reports.at(-1)?.outcome === 'done');
    t.equal(reports.at(-1)?.cause, 'takeover');
    coordinator.domainBack('a');
  });

  t.test('goes on to the next standby when the first can not', async (t) => {
    const { a, b, c, ready, active, reports } = await system(t);
    await ready('b', 'c');
    b.activate = async () => {
      throw new DomainError('unreachable', 'gone, too');
    };
    await a.retire(active().id);
    await waitFor('another is active', () => active().domain === c);
    t.match(
      reports.map(({ to, outcome }) => `${to} ${outcome}`),
      ['b undone', 'c done'],
    );
  });

  t.test('overtakes a handover that was asked for later: that one is undone, and says why', async (t) => {
    const { a, coordinator, ready, active, reports, steered } = await system(t);
    await ready('b', 'c');
    const { id } = active();
    const record = coordinator.record('alice');
    const setPolicy = a.setPolicy.bind(a);
    let goOn = (): void => {};
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    a.setPolicy = async (...args) => {
      await gate;
      await setPolicy(...args);
    };
    const policy = coordinator.setPolicy('alice', examplePolicy).catch(() => {});
    const { tail } = record;
    await a.retire(id);
    await waitFor('the takeover waits for its turn', () => record.tail !== tail);
    const asked = coordinator.handover('alice', { to: 'c', cause: 'demand' });
    t.throws(() => coordinator.handover('alice', { to: 'b', cause: 'demand' }), { code: 'busy' });
    goOn();
    await policy;
    const report = await asked.report;
    t.match(report, { id: asked.id, outcome: 'undone', cause: 'demand', from: 'a', to: 'c', phases: [] });
    t.match(report.error, /was lost before: look where it is now/);
    t.match(
      reports.map(({ cause, outcome }) => `${cause} ${outcome}`),
      ['takeover done', 'demand undone'],
    );
    t.equal(record.handover, undefined, 'and nothing is under way');
    t.notOk(steered.slice(steered.indexOf('hold alice')).includes(`active ${id.epoch}`));
    const to = active().domain.name === 'c' ? 'b' : 'c';
    t.match(
      await coordinator.handover('alice', { to, cause: 'demand' }).report,
      { outcome: 'done' },
      'it can be asked again',
    );
  });

  t.test('without a standby another is asked for', async (t) => {
    const { a, coordinator, active, lost } = await system(t, []);
    a.admit(active().id, https(1));
    await waitFor('the controller knows', () => coordinator.record('alice').mirror?.connections === 1);
    await a.retire(active().id);
    await waitFor('it is asked for', () => lost.length === 1);
    t.equal(coordinator.record('alice').active, undefined);
    await coordinator.place('alice', 'b');
    t.same(ports(await coordinator.state('alice')), [1], 'which gets what the controller knows');
  });
});

t.test('what the active instance tells is judged, and what was missed is mended', async (t) => {
  const { a, active, coordinator, ready, holds } = await system(t, ['b']);
  await ready('b');
  const { id } = active();
  a.admit(id, https(1));
  await waitFor('it follows', async () => String(await holds('b')) === '1');
  // What happens without being told: the digests differ.
  const quiet = a as unknown as { find(id: InstanceId): { imported: FirewallState } };
  const instance = quiet.find(id);
  instance.imported = { ...instance.imported, connections: [https(1), https(2)] };
  await waitFor('it is noticed, and mended', async () => String(await holds('b')) === '1,2');
  const changes = a.changes.bind(a);
  let asked = 0;
  a.changes = async function* (who, from, signal): AsyncGenerator<readonly Delta[]> {
    asked += 1;
    if (asked === 1) throw new DomainError('changes-lost', 'too far back');
    yield* changes(who, from, signal);
  };
  t.equal(coordinator.record('alice').active?.id, id);
});

t.test('what goes wrong again and again', async (t) => {
  const away = new DomainError('unreachable', 'nobody answers');

  t.test('is said once, and what is new at once', async (t) => {
    const { log, lines } = listening();
    const { a, b, coordinator, ready, active } = await system(t, ['b'], log);
    await ready('b');
    const { id } = active();
    const said = (what: string): readonly unknown[] => lines.filter(({ msg }) => msg.startsWith(what));
    let asked = 0;
    a.digest = async () => {
      asked++;
      throw away;
    };
    await waitFor('many calls failed', () => asked >= 10);
    const unreachable = { domain: 'a', terminal: 'alice', error: 'nobody answers' };
    t.match(said('a call'), [unreachable]);
    t.equal(said('a call').length, 1);
    let other = 0;
    a.digest = async () => {
      other++;
      throw new DomainError('invalid', `refused for the ${other}th time`);
    };
    await waitFor('many calls failed otherwise', () => other >= 5);
    t.match(said('a call'), [unreachable, { error: 'refused for the 1th time' }], 'another problem');
    t.equal(said('a call').length, 2);

    let tried = 0;
    b.prepare = async () => {
      tried++;
      throw away;
    };
    const standby = coordinator.record('alice').standbys.get('b')?.known;
    if (standby) await b.retire(standby.id);
    await waitFor('the standby was tried often', () => tried >= 6);
    t.equal(said('no standby').length, 2, 'once that it is gone, once that there is no other');
    t.equal(active().id, id);
    await coordinator.close();
    t.match(lines.at(-1), { leftOut: Number }, 'how often it was left out');
  });

  t.test('is told apart by terminal, domain and kind of error, and counted', async (t) => {
    const { log, lines } = listening();
    const clock = new ManualClock();
    const complaints = new Complaints(log, clock);
    const [a, b] = [new ReferenceDomain('a'), new ReferenceDomain('b')];
    const placed = (domain: ReferenceDomain, terminal: string, number = 1) => ({
      domain,
      id: { terminal, epoch: epoch(number) },
    });
    for (let i = 1; i <= 10; i++) complaints.call(placed(a, 'alice', i), away);
    t.match(lines, [{ domain: 'a', terminal: 'alice' }], 'whatever the epoch');
    t.equal(lines.length, 1);
    complaints.call(placed(b, 'alice'), away);
    complaints.call(placed(a, 'bob'), away);
    complaints.call(placed(a, 'alice'), new Error('something else'));
    complaints.standby(a, 'alice', away);
    t.equal(lines.length, 5, 'control: each of these is news');
    for (let i = 0; i < 100; i++) complaints.call(placed(a, `terminal ${i}`), away);
    complaints.call(placed(b, 'carol'), away);
    t.match(lines.at(-1), { domain: 'b', terminal: 'carol' }, 'an outage of many hides nothing else');
    clock.advance(60_000);
    t.match(lines.at(-1), { domain: 'a', terminal: 'alice', leftOut: 9 });
    complaints.close();
    complaints.close();
    t.equal(clock.pending, 0);
  });
});
