/**
 * A hot standby at the edge: its real firewall follows many changes as they come, takes whole states over, and takes over without starting anything.
 * And the containers that are kept ready for it.
 */
import '../lab/enter.js';
import t from 'tap';
import type { EdgeDomain } from '../../edge-agent/domain/edge-domain.js';
import { VethWiring } from '../../edge-agent/wiring/veth/veth-wiring.js';
import type { InstanceId } from '../../shared/domain/domain.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { type Policy, policySchema } from '../../shared/firewall/policy.js';
import { type Change, type Delta, epoch } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { EdgeBench, FAMILIES, LEASE_MS, NOTHING, PORT, SYN, tcp } from '../fixtures/edge-bench.js';
import { alice, BRIDGE, SERVER, TERMINAL } from '../fixtures/edge-lab.js';
import { endsPlugged } from '../fixtures/ends-plugged.js';
import { bob } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);

const USUAL_LEASE_MS = 10_000;
const BATCH = 500;
const BATCHES = 20;
const ENDED = 40;

const policyOf = (name: string, ...closed: readonly number[]): Policy =>
  policySchema.parse({
    name,
    defaults: { outbound: 'accept', inbound: 'drop' },
    rules: closed.map((remotePorts) => ({
      ...{ name: `no ${remotePorts}`, direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts },
    })),
  });
const open = policyOf('open');
const noWeb = policyOf('no web', PORT);
const bench = await EdgeBench.start(t, open);
const { lab } = bench;

const ran: string[] = [];
/** The programs that were run in compartments since this was last asked. */
const since = (): readonly string[] => ran.splice(0).map((file) => file.split('/').at(-1) ?? '');
const watched = await lab.startDomain('edge-2', {
  runtime: lab.watchedRuntime('edge-2', (file) => ran.push(file)),
});
t.teardown(() => watched.close());

/** Connection number `index`: of either family, TCP or UDP. */
function connection(index: number): Connection {
  const family = FAMILIES[index % 2] ?? 'ipv4';
  const ends = {
    local: { address: TERMINAL[family], port: 10_000 + index },
    remote: { address: SERVER[family], port: 443 },
  };
  const common = { opener: 'terminal', ...ends, timeLeftSeconds: 300 } as const;
  return index % 3 === 0
    ? { protocol: 'udp', replied: true, ...common }
    : { protocol: 'tcp', state: 'established', ...common };
}

const range = (count: number, from = 0): readonly number[] =>
  Array.from({ length: count }, (_, index) => from + index);
const keys = (connections: readonly Connection[]): readonly string[] => connections.map(connectionKey).sort();
const numbered = (after: number, changes: readonly Change[]): readonly Delta[] =>
  changes.map((change, index) => ({ sequence: after + 1 + index, change }));

/** The keys of what the kernel has, which `digest` must agree with. */
async function held(domain: EdgeDomain, id: InstanceId): Promise<readonly string[]> {
  const { connections } = await domain.export(id);
  const digest = new ConnectionsDigest(connections);
  const said = await waitFor('the digest to be of what is there', async () => {
    const now = await domain.digest(id);
    return now.digest === digest.value && now;
  });
  if (said.connections !== connections.length) throw new Error('the digest counts otherwise');
  return keys(connections);
}

await t.test('many batches at once, policies and addresses among them', async (t) => {
  const { id, ends } = await bench.standby({}, watched);
  const changes: Change[] = range(BATCH * BATCHES).map((index) => ({
    kind: 'connection',
    connection: connection(index),
  }));
  // In the middle of it all: what has ended, other rules.
  const gone = range(ENDED).map((index) => connection(index * 2));
  changes.splice(5000, 0, { kind: 'policy', policy: noWeb });
  changes.push(...gone.map((each): Change => ({ kind: 'ended', key: connectionKey(each) })));
  const deltas = numbered(7, changes);
  const batches: Promise<void>[] = [];
  for (let at = 0; at < deltas.length; at += BATCH)
    batches.push(watched.apply(id, deltas.slice(at, at + BATCH)));
  await Promise.all(batches);
  await watched.apply(id, deltas);
  const left = range(BATCH * BATCHES)
    .map(connection)
    .filter((each) => !keys(gone).includes(connectionKey(each)));
  t.same(await held(watched, id), keys(left), 'the kernel has just these, repetitions or not');
  await t.rejects(watched.apply(id, numbered(deltas.length + 8, changes)), { code: 'changes-lost' });

  since();
  await watched.activate(id, USUAL_LEASE_MS);
  t.same(since(), [], 'taking over starts no process');
  await lab.through(ends);
  for (const family of FAMILIES)
    t.same(
      await bench.outbound([
        tcp(family, 'outbound', SYN, { dport: PORT }),
        tcp(family, 'outbound', SYN, { dport: PORT + 1 }),
      ]),
      [false, true],
      `${family}: the policy that came by a delta is that of the real rules`,
    );
  await watched.retire(id);
});

await t.test('a whole state, again and again', async (t) => {
  const first = range(300).map(connection);
  const second = range(300, 100).map(connection);
  const counters = [
    { rule: `no ${PORT}`, packets: 12, bytes: 720 },
    { rule: 'default outbound', packets: 1000, bytes: 60_000 },
    { rule: 'default inbound', packets: 0, bytes: 0 },
  ];
  const { id, ends } = await bench.standby({ connections: first }, watched);
  const state = await watched.export(id);
  since();
  await watched.sync(id, { ...bench.snapshot(), sequence: 100, connections: first });
  t.same(since(), [], 'what is the same is left alone, and not even read');
  const other = { policy: noWeb, earlier: [open], counters, connections: second, sequence: 5000 };
  for (const _ of ['once', 'again']) await watched.sync(id, { ...bench.snapshot(), ...other });
  since();
  await watched.sync(id, { ...bench.snapshot(), ...other });
  t.notOk(since().includes('iptables-nft-restore'), 'rules that have counted the same stay');
  t.same(await held(watched, id), keys(second));
  const now = await watched.export(id);
  t.same(now.policy, noWeb);
  t.same(now.counters, counters, 'what the rules have counted came along');
  t.ok(now.sequence > state.sequence, 'it tells its own followers');

  const more = connection(5000);
  await watched.apply(id, numbered(5000, [{ kind: 'connection', connection: more }]));
  await t.rejects(
    watched.apply(
      id,
      numbered(100, [{ kind: 'connection', connection: more }]).map((delta) => ({
        ...delta,
        sequence: 9000,
      })),
    ),
    { code: 'changes-lost' },
    'numbers go on from the state',
  );
  // The policy before it is the one before, not the present one.
  await watched.setPolicy(id, open);
  since();
  await watched.activate(id, USUAL_LEASE_MS);
  t.same(since(), [], 'taking over starts no process');
  await lab.through(ends);
  t.same(await bench.outbound([tcp('ipv4', 'outbound', SYN, { dport: PORT })]), [true]);
  await t.rejects(watched.sync(id, bench.snapshot()), { code: 'refused', message: /is active/ });
  await watched.retire(id);
});

await t.test('connections live on through a standby that was fed', async (t) => {
  const { id: active } = await bench.active();
  const { id, ends } = await bench.standby({}, watched);
  const { sequence } = await bench.domain.export(active);
  const { deltas, stop } = bench.follow(active, sequence);
  const opened = await Promise.all(
    FAMILIES.flatMap((family) => [bench.open(family, 'tcp'), bench.open(family, 'udp')]),
  );
  for (const { name } of opened) t.ok(await bench.talks(name));
  await waitFor('the changes', () => opened.every(({ connection: one }) => established(deltas, one)));
  await stop();
  await watched.apply(
    id,
    numbered(
      7,
      deltas.map(({ change }) => change),
    ),
  );
  since();
  await watched.activate(id, USUAL_LEASE_MS);
  await lab.through(ends);
  t.same(since(), []);
  for (const { name } of opened) t.ok(await bench.talks(name), `${name} lives on`);
  await watched.retire(id);
  const control = await bench.active({}, watched);
  for (const { name, connection: one } of opened)
    if (one.protocol === 'tcp') t.notOk(await bench.talks(name), 'control: not without the changes');
  await watched.retire(control.id);
  await bench.domain.retire(active);
});

await t.test('a spare is ready, is used, and is nobody’s instance', async (t) => {
  await bench.untilNothingRemains();
  const domain = await lab.startDomain('edge-3', { spares: 1, maxInstances: 2 });
  const containers = async (): Promise<readonly string[]> =>
    (await bench.docker.listContainers({ all: true })).map(({ Id }) => Id);
  const spare = async (but: readonly string[] = []): Promise<string> =>
    waitFor('a spare', async () => (await containers()).find((each) => !but.includes(each)));
  const wired = () =>
    waitFor(
      'its ends',
      async () => (await bench.remains()).ports.length % 2 === 0 && (await bench.remains()).ports.length > 0,
    );
  const first = await spare();
  await wired();
  t.same((await domain.health()).instances, [], 'health does not know it');
  t.ok((await domain.health()).ok);

  const passes = async (): Promise<readonly boolean[]> => [
    ...(await bench.outbound([tcp('ipv4', 'outbound', SYN), tcp('ipv6', 'outbound', SYN)])),
    ...(await bench.inbound([tcp('ipv4', 'inbound', SYN), tcp('ipv6', 'inbound', SYN)])),
  ];
  // Led into the spare by mistake, all but what shows that frames have had their time.
  const terminalSide = (await bench.remains()).ports.find((name) => /t\d+$/.test(name)) ?? '';
  const [serves] = (await domain.capabilities()).serves;
  if (serves === undefined) throw new Error('it serves a switch');
  const networkSide = terminalSide.replace(/t(\d+)$/, 'n$1');
  await lab.through({ kind: 'ports', dpid: serves, terminalSide, networkSide });
  for (const [from, to] of [
    [TERMINAL.port, SERVER.port],
    [SERVER.port, TERMINAL.port],
  ])
    await run('ovs-ofctl', ['add-flow', BRIDGE, `priority=40000,arp,in_port=${from},actions=output:${to}`]);
  for (const _ of ['once', 'again'])
    t.same(await passes(), [false, false, false, false], 'nothing passes through it');
  const { id } = await bench.active({}, domain);
  t.same(await passes(), [true, true, false, false], 'control: through a firewall, what its policy says');
  t.equal((await bench.open('ipv6', 'tcp')).error, undefined, 'a firewall like any other');
  t.same(
    (await containers()).filter((each) => each === first),
    [first],
    'it is the one',
  );
  const second = await spare([first]);
  await domain.retire(id);
  await waitFor(
    'the used one is removed, and never used again',
    async () => !(await containers()).includes(first),
  );
  t.same(await containers(), [second], 'control: the spare is still there');

  await bench.docker.getContainer(second).kill();
  const third = await spare([first, second]);
  await waitFor('a broken one is removed', async () => !(await containers()).includes(second));
  t.ok((await domain.health()).ok, 'nobody need know');

  const ids = await Promise.all(
    [alice, bob].map(async (terminal) => {
      await domain.prepare({ ...bench.snapshot(), terminal }, epoch(100));
      return { terminal: terminal.name, epoch: epoch(100) };
    }),
  );
  t.equal((await domain.health()).instances.length, 2);
  t.ok((await containers()).includes(third), 'it is used');
  t.equal((await containers()).length, 2, 'as many as there may be, spares included');
  await t.rejects(
    domain.prepare({ ...bench.snapshot(), terminal: { ...alice, name: 'carol' } }, epoch(1)),
    { code: 'refused', message: /has 2 firewalls.*maxInstances/ },
    'one more is refused, with what to do',
  );
  for (const each of ids) await domain.activate(each, LEASE_MS);
  await domain.close();
  t.same(await bench.untilNothingRemains(), NOTHING);

  const killed = await lab.startDomain('edge-4', { spares: 2 });
  await waitFor('two spares', async () => (await bench.remains()).ports.length === 4);
  const next = await lab.startDomain('edge-4', { spares: 0 });
  t.same(
    await bench.untilNothingRemains(),
    NOTHING,
    'what a killed agent kept ready is a leftover like any other',
  );
  await next.close();
  await killed.close();
});

await t.test('ends that an instance had serve another, and lead nowhere meanwhile', async (t) => {
  await bench.untilNothingRemains();
  const wiring = new VethWiring({ agent: 'edge-6', bridge: BRIDGE, log: silentLog, restMs: 0 });
  const domain = await lab.startDomain('edge-6', { spares: 0, wiring });
  const passes = async (): Promise<readonly boolean[]> =>
    bench.outbound([tcp('ipv4', 'outbound', SYN), tcp('ipv6', 'outbound', SYN)]);

  const first = await bench.active({}, domain);
  t.same(await passes(), [true, true], 'control: what its policy says passes');
  const its = [...(await endsPlugged())].sort();
  t.equal(its.length, 2);
  // Those of other agents are on the bridge, too.
  const [prefix = ''] = its.map((name) => name.slice(0, -2));
  const ports = async (): Promise<readonly string[]> => {
    const { stdout } = await run('ovs-vsctl', ['list-ports', BRIDGE]);
    return stdout
      .split('\n')
      .filter((name) => name.startsWith(prefix))
      .sort();
  };
  await domain.retire(first.id);
  t.same(await endsPlugged(), [], 'no end is plugged in');
  await waitFor('its container to go', async () => (await bench.remains()).containers === 0);
  t.same(await ports(), its, 'the switch has kept its ports');

  const other = { ...bench.snapshot(), terminal: bob };
  const ends = await domain.prepare(other, epoch(100));
  t.same(await ports(), its, 'they are those of the next one');
  await lab.through(ends);
  await domain.activate({ terminal: bob.name, epoch: epoch(100) }, LEASE_MS);
  t.same(await passes(), [false, false], 'it knows nothing of the terminal that was here before');
  await domain.retire({ terminal: bob.name, epoch: epoch(100) });

  await waitFor('its container to go', async () => (await bench.remains()).containers === 0);
  const again = await bench.active({}, domain);
  t.same(await ports(), its);
  t.same(await passes(), [true, true], 'control: the terminal’s own firewall with the same ends');
  const [container] = await bench.docker.listContainers({ all: true });
  await bench.docker.getContainer(container?.Id ?? '').kill();
  await domain.retire(again.id);
  t.same(await endsPlugged(), [], 'nor those of a killed container');
  await waitFor('its container to go', async () => (await bench.remains()).containers === 0);
  const last = await bench.active({}, domain);
  t.same(await ports(), its, 'and serve again');
  t.same(await passes(), [true, true]);

  await run('ip', ['link', 'delete', its[0] ?? '']);
  await domain.retire(last.id);
  t.equal(
    (await bench.active({}, domain)).id.terminal,
    last.id.terminal,
    'ends that are broken are replaced',
  );
  t.same(await passes(), [true, true]);
  t.not(
    (await endsPlugged()).some((name) => its.includes(name)),
    'by new ones',
  );
  await domain.close();
  t.same(await ports(), [], 'the agent leaves none');
  const { stdout: links } = await run('ip', ['-brief', 'link']);
  t.notOk(links.includes(prefix), 'nor a link');
});

function established(deltas: readonly Delta[], one: Connection): boolean {
  return deltas.some(
    ({ change }) =>
      change.kind === 'connection' &&
      connectionKey(change.connection) === connectionKey(one) &&
      (change.connection.protocol === 'tcp'
        ? change.connection.state === 'established'
        : change.connection.replied),
  );
}
