/**
 * The systemd units hold the least that the programs need: systemd understands them, and the programs work with just what they allow. Without systemd as process 1
 * its limits are set by hand (fixtures/confined.py): capabilities, system calls, address families, namespaces, read-only files.
 */
import '../lab/enter.js';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { RemoteDomain } from '../../controller-app/domains/remote/index.js';
import { ChannelServer } from '../../shared/channel/index.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { epoch } from '../../shared/firewall/state.js';
import { CommandError, run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { EdgeBench, PORT, SYN, tcp } from '../fixtures/edge-bench.js';
import { alice, BRIDGE } from '../fixtures/edge-lab.js';
import { capabilitiesOf, confined, readUnit, unitFile } from '../fixtures/systemd-unit.js';
import { waitFor } from '../lab/index.js';
import { sourceFile } from '../lab/project.js';

t.setTimeout(120_000);

const LEASE_MS = 10_000;
/** By these the agent makes its helpers nobody's and ends them: what they do without shows later than in a call. */
const FOR_HELPERS: ReadonlySet<string> = new Set(['setuid', 'setgid', 'kill']);
const UNITS = ['paguro-agent', 'paguro-controller'];
const AGENT = fileURLToPath(new URL('../../edge-agent/main.js', import.meta.url));
const CONTROLLER = fileURLToPath(new URL('../../controller-app/main.js', import.meta.url));

const folder = await mkdtemp(join(tmpdir(), 'paguro-units-'));
t.teardown(() => rm(folder, { recursive: true }));

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [{ name: 'no mail', direction: 'outbound', action: 'reject', protocol: 'tcp', remotePorts: 25 }],
});
const bench = await EdgeBench.start(t, policy);
const server = new ChannelServer({ log: silentLog });
const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
let isConnected = false;
const remote = new RemoteDomain({
  name: 'edge-9',
  server,
  reconnectMs: 100,
  onConnection: (is) => {
    isConnected = is;
  },
});
t.teardown(async () => {
  remote.close();
  await server.close();
});
const config = join(folder, 'agent.yaml');
await writeFile(
  config,
  [
    'name: edge-9',
    `bridge: ${BRIDGE}`,
    `controller: ws://127.0.0.1:${port}`,
    `docker: { socket: ${bench.lab.dockerSocket}, cache: ${bench.lab.cacheDirectory} }`,
    'spares: 0\n',
  ].join('\n'),
);

/** What systemd minds of a unit, but for programs that are elsewhere on this machine. */
async function complaints(file: string): Promise<readonly string[]> {
  const { stderr } = await run('systemd-analyze', ['verify', '--man=no', file]).catch((error: unknown) => {
    if (error instanceof CommandError) return error;
    throw error;
  });
  return stderr.split('\n').filter((line) => line !== '' && !/is not executable/.test(line));
}

await t.test('systemd understands them', async (t) => {
  for (const unit of UNITS) t.same(await complaints(unitFile(unit)), [], unit);
  const wrong = join(folder, 'wrong.service');
  const text = await readFile(unitFile('paguro-agent'), 'utf8');
  await writeFile(wrong, text.replace('NoNewPrivileges=', 'NoNewPrivilege='));
  t.match(await complaints(wrong), [/NoNewPrivilege/], 'control: a mistake is told');
});

await t.test('they start what there is, in the places that they name', async (t) => {
  for (const [unit, main] of [
    ['paguro-agent', 'dist/edge-agent/main.js'],
    ['paguro-controller', 'dist/controller-app/main.js'],
  ] as const) {
    const [, program] = (await readUnit(unit)).words('ExecStart');
    t.equal(program, `/opt/paguro/${main}`);
    t.ok(sourceFile(...main.split('/')), 'which the build makes');
  }
});

let value = 0;
/** An agent that holds what its unit says, or other capabilities. */
async function startAgent(t: Test, capabilities?: readonly string[]): Promise<ChildProcess> {
  const unit = await readUnit('paguro-agent');
  const options = capabilities === undefined ? {} : { capabilities };
  const [file, args] = await confined(unit, [process.execPath, AGENT, '--config', config], options);
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await waitFor('the agent to connect', () => isConnected);
  return child;
}

async function stop(child: ChildProcess): Promise<number | null> {
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
  await waitFor('the link to end', () => !isConnected);
  return child.exitCode;
}

await t.test('the agent works with what its unit allows', async (t) => {
  const agent = await startAgent(t);
  const status = await readFile(`/proc/${agent.pid}/status`, 'utf8');
  t.match(status, /NoNewPrivs:\t1/);
  t.match(status, /Seccomp:\t2/);
  const effective = BigInt(`0x${/CapEff:\t(\S+)/.exec(status)?.[1] ?? ''}`);
  t.equal(
    effective.toString(2).replaceAll('0', '').length,
    capabilitiesOf(await readUnit('paguro-agent')).length,
  );
  t.match(await remote.health(), { ok: true });
  const id = { terminal: alice.name, epoch: epoch(++value) };
  const ends = await remote.prepare(bench.snapshot(), id.epoch);
  await remote.activate(id, LEASE_MS);
  await bench.lab.through(ends);
  const { error, name, connection } = await bench.open('ipv6', 'tcp');
  t.equal(error, undefined, 'a connection is opened');
  t.ok(await bench.talks(name));
  await remote.setPolicy(id, { ...policy, name: 'other' });
  await remote.activate(id, 2 * LEASE_MS);
  t.match((await remote.export(id)).connections, [{ protocol: 'tcp', local: connection.local }]);
  t.match((await remote.digest(id)).connections, 1);
  t.same(await bench.outbound([tcp('ipv4', 'outbound', SYN, { dport: 25 })]), [false], 'the policy holds');
  t.same(await bench.outbound([tcp('ipv4', 'outbound', SYN, { dport: PORT })]), [true]);
  await remote.drain(id, LEASE_MS);
  await remote.retire(id);
  t.equal(await stop(agent), 0);
  await bench.untilNothingRemains();
});

await t.test('and builds nothing without any one of its capabilities', async (t) => {
  const all = capabilitiesOf(await readUnit('paguro-agent'));
  t.ok(all.length > 0);
  for (const without of all.filter((name) => !FOR_HELPERS.has(name))) {
    const agent = await startAgent(
      t,
      all.filter((name) => name !== without),
    );
    await t.rejects(
      remote.prepare(bench.snapshot(), epoch(++value)),
      { code: 'refused' },
      `not without ${without}`,
    );
    await stop(agent);
  }
  await bench.untilNothingRemains();
});

await t.test('the controller works with what its unit allows', async (t) => {
  const unit = await readUnit('paguro-controller');
  const state = join(folder, 'state');
  await mkdir(state);
  for (const file of ['controller.yaml', 'policy-phone.yaml'])
    await copyFile(sourceFile('scripts', 'examples', file), join(state, file));
  const program = [process.execPath, CONTROLLER, 'controller', '--config', join(state, 'controller.yaml')];
  const [file, args] = await confined(unit, program, { writable: [state] });
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const status = await waitFor('its API to answer', async () => {
    if (child.exitCode !== null) throw new Error(`it ended with exit code ${child.exitCode}`);
    return fetch('http://127.0.0.1:7680/v1/status').then(
      (response) => response.json(),
      () => undefined,
    );
  });
  t.match(status, { terminals: [{ name: 'alice' }] });
  t.match(await readFile(`/proc/${child.pid}/status`, 'utf8'), /CapEff:\t0+\n[\s\S]*NoNewPrivs:\t1\n/);
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
  t.equal(child.exitCode, 0);
});

await t.test('control: what is not allowed is refused', async (t) => {
  const unit = await readUnit('paguro-controller');
  const attempt = async (code: string): Promise<string> => {
    const [file, args] = await confined(unit, ['python3', '-c', code]);
    return run(file, args).then(
      () => 'done',
      (error: unknown) => (error instanceof CommandError ? error.stderr : String(error)),
    );
  };
  t.match(
    await attempt('import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)'),
    /not permitted/,
  );
  t.match(await attempt('import os; os.chroot("/")'), /not permitted/);
  t.match(await attempt(`open(${JSON.stringify(join(folder, 'x'))}, "w")`), /Read-only file system/);
  t.match(await attempt('import socket; socket.socket()'), 'done');
});
