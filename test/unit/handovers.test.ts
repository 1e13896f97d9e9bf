/**
 * The measurement of handovers, where it is pure: windows and their worst gaps, quantiles, what other programs say, the order of moves, when a result is good. A
 * measurement that could not find a fault would prove nothing.
 */
import t from 'tap';
import { isGood, ProgressTable, renderResult } from '../../scripts/handovers-report.js';
import type { HandoversDetails, HandoversResult } from '../harness/handovers/job.js';
import { machineNoise } from '../harness/handovers/machine-noise.js';
import { moveKind } from '../harness/handovers/moves.js';
import { readReasons, readUnread } from '../harness/handovers/switch-drops.js';
import { WINDOW_MS, Windows } from '../harness/handovers/windows.js';
import { countRetransmissions, type FlowGap } from '../harness/hosts/index.js';
import { quantiles } from '../harness/quantiles.js';

const gap = (at: number, ms: number, from = 'h1'): FlowGap => ({
  ...{ at, ms },
  flow: { from, to: from === 'h1' ? 'h2' : 'h1', family: 'ipv6' },
});

t.test('a window has the worst gap that lies in it, if only in part', async (t) => {
  const windows = new Windows();
  windows.open('role', 1_000);
  windows.note([gap(900, 50), gap(1_100, 2), gap(1_200, 5, 'h2'), gap(1_000 + WINDOW_MS + 1, 70)]);
  windows.open('quiet', 3_000);
  windows.note([gap(2_990, 20), gap(3_100, 1)]);
  windows.open('link', 5_000);
  t.same(windows.worst(['role']), [5]);
  t.same(windows.worst(['role'], 'h1 to h2, ipv6'), [2]);
  t.same(windows.worst(['quiet']), [20], 'it began before the window');
  t.same(windows.worst(['link', 'role']), [5, 0], 'in the order of time; none is 0');
  t.same(windows.flows, ['h1 to h2, ipv6', 'h2 to h1, ipv6']);
  t.match(windows.longest.slice(0, 2), [
    { ms: 70, handover: 1, kind: 'role', afterMs: WINDOW_MS + 1 },
    { ms: 50, handover: 0, kind: null, afterMs: 0 },
  ]);
  windows.note([gap(1_500, 4_000)]);
  t.same(
    windows.worst(['role', 'quiet', 'link']),
    [4_000, 4_000, 4_000],
    'one that ends late is told to all it lay in',
  );
});

t.test('quantiles are values that were measured', async (t) => {
  const hundred = [...Array(100).keys()].map((n) => 100 - n);
  t.same(quantiles(hundred), { p50: 50, p99: 99, max: 100 });
  t.same(quantiles([3, 1]), { p50: 1, p99: 3, max: 3 });
  t.same(quantiles([]), { p50: 0, p99: 0, max: 0 });
});

/** As ss(8) of iproute2 6.1 prints them, shortened. */
const TCP = [
  '0      0          10.0.0.1:41000      10.0.0.2:5012  cubic wscale:7,7 rto:204 rtt:0.4/0.2 bytes_acked:1 segs_in:1490 retrans:0/17 rcv_space:14480 minrtt:0.1',
  '0      0      [fd00::1]:41002     [fd00::2]:5013  cubic wscale:7,7 rto:208 rtt:0.4/0.2 bytes_acked:7169 lastsnd:8 minrtt:0.1',
  '',
].join('\n');

t.test('retransmissions are summed, and their absence is not taken for none', async (t) => {
  t.equal(countRetransmissions(TCP, 2), 17);
  t.throws(() => countRetransmissions(TCP, 3), /2 TCP connections where there are 3/);
  t.throws(
    () => countRetransmissions(TCP.replaceAll(/ rto:\d+/g, ''), 2),
    /0 TCP connections/,
    'no TCP_INFO',
  );
  t.throws(() => countRetransmissions('', 1));
});

t.test('what packet sockets dropped is read by socket', async (t) => {
  const text = [
    'p_raw 0      0      *:s1-eth2 * ino:18472340 sk:27 \tver:0 cpy_thresh:0 flags( running auxdata ) skmem:(r0,rb212992,t0,tb212992,f0,w0,o176,bl0,d0)',
    'p_raw 0      0      *:s3-eth3 * ino:18472342 sk:29 \tver:0 cpy_thresh:0 flags( running auxdata ) skmem:(r900,rb212992,t0,tb212992,f0,w0,o176,bl0,d41)',
    'a line of something else',
  ].join('\n');
  t.same(
    [...readUnread(text)],
    [
      ['18472340', 0],
      ['18472342', 41],
    ],
  );
});

/** As Open vSwitch 3.1 prints them, shortened. */
const COVERAGE = `Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=63d2e0b4:
bridge_reconfigure         0.0/sec     0.233/sec        0.0039/sec   total: 14
datapath_drop_upcall_error   0.4/sec     0.033/sec        0.0006/sec   total: 2
drop_action_of_pipeline    1.2/sec     0.983/sec        0.0164/sec   total: 59
155 events never hit`;

t.test('what Open vSwitch dropped is read by reason', async (t) => {
  t.same(
    [...readReasons(COVERAGE)],
    [
      ['datapath_drop_upcall_error', 2],
      ['drop_action_of_pipeline', 59],
    ],
  );
});

t.test(
  'half of the moves are of the role alone, and each begins where the one before it ended',
  async (t) => {
    const kinds = [...Array(1_000).keys()].map(moveKind);
    t.equal(kinds.filter((kind) => kind === 'role').length, 500);
    // A link that moves while the role is elsewhere would be followed by no handover.
    let [away, roles, links] = [false, new Set<string>(), new Set<string>()];
    let at = 's1';
    for (const kind of kinds) {
      if (kind === 'role') {
        away = !away;
        roles.add(`${at} ${away}`);
      } else {
        links.add(`${at} ${away}`);
        at = at === 's1' ? 's2' : 's1';
      }
    }
    t.equal(roles.size, 4, 'away and back, in either place');
    t.same([...links].sort(), ['s1 false', 's2 false'], 'the role is where the terminal is');
  },
);

t.test('what the machine does alone is told for each window', async (t) => {
  const gaps = await machineNoise(3, 30);
  t.equal(gaps.length, 3);
  for (const gap of gaps) t.ok(gap > 0, 'two looks at the clock are never at the same time', { gap });
});

const QUANTILES = { p50: 0.4, p99: 2.5, max: 12 };
const PLACE = { handover: 12, kind: 'role', afterMs: 31 } as const;
const RESULT: HandoversResult = {
  ...{ handovers: 6, sent: 48_000, received: 48_000, lost: 0, duplicated: 0, reordered: 3 },
  ...{ tcpBytes: 9_000, resets: 0, retransmits: 1, gapMs: QUANTILES, switchMs: QUANTILES },
  control: { handovers: 3, lost: 120 },
};
const DETAILS: HandoversDetails = {
  ...{ priorities: true, machineGapMs: { ...QUANTILES, max: 77 }, machineWindows: 10 },
  ...{ quietGapMs: QUANTILES, quietWindows: 6, movesByKind: { role: 3, link: 3 } },
  ...{ gapMsByKind: { role: QUANTILES, link: QUANTILES }, gapMsByFlow: { 'h1 to h2, ipv4': QUANTILES } },
  ...{
    drops: { unread: 0, byReason: { drop_action_of_pipeline: 4 } },
    longestGaps: [{ ...gap(1, 2), ...PLACE }],
    losses: [],
    phaseMs: { switch: QUANTILES },
    problems: [],
  },
  flows: [
    {
      ...{ from: 'h1', to: 'h2', family: 'ipv4', sent: 48_000, received: 48_000 },
      ...{ lost: 0, duplicated: 0, reordered: 3, unknown: 0 },
    },
  ],
};

t.test(
  'a result is good when nothing was lost, doubled or reset, and the control lost something',
  async (t) => {
    const good = (result: Partial<HandoversResult>, problems: readonly string[] = []) =>
      isGood({ ...RESULT, ...result }, { problems });
    t.ok(good({}));
    t.ok(good({ control: { handovers: 0, lost: 0 } }), 'no control was asked for');
    t.notOk(good({ lost: 1 }));
    t.notOk(good({ duplicated: 1 }));
    t.notOk(good({ resets: 1 }));
    t.notOk(good({ control: { handovers: 3, lost: 0 } }), 'a control that finds nothing');
    t.notOk(good({ sent: 0 }), 'nothing was sent');
    t.notOk(good({ handovers: 0 }));
    t.notOk(good({}, ['a TCP connection is dead']));
  },
);

t.test('the tables say what was found', async (t) => {
  const losses = [{ flow: 'h1 to h2, ipv4', lost: 7, first: PLACE, last: { ...PLACE, afterMs: 38 } }];
  const text = renderResult(RESULT, { ...DETAILS, losses, problems: ['a TCP connection is dead'] });
  t.match(text, /h1 to h2, ipv4 +7 +handover 12, role, after 31 ms to 38 ms/);
  t.match(text, /h1 to h2, IPv4 +48000 +0 +0 +3/);
  t.match(text, /control: 3 that break before they make +120/);
  t.match(text, /gap beyond the sending interval +0\.40 ms +2\.5 ms +12 ms/);
  t.match(text, /when nothing moved \(6 windows\)/);
  t.match(text, /this machine alone \(10 windows\) +0\.40 ms +2\.5 ms +77 ms/);
  t.match(text, /h1 to h2, ipv6 +2\.0 ms +handover 12, role, after 31 ms/);
  t.match(text, /drop_action_of_pipeline +4/);
  t.match(text, /- a TCP connection is dead/);
  t.notMatch(text, /competed alike/);
  t.match(renderResult(RESULT, { ...DETAILS, priorities: false }), /competed alike/);
  const table = new ProgressTable(200);
  const report = { to: 'edge-1', phases: [{ name: 'switch' as const, ms: 1.5 }] };
  const lines = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((done) =>
    table.rows({ done, kind: 'role', report, flows: DETAILS.flows, gapMs: done === 2 ? 9 : 1 }),
  );
  t.equal(lines.length, 3, 'a header, and a row for each four');
  t.match(lines[1], /4 +role to edge-1 +48000 +0 +0 +3 +9\.0 ms +1\.5 ms/, 'the worst of the four');
  t.match(lines[2], /8 .* 1\.0 ms/);
});
