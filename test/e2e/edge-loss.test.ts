/**
 * An instance that is of no use any more says so at once, whatever it lost; and one that only lost its witnesses lives on.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import type { InstanceId } from '../../shared/domain/domain.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { epoch } from '../../shared/firewall/state.js';
import { run } from '../../shared/runtime/command.js';
import { EdgeBench, FAMILIES, LEASE_MS, type Prepared } from '../fixtures/edge-bench.js';
import { endsPlugged } from '../fixtures/ends-plugged.js';
import { bob } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [],
});
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;

/** Another terminal's instance on the same machine: nothing that happens to alice's is its business. */
const neighbour: InstanceId = { terminal: bob.name, epoch: epoch(1) };
await domain.prepare({ ...bench.snapshot(), terminal: bob }, neighbour.epoch);
await domain.activate(neighbour, LEASE_MS);

interface Followed {
  /** How following it ended; undefined while it goes on. */
  end(): unknown;
  stop(): void;
}

function followed(id: InstanceId): Followed {
  const abort = new AbortController();
  let end: unknown;
  void (async () => {
    try {
      for await (const _ of domain.changes(id, 0, abort.signal));
      end = 'ended';
    } catch (error) {
      end = error;
    }
  })();
  return { end: () => end, stop: () => abort.abort() };
}

/** Loses an instance, and sees that whoever follows it is told, that health says it, and that nobody else is told anything. */
async function expectLoss(t: Test, { id }: Prepared, reason: RegExp, lose: () => Promise<unknown>) {
  const [own, others] = [followed(id), followed(neighbour)];
  t.match(await domain.health(), { ok: true }, 'control: all is well before');
  t.equal(own.end(), undefined, 'control: and its changes go on');
  await lose();
  const error = await waitFor('its changes end', () => own.end());
  t.match(error, { code: 'no-instance', message: reason });
  t.match(await domain.health(), { ok: false, problem: reason });
  await t.rejects(domain.activate(id, LEASE_MS), { code: 'no-instance', message: /retire it/ });
  t.equal(others.end(), undefined, 'another instance is as before');
  await domain.activate(neighbour, LEASE_MS);
  others.stop();
  await domain.retire(id);
  t.match(await domain.health(), { ok: true, instances: [{ ...neighbour, role: 'active' }] });
}

const container = async () => {
  const [{ Id } = { Id: '' }] = await bench.docker.listContainers();
  return bench.docker.getContainer(Id);
};

await t.test('its container is killed', async (t) => {
  const prepared = await bench.active();
  await expectLoss(t, prepared, /its container has ended/, async () => (await container()).kill());
});

await t.test('the process of its container is killed', async (t) => {
  const prepared = await bench.active();
  const pid = await bench.containerPid();
  await expectLoss(t, prepared, /its container has ended/, async () => process.kill(pid, 'SIGKILL'));
});

for (const side of ['terminalSide', 'networkSide'] as const) {
  await t.test(`its end at the ${side} is deleted`, async (t) => {
    const prepared = await bench.active();
    if (prepared.ends.kind !== 'ports') throw new Error('an edge domain has ports');
    const end = prepared.ends[side];
    await expectLoss(t, prepared, /one of its ends is there no more/, () =>
      run('ip', ['link', 'delete', end]),
    );
  });
}

await t.test('a link that is nobody’s vanishes, and nobody is told', async (t) => {
  const { id } = await bench.active();
  const own = followed(id);
  await run('ip', ['link', 'add', 'pgffffn1', 'type', 'veth', 'peer', 'name', 'pgffffn2']);
  await run('ip', ['link', 'delete', 'pgffffn1']);
  t.match(await domain.health(), { ok: true });
  t.equal(own.end(), undefined);
  own.stop();
  await domain.retire(id);
});

await t.test('what watches the ends is killed, and starts again', async (t) => {
  const prepared = await bench.active();
  const monitor = async (): Promise<number> => {
    const { stdout } = await run('pgrep', ['-f', '^ip -oneline monitor link']);
    return Number(stdout.trim().split('\n')[0]);
  };
  const first = await monitor();
  process.kill(first, 'SIGKILL');
  if (prepared.ends.kind !== 'ports') throw new Error('an edge domain has ports');
  const end = prepared.ends.networkSide;
  // Nobody watches at this moment: it is found when somebody does again.
  await expectLoss(t, prepared, /one of its ends is there no more/, () => run('ip', ['link', 'delete', end]));
  t.not(await monitor(), first);
});

await t.test('Docker’s daemon is killed, and the firewall lives on until its container ends', async (t) => {
  const prepared = await bench.active();
  const opened = await Promise.all(FAMILIES.map((family) => bench.open(family, 'tcp')));
  const { deltas, stop } = bench.follow(prepared.id, (await domain.export(prepared.id)).sequence);
  const pid = await bench.containerPid();
  lab.killDocker();
  await waitFor('Docker to be gone', async () => !(await domain.health()).ok);
  t.match(await domain.health(), { problem: /^Docker does not answer/, instances: [{}, {}] });
  for (const { name } of opened) t.ok(await bench.talks(name), 'what is open goes on');
  const { error } = await bench.open('ipv6', 'tcp');
  t.equal(error, undefined, 'connections are opened');
  await waitFor('a change', () => deltas.length > 0);
  await domain.activate(prepared.id, LEASE_MS);
  t.pass('the lease is renewed');
  await stop().catch(() => {});

  const [own, others] = [followed(prepared.id), followed(neighbour)];
  process.kill(pid, 'SIGKILL');
  t.match(await waitFor('its changes end', () => own.end()), {
    code: 'no-instance',
    message: /its container has ended/,
  });
  t.equal(others.end(), undefined, 'the other container lives');
  others.stop();
  await domain.retire(prepared.id);
  t.match((await domain.health()).instances, [neighbour], 'a retirement waits for no Docker');
  t.equal((await endsPlugged()).length, 2, 'nothing is plugged into its ends');
  await domain.retire(neighbour);
});
