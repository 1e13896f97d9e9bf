/**
 * Handovers in every direction and in chains: connections opened in any domain live through all later moves, with the terminal and
 * without it; and the control: without their state they die, in every direction.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { realClock, sleep } from '../../shared/runtime/clock.js';
import { monotonicMs } from '../harness/hosts/index.js';
import { casualties, DEAD_MS, LIFE_PORTS, Life } from '../harness/life.js';
import { Paguro } from '../harness/paguro.js';
import { type Place, places, SWITCH_OF } from '../harness/places.js';
import { count, WireRig } from '../harness/rig.js';

t.setTimeout(300_000);

/** After the switch packets may go the old way for a moment, see DEAD_MS. */
const REVALIDATION_MS = 300;

const paguro = await Paguro.start(places({ timings: { drainMs: 300, retryMs: 1_000 } }));
const life = await Life.start(paguro);
const wire = await WireRig.start(paguro, LIFE_PORTS);
t.teardown(async () => {
  await Promise.all([life.close(), wire.close()]);
  await paguro.close();
});

async function allLive(t: Test, after: string): Promise<void> {
  const judged = await life.judge();
  t.equal(judged.length, life.size);
  t.same(casualties(judged), [], `${judged.length} connections live ${after}`);
}

await paguro.attach('alice', 'h1', 'sdn-1');

await t.test('with the terminal: SDN → edge → edge → SDN → SDN', async (t) => {
  await life.open('sdn-1');
  const stops: readonly Place[] = ['edge-1', 'edge-2', 'sdn-2', 'sdn-1'];
  for (const to of stops) {
    const seen = (await paguro.api.handovers()).length;
    await paguro.move('h1', SWITCH_OF[to]);
    const report = await paguro.handoverAfter('alice', seen);
    t.match(report, { outcome: 'done', to, cause: 'attachment' });
    await allLive(t, `after ${report.from} → ${report.to}`);
    await life.open(to);
  }
  await allLive(t, 'at the end, opened in every domain');
  t.same(count([await wire.round()]).passed, []);
});

await t.test('the firewall alone, in chains A → B → A → C', async (t) => {
  await paguro.api.setPlacement('alice', 'stay');
  const chains: readonly (readonly Place[])[] = [
    ['edge-1', 'sdn-1', 'edge-2'],
    ['edge-1', 'edge-2', 'sdn-2'],
    ['sdn-1', 'sdn-2', 'edge-1'],
    ['sdn-1'],
  ];
  for (const [index, chain] of chains.entries()) {
    for (const to of chain) {
      const report = await paguro.handover('alice', to);
      t.match(report, { outcome: 'done', to }, `${report.from} → ${to}: ${report.error ?? 'done'}`);
    }
    await allLive(t, `after ${chain.join(' → ')}`);
    if (index % 2 === 0) await life.open(chain.at(-1) ?? '');
    t.same(count([await wire.round()]).passed, []);
  }
});

await t.test('control: without their state they die, in every direction', async (t) => {
  await life.end();
  const stops: readonly Place[] = ['edge-1', 'edge-2', 'sdn-2', 'sdn-1'];
  for (const to of stops) {
    await life.open(`before ${to}`);
    await allLive(t, `before the move to ${to}`);
    const report = await paguro.handover('alice', to, { omitConnections: true });
    t.equal(report.outcome, 'done');
    // Over this time nothing may happen.
    const since = monotonicMs() + REVALIDATION_MS;
    await sleep(realClock, REVALIDATION_MS + DEAD_MS);
    const alive = await life.anyByteSince(since);
    // The policy lets the terminal open UDP exchanges and pings outbound: they begin anew by themselves.
    t.same(
      alive.filter((name) => name.includes('tcp')),
      [],
      `no byte in TCP after ${report.from} → ${to}`,
    );
    await life.end();
  }
});
