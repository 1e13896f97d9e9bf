/**
 * The coordinator: what happens in which order, what is undone, what is repeated. Domains are the reference ones, steering is written down.
 */
import t from 'tap';
import { Coordinator } from '../../controller-app/handover/coordinator.js';
import type { CoordinatorOptions, HandoverSteering } from '../../controller-app/handover/options.js';
import { Progress } from '../../controller-app/handover/progress.js';
import type { ApiEvent } from '../../shared/api/schema.js';
import { type Domain, DomainError, type InstanceId } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { realClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { alice, examplePolicy } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/wait.js';

const https = (port: number): Connection => ({
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port },
  remote: { address: '198.51.100.20', port: 443 },
  state: 'established',
  timeLeftSeconds: 1000,
});

/** Writes down every call, and fails those that it is told to. */
class Diary {
  readonly lines: string[] = [];
  /** By `name.method`: the errors of its next calls. */
  readonly faults = new Map<string, Error[]>();

  readonly #happenings = new Map<string, () => void>();

  /** Something happens at the moment of a call. */
  when(line: string, happening: () => void): void {
    this.#happenings.set(line, happening);
  }

  note(name: string, method: string, id: InstanceId | undefined): void {
    const line = `${name}.${method}${id ? ` ${id.epoch}` : ''}`;
    this.lines.push(line);
    this.#happenings.get(line)?.();
    const fault = this.faults.get(`${name}.${method}`)?.shift();
    if (fault) throw fault;
  }

  fail(call: string, ...errors: Error[]): void {
    this.faults.set(call, errors);
  }
}

function written(domain: ReferenceDomain, diary: Diary): Domain {
  const told = ['prepare', 'activate', 'drain', 'retire', 'export', 'apply', 'setPolicy', 'setTerminal'];
  return new Proxy<Domain>(domain, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const [first, second] = args;
        if (told.includes(String(property))) {
          const id = property === 'prepare' ? { terminal: 'alice', epoch: second } : first;
          try {
            diary.note(domain.name, String(property), id as InstanceId);
          } catch (error) {
            return Promise.reject(error);
          }
        }
        return Reflect.apply(value, target, args);
      };
    },
  });
}

function setUp(
  t: { teardown(done: () => Promise<void>): void },
  drainMs = 10,
  more: Partial<Pick<CoordinatorOptions, 'reclaim'>> & {
    readonly leaseMs?: number;
    readonly standbys?: readonly string[];
  } = {},
) {
  const diary = new Diary();
  const [a, b] = [new ReferenceDomain('a'), new ReferenceDomain('b')];
  const steer =
    (method: string) =>
    async (id: InstanceId): Promise<void> =>
      diary.note('steering', method, id);
  const steering: HandoverSteering = {
    addPath: steer('addPath'),
    stage: steer('stage'),
    setActive: steer('setActive'),
    removePath: steer('removePath'),
    takeOver: steer('takeOver'),
    hold: async (terminal) => diary.note('steering', `hold ${terminal}`, undefined),
  };
  const events: ApiEvent[] = [];
  const lost: string[] = [];
  const coordinator = new Coordinator({
    domains: new Map([
      ['a', written(a, diary)],
      ['b', written(b, diary)],
    ]),
    steering,
    firewalls: [{ terminal: alice, policy: examplePolicy, standbys: more.standbys ?? [] }],
    timings: { drainMs, leaseMs: more.leaseMs ?? 60_000, takeoverMs: 50, digestMs: 50, retryMs: 50 },
    firstEpoch: 1,
    transfers: { read: () => ({ snapshot: 0, delta: 0 }) },
    log: silentLog,
    clock: realClock,
    onEvent: (event) => events.push(event),
    onLost: (terminal) => lost.push(terminal),
    reclaim: more.reclaim ?? (() => alice),
  });
  t.teardown(() => coordinator.close());
  return { a, b, diary, coordinator, events, lost };
}

async function placed(
  t: Parameters<typeof setUp>[0],
  drainMs?: number,
  more: Parameters<typeof setUp>[2] = {},
) {
  const all = setUp(t, drainMs, more);
  await all.coordinator.place('alice', 'a');
  const active = all.coordinator.record('alice').active;
  if (!active) throw new Error('not placed');
  await all.a.admit(active.id, https(1));
  all.diary.lines.length = 0;
  return { ...all, old: active.id };
}

const ORDER = { to: 'b', cause: 'demand' } as const;

t.test('the order of a handover: make before break', async (t) => {
  const { coordinator, diary, b, events } = await placed(t);
  const report = await coordinator.handover('alice', ORDER).report;
  t.equal(report.outcome, 'done');
  t.equal(report.connections, 1);
  t.same(diary.lines, [
    'a.export 1',
    'b.prepare 2',
    'steering.addPath 2',
    'steering.stage 2',
    'b.activate 2',
    'steering.setActive 2',
    'a.drain 1',
    'a.export 1',
    'steering.removePath 1',
    'a.retire 1',
  ]);
  t.same(
    report.phases.map(({ name }) => name),
    ['prepare', 'switch', 'drain', 'retire'],
  );
  t.same(
    events.map((event) => (event.kind === 'phase' ? event.phase : event.kind)),
    ['prepare', 'switch', 'drain', 'retire', 'handover'],
  );
  t.equal(coordinator.record('alice').active?.domain.name, 'b');
  const { connections } = await b.export(
    coordinator.record('alice').active?.id ?? { terminal: '', epoch: report.toEpoch as never },
  );
  t.match(connections, [{ local: { port: 1 } }]);
});

for (const [call, code] of [
  ['a.export', 'refused'],
  ['b.prepare', 'not-ready'],
  ['steering.addPath', 'refused'],
  ['b.activate', 'unreachable'],
  ['steering.setActive', 'refused'],
] as const) {
  t.test(`${call} fails: undone, and the old instance is as before`, async (t) => {
    const { coordinator, diary, a, b, old } = await placed(t);
    diary.fail(call, new DomainError(code, 'start it'));
    const report = await coordinator.handover('alice', ORDER).report;
    t.equal(report.outcome, 'undone');
    t.equal(report.error, 'start it');
    t.equal(coordinator.record('alice').active?.id, old);
    t.notOk(diary.lines.some((line) => line.startsWith('a.drain') || line === 'a.retire 1'));
    t.same((await b.health()).instances, [], 'nothing is left of the new one');
    t.match((await a.export(old)).connections, [{ local: { port: 1 } }]);
    if (call === 'steering.setActive')
      t.ok(diary.lines.includes('steering.setActive 1'), 'everything is led back');
    t.equal((await coordinator.handover('alice', ORDER).report).outcome, 'done', 'and the next one works');
  });
}

t.test('changes that come after the snapshot arrive', async (t) => {
  const { coordinator, diary, a, b, old } = await placed(t, 100);
  diary.when('steering.addPath 2', () => a.admit(old, https(2)));
  await coordinator.handover('alice', ORDER).report;
  const active = coordinator.record('alice').active;
  const connections = active ? (await b.export(active.id)).connections : [];
  t.same(connections.map(({ local }) => ('port' in local ? local.port : 0)).sort(), [1, 2]);
  t.ok(diary.lines.includes('b.apply 2'));
});

t.test('without the connections, for experiments, the policy comes alone', async (t) => {
  const { coordinator, b } = await placed(t);
  const report = await coordinator.handover('alice', { ...ORDER, omitConnections: true }).report;
  t.equal(report.connections, 0);
  const active = coordinator.record('alice').active;
  t.same(active && (await b.export(active.id)).connections, []);
});

t.test('what fails after the switch is repeated until it is done', async (t) => {
  const { coordinator, diary, a } = await placed(t);
  diary.fail('a.drain', new DomainError('unreachable', 'gone'));
  diary.fail(
    'a.retire',
    new DomainError('unreachable', 'gone'),
    new DomainError('unreachable', 'still gone'),
  );
  const report = await coordinator.handover('alice', ORDER).report;
  t.equal(report.outcome, 'done', 'the new instance is active all the same');
  await waitFor('the old one is removed at last', async () => (await a.health()).instances.length === 0);
});

t.test('an instance that its domain knows no more is as good as retired', async (t) => {
  const { coordinator, diary } = await placed(t);
  diary.fail('a.retire', new DomainError('no-instance', 'never heard of it'));
  await coordinator.handover('alice', ORDER).report;
  t.equal(diary.lines.filter((line) => line === 'a.retire 1').length, 1);
});

t.test('what cannot begin says why', async (t) => {
  const { coordinator } = setUp(t);
  t.throws(() => coordinator.handover('bob', ORDER), {
    code: 'unknown-terminal',
    message: /there are: alice/,
  });
  t.throws(() => coordinator.handover('alice', ORDER), { code: 'no-instance' });
  await coordinator.place('alice', 'a');
  t.throws(() => coordinator.handover('alice', { ...ORDER, to: 'c' }), {
    code: 'unknown-domain',
    message: /a, b/,
  });
  t.throws(() => coordinator.handover('alice', { ...ORDER, to: 'a' }), { code: 'already-there' });
  const { report } = coordinator.handover('alice', ORDER);
  t.throws(() => coordinator.handover('alice', ORDER), { code: 'busy' });
  await report;
});

t.test('a first instance that cannot be placed leaves none', async (t) => {
  const { coordinator, diary, a } = setUp(t);
  diary.fail('steering.setActive', new DomainError('refused', 'no'));
  await t.rejects(coordinator.place('alice', 'a'), /no/);
  t.equal(coordinator.record('alice').active, undefined);
  t.same((await a.health()).instances, []);
});

t.test(
  'after a restart of the controller, what outlived it is taken over: connections and epochs',
  async (t) => {
    const first = await placed(t);
    const state = await first.a.export(first.old);
    const { coordinator, a, b } = setUp(t);
    const earlier = { terminal: 'alice', epoch: 42 as never };
    await b.prepare({ ...state, epoch: 41 as never }, earlier.epoch);
    await b.activate(earlier, 10_000);
    await b.admit(earlier, https(7));
    await coordinator.place('alice', 'a');
    const active = coordinator.record('alice').active;
    t.equal(active?.id.epoch, 43);
    const connections = active ? (await a.export(active.id)).connections : [];
    t.same(connections.map(({ local }) => ('port' in local ? local.port : 0)).sort(), [1, 7]);
    await waitFor('it is removed there', async () => (await b.health()).instances.length === 0);
  },
);

t.test(
  'an instance that is gone is noticed at once; another is asked for, and has its connections',
  async (t) => {
    const { coordinator, diary, a, lost, old } = await placed(t);
    await a.retire(old);
    await waitFor('it is noticed', () => lost.length > 0);
    t.same(lost, ['alice']);
    t.equal(coordinator.record('alice').active, undefined);
    t.ok(diary.lines.includes('steering.removePath 1'), 'nothing leads to it any more');
    t.ok(diary.lines.includes('steering.hold alice'), 'what arrives waits for the next');
    await coordinator.place('alice', 'b');
    t.match((await now(coordinator)).connections, [{ local: { port: 1 } }]);
    t.equal((await coordinator.handover('alice', { ...ORDER, to: 'a' }).report).outcome, 'done');
  },
);

t.test('what an earlier controller left in a domain is swept, what is in use is not', async (t) => {
  const { coordinator, a, old } = await placed(t);
  const state = await a.export(old);
  await a.prepare({ ...state, terminal: { ...alice, name: 'nobody' } }, 7 as never);
  coordinator.domainBack('a');
  await waitFor('it is swept', async () => (await a.health()).instances.length === 1);
  t.match((await a.health()).instances, [{ terminal: 'alice', role: 'active' }]);
});

/** Alice with an address more than she is configured to have. */
const roaming = { ...alice, ipv4: [...alice.ipv4, '10.0.0.100'] };
const from = (address: string, port: number) => ({
  ...({ protocol: 'tcp', opener: 'terminal', state: 'established', timeLeftSeconds: 1000 } as const),
  local: { address, port },
  remote: { address: '198.51.100.20', port: 443 },
});
const fromLearnt = (port: number): Connection => from('10.0.0.100', port);

async function now(coordinator: Coordinator) {
  const active = coordinator.record('alice').active;
  if (!active) throw new Error('no active instance');
  return active.domain.export(active.id);
}

t.test('addresses that change reach the instance that is there, and the one that comes', async (t) => {
  const { coordinator } = setUp(t);
  await coordinator.setTerminal(roaming);
  await coordinator.place('alice', 'a');
  t.same((await now(coordinator)).terminal, roaming, 'placed later');
  await coordinator.setTerminal(alice);
  t.same((await now(coordinator)).terminal, alice, 'at once');
  await coordinator.setTerminal(roaming);
  await coordinator.handover('alice', ORDER).report;
  t.same((await now(coordinator)).terminal, roaming, 'after a move');
  t.throws(() => coordinator.setTerminal({ ...alice, name: 'bob' }), { code: 'unknown-terminal' });
});

for (const moment of [
  'a.export 1',
  'b.prepare 2',
  'steering.addPath 2',
  'steering.stage 2',
  'b.activate 2',
  'steering.setActive 2',
  'a.drain 1',
  'a.retire 1',
]) {
  t.test(`addresses that change at the moment of ${moment} are not lost`, async (t) => {
    const { coordinator, diary, a, b } = await placed(t, 50);
    let known: Promise<void> | undefined;
    diary.when(moment, () => {
      known ??= coordinator.setTerminal(roaming);
    });
    const { outcome } = await coordinator.handover('alice', ORDER).report;
    t.equal(outcome, 'done');
    t.ok(known, 'it happened');
    await known;
    const state = await now(coordinator);
    t.same(state.terminal, roaming);
    t.match(state.connections, [{ local: { port: 1 } }], 'and the connections are there');
    const active = coordinator.record('alice').active;
    t.ok(active && b.admit(active.id, fromLearnt(2)), 'connections from it are admitted');
    t.same((await a.health()).instances, []);
  });
}

t.test('a change waits for no handover', async (t) => {
  const { coordinator, diary } = await placed(t, 60_000);
  const { report } = coordinator.handover('alice', ORDER);
  await waitFor('it drains', () => diary.lines.includes('a.drain 1'));
  await coordinator.setTerminal(roaming);
  t.same((await now(coordinator)).terminal, roaming, 'the new instance knows, and the old one still drains');
  await coordinator.close();
  await report;
});

t.test('a connection from an address that is learnt while the firewall moves lives on', async (t) => {
  const { coordinator, diary, a, old } = await placed(t, 50);
  let admitted: Promise<boolean> | undefined;
  diary.when('steering.addPath 2', () => {
    admitted = coordinator.setTerminal(roaming).then(() => a.admit(old, fromLearnt(2)));
  });
  await coordinator.handover('alice', ORDER).report;
  t.ok(await admitted);
  const { connections } = await now(coordinator);
  t.same(connections.map(({ local }) => local.address).sort(), ['10.0.0.1', '10.0.0.100']);
});

t.test('an address that goes takes its connections along, and no others', async (t) => {
  const { coordinator, diary, a, old } = await placed(t, 50);
  await coordinator.setTerminal(roaming);
  await a.admit(old, fromLearnt(2));
  diary.when('b.activate 2', () => void coordinator.setTerminal(alice));
  t.equal((await coordinator.handover('alice', ORDER).report).outcome, 'done');
  const state = await now(coordinator);
  t.same(state.terminal, alice);
  t.match(state.connections, [{ local: { port: 1 } }]);
});

t.test('what an instance could not be told it is told again', async (t) => {
  const { coordinator, diary } = await placed(t, 10, { leaseMs: 60 });
  diary.fail('a.setTerminal', new DomainError('unreachable', 'gone'));
  await t.rejects(coordinator.setTerminal(roaming), /gone/);
  await waitFor('it is told with the next renewal', async () =>
    (await now(coordinator)).terminal.ipv4.includes('10.0.0.100'),
  );
  diary.fail('a.setTerminal', new DomainError('unreachable', 'gone'));
  await t.rejects(coordinator.setTerminal(alice), /gone/);
  await coordinator.handover('alice', ORDER).report;
  t.same((await now(coordinator)).terminal, alice, 'or with the next move');
});

t.test('for experiments without connections, too, the new instance has the addresses', async (t) => {
  const { coordinator, diary } = await placed(t);
  diary.when('b.activate 2', () => void coordinator.setTerminal(roaming));
  await coordinator.handover('alice', { ...ORDER, omitConnections: true }).report;
  t.same((await now(coordinator)).terminal, roaming);
});

t.test('what an earlier controller had learnt is taken over as far as it is allowed', async (t) => {
  const found: unknown[] = [];
  const { coordinator, b } = setUp(t, 10, {
    reclaim: (terminal) => {
      found.push(terminal);
      return { ...alice, ipv4: ['10.0.0.1', '10.0.0.100'] };
    },
  });
  const earlier = { terminal: 'alice', epoch: 42 as never };
  const learnt = { ...alice, ipv4: ['10.0.0.1', '10.0.0.100', '10.0.0.101'] };
  const connections = [https(1), fromLearnt(2), from('10.0.0.101', 3)];
  const state = { terminal: learnt, epoch: 41 as never, sequence: 0, policy: examplePolicy, earlier: [] };
  await b.prepare({ ...state, connections, counters: [] }, earlier.epoch);
  await coordinator.place('alice', 'a');
  t.same(found, [learnt]);
  const taken = await now(coordinator);
  t.same(taken.terminal.ipv4, ['10.0.0.1', '10.0.0.100']);
  t.same(
    taken.connections.map(({ local }) => local.address),
    ['10.0.0.1', '10.0.0.100'],
    'connections of what it may not have are over',
  );
});

t.test('a handover goes only from one stage to the next', async (t) => {
  const progress = new Progress();
  t.throws(() => progress.to('draining'));
  progress.to('switching');
  progress.to('draining');
  t.throws(() => progress.to('undoing'), 'after the switch nothing is undone');
});
