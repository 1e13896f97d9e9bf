/**
 * A terminal with two links: it receives on both, sends on one, and changes that one as it likes. First on plain switches: what is lost later is not
 * lost by its host.
 */
import '../lab/enter.js';
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { run } from '../../shared/runtime/command.js';
import { startTraffic } from '../harness/hosts/index.js';
import { Paguro } from '../harness/paguro.js';
import { type Mininet, waitFor } from '../lab/index.js';

t.setTimeout(180_000);
const UDP = 5_003;
const FAMILIES = ['ipv4', 'ipv6'] as const;
const LINKS = { s1: 's1-eth2', s2: 's2-eth2' } as const;
const other = (link: 's1' | 's2') => (link === 's1' ? 's2' : 's1');
let traffic: { client: ReturnType<typeof startTraffic>; server: ReturnType<typeof startTraffic> } | undefined;

/** Frames that came in at a switch's port. */
async function cameInAt(port: string): Promise<number> {
  const line = (await readFile('/proc/net/dev', 'utf8'))
    .split('\n')
    .find((text) => text.includes(`${port}:`));
  return Number(line?.trim().split(/\s+/)[2]);
}

async function onPlainSwitches(net: Mininet): Promise<void> {
  const [h1, h2] = [net.host('h1'), net.host('h2')];
  const [server, client] = [startTraffic(h2), startTraffic(h1)];
  traffic = { client, server };
  await t.test(
    'the host receives on both links and sends on one; to change it loses and doubles nothing',
    async (t) => {
      await net.bypass(true);
      // A switch that hears a multicast of the host's by the other link learns that the host is there, and drops what it gets from there for it.
      for (const sw of ['s1', 's2'] as const)
        await run('ovs-appctl', ['fdb/add', sw, LINKS[sw], '0', h1.mac]);
      await server.listen({ udp: [UDP] });
      t.same(h1.attachment, { switch: 's1', port: LINKS.s1 });
      for (const family of FAMILIES) {
        await h1.exec('ping', ['-c', '1', '-W', '5', h2[family]]);
        const probe = await client.probe(
          { address: h2[family], port: UDP },
          { perSecond: 1000, seconds: 60 },
        );
        for (const to of ['s2', 's1', 's2', 's1'] as const) {
          const { doneAt } = await net.sendBy('h1', to);
          t.equal(h1.attachment.switch, to);
          const unused = await cameInAt(LINKS[other(to)]);
          await waitFor(
            'more is answered',
            async () => ((await client.report(doneAt)).probes[probe]?.answered ?? 0) > 20,
          );
          t.equal(await cameInAt(LINKS[other(to)]), unused, `nothing leaves by ${other(to)} now`);
        }
        const { sent, answered, lost, doubled } = await client.stopProbe(probe);
        t.ok(answered > 80);
        t.same({ lost, doubled }, { lost: 0, doubled: 0 }, `of ${sent}`);
      }
      await t.rejects(net.sendBy('h1', 's3'), { message: /no link to s3: it has links to s1, s2/ });
      await t.rejects(net.sendBy('h2', 's1'), { message: /one switch only/ });
      await t.rejects(net.move('h1', 's3'), { message: /two links/ });
      await net.bypass(false);
    },
  );
}

const paguro = await Paguro.start({
  attachments: 2,
  network: {
    hosts: [
      {
        ...{ name: 'h1', switch: 's1', also: 's2' },
        ...{ mac: '02:00:00:00:00:01', ipv4: '10.0.0.1/24', ipv6: 'fd00::1/64' },
      },
      { name: 'h2', switch: 's3', mac: '02:00:00:00:00:02', ipv4: '10.0.0.2/24', ipv6: 'fd00::2/64' },
      { name: 'h3', switch: 's2', mac: '02:00:00:00:00:03', ipv4: '10.0.0.3/24', ipv6: 'fd00::3/64' },
    ],
  },
  beforeController: onPlainSwitches,
});
const { client, server } = traffic ?? {
  client: startTraffic(paguro.host('h1')),
  server: startTraffic(paguro.host('h2')),
};
t.teardown(async () => {
  await Promise.all([client.close(), server.close()]);
  await paguro.close();
});

await paguro.attach('alice', 'h1', 'sdn-1');

await t.test(
  'its firewall follows the link that it sends by, and no packet is lost, doubled or late',
  async (t) => {
    for (const family of FAMILIES) {
      const address = paguro.host('h2')[family];
      // As many as a port's buffer holds for over a second: a machine that is too busy to run its switches is not what is tested.
      const probe = await client.probe({ address, port: UDP }, { perSecond: 200, seconds: 120 });
      for (const [to, domain] of [
        ['s2', 'edge-1'],
        ['s1', 'sdn-1'],
        ['s2', 'edge-1'],
        ['s1', 'sdn-1'],
      ] as const) {
        const seen = (await paguro.api.handovers()).length;
        const { doneAt } = await paguro.sendBy('h1', to);
        await paguro.handoverAfter('alice', seen);
        await paguro.settled('alice', domain);
        t.equal((await paguro.terminal('alice')).attachment?.switch, to);
        await waitFor(
          'more is answered',
          async () => ((await client.report(doneAt)).probes[probe]?.answered ?? 0) > 20,
        );
      }
      const { sent, lost, doubled, gapMs, reordered } = await client.stopProbe(probe);
      t.same(
        { lost, doubled },
        { lost: 0, doubled: 0 },
        `of ${sent}; gap ${gapMs} ms, ${reordered} reordered`,
      );
    }
  },
);
