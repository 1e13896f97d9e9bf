/**
 * Idle times in the SDN domain, in real time: a connection that is live to the firewall passes although the switch itself has forgotten it, and one
 * that is over does not although the switch would still know it.
 */
import '../lab/enter.js';
import t from 'tap';
import { OPEN_VSWITCH_TIMES } from '../../controller-app/domains/openflow-ct/index.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { DEFAULT_IDLE_TIMES } from '../../shared/firewall/timeouts.js';
import { TCP } from '../fixtures/frames.js';
import { FAMILIES, fresh, openPolicy, SdnBench, type Segment } from '../fixtures/sdn-bench.js';
import { startSdnLab } from '../fixtures/sdn-lab.js';
import { waitFor } from '../lab/index.js';

/** The longest that the switch keeps what it is to forget here. */
const SWITCH_FORGETS_MS = 31_000;
/** Silent for longer than the switch remembers, and for less than the firewall does. */
const SILENT_MS = 40_000;
const GENERATION_MS = 5_000;
const UDP_REPLIED_S = 50;

const closed = policySchema.parse({
  name: 'closed',
  defaults: { outbound: 'drop', inbound: 'drop' },
  rules: [],
});

const lab = await startSdnLab({
  generationMs: GENERATION_MS,
  aheadMs: 3_000,
  idleTimes: { ...DEFAULT_IDLE_TIMES, udpReplied: UDP_REPLIED_S },
});
const { domain } = lab;
const bench = new SdnBench(lab, openPolicy);
t.setTimeout(180_000);
t.teardown(() => lab.close());

const seconds = (lines: readonly string[], protocol: string): number[] =>
  lines
    .filter((line) => line.startsWith(`${protocol},`))
    .map((line) => Number(/timeout=(\d+)/.exec(line)?.[1]));

t.test('the times that are taken for those of the switch are', async (t) => {
  const times = OPEN_VSWITCH_TIMES;
  for (const family of FAMILIES) {
    const icmp = family === 'ipv4' ? 'icmp' : 'icmpv6';
    const placed = await bench.place();
    const shows = async (protocol: string, expected: number, what: string): Promise<void> => {
      const [left = 0] = seconds(await lab.tracked(placed.ends), protocol);
      t.ok(left <= expected && left > expected - 5, `${what}, ${family}: ${left} of ${expected} s`);
    };
    for (const [protocol, name, once, replied] of [
      ['udp', 'udp', times.udp, times.udpReplied],
      ['icmp', icmp, times.icmp, times.icmpReplied],
    ] as const) {
      const one = fresh(protocol, family);
      t.ok(await bench.arrives(bench.packetOf(one, 'terminal')));
      await shows(name, once, `${protocol}, one way`);
      t.ok(await bench.arrives(bench.packetOf(one, 'remote')));
      await shows(name, replied, `${protocol}, replied`);
    }
    const tcp = fresh('tcp', family);
    const steps: readonly (readonly ['terminal' | 'remote', Segment, number, string])[] = [
      ['terminal', { flags: TCP.syn, seq: 1000 }, times.tcpOpening, 'opening'],
      ['remote', { flags: TCP.syn | TCP.ack, seq: 5000, ack: 1001 }, times.tcpAnswered, 'answered'],
      ['terminal', { flags: TCP.ack, seq: 1001, ack: 5001 }, times.tcpEstablished, 'established'],
      ['remote', { flags: TCP.fin | TCP.ack, seq: 5001, ack: 1001 }, times.tcpClosing, 'closing'],
      ['terminal', { flags: TCP.rst | TCP.ack, seq: 1001, ack: 5002 }, times.tcpClosed, 'closed'],
    ];
    for (const [sender, segment, expected, what] of steps) {
      t.ok(await bench.arrives(bench.packetOf(tcp, sender, { data: '', ...segment })), what);
      await shows('tcp', expected, what);
    }
    await bench.retired(placed);
  }
});

t.test('silence: what lives goes on in both directions, what is over is dead', async (t) => {
  const placed = await bench.place();
  const make = (protocol: 'udp' | 'icmp'): Connection[] => FAMILIES.map((family) => fresh(protocol, family));
  const oneWay = make('udp');
  const speakers = {
    terminal: [...make('udp'), ...make('icmp')],
    remote: make('udp'),
    nobody: make('udp'),
  };
  const replied = Object.values(speakers).flat();
  for (const one of [...oneWay, ...replied]) t.ok(await bench.arrives(bench.packetOf(one, 'terminal')));
  for (const one of replied) t.ok(await bench.arrives(bench.packetOf(one, 'remote')));
  const start = performance.now();
  // Nothing is admitted any more: what passes from now on is known.
  await domain.setPolicy(placed.id, closed);
  await lab.steering.purge();
  const entry = (lines: readonly string[], one: Connection): boolean =>
    lines.some((line) =>
      one.protocol === 'icmp' ? line.includes(`id=${one.id},`) : line.includes(`sport=${one.local.port},`),
    );
  await waitFor(
    'the switch has forgotten every exchange that had a reply',
    async () => {
      const lines = await lab.tracked(placed.ends);
      return replied.every((one) => !entry(lines, one));
    },
    { timeoutMs: SWITCH_FORGETS_MS + 15_000, intervalMs: 250 },
  );
  await waitFor('40 s of silence', () => performance.now() - start > SILENT_MS, {
    timeoutMs: SILENT_MS,
    intervalMs: 100,
  });
  const label = (one: Connection): string => connectionKey(one);
  for (const sender of ['terminal', 'remote'] as const) {
    const other = sender === 'terminal' ? 'remote' : 'terminal';
    for (const one of speakers[sender]) {
      t.ok(await bench.arrives(bench.packetOf(one, sender)), `${label(one)}: the ${sender} speaks again`);
      t.ok(await bench.arrives(bench.packetOf(one, other)), `${label(one)}: and the other end`);
      t.equal(
        (await bench.known(placed.id, connectionKey(one)))?.opener,
        'terminal',
        'its opener is who it was',
      );
    }
  }
  for (const one of oneWay) {
    // 30 s and a generation; the switch itself would know it for 60.
    t.equal(
      await bench.known(placed.id, connectionKey(one)),
      undefined,
      `${label(one)}: one-way, it is over`,
    );
    t.notOk(await bench.arrives(bench.packetOf(one, 'remote')), 'a late reply does not pass');
    t.notOk(entry(await lab.tracked(placed.ends), one), 'the switch has been told to forget it');
  }
  await waitFor(
    'what nobody spoke in is over',
    async () => {
      const found = await Promise.all(
        speakers.nobody.map((one) => bench.known(placed.id, connectionKey(one))),
      );
      return found.every((one) => one === undefined);
    },
    { timeoutMs: (UDP_REPLIED_S + 10) * 1000 + GENERATION_MS - SILENT_MS, intervalMs: 250 },
  );
  await domain.export(placed.id);
  await lab.steering.purge();
  for (const one of speakers.nobody) {
    t.notOk(await bench.arrives(bench.packetOf(one, 'terminal')), `${label(one)}: over, it does not pass`);
    t.notOk(await bench.arrives(bench.packetOf(one, 'remote')), 'in no direction');
  }
  for (const one of [...speakers.terminal, ...speakers.remote])
    t.ok(await bench.arrives(bench.packetOf(one, 'remote')), `control: ${label(one)} spoke, and lives`);
  await bench.retired(placed);
});
