/**
 * An edge agent on a machine that is short of something: a clear error within bounds, nothing left behind, all well again afterwards; and never a packet
 * that nobody has judged.
 */
import '../lab/enter.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import t from 'tap';
import { DomainError } from '../../shared/domain/domain.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { applyDeltas } from '../../shared/firewall/reduce.js';
import { epoch } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { EdgeBench, FAMILIES, LEASE_MS, NOTHING, SYN, tcp, udp } from '../fixtures/edge-bench.js';
import { SERVER, TERMINAL } from '../fixtures/edge-lab.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(240_000);

/** For a Docker that hangs: a test has not the patience of an agent. */
const HANGS_MS = 1500;
/** The least that the kernel gives a socket, and fewer events than a flood makes. */
const SMALL_BUFFER_BYTES = 4096;
const FLOOD = 2000;
/** Of the flood, many more than the buffer holds: the switch drops some. */
const ENOUGH = 100;
const PAGE_BYTES = 4096;
/** Enough for ever more of what it takes to make an instance. */
const SPARE_DESCRIPTORS = [1, 4, 9, 16, 30];
const LIMITER = `
import resource, sys
pid = int(sys.argv[1])
usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
for line in sys.stdin:
    soft = int(line)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual if soft < 0 else (soft, usual[1]))
    print("done", flush=True)
`;

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [],
});
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;
/** What must never arrive, whatever happens to an instance. */
const forbidden = FAMILIES.flatMap((family) => [
  tcp(family, 'inbound', SYN, { dport: 22 }),
  udp(family, 'inbound'),
]);

await t.test('a full disk: instances go on, new ones fail until there is room', async (t) => {
  const { id } = await bench.active();
  const known = await bench.open('ipv6', 'tcp');
  const { blocks, bfree, bsize } = await statfs('/run');
  const size = (bytes: number): Promise<unknown> => run('mount', ['-o', `remount,size=${bytes}`, '/run']);
  await size((blocks - bfree) * bsize + PAGE_BYTES);
  const error: unknown = await bench.standby().catch((caught: unknown) => caught);
  t.match(error, { code: /refused|not-ready/, message: /no space left|No space left/i });
  t.ok(await bench.talks(known.name), 'what is there filters and forwards');
  t.same(await bench.inbound(forbidden), [false, false, false, false]);
  await size(blocks * bsize);
  await waitFor('the half-made parts to be gone', async () => {
    const { containers, ports } = await bench.remains();
    return containers === 1 && ports.length === 2;
  });
  const next = await bench.active();
  t.equal((await bench.open('ipv6', 'tcp')).error, undefined, 'well again');
  await domain.retire(next.id);
  t.same(await bench.untilNothingRemains(), NOTHING);
  t.ok(id.epoch < next.id.epoch);
});

await t.test('no file descriptors: every call ends with an error, and nothing is left', async (t) => {
  const other = await lab.startDomain('edge-4');
  const { id } = await bench.active();
  const known = await bench.open('ipv4', 'tcp');
  // Who sets the limit has all descriptors that it needs beforehand.
  const limiter = spawn('python3', ['-c', LIMITER, `${process.pid}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface({ input: limiter.stdout });
  const limit = async (descriptors: number | 'usual'): Promise<void> => {
    const answered = once(answers, 'line');
    limiter.stdin.write(`${descriptors === 'usual' ? -1 : descriptors}\n`);
    await answered;
  };
  // The kernel gives the lowest number that is free: so many are free below the limit.
  const open = readdirSync('/proc/self/fd').length;
  const failures: unknown[] = [];
  for (const spare of SPARE_DESCRIPTORS) {
    await limit(open + spare);
    const calls = await Promise.allSettled([
      bench.standby({ connections: [known.connection], epoch: epoch(1) }, other),
      domain.export(id),
      domain.activate(id, LEASE_MS),
    ]);
    t.ok(await bench.talks(known.name), `${spare} more: instances filter and forward`);
    t.same(await bench.inbound(forbidden), [false, false, false, false]);
    await limit('usual');
    for (const call of calls) if (call.status === 'rejected') failures.push(call.reason);
    const [made] = calls;
    if (made.status === 'fulfilled') await other.retire(made.value.id);
    await waitFor('the half-made parts to be gone', async () => {
      const { containers, ports, links } = await bench.remains();
      return containers === 1 && ports.length === 2 && links.length === 2;
    });
    t.ok((await domain.export(id)).connections.length > 0, 'all is well again');
  }
  t.ok(failures.length >= SPARE_DESCRIPTORS.length, `control: calls failed (${failures.length})`);
  for (const failure of failures)
    t.match(failure, { code: /^(refused|not-ready)$/, message: /too many files are open|EMFILE/ });
  limiter.stdin.end();
  await domain.retire(id);
  await other.close();
});

await t.test('Docker hangs: bounded, and nothing comes of it later', async (t) => {
  const { id } = await bench.active();
  const known = await bench.open('ipv6', 'tcp');
  const other = await lab.startDomain('edge-2', {
    runtime: lab.runtime('edge-2', { timeoutMs: HANGS_MS }),
  });
  const before = await bench.remains();
  process.kill(lab.dockerPid, 'SIGSTOP');
  const failed = { code: 'not-ready', message: /Docker does not answer on .*hangs/ };
  try {
    await t.rejects(bench.standby({}, other), failed);
    t.match(await other.health(), { ok: false, problem: failed.message });
    t.ok(await bench.talks(known.name), 'instances need no Docker to filter and forward');
    await domain.activate(id, LEASE_MS);
    t.same(await bench.inbound(forbidden), [false, false, false, false]);
  } finally {
    process.kill(lab.dockerPid, 'SIGCONT');
  }
  const there = await bench.standby({}, other);
  await other.retire(there.id);
  await waitFor('what Docker did late to be removed', async () => (await bench.remains()).containers === 1);
  t.same(await bench.remains(), before, 'nothing is left');
  await other.close();
  await domain.retire(id);
});

await t.test('more events than the socket holds: what was lost is found', async (t) => {
  const small = await lab.startDomain('edge-3', { eventBufferBytes: SMALL_BUFFER_BYTES });
  const { id } = await bench.active({}, small);
  const state = await small.export(id);
  const { deltas, stop } = bench.follow(id, state.sequence, small);
  const relay = await bench.relayPid();
  process.kill(relay, 'SIGSTOP');
  for (const [index, family] of FAMILIES.entries()) {
    const macs = { smac: TERMINAL.mac, dmac: SERVER.mac, payload: '00' };
    const frame = { ...udp(family, 'outbound'), ...macs };
    await lab.terminal.ask('flood', { frame, first: 10_000 + index * FLOOD, count: FLOOD });
  }
  await waitFor('the flood to be through', async () => (await bench.entries()) >= ENOUGH);
  t.equal(deltas.length, 0, 'control: nobody reads the events');
  process.kill(relay, 'SIGCONT');
  // While the relay still reads what is left of the flood, events may be lost once more: then the table is refused until it has been compared anew.
  const kernel = async (): Promise<readonly Connection[] | undefined> => {
    try {
      return (await small.export(id)).connections;
    } catch (error) {
      if (error instanceof DomainError && error.code === 'refused') return undefined;
      throw error;
    }
  };
  const keys = (connections: readonly Connection[]): readonly string[] =>
    connections.map(connectionKey).sort();
  await waitFor('the followers to know what the kernel knows', async () => {
    const told = applyDeltas(state, deltas).connections;
    const there = told.length >= ENOUGH && (await kernel());
    return there && JSON.stringify(keys(told)) === JSON.stringify(keys(there));
  });
  t.equal(await bench.relayPid(), relay, 'the relay that had lost them goes on');
  const one = await bench.open('ipv4', 'tcp');
  await waitFor('events are read again', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' && connectionKey(change.connection) === connectionKey(one.connection),
    ),
  );
  await stop();
  await small.close();
});

await t.test('a container that is killed in the middle of traffic lets nothing through', async (t) => {
  for (const what of ['by Docker', 'by the kernel']) {
    const { id } = await bench.active();
    t.same(await bench.outbound([udp('ipv4', 'outbound')]), [true], 'control: it forwards');
    const [container] = await bench.docker.listContainers();
    const pid = await bench.containerPid();
    const frames = Array.from({ length: 50 }, () => forbidden).flat();
    const macs = { smac: SERVER.mac, dmac: TERMINAL.mac, payload: 'deadbeefdeadbeef' };
    const sending = (async () => {
      for (const frame of frames) await lab.server.ask('forge', { frame: { ...frame, ...macs } });
    })();
    if (what === 'by Docker') await bench.docker.getContainer(container?.Id ?? '').kill();
    else process.kill(pid, 'SIGKILL');
    await sending;
    await waitFor('the domain to notice', async () => !(await domain.health()).ok);
    for (const frame of forbidden) await lab.server.ask('forge', { frame: { ...frame, ...macs } });
    await t.rejects(domain.export(id), { code: 'no-instance', message: /retire it and prepare a new one/ });
    await domain.retire(id);
    const next = await bench.active();
    // A frame that is let pass, after them, shows that they would be here.
    await bench.inbound([]);
    t.equal(await lab.terminal.seen(macs.payload), 0, `${what}: nothing arrived`);
    await domain.retire(next.id);
    t.same(await bench.untilNothingRemains(), NOTHING);
  }
  await lab.direct();
  await lab.server.ask('forge', {
    frame: { ...udp('ipv4', 'inbound'), smac: SERVER.mac, dmac: TERMINAL.mac, payload: 'deadbeefdeadbeef' },
  });
  await waitFor(
    'control: without a firewall it arrives',
    async () => (await lab.terminal.seen('deadbeefdeadbeef')) > 0,
  );
});
