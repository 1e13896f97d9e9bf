/**
 * Runs test files through tap and reports them a line a test as they end, failures with all that tap says of them. The numbers are tap's
 * own: it counts assertions, and one failure more for a file that crashes, ends with another exit code than 0 or runs out of time.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ROOT, runProgram } from './setup.mjs';

/** The line with which tap ends: `# { total: 9, pass: 4, fail: 4, skip: 1 }`. */
const TOTALS = /^# \{ total: .*\}$/;

/**
 * Runs compiled forms of `files` (sources, from the project's root). Returns {passed, failed, skipped}. With `allowedSkips` (name → reason) every
 * skipped test that is not named there counts as failed.
 */
export async function runTests(files, { jobs, timeoutSeconds, options, allowedSkips }) {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const compiled = files.map((file) => join('dist', file.replace(/\.ts$/, '.js')));
  const tap = join(ROOT, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const args = [
    ...['--disable-coverage', '--allow-empty-coverage', `--jobs=${jobs}`, `--timeout=${timeoutSeconds}`],
    ...['--no-color', '--reporter=tap', ...options, ...compiled],
  ];
  const report = new Report();
  const code = await runProgram(process.execPath, [tap, ...args], {
    cwd: ROOT,
    stdio: ['inherit', 'pipe', 'inherit'],
    onStart: (child) => createInterface({ input: child.stdout }).on('line', (line) => report.line(line)),
  });
  const totals = report.totals ?? { passed: 0, failed: 1, skipped: 0 };
  if (!report.totals) console.log(`tap ended before it had counted (exit code ${code})`);
  // After a file that ran out of time tap may end without having run the rest.
  for (const file of compiled.filter((file) => !report.files.has(file))) {
    console.log(`not ok ${file} did not run`);
    totals.failed++;
  }
  for (const name of allowedSkips ? report.skips : []) {
    if (allowedSkips[name] !== undefined) continue;
    console.log(`not ok ${name}: it was skipped, and no reason for that is listed in scripts/run.mjs`);
    totals.skipped--;
    totals.failed++;
  }
  // Whatever tap counted: an exit code that says failure is one.
  return code !== 0 && totals.failed === 0 ? { ...totals, failed: 1 } : totals;
}

/** Prints the last line and returns the exit code: 0 when something passed and nothing failed. */
export function sumUp(results) {
  const sum = (name) => results.reduce((total, result) => total + result[name], 0);
  const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
  if (passed + failed === 0) console.log('nothing was tested: that is a failure');
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

/** Reads tap's output and prints what a person wants of it. Exported for its test. */
export class Report {
  totals;
  /** Files of which there is a result. */
  files = new Set();
  /** Names of skipped tests. */
  skips = [];
  #print;
  /** Inside the diagnostics of a test point, which end with `...` at this indentation. */
  #diagnostics = -1;

  constructor(print = console.log) {
    this.#print = print;
  }

  line(line) {
    const indent = line.length - line.trimStart().length;
    if (this.#diagnostics >= 0) {
      this.#print(line);
      if (indent === this.#diagnostics && line.trim() === '...') this.#diagnostics = -1;
      return;
    }
    const point = /^ *(not )?ok \d+(?: - )?(.*)$/.exec(line);
    if (point) {
      const [, failed, text = ''] = point;
      if (/ # SKIP/.test(text)) this.skips.push(text.replace(/ # SKIP.*$/, ''));
      if (indent === 0) this.files.add(text.replace(/ # .*$/, ''));
      // Below that are single assertions: only what fails is told.
      const worthTelling = failed || indent <= 4 || / # SKIP/.test(text);
      if (worthTelling) this.#print(`${' '.repeat(indent)}${failed ? 'not ok' : 'ok'} ${text}`);
      this.#failing = Boolean(failed);
      return;
    }
    if (line.trim() === '---' && this.#failing) {
      this.#diagnostics = indent;
      this.#print(line);
      return;
    }
    if (TOTALS.test(line)) this.totals = readTotals(line);
    else if (!isTalk(line)) this.#print(line);
  }

  #failing = false;
}

/** What tap says for programs to read, not for people. */
function isTalk(line) {
  return /^ *(TAP version 14|\d+\.\.\d+.*|# (Subtest: |time=|No coverage).*|)$/.test(line);
}

function readTotals(line) {
  const number = (name) => Number(new RegExp(` ${name}: (\\d+)`).exec(line)?.[1] ?? 0);
  return { passed: number('pass'), failed: number('fail'), skipped: number('skip') + number('todo') };
}
