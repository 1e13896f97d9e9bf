/**
 * `npm run again -- FILE… --times N`: each test file so many times in a row. A file that fails once has failed: nothing is tried again. What a
 * failed run said is kept in a file of its own, and beside it the logs of its labs.
 */
import { closeSync, mkdtempSync, openSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { INTERRUPTED, interrupted, runProgram, SetupError } from './setup.mjs';

export const AGAIN_USAGE = 'usage: npm run again -- TEST_FILE… [--times N]';
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
    else if (args[at].startsWith('-')) throw new SetupError(AGAIN_USAGE);
    else files.push(args[at]);
  }
  if (files.length === 0 || !Number.isInteger(times) || times < 1 || times > MAX_TIMES)
    throw new SetupError(AGAIN_USAGE);
  return { files, times };
}

/**
 * Runs each of `files` (compiled) `times` times and prints a line a run and a line a file. Returns the exit code: 0 when every run passed.
 * An interruption (Ctrl-C) ends it: the run that it met has neither passed nor failed. What failed runs said is kept in a folder below `logs`;
 * without a failure nothing is kept. `print`, `runMs` and `logs` are there for its test.
 */
export async function runAgain(files, times, { cwd, print = console.log, runMs = RUN_MS, logs = tmpdir() }) {
  const folder = mkdtempSync(join(logs, 'paguro-again-'));
  const totals = [];
  for (const file of files) {
    if (interrupted()) break;
    let passed = 0;
    let run = 0;
    while (run < times) {
      const log = join(folder, `${basename(file, '.js')}-${run + 1}.log`);
      const began = performance.now();
      const why = await runOnce(file, log, { cwd, runMs });
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      if (why === undefined || interrupted()) forget(log);
      if (why !== undefined && interrupted()) break;
      run++;
      if (why === undefined) passed++;
      print(
        why === undefined
          ? `${file} ${run}/${times}: passed in ${seconds} s`
          : `${file} ${run}/${times}: FAILED in ${seconds} s (${why}), see ${log}`,
      );
      if (interrupted()) break;
    }
    totals.push({ file, passed, run });
  }
  for (const { file, passed, run } of totals)
    print(`${file}: ${passed} of ${run} runs passed, of ${times} wanted`);
  if (readdirSync(folder).length === 0) rmdirSync(folder);
  if (totals.some(({ passed, run }) => passed < run)) return 1;
  return interrupted() ? INTERRUPTED : 0;
}

/** Of a run that passed: labs in it may have failed on purpose. */
function forget(log) {
  rmSync(log);
  rmSync(labsOf(log), { recursive: true, force: true });
}

/** The folder for the logs of its labs. */
function labsOf(log) {
  return log.replace(/log$/, 'labs');
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
    const env = { ...process.env, PAGURO_KEEP: labsOf(log) };
    const code = await runProgram(process.execPath, [file], {
      cwd,
      env,
      stdio: ['ignore', out, out],
      onStart,
    });
    if (late) return `longer than ${runMs / 1000} s`;
    return code === 0 ? undefined : `exit code ${code}`;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    closeSync(out);
  }
}
