/**
 * `npm run again -- FILE… --times N`: each test file so many times in a row. A file that fails once has failed: nothing is tried again. What a
 * failed run said is kept in a file of its own.
 */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { interrupted, runProgram, SetupError } from './setup.mjs';

const USAGE = 'usage: npm run again -- TEST_FILE… [--times N]';
const DEFAULT_TIMES = 20;
const MAX_TIMES = 10_000;
/** One run. */
const RUN_MS = 600_000;
/** After SIGTERM. Then SIGKILL. */
const STOP_MS = 10_000;

/** {files, times}, or a SetupError that says how to write it. Exported for its test. */
export function readAgain(args) {
  const files = [];
  let times = DEFAULT_TIMES;
  for (let at = 0; at < args.length; at++) {
    if (args[at] === '--times') times = Number(args[++at]);
    else if (args[at].startsWith('-')) throw new SetupError(USAGE);
    else files.push(args[at]);
  }
  if (files.length === 0 || !Number.isInteger(times) || times < 1 || times > MAX_TIMES)
    throw new SetupError(USAGE);
  return { files, times };
}

/**
 * Runs each of `files` (compiled) `times` times and prints a line a run and a line a file. Returns the exit code: 0 when every run passed.
 * An interruption ends it; then not all runs have passed. `print` and `runMs` are there for its test.
 */
export async function runAgain(files, times, { cwd, print = console.log, runMs = RUN_MS }) {
  const folder = mkdtempSync(join(tmpdir(), 'paguro-again-'));
  const totals = [];
  for (const file of files) {
    let passed = 0;
    let run = 0;
    while (run < times && !interrupted()) {
      run++;
      const log = join(folder, `${basename(file, '.js')}-${run}.log`);
      const began = performance.now();
      const why = await runOnce(file, log, { cwd, runMs });
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      if (why === undefined) {
        passed++;
        rmSync(log);
        print(`${file} ${run}/${times}: passed in ${seconds} s`);
      } else {
        print(`${file} ${run}/${times}: FAILED in ${seconds} s (${why}), see ${log}`);
      }
    }
    totals.push({ file, passed, run });
  }
  for (const { file, passed, run } of totals)
    print(`${file}: ${passed} of ${run} runs passed, of ${times} wanted`);
  const all = totals.every(({ passed }) => passed === times);
  if (totals.every(({ passed, run }) => passed === run)) rmSync(folder, { recursive: true });
  return all ? 0 : 1;
}

/** Why it failed; undefined when it passed. */
async function runOnce(file, log, { cwd, runMs }) {
  const out = openSync(log, 'w');
  let late = false;
  const timers = [];
  const onStart = (child) => {
    const stop = () => {
      late = true;
      child.kill('SIGTERM');
      timers.push(setTimeout(() => child.kill('SIGKILL'), STOP_MS));
    };
    timers.push(setTimeout(stop, runMs));
  };
  try {
    const code = await runProgram(process.execPath, [file], { cwd, stdio: ['ignore', out, out], onStart });
    if (late) return `longer than ${runMs / 1000} s`;
    return code === 0 ? undefined : `exit code ${code}`;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    closeSync(out);
  }
}
