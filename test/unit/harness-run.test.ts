/**
 * How `npm test` counts: the last line and the exit code come from tap's own totals, also when files crash or nothing was run. The runner
 * is plain JavaScript outside the compiled tree, so it is tried as its users do: as a program.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { sourceFile } from '../lab/project.js';

const MODULE = pathToFileURL(sourceFile('scripts', 'test-report.mjs')).href;

/** Runs a text of JavaScript that can use the runner's functions. */
function program(
  text: string,
  input = '',
): { lines: readonly string[]; code: number | null; stderr: string } {
  const source = `import { Report, sumUp } from ${JSON.stringify(MODULE)}; ${text}`;
  const args = ['--input-type=module', '-e', source];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { input, encoding: 'utf8' });
  return { lines: stdout.trimEnd().split('\n'), code: status, stderr };
}

const TAP = `TAP version 14
1..2
# Subtest: dist/test/unit/a.test.js
    # Subtest: one
        ok 1 - x
        ok 2 - later # SKIP
        1..2
    ok 1 - one # time=3ms

    1..1
    # time=28ms
ok 1 - dist/test/unit/a.test.js # time=28ms

said by a program
# Subtest: dist/test/unit/b.test.js
    # Subtest: two
        not ok 1 - y
          ---
          source: |
            ok 1 - not a result
            ---
          ...

        1..1
    not ok 1 - two # time=30ms
not ok 2 - dist/test/unit/b.test.js # time=41ms
  ---
  exitCode: 1
  ...

# No coverage generated
# { total: 6, pass: 2, fail: 2, skip: 1, todo: 1 }
# time=1275ms
`;

t.test(
  "the report tells tests, failures with their reasons, programs' words, and tap's totals",
  async (t) => {
    const { lines } = program(
      `const report = new Report(); const text = (await import('node:fs')).readFileSync(0, 'utf8');
     for (const line of text.split('\\n')) report.line(line);
     console.log(JSON.stringify(report.totals));`,
      TAP,
    );
    t.same(lines, [
      '        ok later # SKIP',
      '    ok one # time=3ms',
      'ok dist/test/unit/a.test.js # time=28ms',
      'said by a program',
      '        not ok y',
      '          ---',
      '          source: |',
      '            ok 1 - not a result',
      '            ---',
      '          ...',
      '    not ok two # time=30ms',
      'not ok dist/test/unit/b.test.js # time=41ms',
      '  ---',
      '  exitCode: 1',
      '  ...',
      '{"passed":2,"failed":2,"skipped":2}',
    ]);
  },
);

t.test(
  'the last line is the sum, and only a run in which something passed and nothing failed is good',
  async (t) => {
    const sum = (results: object): ReturnType<typeof program> =>
      program(`process.exitCode = sumUp(${JSON.stringify(results)});`);
    const good = sum([
      { passed: 3, failed: 0, skipped: 1 },
      { passed: 4, failed: 0, skipped: 2 },
    ]);
    t.same([good.lines.at(-1), good.code], ['7 passed, 0 failed, 3 skipped', 0]);
    const bad = sum([
      { passed: 3, failed: 0, skipped: 0 },
      { passed: 0, failed: 1, skipped: 0 },
    ]);
    t.same([bad.lines.at(-1), bad.code], ['3 passed, 1 failed, 0 skipped', 1]);
    const nothing = sum([{ passed: 0, failed: 0, skipped: 5 }]);
    t.same([nothing.lines.at(-1), nothing.code], ['0 passed, 0 failed, 5 skipped', 1]);
  },
);

t.test('a test that is not there, and an unknown word, are refused with what to do', async (t) => {
  const run = (...args: readonly string[]): ReturnType<typeof spawnSync> =>
    spawnSync(process.execPath, [sourceFile('scripts', 'run.mjs'), ...args], { encoding: 'utf8' });
  const missing = run('test', 'test/unit/none-such.test.ts');
  t.equal(missing.status, 1);
  t.match(String(missing.stderr), /no such test: test\/unit\/none-such\.test\.ts/);
  t.match(String(run('dance').stderr), /usage: .* demo\|.*test\|.*\|setup/);
  t.match(String(run('test', 'package.json').stderr), /not a test: package\.json/);
  t.match(String(run('setup', 'now').stderr), /usage: /);
  for (const what of ['test', 'again']) {
    const { status, stdout } = run(what, '--help');
    t.equal(status, 0, 'who asks for help gets it, and nothing else');
    t.match(String(stdout), /^usage: npm .*\n$/);
  }
});

const AGAIN = pathToFileURL(sourceFile('scripts', 'again.mjs')).href;

function again(text: string): { lines: readonly string[]; code: number | null; stderr: string } {
  const source = `import { readAgain, runAgain } from ${JSON.stringify(AGAIN)}; ${text}`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8',
  });
  return { lines: stdout.trimEnd().split('\n'), code: status, stderr };
}

t.test('a file is run so many times, and each failure counts: nothing is tried again', async (t) => {
  const folder = t.testdir({
    logs: {},
    'good.js': '',
    // Fails the second time, and only then.
    'flaky.js': `import { existsSync, writeFileSync } from 'node:fs';
      const once = existsSync('first');
      writeFileSync('first', '');
      if (once && !existsSync('second')) { writeFileSync('second', ''); process.exit(3); }`,
  });
  const logs = join(folder, 'logs');
  const options = JSON.stringify({ cwd: folder, logs });
  const run = (file: string) =>
    again(`process.exitCode = await runAgain([${JSON.stringify(file)}], 3, ${options})`);
  const good = run('good.js');
  t.equal(good.code, 0, good.stderr);
  t.equal(good.lines.at(-1), 'good.js: 3 of 3 runs passed, of 3 wanted');
  t.same(readdirSync(logs), [], 'without a failure nothing is kept');
  const flaky = run('flaky.js');
  const [kept = ''] = readdirSync(logs);
  t.same(readdirSync(join(logs, kept)), ['flaky-2.log'], 'what a failed run said is kept');
  t.equal(flaky.code, 1);
  t.match(flaky.lines[1], /^flaky\.js 2\/3: FAILED in .* s \(exit code 3\), see /);
  t.equal(flaky.lines.at(-1), 'flaky.js: 2 of 3 runs passed, of 3 wanted');
});

t.test('a run that does not end is ended, and has failed', async (t) => {
  const folder = t.testdir({ 'hangs.js': 'setInterval(() => {}, 1000)' });
  const options = JSON.stringify({ cwd: folder, logs: folder, runMs: 200 });
  const { lines, code } = again(`process.exitCode = await runAgain(['hangs.js'], 1, ${options})`);
  t.equal(code, 1);
  t.match(lines[0], /FAILED .*longer than 0\.2 s/);
});

t.test('Ctrl-C ends it: the run that it met has not failed, and nothing is left', async (t) => {
  const folder = t.testdir({
    logs: {},
    'good.js': '',
    'long.js': 'setInterval(() => {}, 1000); process.kill(process.ppid, "SIGINT");',
  });
  const logs = join(folder, 'logs');
  const options = JSON.stringify({ cwd: folder, logs });
  const { lines, code } = again(
    `process.exitCode = await runAgain(['good.js', 'long.js', 'good.js'], 1, ${options})`,
  );
  t.equal(code, 130);
  t.same(lines.slice(1), [
    'good.js: 1 of 1 runs passed, of 1 wanted',
    'long.js: 0 of 0 runs passed, of 1 wanted',
  ]);
  t.same(readdirSync(logs), []);
});

t.test('what is to be run again is read from the arguments', async (t) => {
  const tried = [
    ['a', '--times', '7', 'b'],
    ['a'],
    [],
    ['a', '--times'],
    ['a', '--times', '0'],
    ['a', '--retry'],
  ];
  const { lines } = again(
    `for (const args of ${JSON.stringify(tried)})
      try { console.log(JSON.stringify(readAgain(args))) } catch (error) { console.log(error.message) }`,
  );
  t.same(JSON.parse(lines[0] ?? ''), { files: ['a', 'b'], times: 7 });
  t.same(JSON.parse(lines[1] ?? ''), { files: ['a'], times: 20 });
  t.same(lines.slice(2), Array(4).fill('usage: npm run again -- TEST_FILE… [--times N]'));
});
