/**
 * The agent as a program: it dials the controller, serves its domain, and leaves nothing when it stops, or when it was killed and starts again.
 */
import '../lab/enter.js';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import t, { type Test } from 'tap';
import { RemoteDomain } from '../../controller-app/domains/remote/index.js';
import { ChannelServer } from '../../shared/channel/index.js';
import type { InstanceId } from '../../shared/domain/domain.js';
import { epoch, type Snapshot } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { RELAY } from '../fixtures/edge-bench.js';
import { arrivals, BRIDGE, alice as labAlice, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';
import { alice, examplePolicy } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const PORT = 80;
const LONG_LEASE_MS = 60_000;
const SHORT_LEASE_MS = 3000;
/** After which an agent that should end by itself is killed. */
const ENDS_MS = 8000;
/** Above the short lease, and well below the seconds that the rules say before they know of it. */
const KERNEL_GATE_MS = 7000;

const MAIN = fileURLToPath(new URL('../../edge-agent/main.js', import.meta.url));
const lab = await startEdgeLab();
const server = new ChannelServer({ log: silentLog });
const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
let connected = false;
const remote = new RemoteDomain({
  name: 'edge-9',
  server,
  onConnection: (is) => {
    connected = is;
  },
});
const folder = await mkdtemp(join(tmpdir(), 'paguro-agent-'));
/** The agent's own, so that nobody else writes there. */
const temporary = join(folder, 'tmp');
await mkdir(temporary);
const config = join(folder, 'agent.yaml');
const configOf = (name: string, bridge: string): string =>
  [
    `name: ${name}`,
    `bridge: ${bridge}`,
    `controller: ws://127.0.0.1:${port}`,
    `docker: { socket: ${lab.dockerSocket} }`,
    // What is counted here is what instances have.
    'spares: 0\n',
  ].join('\n');
await writeFile(config, configOf('edge-9', BRIDGE));
t.teardown(async () => {
  remote.close();
  await server.close();
  await lab.close();
  await rm(folder, { recursive: true });
});
const docker = new Docker({ socketPath: lab.dockerSocket });
await lab.server.ask('serve', { address: SERVER.ipv4, port: PORT });
const snapshot: Snapshot = {
  terminal: alice,
  epoch: epoch(1),
  sequence: 0,
  policy: examplePolicy,
  earlier: [],
  connections: [],
  counters: [],
};

async function startAgent(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, '--config', config], {
    stdio: ['ignore', 'inherit', 'ignore'],
    env: { ...process.env, TMPDIR: temporary },
  });
  await waitFor('the agent to connect', () => connected);
  return child;
}

/** Starts an agent that ends by itself; returns its exit code and what it said. */
async function startInVain(): Promise<{ code: unknown; said: string }> {
  const child = spawn(process.execPath, [MAIN, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const closed = once(child, 'close');
  const late = setTimeout(() => child.kill('SIGKILL'), ENDS_MS);
  const [code] = await closed;
  clearTimeout(late);
  return { code, said };
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
  await waitFor('the link to end', () => !connected);
  return child.exitCode;
}

/** Everything on this machine that an agent could leave, to be compared before and after. */
async function machine(): Promise<Readonly<Record<string, readonly string[]>>> {
  const lines = async (file: string, args: readonly string[]): Promise<readonly string[]> =>
    (await run(file, args)).stdout.trim().split('\n').sort();
  const matching = async (path: string, pattern: RegExp): Promise<readonly string[]> =>
    [...(await readFile(path, 'utf8')).matchAll(pattern)].map(([text]) => text).sort();
  return {
    containers: (await docker.listContainers({ all: true })).map(({ Id }) => Id),
    ports: await lines('ovs-vsctl', ['list-ports', BRIDGE]),
    links: await lines('ip', ['-o', 'link', 'show']).then((links) =>
      links.map((link) => link.split(':')[1] ?? ''),
    ),
    namespaces: await lines('lsns', ['--noheadings', '--output', 'NS', '--type', 'net']),
    locks: await matching('/proc/net/unix', /@paguro-agent\S*/g),
    mounts: await matching('/proc/self/mountinfo', /\S+\/(merged|shm|netns)\S*/g),
    processes: await lines('ps', ['-e', '-o', 'comm=']).then((names) =>
      names.filter((name) => /conntrack|perl|nsenter|setpriv|sleep|nft|tables/.test(name)),
    ),
    files: await readdir(temporary),
  };
}

async function remains(): Promise<number> {
  const { stdout } = await run('ovs-vsctl', ['list-ports', BRIDGE]);
  const ports = stdout.split('\n').filter((name) => name.startsWith('pg'));
  return (await docker.listContainers({ all: true })).length + ports.length;
}

/** An active instance of this epoch, with a connection through it. */
async function live(
  t: Test,
  value: number,
  leaseMs: number,
): Promise<{ id: InstanceId; talks(): Promise<boolean> }> {
  const id = { terminal: alice.name, epoch: epoch(value) };
  const ends = await remote.prepare({ ...snapshot, terminal: labAlice }, id.epoch);
  await remote.activate(id, leaseMs);
  await lab.through(ends);
  const name = `connection ${value}`;
  const request = { name, protocol: 'tcp', from: TERMINAL.ipv4, to: SERVER.ipv4, port: PORT };
  t.equal((await lab.terminal.ask('connect', request)).error, undefined, 'a connection opens');
  return {
    id,
    talks: async () => (await lab.terminal.ask('talk', { name, text: 'hello', timeout: 1 })).error === '',
  };
}

let dport = 46_000;
/** Whether the instance that traffic goes through admits a datagram that is the first of its kind. */
async function admits(): Promise<boolean> {
  const frame = { protocol: 'udp', src: TERMINAL.ipv6, dst: SERVER.ipv6, sport: 43_000, dport: dport++ };
  const [arrived] = await arrivals(
    { host: lab.terminal, mac: TERMINAL.mac },
    { host: lab.server, mac: SERVER.mac },
    [frame],
  );
  return arrived === true;
}

await t.test('it serves, and stops without a trace', async (t) => {
  const agent = await startAgent();
  t.match(await remote.capabilities(), { implementation: 'iptables', serves: ['0000000000000002'] });
  t.match(await remote.prepare(snapshot, epoch(2)), { kind: 'ports', dpid: '0000000000000002' });
  t.equal(await remains(), 3, 'control: an instance is seen');
  t.equal(await stop(agent, 'SIGTERM'), 0);
  t.equal(await remains(), 0);
});

await t.test('a second one of the name is refused before it touches anything', async (t) => {
  const agent = await startAgent();
  const { id, talks } = await live(t, 1, LONG_LEASE_MS);
  const containers = await docker.listContainers();
  const { code, said } = await startInVain();
  t.equal(code, 1);
  t.match(said, /^an agent named edge-9 runs already .*stop it first.*another name/, 'with what to do');
  t.equal(said.trim().split('\n').length, 1, 'in one sentence');
  t.match(
    await docker.listContainers(),
    [{ Id: containers[0]?.Id, State: 'running' }],
    'the first one’s firewall',
  );
  t.equal(await remains(), 3, 'and its ends are there');
  t.ok(await talks(), 'its connections live');
  t.ok(await admits(), 'new ones are admitted');
  t.match(await remote.health(), { ok: true, instances: [{ ...id, role: 'active' }] });
  t.equal(await stop(agent, 'SIGTERM'), 0);
  t.equal(await stop(await startAgent(), 'SIGTERM'), 0, 'the name is free again');
});

await t.test(
  'killed, it leaves an instance that the kernel stops admitting for when the lease ends',
  async (t) => {
    const before = await machine();
    const agent = await startAgent();
    const { id, talks } = await live(t, 3, SHORT_LEASE_MS);
    const during = await machine();
    for (const what of ['containers', 'ports', 'links', 'namespaces', 'locks', 'mounts', 'processes'])
      t.notSame(during[what], before[what], `control: ${what} are seen`);
    t.ok(await admits(), 'control: it admits');
    // The lease begins anew, so that the agent is gone before it ends.
    await remote.activate(id, SHORT_LEASE_MS);
    await stop(agent, 'SIGKILL');
    t.equal(await remains(), 3, 'control: the instance is still there');
    t.ok(await admits(), 'control: and admits');
    await waitFor('the kernel to end the lease', async () => !(await admits()), {
      timeoutMs: KERNEL_GATE_MS,
    });
    t.ok(await talks(), 'what is known goes on');

    const next = await startAgent();
    t.equal(await remains(), 0, 'its next life removes it');
    await t.rejects(run('pgrep', ['-f', `^${RELAY}`]), 'no process is left in its namespace');
    t.match(await remote.health(), { ok: true, instances: [] });
    const gone = {
      code: 'no-instance',
      message:
        'edge-9 has no firewall of alice in epoch 3: it was removed, or the domain has begun anew since; place a new one',
    };
    const following = async (): Promise<void> => {
      for await (const _ of remote.changes(id, 0, new AbortController().signal))
        t.fail('no changes of an instance that is gone');
    };
    await t.rejects(remote.activate(id, SHORT_LEASE_MS), gone);
    await t.rejects(remote.export(id), gone);
    await t.rejects(remote.drain(id, 100), gone);
    await t.rejects(remote.setPolicy(id, examplePolicy), gone);
    await t.rejects(remote.apply(id, []), gone);
    await t.rejects(following(), gone);
    await remote.retire(id);
    t.match(await remote.prepare(snapshot, epoch(3)), { kind: 'ports' }, 'a new one can be placed');
    t.equal(await stop(next, 'SIGTERM'), 0);
    t.same(await machine(), before, 'the machine is as it was before the first of them');
  },
);

await t.test('killed, its panel is held as long as a firewall is plugged in', async (t) => {
  const before = await machine();
  const ends = async (): Promise<readonly string[]> =>
    (await machine()).links?.filter((name) => name.trim().startsWith('pg')) ?? [];
  const first = await startAgent();
  await remote.prepare(snapshot, epoch(10));
  await remote.retire({ terminal: alice.name, epoch: epoch(10) });
  await waitFor('its container to go', async () => (await docker.listContainers({ all: true })).length === 0);
  t.equal((await ends()).length, 2, 'control: its ends are kept');
  await stop(first, 'SIGKILL');
  await waitFor(
    'with nothing plugged in the ends to go with the agent',
    async () => (await ends()).length === 0,
  );

  const second = await startAgent();
  const { talks } = await live(t, 11, LONG_LEASE_MS);
  await stop(second, 'SIGKILL');
  t.ok(await talks(), 'control: a firewall goes on');
  t.equal((await ends()).length, 2);
  const [container] = await docker.listContainers();
  await docker.getContainer(container?.Id ?? '').kill();
  await waitFor('the ends to go with the last container', async () => (await ends()).length === 0);

  const next = await startAgent();
  t.equal(await stop(next, 'SIGTERM'), 0);
  t.same(await machine(), before, 'nothing is left');
});

await t.test('stopped and continued, it does nothing that it was told before', async (t) => {
  const agent = await startAgent();
  const { id, talks } = await live(t, 5, SHORT_LEASE_MS);
  t.ok(await admits(), 'control: it admits');
  agent.kill('SIGSTOP');
  // It finds this renewal when it goes on, and by then nobody counts with it.
  const renewal = remote.activate(id, LONG_LEASE_MS).catch((error: unknown) => error);
  await waitFor('the kernel to end the lease', async () => !(await admits()), { timeoutMs: KERNEL_GATE_MS });
  t.ok(await talks(), 'what is known goes on');
  t.match(await renewal, { code: 'unreachable' }, 'the controller has given it up');
  t.notOk(connected);
  agent.kill('SIGCONT');
  await waitFor('the agent to connect', () => connected);
  t.notOk(await admits(), 'the gate stays shut');
  t.ok(await talks(), 'what is known still goes on');
  await remote.activate(id, SHORT_LEASE_MS);
  t.ok(await admits(), 'control: what it is told now it does');
  await remote.prepare(snapshot, epoch(6));
  await t.rejects(remote.activate(id, SHORT_LEASE_MS), { code: 'stale-epoch' }, 'but not for what is over');
  t.equal(await stop(agent, 'SIGTERM'), 0);
  t.equal(await remains(), 0);
});

await t.test('two on one machine leave each other alone', async (t) => {
  const settings = ['datapath_type=netdev', 'other-config:datapath-id=0000000000000005'];
  await run('ovs-vsctl', ['add-br', 's5', '--', 'set', 'bridge', 's5', ...settings]);
  let isOtherThere = false;
  const other = new RemoteDomain({
    name: 'edge-8',
    server,
    onConnection: (is) => {
      isOtherThere = is;
    },
  });
  t.teardown(() => other.close());
  const otherConfig = join(folder, 'other.yaml');
  await writeFile(otherConfig, configOf('edge-8', 's5'));
  const startOther = async (): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [MAIN, '--config', otherConfig], {
      stdio: ['ignore', 'inherit', 'ignore'],
    });
    await waitFor('the other agent to connect', () => isOtherThere);
    return child;
  };
  const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
    await waitFor('its link to end', () => !isOtherThere);
  };

  const agent = await startAgent();
  const first = await startOther();
  const { id, talks } = await live(t, 7, LONG_LEASE_MS);
  const ends = await other.prepare(snapshot, epoch(1));
  if (ends.kind !== 'ports') throw new Error('an edge domain has ports');
  t.equal(ends.dpid, '0000000000000005', 'each has a bridge of its own');
  t.equal((await docker.listContainers()).length, 2);
  // Two names may have the same digits: the ends of a third agent's firewall, and what nobody has put a name to.
  const third = `${ends.terminalSide.slice(0, 6)}t99`;
  const nobodys = `${ends.terminalSide.slice(0, 6)}n99`;
  await run('ip', ['link', 'add', third, 'type', 'veth']);
  await run('ip', ['link', 'set', third, 'alias', 'paguro-agent/edge-7']);
  await run('ip', ['link', 'add', nobodys, 'type', 'veth']);

  await end(first, 'SIGKILL');
  const second = await startOther();
  t.equal((await docker.listContainers()).length, 1, 'the next life of the one removes its own');
  const names = (await machine()).links ?? [];
  const has = (name: string): boolean => names.some((link) => link.trim().startsWith(`${name}@`));
  t.notOk(has(ends.terminalSide) || has(nobodys), 'its links, too');
  t.ok(has(third), 'and no other agent’s');
  t.match(await remote.health(), { ok: true, instances: [{ ...id, role: 'active' }] });
  t.ok(await talks(), 'the other’s connections live');
  t.ok(await admits(), 'and new ones are admitted');
  await other.prepare(snapshot, epoch(1));
  await end(second, 'SIGTERM');
  t.ok(await talks(), 'also when the one ends in peace');
  t.equal(await remains(), 3);
  await run('ip', ['link', 'delete', third]);
  t.equal(await stop(agent, 'SIGTERM'), 0);
  t.equal(await remains(), 0);
});

await t.test('a wrong configuration is told', async (t) => {
  await writeFile(config, 'name: edge-9\nbridge: s2\ncontroler: ws://127.0.0.1:1\n');
  const { code, said } = await startInVain();
  t.equal(code, 1);
  t.match(said, /controler/);
});
