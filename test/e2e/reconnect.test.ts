/**
 * The whole system when its switches lose their connections to the controller and come back: their rules are what they should be already, so
 * nothing is touched, and alice's connections notice nothing.
 */
import '../lab/enter.js';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { z } from 'zod';
import { run } from '../../shared/runtime/command.js';
import { fatesFromNow, Paguro, startTraffic } from '../harness/index.js';
import { currentLab, waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const ready = z.object({
  msg: z.literal('switch ready'),
  dpid: z.string(),
  stated: z.number(),
  unchanged: z.number(),
  added: z.number(),
  changed: z.number(),
  removed: z.number(),
});

/** What the controller found on each switch that came, from its log. */
async function arrivals(): Promise<z.infer<typeof ready>[]> {
  const text = await readFile(join(currentLab().folder, 'controller.log'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .flatMap((line) => ready.safeParse(JSON.parse(line)).data ?? []);
}

t.test(
  'switches that come back have every rule already, and connections of both families live on',
  async (t) => {
    const paguro = await Paguro.start({ docker: false, agents: [] });
    const [alice, server] = [startTraffic(paguro.host('h1')), startTraffic(paguro.host('h2'))];
    await server.listen({
      tcp: [
        { port: 8080, mode: 'both' },
        { port: 8081, mode: 'server-only' },
      ],
    });
    await paguro.attach('alice', 'h1', 'sdn-1');
    const { ipv4, ipv6 } = paguro.host('h2');
    await alice.connect(
      [ipv4, ipv6].flatMap((address) => [
        { address, port: 8080, mode: 'both' as const },
        { address, port: 8081, mode: 'server-only' as const },
      ]),
    );
    const first = await arrivals();
    t.equal(first.length, 3);
    t.ok(
      first.every(({ added }) => added > 0),
      'the first time all is new',
    );
    for (const name of ['s1', 's2', 's3']) await run('ovs-appctl', ['bridge/reconnect', name]);
    await waitFor('all switches to be back', async () => (await arrivals()).length === 6, {
      timeoutMs: 30_000,
    });
    for (const { dpid, stated, unchanged, added, changed, removed } of (await arrivals()).slice(3)) {
      t.ok(stated > 5, `${dpid}: ${stated} rules`);
      t.same(
        { unchanged, added, changed, removed },
        { unchanged: stated, added: 0, changed: 0, removed: 0 },
        dpid,
      );
    }
    const fates = await fatesFromNow(alice, server);
    t.same(fates, Array(4).fill('survived'));
    await Promise.all([alice.close(), server.close()]);
    await paguro.close();
  },
);
