/**
 * The edge agent's way to the kernel's connection table, in a bare network namespace: what it makes is what conntrack makes, what the kernel reports is what
 * it knows, and nothing is passed over when events are lost, the relay dies, or somebody else changes the table.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type ConnectionEvent, entryOf, ownAddresses } from '../../edge-agent/conntrack/connection.js';
import { writeDumpRequest, writeEntry } from '../../edge-agent/conntrack/entry.js';
import { Relay } from '../../edge-agent/conntrack/relay.js';
import { ConnectionTable } from '../../edge-agent/conntrack/table.js';
import { STANDBY_SECONDS } from '../../edge-agent/domain/idle-time.js';
import { TrackedConnections } from '../../edge-agent/domain/tracked-connections.js';
import { ChangeLog } from '../../shared/domain/change-log.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { type Change, epoch } from '../../shared/firewall/state.js';
import { KeyedQueue } from '../../shared/runtime/keyed-queue.js';
import { silentLog } from '../../shared/runtime/log.js';
import { type BareCompartment, bareCompartment } from '../fixtures/bare-compartment.js';
import { realisticTable } from '../fixtures/connection-tables.js';
import { type AttributeTree, attributeTree } from '../fixtures/conntrack-messages.js';
import { alice } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const own = ownAddresses(alice);
const STATES = ['opening', 'answered', 'established', 'closing', 'closed'] as const;
const both = [
  { local: '10.0.0.1', remote: '192.0.2.7' },
  { local: 'fd00::1', remote: '2001:db8::7' },
];
/** Of every kind and state, in both families, opened by either side. */
const every: readonly Connection[] = both.flatMap(({ local, remote }, family) =>
  (['terminal', 'remote'] as const).flatMap((opener, side): Connection[] => {
    const base = 10_000 + family * 1000 + side * 100;
    const ends = (port: number) => ({
      opener,
      local: { address: local, port: base + port },
      remote: { address: remote, port: 443 },
      timeLeftSeconds: 100,
    });
    const echo = { opener, local: { address: local }, remote: { address: remote }, timeLeftSeconds: 100 };
    return [
      ...STATES.map((state, index): Connection => ({ protocol: 'tcp', state, ...ends(index) })),
      ...[false, true].flatMap((replied, index): Connection[] => [
        { protocol: 'udp', replied, ...ends(index) },
        { protocol: 'icmp', replied, id: base + index, ...echo },
      ]),
    ];
  }),
);
/** What connections mean, but for their times. */
const keys = (connections: Iterable<Connection>): readonly string[] =>
  [...connections]
    .map((one) =>
      [connectionKey(one), one.opener, one.protocol === 'tcp' ? one.state : one.replied].join(' '),
    )
    .sort();

const LINUX_STATES = {
  opening: 'SYN_SENT',
  answered: 'SYN_RECV',
  established: 'ESTABLISHED',
  closing: 'CLOSE_WAIT',
  closed: 'TIME_WAIT',
} as const;

/** The words in which conntrack is told to make this. */
function words(connection: Connection): string {
  const fromTerminal = connection.opener === 'terminal';
  const [from, to] = fromTerminal
    ? [connection.local.address, connection.remote.address]
    : [connection.remote.address, connection.local.address];
  const family = from.includes(':') ? 'icmpv6' : 'icmp';
  const isOver = connection.protocol === 'tcp' && connection.state === 'closed';
  // In this order: conntrack 1.4.7 takes a status that comes behind a mark for the mark, too.
  const made = (protocol: string, ends: string, status: string): string =>
    `-A -p ${protocol} -s ${from} -d ${to} ${ends}${status && ` -u ${status}`} -m ${isOver ? 3 : 1} -t ${connection.timeLeftSeconds}`;
  if (connection.protocol === 'icmp') {
    const type = family === 'icmp' ? 8 : 128;
    const ends = `--${family}-type ${type} --${family}-code 0 --${family}-id ${connection.id}`;
    return made(family, ends, connection.replied ? 'SEEN_REPLY' : '');
  }
  const [sport, dport] = fromTerminal
    ? [connection.local.port, connection.remote.port]
    : [connection.remote.port, connection.local.port];
  const ends = `--sport ${sport} --dport ${dport}`;
  if (connection.protocol === 'udp') return made('udp', ends, connection.replied ? 'SEEN_REPLY,ASSURED' : '');
  const { state } = connection;
  const status = state === 'opening' ? '' : state === 'answered' ? 'SEEN_REPLY' : 'SEEN_REPLY,ASSURED';
  return made('tcp', `${ends} --state ${LINUX_STATES[state]}`, status);
}

/** conntrack opens files by their names only. */
async function loadByConntrack(compartment: BareCompartment, lines: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'conntrack-'));
  await writeFile(join(folder, 'batch'), `${lines.trim()}\n`);
  await compartment.conntrack('-R', join(folder, 'batch'));
  await rm(folder, { recursive: true });
}

interface Watched {
  readonly relay: Relay;
  readonly events: ConnectionEvent[];
  readonly said: string[];
}

async function watch(compartment: BareCompartment, eventBufferBytes?: number): Promise<Watched> {
  const events: ConnectionEvent[] = [];
  const said: string[] = [];
  const relay = await Relay.start(
    compartment,
    own,
    {
      events: (some) => void events.push(...some),
      overrun: () => void said.push('overrun'),
      ended: (reason) => void said.push(reason),
    },
    { eventBufferBytes },
  );
  return { relay, events, said };
}

/** Every entry of the kernel's by its tuple, with all its attributes but those that differ by themselves: number, uses, time, and what was passed on. */
async function attributes(relay: Relay): Promise<ReadonlyMap<string, AttributeTree>> {
  const entries = new Map<string, AttributeTree>();
  await relay.dump(writeDumpRequest(), (message) => {
    const tree = { ...attributeTree(message.bytes.subarray(message.from - 16, message.to)) };
    for (const type of [7, 11, 12]) delete tree[type];
    entries.set(JSON.stringify(tree[1]), tree);
  });
  return entries;
}

await t.test('what the agent makes is what conntrack makes, attribute by attribute', async (t) => {
  const [theirs, ours] = [await bareCompartment(), await bareCompartment()];
  const [their, our] = [await watch(theirs), await watch(ours)];
  const batch = every.map((one) => `${words(one)}\n`).join('');
  await loadByConntrack(theirs, batch);
  await new ConnectionTable(our.relay, own).change(
    { ended: [], added: every, updated: [] },
    (one) => one.timeLeftSeconds,
  );
  const [made, expected] = [await attributes(our.relay), await attributes(their.relay)];
  t.equal(expected.size, every.length, 'control');
  t.same([...made.keys()].sort(), [...expected.keys()].sort());
  for (const [tuple, tree] of expected) t.same(made.get(tuple), tree, tuple);
  t.same(
    keys(await new ConnectionTable(their.relay, own).dump()),
    keys(every),
    'and it reads what conntrack makes',
  );
  const table = new ConnectionTable(our.relay, own);
  const [dumped, read] = [await table.dump(), await table.read(every)];
  t.same(keys(read), keys(dumped), 'one by one it reads the same');
  const time = (connections: readonly Connection[]) =>
    new Map(connections.map((each) => [connectionKey(each), each.timeLeftSeconds]));
  const before = time(dumped);
  for (const [key, seconds] of time(read))
    t.ok(Math.abs(seconds - (before.get(key) ?? 0)) <= 1, 'with the time that is left', { key, seconds });
  const [one] = every;
  if (!one) return t.fail('there are some');
  await theirs.conntrack('-D', '-p', 'tcp', '--sport', '10000');
  await loadByConntrack(theirs, words(one).replace('SYN_SENT', 'SYN_RECV'));
  t.notSame(
    [...(await attributes(their.relay)).values()],
    [...expected.values()],
    'control: another state is seen',
  );
  for (const { relay } of [their, our]) relay.close();
  for (const each of [theirs, ours]) await each.close();
});

await t.test(
  'changes are made in their order, are told before they are answered, and may be repeated',
  async (t) => {
    const compartment = await bareCompartment();
    const { relay, events, said } = await watch(compartment);
    const table = new ConnectionTable(relay, own);
    const seconds = (): number => 1000;
    const change = (changes: Partial<Parameters<ConnectionTable['change']>[0]>) =>
      table.change({ ended: [], added: [], updated: [], ...changes }, seconds);
    const told = (): readonly string[] =>
      events.splice(0).map((each) => `${each.event} ${relay.isOurs(each)}`);
    const many = realisticTable(alice, 2000, 7);
    await change({ added: many });
    t.same(
      told(),
      many.map(() => 'new true'),
      'all of them, before the answer',
    );
    t.same(keys(await table.dump()), keys(many));
    await change({ added: many });
    t.same(told(), [], 'what is there stays as it is');
    await change({ ended: many });
    t.same(
      told(),
      many.map(() => 'destroy true'),
    );
    await change({ ended: many });
    t.same([told(), await table.dump()], [[], []]);

    const [opening] = every;
    if (opening?.protocol !== 'tcp') return t.fail('a connection that opens');
    await change({ added: [opening] });
    for (const state of STATES) await change({ updated: [{ ...opening, state }] });
    t.same(
      events.splice(0).flatMap(({ connection }) => (connection.protocol === 'tcp' ? connection.state : [])),
      ['opening', ...STATES],
    );
    t.same(await change({ updated: [opening] }), [opening], 'back is refused, and told');
    t.match(await table.dump(), [{ state: 'closed' }]);
    await table.retime([opening], () => 77);
    const [{ timeLeftSeconds } = { timeLeftSeconds: 0 }] = await table.dump();
    t.ok(timeLeftSeconds > 60 && timeLeftSeconds <= 77, `its time (${timeLeftSeconds})`);
    const turned: Connection = { ...opening, opener: 'remote', state: 'established' };
    await change({ ended: [opening], added: [turned] });
    t.same(keys(await table.dump()), keys([turned]), 'between the same ends, opened by the other');

    await change({ added: every });
    await table.deleteAddresses(['10.0.0.1']);
    t.same(keys(await table.dump()), keys(every.filter(({ local }) => local.address !== '10.0.0.1')));
    events.splice(0);
    await compartment.conntrack('-F');
    await waitFor('what somebody else does', () => events.length >= every.length / 2);
    t.ok(events.every((each) => each.event === 'destroy' && !relay.isOurs(each)));
    t.same(said, []);
    relay.close();
    await compartment.close();
  },
);

await t.test(
  'the relay has one right, says what it loses, and ends with the agent’s end of it',
  async (t) => {
    const compartment = await bareCompartment();
    const { relay, events, said } = await watch(compartment, 4096);
    const [process_] = compartment.started;
    if (!process_?.pid) return t.fail('it runs');
    const status = await readFile(`/proc/${process_.pid}/status`, 'utf8');
    t.match(status, /^CapEff:\s+0000000000001000$/m, 'CAP_NET_ADMIN');
    for (const set of ['CapPrm', 'CapInh', 'CapAmb'])
      t.match(status, new RegExp(`^${set}:\\s+0000000000001000$`, 'm'), set);
    t.match(status, /^Uid:\s+65534\s+65534\s+65534\s+65534$/m);
    t.match(status, /^NoNewPrivs:\s+1$/m);

    const table = new ConnectionTable(relay, own);
    const many = realisticTable(alice, 3000, 7);
    await table.change({ ended: [], added: many, updated: [] }, () => 1000);
    t.ok(said.includes('overrun') && said.every((each) => each === 'overrun'), 'the socket is too small');
    t.ok(events.length < many.length, 'control: events were lost');
    t.equal((await table.dump()).length, many.length, 'but no answer');
    const before = events.length;
    await table.change({ ended: many.slice(0, 1), added: [], updated: [] }, () => 1000);
    t.equal(events.length, before + 1, 'and events come again');
    const last = many.slice(1, 2).map((one) => writeEntry(entryOf(one, 9), true));
    t.same([...(await relay.each(last)).values()], [17], 'errors by their numbers');

    const exit = once(process_, 'exit');
    process_.stdin.end();
    t.same(await exit, [0, null]);
    await waitFor('its end to be told', () => said.some((each) => /ended \(exit code 0\)/.test(each)));
    await t.rejects(table.dump(), { code: 'refused', message: /out of reach/ });
    relay.close();
    const broken = await watch(compartment);
    const waiting = broken.relay.dump(writeDumpRequest(), () => {});
    broken.relay.close();
    broken.relay.close();
    await t.rejects(waiting, { code: 'refused' });
    t.same(broken.said, [], 'who closes it needs not be told');
    await compartment.close();
  },
);

interface Tracked {
  readonly tracked: TrackedConnections;
  readonly log: ChangeLog;
  readonly compartment: BareCompartment;
  /** In the terminal's queue, as calls are. */
  call<T>(act: () => Promise<T>): Promise<T>;
  /** What the kernel says, in conntrack's words. */
  seconds(): Promise<readonly number[]>;
  close(): Promise<void>;
}

async function track(connections: readonly Connection[], leastSeconds?: number): Promise<Tracked> {
  const compartment = await bareCompartment();
  const queue = new KeyedQueue();
  const call = <T>(act: () => Promise<T>): Promise<T> => queue.run('alice', act);
  const log = new ChangeLog();
  const tracked = new TrackedConnections({
    id: { terminal: alice.name, epoch: epoch(1) },
    compartment,
    terminal: alice,
    changes: log,
    log: silentLog,
    enqueue: (act) => void call(act).catch(() => {}),
    leastSeconds,
    eventBufferBytes: undefined,
  });
  await tracked.start(connections);
  return {
    tracked,
    log,
    compartment,
    call,
    seconds: async () => {
      const text = await compartment.conntrack('-L', '-o', 'extended');
      return [...text.matchAll(/^ipv\d +\d+ \S+ +\d+ (\d+)/gm)].map(([, number]) => Number(number));
    },
    close: async () => {
      tracked.close();
      await compartment.close();
    },
  };
}

const isDigestOf = async (
  tracked: TrackedConnections,
  connections: readonly Connection[],
): Promise<boolean> => {
  const { count, value } = new ConnectionsDigest(connections);
  const held = await tracked.digest();
  return held.connections === count && held.digest === value;
};
/** What the log tells after this number. */
async function toldAfter(log: ChangeLog, from: number): Promise<readonly Change[]> {
  const changes: Change[] = [];
  if (log.sequence === from) return changes;
  for await (const batch of log.follow(from, new AbortController().signal)) {
    changes.push(...batch.map(({ change }) => change));
    if (batch.at(-1)?.sequence === log.sequence) break;
  }
  return changes;
}

await t.test('on a standby nothing ages; from activation on everything has its time', async (t) => {
  const many = realisticTable(alice, 5000, 11);
  const keysOfEvery = new Set(every.map(connectionKey));
  const isOfEvery = (one: Connection): boolean => keysOfEvery.has(connectionKey(one));
  const { tracked, log, call, seconds, compartment, close } = await track(every, 60);
  t.ok(await isDigestOf(tracked, every));
  const added: Change[] = many.map((connection) => ({ kind: 'connection', connection }));
  const from = log.sequence;
  await call(() => tracked.apply(added, false));
  t.equal(log.sequence, from + many.length, 'told when the call settles');
  const all = [...every, ...many];
  t.ok(await isDigestOf(tracked, all));
  const times = await seconds();
  t.equal(times.length, all.length, 'control');
  t.ok(
    times.every((each) => each > STANDBY_SECONDS - 60),
    'none ages',
  );
  const exported = (await call(() => tracked.timed())).filter(isOfEvery);
  t.equal(exported.length, every.length, 'control');
  t.ok(
    exported.every(({ timeLeftSeconds }) => timeLeftSeconds === 100),
    'but they are exported as they were told',
  );

  const started = compartment.started.length;
  tracked.begin();
  tracked.begin();
  await waitFor('the true times', async () => (await seconds()).every((each) => each <= 86_400));
  t.equal(compartment.started.length, started, 'no process was started');
  t.ok(await isDigestOf(tracked, all), 'and no connection was lost');
  for (const one of (await call(() => tracked.timed())).filter(isOfEvery)) {
    const isOver = one.protocol === 'tcp' && one.state === 'closed';
    t.ok(isOver ? one.timeLeftSeconds <= 10 : one.timeLeftSeconds > 20, connectionKey(one));
  }
  const late: Connection = {
    protocol: 'udp',
    opener: 'terminal',
    local: { address: '10.0.0.1', port: 7 },
    remote: { address: '10.9.9.9', port: 7 },
    replied: true,
    timeLeftSeconds: 90,
  };
  await call(() => tracked.apply([{ kind: 'connection', connection: late }], true));
  t.match(
    await compartment.conntrack('-L', '-d', '10.9.9.9'),
    /udp +17 [2-9]\d /,
    'what comes later has its time at once',
  );
  await close();
});

await t.test('a packet that comes between a state and its time is not forgotten', async (t) => {
  const [one] = every.filter((each) => each.protocol === 'tcp' && each.state === 'established');
  if (one?.protocol !== 'tcp') return t.fail('an established one');
  const { tracked, seconds, compartment, close } = await track([one]);
  const relay = compartment.started[0]?.pid ?? 0;
  // The kernel knows that it is over; the agent learns it only behind what it asks for in the meantime.
  process.kill(relay, 'SIGSTOP');
  const ends = `-p tcp -s ${one.local.address} -d ${one.remote.address} --sport ${one.local.port} --dport 443`;
  await compartment.conntrack(...`-U ${ends} --state CLOSE -u SEEN_REPLY,ASSURED -t 10`.split(' '));
  tracked.begin();
  t.ok(await isDigestOf(tracked, [one]), 'control');
  process.kill(relay, 'SIGCONT');
  await waitFor('the time of what is over', async () => (await seconds()).every((each) => each <= 10));
  t.ok(await isDigestOf(tracked, [{ ...one, state: 'closed' }]));
  await close();
});

await t.test('what is known is what is there, whoever changes it', async (t) => {
  const { tracked, log, call, compartment, close } = await track(every);
  const gone = every.filter(({ protocol, local }) => protocol === 'tcp' && local.address === '10.0.0.1');
  const rest = every.filter((one) => !gone.includes(one));
  const from = log.sequence;
  await compartment.conntrack('-D', '-p', 'tcp', '-f', 'ipv4');
  await waitFor('the digest of the rest', () => isDigestOf(tracked, rest));
  t.same(
    (await toldAfter(log, from)).map((change) => (change.kind === 'ended' ? change.key : change.kind)).sort(),
    gone.map(connectionKey).sort(),
    'a standby tells what the kernel lost',
  );
  await call(() =>
    tracked.apply(
      gone.map((connection) => ({ kind: 'connection', connection })),
      false,
    ),
  );
  t.ok(await isDigestOf(tracked, every), 'and takes it again');
  const half = every.filter((_, index) => index % 2 === 0);
  const ended: Change[] = half.map((one) => ({ kind: 'ended', key: connectionKey(one) }));
  await call(() => tracked.apply(ended, false));
  t.ok(
    await isDigestOf(
      tracked,
      every.filter((one) => !half.includes(one)),
    ),
  );
  const back = every
    .filter((one) => !half.includes(one))
    .map(
      (one): Connection =>
        one.protocol === 'tcp' ? { ...one, state: 'opening' } : { ...one, replied: false },
    );
  await call(() =>
    tracked.apply(
      back.map((connection) => ({ kind: 'connection', connection })),
      false,
    ),
  );
  t.ok(await isDigestOf(tracked, back), 'on a standby also what has begun anew');
  t.same(keys(await call(() => tracked.known())), keys(back));
  await close();
});

await t.test('a relay that dies is started again, and what happened in between is told', async (t) => {
  const { tracked, log, call, compartment, close } = await track(every);
  const from = log.sequence;
  const [relay] = compartment.started;
  process.kill(relay?.pid ?? 0, 'SIGSTOP');
  await compartment.conntrack('-F');
  t.equal(log.sequence, from, 'control: nobody listens');
  process.kill(relay?.pid ?? 0, 'SIGKILL');
  await waitFor('the comparison', () => log.sequence === from + every.length);
  t.ok(await call(() => isDigestOf(tracked, [])));
  await call(() =>
    tracked.apply(
      every.map((connection) => ({ kind: 'connection', connection })),
      false,
    ),
  );
  t.ok(await isDigestOf(tracked, every));
  t.equal(compartment.started.length, 2);
  await close();
});

await t.test(
  'who can’t be served is told, again and again, and served when it is possible again',
  async (t) => {
    const { tracked, log, call, compartment, close } = await track(every);
    const real = compartment.start;
    let failures = 0;
    compartment.start = (_file, args) => {
      failures += 1;
      return real('/bin/false', args);
    };
    const lost = toldAfter(log, 0).then(async () => {
      for await (const _ of log.follow(log.sequence, new AbortController().signal)) t.fail('nothing is told');
    });
    const [relay] = compartment.started;
    const closed = relay && once(relay, 'close');
    relay?.kill('SIGKILL');
    await closed;
    for (let tries = 0; tries < 5; tries++)
      await t.rejects(
        call(() => tracked.digest()),
        { code: 'refused', message: /out of reach/ },
      );
    await t.rejects(lost, { code: 'changes-lost', message: /take a new snapshot/ });
    t.ok(failures >= 5, 'control');
    await compartment.conntrack('-F');
    compartment.start = real;
    await waitFor('it to come back by itself', async () => compartment.started.at(-1)?.exitCode === null);
    t.ok(await call(() => isDigestOf(tracked, [])), 'with what is there');
    await close();
  },
);

await t.test('nothing is left', async (t) => {
  const { tracked, compartment, close } = await track(every);
  const [relay] = compartment.started;
  const exit = relay && once(relay, 'exit');
  tracked.close();
  tracked.close();
  t.same(await exit, [null, 'SIGKILL']);
  await t.rejects(tracked.timed(), { code: 'refused' });
  await close();
});
