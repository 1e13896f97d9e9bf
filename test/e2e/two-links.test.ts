/**
 * A terminal with two links. Here on plain switches: what the harness's host does, so that whatever is lost elsewhere is not lost by it.
 */
import '../lab/enter.js';
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { startTraffic } from '../harness/hosts/index.js';
import { startMininet, startOpenVSwitch, waitFor } from '../lab/index.js';

await startOpenVSwitch();
const net = await startMininet({
  hosts: [
    {
      ...{ name: 'h1', switch: 's1', also: 's2' },
      ...{ mac: '02:00:00:00:00:01', ipv4: '10.0.0.1/24', ipv6: 'fd00::1/64' },
    },
    { name: 'h2', switch: 's3', mac: '02:00:00:00:00:02', ipv4: '10.0.0.2/24', ipv6: 'fd00::2/64' },
  ],
});
const [h1, h2] = [net.host('h1'), net.host('h2')];
const UDP = 5_003;

/** Frames that came in at a switch's port. */
async function cameInAt(port: string): Promise<number> {
  const line = (await readFile('/proc/net/dev', 'utf8'))
    .split('\n')
    .find((text) => text.includes(`${port}:`));
  return Number(line?.trim().split(/\s+/)[2]);
}

t.test(
  'the host receives on both links and sends on one; to change it loses and doubles nothing',
  async (t) => {
    await net.bypass(true);
    const [server, client] = [startTraffic(h2), startTraffic(h1)];
    await server.listen({ udp: [UDP] });
    t.same(h1.attachment, { switch: 's1', port: 's1-eth2' });
    const idle = { s1: 's2-eth2', s2: 's1-eth2' };
    for (const address of [h2.ipv4, h2.ipv6]) {
      await h1.exec('ping', ['-c', '1', '-W', '5', address]);
      const probe = await client.probe({ address, port: UDP }, { perSecond: 1000, seconds: 60 });
      for (const to of ['s2', 's1', 's2', 's1'] as const) {
        const { doneAt } = await net.sendBy('h1', to);
        t.equal(h1.attachment.switch, to);
        const unused = await cameInAt(idle[to]);
        await waitFor(
          'more is answered',
          async () => ((await client.report(doneAt)).probes[probe]?.answered ?? 0) > 20,
        );
        t.equal(await cameInAt(idle[to]), unused, `nothing leaves by ${idle[to]} now`);
      }
      const { sent, answered, lost, doubled } = await client.stopProbe(probe);
      t.ok(answered > 80);
      t.same({ lost, doubled }, { lost: 0, doubled: 0 }, `of ${sent}`);
    }
    await t.rejects(net.sendBy('h1', 's3'), { message: /no link to s3: it has links to s1, s2/ });
    await t.rejects(net.sendBy('h2', 's1'), { message: /one switch only/ });
    await t.rejects(net.move('h1', 's3'), { message: /two links/ });
    await Promise.all([client.close(), server.close()]);
  },
);

t.teardown(() => net.close());
