/**
 * The agent as a program: it dials the controller, serves its domain, and leaves nothing when it stops, or when it was killed and starts again.
 */
import '../lab/enter.js';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import t from 'tap';
import { RemoteDomain } from '../../controller-app/domains/remote/index.js';
import { ChannelServer } from '../../shared/channel/index.js';
import { epoch, type Snapshot } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { BRIDGE, startEdgeLab } from '../fixtures/edge-lab.js';
import { alice, examplePolicy } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(90_000);

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
const config = join(folder, 'agent.yaml');
await writeFile(
  config,
  `name: edge-9\nbridge: ${BRIDGE}\ncontroller: ws://127.0.0.1:${port}\ndocker: { socket: ${lab.dockerSocket} }\n`,
);
t.teardown(async () => {
  remote.close();
  await server.close();
  await lab.close();
  await rm(folder, { recursive: true });
});
const docker = new Docker({ socketPath: lab.dockerSocket });
const snapshot: Snapshot = {
  terminal: alice,
  epoch: epoch(1),
  sequence: 0,
  policy: examplePolicy,
  connections: [],
  counters: [],
};

async function startAgent(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, '--config', config], {
    stdio: ['ignore', 'inherit', 'ignore'],
  });
  await waitFor('the agent to connect', () => connected);
  return child;
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
  await waitFor('the link to end', () => !connected);
  return child.exitCode;
}

async function remains(): Promise<number> {
  const { stdout } = await run('ovs-vsctl', ['list-ports', BRIDGE]);
  const ports = stdout.split('\n').filter((name) => name.startsWith('pg'));
  return (await docker.listContainers({ all: true })).length + ports.length;
}

await t.test('it serves, and stops without a trace', async (t) => {
  const agent = await startAgent();
  t.match(await remote.capabilities(), { implementation: 'iptables', serves: ['0000000000000002'] });
  t.match(await remote.prepare(snapshot, epoch(2)), { kind: 'ports', dpid: '0000000000000002' });
  t.equal(await remains(), 3, 'control: an instance is seen');
  t.equal(await stop(agent, 'SIGTERM'), 0);
  t.equal(await remains(), 0);
});

await t.test('killed, it leaves an instance, which its next life removes', async (t) => {
  const agent = await startAgent();
  await remote.prepare(snapshot, epoch(3));
  await stop(agent, 'SIGKILL');
  t.equal(await remains(), 3, 'control: it is still there');
  const next = await startAgent();
  t.equal(await remains(), 0);
  await t.rejects(run('pgrep', ['-f', '^/usr/sbin/conntrack']), 'no process is left in its namespace');
  t.match(await remote.health(), { ok: true, instances: [] });
  await stop(next, 'SIGTERM');
});

await t.test('a wrong configuration is told', async (t) => {
  await writeFile(config, 'name: edge-9\nbridge: s2\ncontroler: ws://127.0.0.1:1\n');
  const child = spawn(process.execPath, [MAIN, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [code] = await once(child, 'close');
  t.equal(code, 1);
  t.match(said, /controler/);
});
