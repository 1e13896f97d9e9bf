/**
 * The measurement of numbered datagrams, on the wire: what is taken away is counted as lost, what comes late as reordered, what comes again as
 * duplicated, one for one by the kernel's own counters; and nothing else is.
 */
import '../lab/enter.js';
import t from 'tap';
import type { Family } from '../../shared/firewall/terminal.js';
import { Datagrams, monotonicMs, startCapture, startInjector } from '../harness/hosts/index.js';
import { startMininet, startOpenVSwitch, waitFor } from '../lab/index.js';

t.setTimeout(60_000);

const PORTS = [5_010, 5_011] as const;
const SOME = 50;
/** So that a switch on a busy machine need not read them for half a second. */
const PER_SECOND = 200;
const INTERVAL_MS = 1_000 / PER_SECOND;

await startOpenVSwitch();
const net = await startMininet();
await net.bypass(true);
const [h1, h2] = [net.host('h1'), net.host('h2')];
const injector = startInjector(h1);
t.teardown(async () => {
  await injector.close();
  await net.close();
});

/** The server's kernel drops datagrams between capture and socket, until it has dropped some. Returns how many, and the time of it. */
async function dropSome(family: Family): Promise<{ dropped: number; from: number; to: number }> {
  const iptables = async (...args: readonly string[]): Promise<string> =>
    (await h2.exec(family === 'ipv4' ? 'iptables' : 'ip6tables', ['-w', ...args])).stdout;
  const rule = ['-p', 'udp', '--dport', String(PORTS[1])];
  const counted = async (): Promise<number> =>
    Number(/^\s*(\d+)\s+\d+ DROP/m.exec(await iptables('-L', 'INPUT', '-v', '-x', '-n'))?.[1] ?? 0);
  const from = monotonicMs();
  await iptables('-A', 'INPUT', ...rule, '-j', 'DROP');
  await waitFor('some datagrams are dropped', async () => (await counted()) >= SOME);
  await iptables('-I', 'INPUT', '1', ...rule, '-j', 'ACCEPT');
  const [dropped, to] = [await counted(), monotonicMs()];
  await iptables('-F', 'INPUT');
  return { dropped, from, to };
}

for (const family of ['ipv4', 'ipv6'] as const) {
  t.test(`${family}: lost, late and doubled datagrams are each counted as what they are`, async (t) => {
    const datagrams = await Datagrams.start({ first: h1, second: h2, ports: PORTS, perSecond: PER_SECOND });
    t.teardown(() => datagrams.close());
    const reports = () => datagrams.report().flows;
    const toServer = () => reports().find((flow) => flow.from === 'h1' && flow.family === family);
    const injected = async (arrivals: number) => {
      await injector.send(frames, { intervalMs: INTERVAL_MS });
      return waitFor('what was injected has arrived', async () => {
        await datagrams.collect();
        const now = toServer();
        return now && now.received + now.duplicated >= now.sent + arrivals && now;
      });
    };

    const filter = ['udp', 'and', 'dst', 'port', String(PORTS[1]), 'and', 'dst', 'host', h2[family]];
    const capture = await startCapture(h2, { filter });
    const { dropped, from, to } = await dropSome(family);
    await capture.close();
    const frames = capture.frames().map(({ data }) => data);
    const again = frames.length - dropped;
    const gaps = await datagrams.stop();
    t.match(toServer(), { lost: dropped, reordered: 0, duplicated: 0 }, 'lost');
    const worst = gaps
      .filter(({ flow, at }) => flow.from === 'h1' && flow.family === family && at >= from - 5 && at <= to)
      .reduce((most, { ms }) => Math.max(most, ms), 0);
    t.ok(
      worst > dropped * INTERVAL_MS * 0.9,
      `${dropped} were due, one every ${INTERVAL_MS} ms: a gap of ${worst.toFixed(1)} ms`,
    );

    t.match(await injected(again), { lost: 0, reordered: dropped, duplicated: again }, 'late');
    t.match(
      await injected(again + frames.length),
      { lost: 0, reordered: dropped, duplicated: again + frames.length },
      'doubled',
    );

    for (const { from, to, family: other, sent, lost, duplicated, reordered, unknown } of reports()) {
      const way = `${from} to ${to}, ${other}`;
      t.ok(sent > SOME, `${way}: ${sent} sent`);
      if (from !== 'h1' || other !== family)
        t.same(
          { lost, duplicated, reordered, unknown },
          { lost: 0, duplicated: 0, reordered: 0, unknown: 0 },
          way,
        );
    }
    t.match(datagrams.report(), { foreign: 0, overflows: 0, refused: 0 });
  });
}
