/**
 * The network and the harness's tools on real parts: what passes without a firewall (everything, forbidden frames as well), and that
 * without rules nothing does. Whoever looks for a frame that must not arrive has to have seen it arrive here.
 */
import '../lab/enter.js';
import { existsSync } from 'node:fs';
import t from 'tap';
import { run } from '../../shared/runtime/command.js';
import {
  type ForbiddenOptions,
  fates,
  forbiddenFrames,
  type Host,
  monotonicMs,
  type Rig,
  sendCases,
  settle,
  startCapture,
  startInjector,
  startPing,
  startTraffic,
  type Trial,
  tryForbidden,
} from '../harness/hosts/index.js';
import { currentLab, startDocker, startMininet, startOpenVSwitch, waitFor } from '../lab/index.js';

const [BOTH, SERVER_ONLY, UDP] = [5_001, 5_002, 5_003];

await startOpenVSwitch();
const net = await startMininet();
const [h1, h2, h3] = [net.host('h1'), net.host('h2'), net.host('h3')];
const rig: Rig = {
  injectors: { terminal: startInjector(h1), server: startInjector(h2), stranger: startInjector(h3) },
  captures: { terminal: await startCapture(h1), server: await startCapture(h2) },
};
const options: Omit<ForbiddenOptions, 'round'> = {
  ...{ terminal: h1, server: h2, stranger: h3, openPort: 443, closedTcpPort: 25, closedUdpPort: 1_900 },
  vlans: [5, 2, 3],
};
const names = ({ arrived }: Trial): readonly string[] => arrived().map(({ name }) => name);

/** Does one host reach another? One request, which is not repeated. */
async function reaches(from: Host, address: string): Promise<boolean> {
  const { stdout } = await from.exec('ping', ['-c', '1', '-W', '5', address]);
  return stdout.includes(' 0% packet loss');
}

t.test(
  'closed switches without a controller forward nothing; without the firewall everything arrives',
  async (t) => {
    const shut = await sendCases(rig, forbiddenFrames({ ...options, round: 0 }));
    await t.rejects(h1.exec('ping', ['-c', '1', '-W', '1', h2.ipv4]));
    await net.bypass(true);
    await settle(rig, { ...options, round: 0 }, UDP);
    t.same(names(shut), [], 'frames sent before the switches were opened never arrive');
    const open = await tryForbidden(
      rig,
      forbiddenFrames({ ...options, round: 1 }),
      { ...options, round: 1 },
      UDP,
    );
    t.same(
      open.missing().map(({ name, family }) => `${family} ${name}`),
      [],
      `all of ${open.tried.length} arrive, byte for byte`,
    );
    for (const family of ['ipv4', 'ipv6', 'link'] as const) {
      t.ok(
        open.arrived().some((one) => one.family === family),
        family,
      );
    }
    await Promise.all([h1, h2, h3].map((host) => host.flushNeighbours()));
  },
);

t.test('traffic between all hosts, over both families', async (t) => {
  for (const [from, to] of [
    [h1, h2],
    [h2, h3],
    [h3, h1],
  ] as const) {
    t.ok(await reaches(from, to.ipv4), `${from.name} to ${to.name}, IPv4`);
    t.ok(await reaches(from, to.ipv6), `${from.name} to ${to.name}, IPv6`);
  }
});

const [server, client] = [startTraffic(h2), startTraffic(h1)];

t.test(
  'a move is a change of link: connections, exchanges, a probe and a ping live through it and back',
  async (t) => {
    await server.listen({
      tcp: [
        { port: BOTH, mode: 'both' },
        { port: SERVER_ONLY, mode: 'server-only' },
      ],
      udp: [UDP],
    });
    const targets = [h2.ipv4, h2.ipv6].flatMap((address) =>
      [BOTH, SERVER_ONLY].flatMap((port) =>
        Array.from({ length: 5 }, () => ({
          address,
          port,
          mode: port === BOTH ? ('both' as const) : ('server-only' as const),
        })),
      ),
    );
    const opened = await client.connect(targets);
    t.ok(opened.every(({ openedAt }) => openedAt !== null));
    await client.exchange([h2.ipv4, h2.ipv6].map((address) => ({ address, port: UDP })));
    const probe = await client.probe({ address: h2.ipv4, port: UDP }, { perSecond: 200, seconds: 60 });
    const ping = startPing(h1, h2.ipv6);
    for (const [to, away] of [
      ['s2', 's1'],
      ['s1', 's2'],
    ] as const) {
      const move = await net.move('h1', to);
      t.same([move.from, move.to, h1.attachment.switch], [away, to, to]);
      t.ok(move.linkDownMs > 0 && move.upAt <= monotonicMs(), `the link was away for ${move.linkDownMs} ms`);
      const switches = await net.switches();
      t.equal(switches[to]?.ports[move.toPort], 'h1');
      t.notOk(Object.values(switches[away]?.ports ?? {}).includes('h1'));
      const { stdout } = await run('ovs-vsctl', ['list-ports', away]);
      t.notOk(stdout.split('\n').includes(move.fromPort), 'the old port is gone');
      const all = await waitFor('everything moves again', async () => {
        const [there, here] = await Promise.all([server.report(), client.report()]);
        const found = fates(here.tcp, there.tcp, move.upAt);
        const exchanged = here.exchanges.every(({ lastAnsweredAt }) => (lastAnsweredAt ?? 0) > move.upAt);
        const pinged = (ping.report().lastAnsweredAt ?? 0) > move.upAt;
        return found.every((fate) => fate === 'survived') && exchanged && pinged && found;
      });
      t.equal(all.length, 20);
    }
    await t.rejects(net.move('h1', 's1'), { code: 'helper-refused', message: /on s1 already/ });
    await t.rejects(net.move('h1', 's7'), { message: /no switch s7: there are s1, s2, s3/ });
    const told = await client.stopProbe(probe);
    t.ok(told.answered > 0 && told.gapMs > 0, `the longest gap was ${told.gapMs} ms, ${told.lost} were lost`);
    t.equal(told.doubled, 0);
    t.ok((await ping.close()).answered > 0);
    await ping.close();
  },
);

t.test('a host that is added later is reached at once', async (t) => {
  const h4 = await net.addHost({
    ...{ name: 'h4', switch: 's2', mac: '02:00:00:00:00:04', ipv4: '10.0.0.4/24', ipv6: 'fd00::4/64' },
  });
  t.ok(await reaches(h4, h1.ipv4));
  t.ok(await reaches(h1, h4.ipv6));
  t.throws(() => net.host('h9'), { code: 'refused' });
});

t.test(
  'a capture holds all that was sent when it is flushed, and fails rather than miss frames',
  async (t) => {
    const marked = Array.from({ length: 2_000 }, (_, number) => {
      const frame = Buffer.alloc(64);
      frame.write('02000000000202000000000188b5', 'hex');
      frame.writeUInt32BE(number, 20);
      return frame;
    });
    // Where they are sent: a busy switch may lose some, and the capture is not to.
    const few = await startCapture(h1, { filter: ['ether', 'proto', '0x88b5'], maxFrames: 10 });
    const none = await startCapture(h1, { keep: () => false });
    const capture = await startCapture(h1);
    await rig.injectors.terminal.send(marked, { intervalMs: 0.1 });
    await capture.close();
    await capture.close();
    t.equal(marked.filter((frame) => !capture.saw(frame)).length, 0);
    const times = capture.frames().map(({ at }) => at);
    t.ok(times.every((at) => at > 0 && at <= monotonicMs()));
    await t.rejects(few.close(), { message: /more than 10 frames/ });
    await none.close();
    t.equal(none.frames().length, 0);
    await t.rejects(startCapture(h2, { filter: ['no', 'such', 'filter'] }), { code: 'helper-ended' });
    await t.rejects(rig.injectors.terminal.send([Buffer.alloc(70_000)]), { code: 'helper-refused' });
  },
);

t.test('the control: with the firewall back and no rules, every connection is dead', async (t) => {
  const before = await client.report();
  t.ok(before.tcp.length > 0);
  await net.bypass(false);
  const since = monotonicMs();
  // Frames on their way when the switches were closed have arrived when one at each host has made the round through its own stack.
  await Promise.all([h1, h2].map((host) => reaches(host, host.ipv4)));
  const closed = monotonicMs();
  await waitFor('silence for three ticks', async () => {
    const { now, tcp } = await client.report();
    return tcp.every(({ lastReceivedAt }) => now - (lastReceivedAt ?? 0) > 300);
  });
  const [there, here] = await Promise.all([server.report(), client.report()]);
  t.same([...new Set(fates(here.tcp, there.tcp, closed))], ['dead'], `closed within ${closed - since} ms`);
  await net.bypass(true);
});

t.test(
  'Docker runs in the lab and keeps everything there; when it does not start, the end of its log is told',
  async (t) => {
    await t.rejects(startDocker({ storageDriver: 'nonesuch' }), {
      code: 'did-not-start',
      message: /nonesuch/,
    });
    const docker = await startDocker();
    const { stdout } = await run('docker', ['info', '--format', '{{.DockerRootDir}} {{.CgroupDriver}}']);
    t.match(stdout, /^\/run\/.* cgroupfs$/m);
    t.ok(docker.logFile.startsWith(currentLab().folder));
    await docker.close();
    await docker.close();
    t.notOk(existsSync(docker.socketPath));
  },
);

t.teardown(async () => {
  await Promise.all([client.close(), server.close()]);
  await Promise.all(Object.values(rig.injectors).map((injector) => injector.close()));
  await Promise.all(Object.values(rig.captures).map((capture) => capture.close()));
  await net.close();
  await net.close();
});
