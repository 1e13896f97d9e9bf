/**
 * The life of edge instances: leases that end by themselves, daemons that go away and come back, what is noticed, and what is left behind.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { VethWiring } from '../../edge-agent/wiring/veth/veth-wiring.js';
import { DomainError, type InstanceId } from '../../shared/domain/domain.js';
import { connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { epoch } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { EdgeBench, LEASE_MS, NOTHING, udp } from '../fixtures/edge-bench.js';
import { alice, BRIDGE, TERMINAL } from '../fixtures/edge-lab.js';
import { endsPlugged } from '../fixtures/ends-plugged.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);

/** Well above a lease of a second, and well below the seconds of the usual one. */
const KERNEL_GATE_MS = 6000;
const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [],
});
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;
const folder = await mkdtemp(join(tmpdir(), 'paguro-edge-'));
t.teardown(() => rm(folder, { recursive: true }));

await t.test('without an agent the kernel itself ends the lease', async (t) => {
  const short = await lab.startDomain('edge-2');
  const id = { terminal: alice.name, epoch: epoch(1) };
  const ends = await short.prepare(bench.snapshot(), id.epoch);
  await short.activate(id, 1000);
  await lab.through(ends);
  let dport = 46_000;
  const admits = async (): Promise<boolean> =>
    (await bench.outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]))[0] === true;
  t.ok(await admits());
  await waitFor('the agent to close the gate', async () => !(await admits()));
  // What a lost agent leaves behind: an open gate that nobody closes.
  const [container] = await bench.docker.listContainers();
  const { State } = await bench.docker.getContainer(container?.Id ?? '').inspect();
  for (const [name, address] of [
    ['paguro4', TERMINAL.ipv4],
    ['paguro6', TERMINAL.ipv6],
  ]) {
    await writeFile(`/proc/${State.Pid}/net/xt_recent/${name}`, `+${address}\n`);
  }
  t.ok(await admits(), 'control: it is open again');
  await waitFor('the gate to close', async () => !(await admits()), { timeoutMs: KERNEL_GATE_MS });
  t.pass('it closes');
  await short.close();
});

await t.test('the gate follows the lease, and the usual activation starts no process', async (t) => {
  const ran: string[] = [];
  const since = (): readonly string[] => ran.splice(0).map((file) => file.split('/').at(-1) ?? '');
  const watched = await lab.startDomain('edge-4', {
    runtime: lab.watchedRuntime('edge-4', (file) => ran.push(file)),
  });
  const prepare = async (value: number): Promise<InstanceId> => {
    await watched.prepare(
      { ...bench.snapshot(), counters: [{ rule: 'default outbound', packets: 1000, bytes: 60_000 }] },
      epoch(value),
    );
    return { terminal: alice.name, epoch: epoch(value) };
  };
  const first = await prepare(1);
  t.ok(since().includes('iptables-nft-restore'), 'control: programs are seen');
  await watched.activate(first, 10_000);
  await watched.activate(first, 10_000);
  t.same(since(), [], 'the usual lease');
  t.same(await gateSeconds(), ['11']);
  await watched.activate(first, 3000);
  t.same(since().filter((file) => file.endsWith('restore')).length, 2, 'another lease: once in each family');
  t.same(await gateSeconds(), ['4']);
  const [counter] = (await watched.export(first)).counters.filter(({ rule }) => rule === 'default outbound');
  t.match(counter, { packets: 1000, bytes: 60_000 }, 'what was counted stays');
  since();
  await watched.activate(first, 3000);
  t.same(since(), [], 'which is the usual one from then on');
  const second = await prepare(2);
  since();
  await watched.activate(second, 3000);
  t.same(since(), [], 'for later instances, too');
  t.same(await gateSeconds(), ['4']);
  await watched.activate(second, 10 * LEASE_MS);
  t.same(await gateSeconds(), ['61'], 'a lease that is too long is cut');
  await watched.close();
});

await t.test('Docker goes away and comes back', async (t) => {
  const socketPath = join(folder, 'docker.sock');
  let proxy = await proxyTo(lab.dockerSocket, socketPath);
  const other = await lab.startDomain('edge-5', { runtime: lab.runtime('edge-5', { socketPath }) });
  const { id } = await bench.active({}, other);
  const { name } = await bench.open('ipv6', 'tcp');
  t.ok(await bench.talks(name), 'control: it talks');
  await proxy.close();
  const sentence = /^Docker does not answer on .*docker\.sock: start it/;
  await other.retire(id);
  t.notOk(await bench.talks(name), 'a retirement needs no Docker: nothing gets through any more');
  t.match(await bench.remains(), { containers: 1, ports: [] }, 'control: its container is still there');
  await t.rejects(other.activate(id, LEASE_MS), { code: 'no-instance' });
  const next = { terminal: alice.name, epoch: epoch(id.epoch + 1) };
  await t.rejects(other.prepare(bench.snapshot(), id.epoch), { code: 'not-ready', message: sentence });
  await t.rejects(other.prepare(bench.snapshot(), next.epoch), { code: 'not-ready', message: sentence });
  t.match(await other.health(), { ok: false, problem: sentence, instances: [] });
  const early = await lab.startDomain('edge-6', { runtime: lab.runtime('edge-6', { socketPath }) });
  await t.rejects(early.prepare(bench.snapshot(), epoch(1)), { code: 'not-ready', message: sentence });

  proxy = await proxyTo(lab.dockerSocket, socketPath);
  t.same(await bench.untilNothingRemains(), NOTHING, 'it is removed as soon as Docker is there');
  await early.prepare(bench.snapshot(), epoch(1));
  t.match(await early.health(), { ok: true });
  await early.close();
  await other.close();
  await proxy.close();
});

await t.test('a retirement waits for no switch', async (t) => {
  const socketPath = join(folder, 'ovs.sock');
  const database = join(process.env.OVS_RUNDIR ?? '', 'db.sock');
  let proxy = await proxyTo(database, socketPath);
  const wiring = new VethWiring({
    ...{ agent: 'edge-7', bridge: BRIDGE, database: `unix:${socketPath}`, log: silentLog },
  });
  const other = await lab.startDomain('edge-7', { wiring });
  const { id } = await bench.active({}, other);
  await proxy.close();
  t.match(
    await other.health(),
    { ok: false, problem: /ovsdb-server/, instances: [id] },
    'control: it is not there',
  );
  await other.retire(id);
  t.same(await endsPlugged(), [], 'nothing is plugged into its ends');
  await t.rejects(other.activate(id, LEASE_MS), { code: 'no-instance' }, 'it is not used again');
  t.same(await bench.untilNothingRemains(), NOTHING);
  await t.rejects(other.close(), { code: 'not-ready' }, 'ports that cannot be removed are told');
  proxy = await proxyTo(database, socketPath);
  await wiring.close();
  await proxy.close();
});

await t.test('what the agent could not remove when it started goes before its first instance', async (t) => {
  const socketPath = join(folder, 'late.sock');
  const earlier = await lab.startDomain('edge-6');
  await earlier.prepare(bench.snapshot(), epoch(1));
  const later = await lab.startDomain('edge-6', { runtime: lab.runtime('edge-6', { socketPath }) });
  t.match(await bench.remains(), { containers: 1 }, 'control: Docker was not to be reached');
  const proxy = await proxyTo(lab.dockerSocket, socketPath);
  await later.prepare(bench.snapshot(), epoch(1));
  t.match(await bench.remains(), { containers: 1 }, 'the new one');
  await later.close();
  t.same(await bench.untilNothingRemains(), NOTHING);
  await earlier.close();
  await proxy.close();
});

await t.test('a bridge that is not there, or not ready', async (t) => {
  const wiring = (bridge: string): VethWiring => new VethWiring({ agent: 'edge-7', bridge, log: silentLog });
  await t.rejects(wiring('s8').check(), { code: 'not-ready', message: /no bridge s8: .*ovs-vsctl list-br/ });
  // A datapath type that ovs-vswitchd does not know: the bridge stays a row of the database.
  await run('ovs-vsctl', ['--no-wait', 'add-br', 's8', '--', 'set', 'bridge', 's8', 'datapath_type=unknown']);
  const pending = { code: 'not-ready', message: /s8 has no datapath yet: .*ovs-vsctl list-br/ };
  await t.rejects(wiring('s8').check(), pending);
  await t.rejects(wiring('s8').create(), pending);
  await run('ovs-vsctl', ['--no-wait', 'del-br', 's8']);
  t.match(await wiring(BRIDGE).check(), /^[0-9a-f]{16}$/, 'control');
});

await t.test('lost events are found again by comparing', async (t) => {
  const { id } = await bench.active();
  const { sequence } = await domain.export(id);
  const { deltas, stop } = bench.follow(id, sequence);
  const pid = await bench.relayPid();
  process.kill(pid, 'SIGSTOP');
  const one = await bench.open('ipv6', 'tcp');
  t.equal(deltas.length, 0, 'control: nobody reads the events');
  process.kill(pid, 'SIGKILL');
  await waitFor('its delta', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' && connectionKey(change.connection) === connectionKey(one.connection),
    ),
  );
  const two = await bench.open('ipv4', 'tcp');
  await waitFor('events are read again', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' && connectionKey(change.connection) === connectionKey(two.connection),
    ),
  );
  await stop();
  await domain.retire(id);
});

await t.test(
  'nothing is left: after retirement, after a failure, after another life of the agent',
  async (t) => {
    t.same(await bench.untilNothingRemains(), NOTHING, 'every instance so far was retired');
    const { id } = await bench.standby();
    const there = await bench.remains();
    t.match(there, { containers: 1 }, 'control: an instance is seen');
    t.equal(there.ports.length + there.links.length, 4, 'control: its ends are seen');
    await domain.retire(id);
    t.same(await bench.untilNothingRemains(), NOTHING);

    const broken = { local: { address: '10.9.9.9', port: 1 }, remote: { address: '10.9.9.8', port: 1 } };
    const refused = {
      protocol: 'tcp',
      opener: 'terminal',
      ...broken,
      state: 'established',
      timeLeftSeconds: 0,
    } as const;
    const twice = [
      refused,
      { ...refused, opener: 'remote', local: broken.remote, remote: broken.local } as const,
    ];
    await t.rejects(
      bench.standby({
        connections: [...twice, { ...refused, local: { address: '10.9.9.9', port: 70_000 } }],
      }),
      { code: 'invalid' },
    );
    t.same(await bench.untilNothingRemains(), NOTHING);

    const withoutImage = await lab.startDomain('edge-2', {
      runtime: lab.runtime('edge-2', { cacheDirectory: '/nonexistent', image: 'paguro/firewall:none' }),
    });
    await t.rejects(withoutImage.prepare(bench.snapshot(), epoch(1)), {
      code: 'not-ready',
      message: /npm run setup/,
    });
    t.match(await withoutImage.health(), { ok: false, problem: /npm run setup/ });
    const withoutDocker = await lab.startDomain('edge-2', {
      runtime: lab.runtime('edge-2', { socketPath: '/nonexistent.sock' }),
    });
    await t.rejects(withoutDocker.prepare(bench.snapshot(), epoch(1)), {
      code: 'not-ready',
      message: /Docker does not answer/,
    });
    t.same(await bench.untilNothingRemains(), NOTHING, 'failures are undone');

    const earlier = await lab.startDomain('edge-2');
    await earlier.prepare(bench.snapshot(), epoch(1));
    const other = await bench.standby();
    t.match(await bench.remains(), { containers: 2 });
    const later = await lab.startDomain('edge-2');
    t.match(await bench.remains(), { containers: 1 }, 'only its own');
    await domain.retire(other.id);
    t.same(await bench.untilNothingRemains(), NOTHING);
    await later.close();
    await earlier.close();
  },
);

await t.test('a container that ends by itself is noticed', async (t) => {
  const { id } = await bench.active();
  const [container] = await bench.docker.listContainers();
  await bench.docker.getContainer(container?.Id ?? '').kill();
  await waitFor('the domain notices', async () => !(await domain.health()).ok);
  await t.rejects(domain.export(id), { code: 'no-instance', message: /retire it/ });
  await domain.retire(id);
  t.match(await domain.health(), { ok: true });
  t.same(await bench.untilNothingRemains(), NOTHING);
});

await t.test('rules that iptables refuses', async (t) => {
  const hooks = lab.rewritingRuntime('edge-3', (input) =>
    input.replace('COMMIT', '-A FORWARD -j no-such-chain\nCOMMIT'),
  );
  const refusing = await lab.startDomain('edge-3', { runtime: hooks });
  const error = await refusing.prepare(bench.snapshot(), epoch(1)).catch((error: unknown) => error);
  t.ok(error instanceof DomainError && error.code === 'refused', 'the call fails');
  t.match(error, { message: /iptables-nft-restore refused .*no-such-chain/ }, 'with iptables’ own words');
  t.same(await bench.untilNothingRemains(), NOTHING);
  await refusing.close();
});

/** The seconds after which the rules in the youngest container hold the gate for closed. */
async function gateSeconds(): Promise<readonly string[]> {
  const saved = await Promise.all(
    ['iptables', 'ip6tables'].map((family) => bench.inContainer(`/usr/sbin/${family}-nft-save`)),
  );
  const text = saved.map(({ stdout }) => stdout).join('');
  return [...new Set([...text.matchAll(/--seconds (\d+)/g)].map(([, seconds = '']) => seconds))];
}

/** A Unix socket that leads to another one, until it is closed. */
async function proxyTo(target: string, path: string): Promise<{ close(): Promise<void> }> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => open.delete(socket));
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
