/**
 * What real switches are sent ahead of a switch of instances: until it is stated every packet goes the old way, and afterwards each switch has exactly the rules
 * that it would have had without.
 */
import '../lab/enter.js';
import t from 'tap';
import { cookieClass } from '../../controller-app/core/cookies.js';
import type { FlowMod } from '../../controller-app/openflow/index.js';
import { BundleError } from '../../controller-app/switch/index.js';
import type { InstanceId } from '../../shared/domain/domain.js';
import { run } from '../../shared/runtime/command.js';
import { OPEN_PORT, S1, S2, startSteeringLab } from '../fixtures/steering-lab.js';
import { udp } from '../harness/hosts/frames.js';
import { type Host, startCapture, startInjector } from '../harness/hosts/index.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);
const FAMILIES = ['ipv4', 'ipv6'] as const;
type Family = (typeof FAMILIES)[number];
const SWITCHES = ['s1', 's2', 's3'] as const;
const FRAMES = 50;
/** Of the first plugin. */
const FIREWALL = cookieClass(1);

const lab = await startSteeringLab();
const { steering } = lab.firewall;
const [h1, h2] = [lab.net.host('h1'), lab.net.host('h2')];
const injectors = { terminal: startInjector(h1), server: startInjector(h2) };
const captures = {
  terminal: await startCapture(h1, { filter: ['udp'] }),
  server: await startCapture(h2, { filter: ['udp'] }),
};
t.teardown(async () => {
  await Promise.all(Object.values(injectors).map((injector) => injector.close()));
  await Promise.all(Object.values(captures).map((capture) => capture.close()));
  await lab.close();
});

interface Told {
  readonly line: string;
  readonly packets: number;
}

/** The firewalls' rules of a switch as its own tool tells them, without what changes by itself. Who else is in the network is learnt at any time. */
async function rules(name: string): Promise<Told[]> {
  const filter = `cookie=0x${FIREWALL.cookie.toString(16)}/0x${FIREWALL.cookieMask.toString(16)}`;
  const { stdout } = await run('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-flows', name, filter]);
  return stdout
    .split('\n')
    .filter((line) => line.includes('priority='))
    .map((line) => ({
      packets: Number(/n_packets=(\d+)/.exec(line)?.[1]),
      line: line.replace(/(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, */g, '').trim(),
    }));
}
const allRules = async (): Promise<string[][]> =>
  Promise.all(SWITCHES.map(async (name) => (await rules(name)).map(({ line }) => line).toSorted()));

interface Instance {
  readonly where: 's1' | 's2';
  readonly number: number;
}

/** How many packets have met the firewall of an instance: its number is in register 1. */
async function through({ where, number }: Instance): Promise<number> {
  const its = (await rules(where)).filter(
    ({ line }) => line.includes(`table=${firewallTable}`) && line.includes(`reg1=0x${number.toString(16)}`),
  );
  return its.reduce((sum, { packets }) => sum + packets, 0);
}
const firewallTable = lab.firewall.host.table('firewall');

let batch = 0;
function frames(from: Host, to: Host, family: Family, count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) => {
    const payload = Buffer.alloc(12);
    payload.write('side');
    payload.writeUInt32BE(batch, 4);
    payload.writeUInt32BE(index, 8);
    return udp(
      { from: from.mac, to: to.mac },
      { source: from[family], destination: to[family] },
      { sourcePort: 40_000 + batch, destinationPort: OPEN_PORT, payload },
    );
  });
}

/** All of a batch arrives on both sides. */
async function exchange(family: Family): Promise<void> {
  batch++;
  const arrived = (capture: (typeof captures)['server'], sender: Host): number =>
    capture.frames().filter(({ data }) => {
      const at = data.indexOf('side');
      const mine = at > 0 && data.readUInt32BE(at + 4) === batch;
      return mine && data.subarray(6, 12).toString('hex') === sender.mac.replaceAll(':', '');
    }).length;
  await Promise.all([
    injectors.terminal.send(frames(h1, h2, family, FRAMES), { intervalMs: 1 }),
    injectors.server.send(frames(h2, h1, family, FRAMES), { intervalMs: 1 }),
  ]);
  await waitFor(
    'all of it arrives',
    () => arrived(captures.server, h1) >= FRAMES && arrived(captures.terminal, h2) >= FRAMES,
  );
}

await injectors.terminal.send(frames(h1, h2, 'ipv4', 1));
await waitFor('the terminal is attached', () => lab.attached.length > 0);
const first = await lab.instance('s1', 1);
const second = await lab.instance('s2', 2);
await steering.setActive(first);
// Where the server is must be learnt: a frame for nobody known is not flooded to a terminal.
await injectors.server.send(frames(h2, h1, 'ipv4', 1));

const leadTable = lab.firewall.host.table('lead');
/** How many bundles other than staged ones that lead elsewhere the switches are given. */
let plain = 0;
for (const sw of lab.core.switches()) {
  const bundle = sw.bundle.bind(sw);
  sw.bundle = (mods, options) => {
    if (mods.some((mod) => mod.type === 'flow_mod' && mod.table === leadTable)) plain++;
    return bundle(mods, options);
  };
}
/** Leads to an instance, and tells how many bundles that took. */
async function lead(to: InstanceId): Promise<number> {
  const before = plain;
  await steering.setActive(to);
  return plain - before;
}

for (const family of FAMILIES)
  await t.test(`${family}: staged, all goes the old way; stated, all goes the new one`, async (t) => {
    const [old, next] = [{ where: 's1', number: 1 } as const, { where: 's2', number: 2 } as const];
    const before = await allRules();
    await steering.stage(second);
    t.same(await allRules(), before, 'no switch has another rule');
    const untouched = await through(next);
    let met = await through(old);
    await exchange(family);
    await waitFor('the old instance has met them', async () => (await through(old)) >= met + 2 * FRAMES);
    t.equal(await through(next), untouched, 'and the new one has not');
    // What was staged is kept for some seconds only, and the machine may be busy.
    await steering.stage(second);
    t.equal(await lead(second), 0, 'not one bundle more');
    const staged = await allRules();
    t.notSame(staged, before);
    met = await through(next);
    await exchange(family);
    await waitFor('the new instance has met them', async () => (await through(next)) >= met + 2 * FRAMES);
    t.equal(await lead(first), 3, 'control: without staging a bundle for each switch');
    t.same(await allRules(), before);
    t.equal(await lead(second), 3);
    t.same(await allRules(), staged, 'the same rules as staged');
    await lead(first);
  });

await t.test('staged and undone: nothing is left, and the switches go on', async (t) => {
  const before = await allRules();
  await steering.stage(second);
  await steering.removePath(second);
  await steering.addPath(second, { kind: 'pipeline', dpid: S2, instance: 2 });
  t.same(await allRules(), before);
  await exchange('ipv4');
});

const sw = lab.core.switch(S1);
if (!sw) throw new Error('s1 is not connected');
const TABLE = 40;
const add = (priority: number): FlowMod => ({
  ...{ type: 'flow_mod', command: 'add', table: TABLE, priority, cookie: 1n },
  ...{ match: { reg0: priority }, instructions: [] },
});
const priorities = async (): Promise<number[]> =>
  (await sw.flowStats({ table: TABLE })).map(({ priority }) => priority).toSorted((a, b) => a - b);
const vsctl = (...args: string[]) => run('ovs-vsctl', ['--timeout=10', ...args]);
const TIMEOUT_MS = 20_000;

await t.test('several bundles are open at once, and each is done or not by itself', async (t) => {
  const [one, two, three] = [await sw.stage([add(1)]), await sw.stage([add(2)]), await sw.stage([add(3)])];
  await sw.bundle([add(4)]);
  t.same(await priorities(), [4]);
  await Promise.all([three.commit(TIMEOUT_MS), one.commit(TIMEOUT_MS)]);
  two.discard();
  t.same(await priorities(), [1, 3, 4]);
});

await t.test('what the switch refuses at the commit is named, and nothing of it is done', async (t) => {
  const there = (await priorities()).length;
  const limit = [`flow_limit=${there + 1}`, 'overflow_policy=refuse'];
  await vsctl(
    '--',
    '--id=@t',
    'create',
    'Flow_Table',
    ...limit,
    '--',
    'set',
    'Bridge',
    's1',
    `flow_tables:${TABLE}=@t`,
  );
  const staged = await sw.stage([add(11), add(12)]);
  const error = await staged.commit(TIMEOUT_MS).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof BundleError)) throw new Error(`not refused: ${String(error)}`);
  t.match(error.failures, [{ index: 1, error: { errorCode: 'OFPFMFC_TABLE_FULL' } }]);
  t.equal((await priorities()).length, there);
  await vsctl('clear', 'Bridge', 's1', 'flow_tables');
  await (await sw.stage([add(11), add(12)])).commit(TIMEOUT_MS);
  t.equal((await priorities()).length, there + 2, 'control: without the limit');
});

await t.test('a switch that has forgotten what was staged gets it as any other change', async (t) => {
  // Seconds: less than it is kept here.
  await vsctl('set', 'Open_vSwitch', '.', 'other_config:bundle-idle-timeout=1');
  let forgotten = 0;
  for (const each of lab.core.switches())
    each.on('error', ({ errorCode }) => {
      if (errorCode === 'OFPBFC_TIMEOUT') forgotten++;
    });
  await steering.stage(second);
  await waitFor('all have forgotten', () => forgotten === 3);
  t.equal(await lead(second), 3);
  const rules = await allRules();
  await lead(first);
  await lead(second);
  t.same(await allRules(), rules);
  await exchange('ipv6');
});
