/**
 * The measurement of handovers, as a user runs it: few of them, and what must be true of any number. How long anything took is not asserted.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { HandoversDetails, HandoversResult } from '../harness/handovers/job.js';

t.setTimeout(200_000);

const HANDOVERS = 8;
const CONTROL = 3;
/** Few enough for a busy machine: at 1,000 the switches' input queues overflow when they are not read for an eighth of a second, at 100 for more than one. */
const RATE = 100;
const program = fileURLToPath(new URL('../../scripts/handovers.js', import.meta.url));

// It enters a lab of its own.
const run = (...args: readonly string[]) =>
  spawnSync(process.execPath, [program, ...args], { encoding: 'utf8', maxBuffer: 2 ** 24 });

t.test('nothing is lost, doubled or reset by a handover, and the control finds losses', async (t) => {
  const { stdout, stderr, status } = run(
    '--count',
    `${HANDOVERS}`,
    '--control',
    `${CONTROL}`,
    '--rate',
    `${RATE}`,
    '--json',
  );
  t.comment(stderr);
  t.equal(status, 0, 'it finds everything as it should be');
  const lines = stdout.trimEnd().split('\n');
  t.equal(lines.length, 2, 'standard output is the figures alone');
  const [details, result]: [HandoversDetails, HandoversResult] = [
    JSON.parse(lines[0] ?? ''),
    JSON.parse(lines[1] ?? ''),
  ];
  t.same(Object.keys(result), [
    ...['handovers', 'sent', 'received', 'lost', 'duplicated', 'reordered'],
    ...['tcpBytes', 'resets', 'retransmits', 'gapMs', 'switchMs', 'control'],
  ]);
  t.same(Object.keys(result.gapMs), ['p50', 'p99', 'max']);
  t.match(result, { handovers: HANDOVERS, lost: 0, duplicated: 0, resets: 0 });
  t.equal(result.received, result.sent);
  t.equal(details.drops.unread, 0, 'the machine was fast enough to say so');
  t.ok(result.tcpBytes > 0 && result.switchMs.p50 > 0);
  t.match(result.control, { handovers: CONTROL });
  t.ok(result.control.lost > 0, `${result.control.lost} lost where the old way is cut first`);

  t.same(details.problems, []);
  t.same(details.movesByKind, { role: HANDOVERS / 2, link: HANDOVERS / 2 });
  t.equal(details.flows.length, 4, 'both ways, in both families');
  for (const { from, to, family, sent } of details.flows)
    t.ok(sent > (HANDOVERS * RATE) / 2, `${from} to ${to}, ${family}: ${sent} sent`);
  t.equal(details.quietWindows, HANDOVERS);
});

t.test('wrong arguments are explained', async (t) => {
  const tries: readonly [readonly string[], RegExp][] = [
    [['--count', '0'], /from 1 to 5000/],
    [['--count', '5001'], /from 1 to 5000/],
    [['--count', '1.5'], /whole number/],
    [['--control', 'many'], /from 0 to 100/],
    [['--rate', '5000'], /from 10 to 2000/],
    [['--fast'], /unknown option '--fast'/],
    [['1000'], /too many arguments/],
  ];
  for (const [args, message] of tries) {
    const { status, stderr, stdout } = run(...args);
    t.equal(status, 2, args.join(' '));
    t.match(stderr, message);
    t.equal(stdout, '');
  }
  const { status, stdout } = run('--help');
  t.equal(status, 0);
  t.match(stdout, /npm run handovers --/);
});
