/**
 * Made-up inputs for everything that reads what others write, within bounds; and that the program that goes on without bounds finds what there is to find.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { targetOf } from '../fuzz/findings.js';
import { type FuzzOptions, fuzz } from '../fuzz/fuzz.js';
import { FuzzError, findTargets, loadAll, loadTarget } from '../fuzz/load.js';
import { MAX_INPUT_BYTES, mutated } from '../fuzz/mutate.js';
import { mutatedValue } from '../fuzz/mutate-value.js';
import { Random } from '../fuzz/random.js';
import { bytesOf, type FuzzTarget, kindOf } from '../fuzz/target.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(120_000);

const PLANTED = fileURLToPath(new URL('../fixtures/fuzz-targets/', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../../scripts/fuzz.js', import.meta.url));
const RUNS = 400;

/** Arbitrary bytes, seeds as they are, and seeds changed once or more often. */
function inputsOf(target: FuzzTarget): fc.Arbitrary<Uint8Array> {
  const seeds = target.seeds(1).map((seed) => Uint8Array.from(seed));
  const words = (target.words ?? []).map(bytesOf);
  const seed = fc.constantFrom(...seeds);
  const changed = fc.tuple(seed, seed, fc.integer()).map(([input, other, number]) => {
    const random = new Random(number);
    return (
      (random.oneIn(2) ? target.change?.(input, random) : undefined) ??
      mutated(input, random, { words, other })
    );
  });
  return fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
    { weight: 1, arbitrary: seed },
    { weight: 6, arbitrary: changed },
  );
}

/** What fast-check says of a property that does not hold, with the seed with which it comes again. */
function problemOf(target: FuzzTarget, runs: number): string | undefined {
  const result = fc.check(
    fc.property(inputsOf(target), (input) => void target.run(input)),
    { numRuns: runs, includeErrorInReport: true },
  );
  return fc.defaultReportMessage(result);
}

t.test('whatever is read, it is taken or refused as its readers expect', async (t) => {
  const targets = await loadAll();
  t.ok(targets.size >= 9);
  for (const [name, target] of targets) {
    const problem = problemOf(target, RUNS);
    t.equal(problem, undefined, problem === undefined ? `${name}: ${RUNS} inputs` : `${name}: ${problem}`);
  }
  for (const [name, target] of targets) {
    const outcomes = target.seeds(1).map((seed) => target.run(seed));
    t.notOk(
      outcomes.every((outcome) => outcome.startsWith('refused')),
      `control: ${name} takes what is well-formed`,
    );
  }
  const planted = await loadTarget(
    new URL('planted-error.js', new URL('../fixtures/fuzz-targets/', import.meta.url)),
  );
  t.match(
    problemOf(planted, 200_000),
    /seed: -?\d+.*planted/s,
    'control: a fault is found and told with its seed',
  );
});

t.test('inputs are made anew with the same seed, and stay within bounds', async (t) => {
  const make = (seed: number): string[] => {
    const random = new Random(seed);
    let input: Uint8Array = bytesOf('length=3;abc');
    return Array.from({ length: 300 }, () => {
      input = mutated(input, random, { words: [bytesOf('word')], other: bytesOf('other') });
      return Buffer.from(input).toString('base64');
    });
  };
  t.same(make(5), make(5));
  t.notSame(make(5), make(6));
  for (let seed = 0; seed < 300; seed++) {
    const random = new Random(seed);
    let input: Uint8Array = random.bytes(seed);
    for (let i = 0; i < 20; i++) input = mutated(input, random, { words: [], other: input });
    if (input.length > MAX_INPUT_BYTES) t.fail(`${input.length} bytes`);
  }
  const value = { a: [1, { b: 'x' }], c: null };
  const values = Array.from({ length: 200 }, (_, seed) =>
    JSON.stringify(mutatedValue(value, new Random(seed))),
  );
  t.ok(new Set(values).size > 100, 'values are changed in many ways');
  t.same(value, { a: [1, { b: 'x' }], c: null }, 'and the one they are made of is not');
});

t.test('outcomes that differ in numbers, quotes and addresses are of one kind', async (t) => {
  t.equal(kindOf('port 70000 of "a": 10.0.0.1'), kindOf('port 1 of "bc \\" d": fd00::1'));
  t.not(kindOf('a port'), kindOf('a prefix'));
  t.ok(kindOf('x'.repeat(10_000)).length < 200);
  t.equal(targetOf('/x/channel-to-agent-0123456789abcdef.bin'), 'channel-to-agent');
  t.equal(targetOf('/x/other.bin'), undefined);
});

/** Runs targets with planted faults until each of `until` has found something. */
async function fuzzed(t: Test, names: readonly string[], options: Partial<FuzzOptions> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'paguro-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const stopping = new AbortController();
  const waiting = new Set(names);
  const said: string[] = [];
  const deadline = setTimeout(() => stopping.abort(), 90_000);
  const summary = await fuzz({
    targets: await findTargets(PLANTED, names),
    seed: 7,
    folder,
    signal: stopping.signal,
    say: (line) => said.push(line),
    onFinding: (name) => {
      waiting.delete(name);
      if (waiting.size === 0) stopping.abort();
    },
    ...options,
  });
  clearTimeout(deadline);
  const kept = readdirSync(folder).map((file) => join(folder, file));
  return {
    summary,
    said,
    inputs: kept.filter((file) => file.endsWith('.bin')),
    notes: kept.filter((file) => file.endsWith('.txt')),
  };
}

/** The program, to its end; Ctrl-C as soon as it has said `until`, or when `stop` aborts. */
async function program(
  args: readonly string[],
  { until, stop, env }: { until?: RegExp; stop?: AbortSignal; env?: Readonly<Record<string, string>> } = {},
) {
  const child = spawn(process.execPath, [PROGRAM, '--targets', PLANTED, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  stop?.addEventListener('abort', () => child.kill('SIGINT'));
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
    if (!until?.test(out)) return;
    until = undefined;
    child.kill('SIGINT');
  });
  const [code] = await once(child, 'close');
  return { code, out };
}

t.test('a fault is found, kept as a small input, and can be replayed', async (t) => {
  const { summary, said, inputs, notes } = await fuzzed(t, ['planted-error']);
  t.match(summary.targets, [{ name: 'planted-error', findings: 1 }]);
  t.ok(summary.inputs > 0);
  t.match(said.join('\n'), /planted-error: error: RangeError: planted/);
  const [file = ''] = inputs;
  t.match(basename(file), /^planted-error-[0-9a-f]{16}\.bin$/);
  t.ok(readFileSync(file).length <= 20, 'what does not matter is left out');
  t.match(readFileSync(notes[0] ?? '', 'utf8'), /RangeError: planted.*seed 7.*npm run fuzz -- --replay/s);
  const again = await program(['--replay', file]);
  t.match(again, { code: 1, out: /planted-error fails: RangeError: planted/ });
  const other = await program(['--replay', file, '--target', 'sound']);
  t.match(other, { code: 0, out: /sound does not fail: (even|odd)/ }, 'control: another target takes it');
});

t.test('a hang, a crash and a hunger for memory are found, kept and replayed, too', async (t) => {
  const quick = await fuzzed(t, ['planted-hang'], { hangMs: 500 });
  const others = await fuzzed(t, ['planted-crash', 'planted-memory']);
  t.ok([...quick.summary.targets, ...others.summary.targets].every(({ findings }) => findings >= 1));
  for (const [name, says] of [
    ['planted-hang', /fails: hang: no end after 500 ms/],
    ['planted-crash', /fails: crash: the process ended: SIGABRT/],
    ['planted-memory', /fails: memory: more than/],
  ] as const) {
    const file = [...quick.inputs, ...others.inputs].find((each) => targetOf(each) === name);
    if (file === undefined) {
      t.fail(`nothing of ${name} was kept`);
      continue;
    }
    t.equal(readFileSync(file).length, 7, `${name}: the very input`);
    const hang = name === 'planted-hang' ? ['--hang-ms', '500'] : [];
    t.match(await program(['--replay', file, ...hang]), { code: 1, out: says });
  }
});

t.test(
  'the program ends after its time with a summary, and says truly whether something was found',
  async (t) => {
    const folder = t.testdir({});
    const sound = await program([
      '--target',
      'sound',
      '--minutes',
      '0.02',
      '--seed',
      '9',
      '--findings',
      folder,
    ]);
    t.match(sound, { code: 0, out: /sound +[\d,]+ .*Nothing was found in \d+ s\. Seed 9\./s });
    t.same(readdirSync(folder), []);
    const args = ['--target', 'sound', '--target', 'planted-error', '--findings', folder];
    const both = await program(args, { until: /kept: / });
    t.match(both, { code: 1, out: /until Ctrl-C.*1 different failures in \d+ s, kept in /s });
    t.ok(readdirSync(folder).length >= 2);
  },
);

t.test('Ctrl-C ends it with the summary, and nothing is left running', async (t) => {
  const folder = t.testdir({});
  const running = (): readonly string[] =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => commandOf(pid))
      .filter((command) => command.includes(folder));
  const stopping = new AbortController();
  const ended = program(['--target', 'sound'], { stop: stopping.signal, env: { TMPDIR: folder } });
  await waitFor('its child is seen', () => running().length > 0, { timeoutMs: 60_000 });
  stopping.abort();
  t.match(await ended, { code: 0, out: /all +[\d,]+.*Nothing was found/s });
  t.same(running(), []);
  t.same(readdirSync(folder), [], 'nor is a file left');
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

t.test('what cannot be run is told', async (t) => {
  await t.rejects(findTargets(PLANTED, ['none']), {
    code: 'no-target',
    message: /there are: planted-crash, /,
  });
  await t.rejects(findTargets(join(PLANTED, 'nowhere')), FuzzError);
  await t.rejects(loadTarget(new URL('../fuzz/random.js', import.meta.url)), { code: 'not-a-target' });
  t.match(await program(['--replay', join(t.testdir({ 'x.bin': 'x' }), 'x.bin')]), { code: 2 });
  t.match(await program(['--replay', join(t.testdir({}), 'sound-0123456789abcdef.bin')]), { code: 2 });
  t.match(await program(['--minutes', 'many']), { code: 2 });
});
