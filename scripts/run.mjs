/**
 * `npm run demo`, `npm test`, `npm run setup` and the others of package.json: sets up what is missing, then runs the program. Plain Node without dependencies,
 * because on a fresh clone there are none yet. Standard output belongs to the program; what set-up does is told on standard error.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { AGAIN_USAGE, readAgain, runAgain } from './again.mjs';
import { INTERRUPTED, interrupted, ROOT, runProgram, SetupError, setUp } from './setup.mjs';
import { runTests, sumUp } from './test-report.mjs';

const USAGE =
  'usage: node scripts/run.mjs demo|handovers|test|test:all|faults|soak|again|fuzz|setup [ARGUMENT…]';
const TEST_USAGE =
  'usage: npm test -- [TEST_FILE…] [OPTION_OF_TAP…], without a file all of test/unit and test/e2e';
/** tap stops a file after this. Unit files are pure or use loopback; end-to-end files run whole handovers. */
const UNIT_FILE_SECONDS = 120;
const E2E_FILE_SECONDS = 600;
/** All cells of the fault matrix are in one file. */
const ALL_CELLS_SECONDS = 3_600;
/** End-to-end tests that may be skipped: name → reason. Any other that is skipped counts as failed. */
const ALLOWED_SKIPS = {};

/** Test files to run, from the arguments (sources or compiled, or all), split by kind. Fails for a file that is not there. */
function selectTests(args) {
  const named = args.filter((arg) => !arg.startsWith('-'));
  const files = named.length > 0 ? named.map(sourceOfTest) : [...allTests('unit'), ...allTests('e2e')];
  const ofKind = (kind) => files.filter((file) => file.startsWith(join('test', kind)));
  const selection = { unit: ofKind('unit'), e2e: ofKind('e2e') };
  const other = files.filter((file) => !selection.unit.includes(file) && !selection.e2e.includes(file));
  if (other.length > 0)
    throw new SetupError(`not a test: ${other.join(', ')}. Tests are in test/unit and test/e2e`);
  return selection;
}

function allTests(kind) {
  const folder = join('test', kind);
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join(folder, name));
}

function sourceOfTest(arg) {
  const path = relative(ROOT, resolve(arg))
    .replace(/^dist\//, '')
    .replace(/\.js$/, '.ts');
  if (!existsSync(join(ROOT, path))) throw new SetupError(`no such test: ${arg}. See test/unit and test/e2e`);
  return path;
}

/** `npm run test:all`: all tests, and in the fault matrix every cell. */
async function testAll(args) {
  process.env.PAGURO_CELLS = 'all';
  return test(args, ALL_CELLS_SECONDS);
}

async function test(args, e2eFileSeconds = E2E_FILE_SECONDS) {
  // tap would run everything.
  if (asksForHelp(args)) return help(TEST_USAGE);
  const { unit, e2e } = selectTests(args);
  const options = args.filter((arg) => arg.startsWith('-'));
  await setUp({ lab: e2e.length > 0, image: e2e.length > 0 });
  const results = [await runTests(unit, { jobs: 2, timeoutSeconds: UNIT_FILE_SECONDS, options })];
  // One after another, each in a run of its own: a lab that hangs does not take the others' results along.
  for (const file of e2e) {
    if (interrupted()) break;
    results.push(
      await runTests([file], {
        jobs: 1,
        timeoutSeconds: e2eFileSeconds,
        options,
        allowedSkips: ALLOWED_SKIPS,
      }),
    );
  }
  const code = sumUp(results);
  return interrupted() ? INTERRUPTED : code;
}

/** A program of this folder that needs nothing but the build, or a lab as well. */
async function program(name, args, { lab }) {
  await setUp({ lab, image: lab });
  return runProgram(process.execPath, [join(ROOT, 'dist', 'scripts', `${name}.js`), ...args]);
}

/** `npm run again -- FILE --times N`: one test file so many times in a row, each time in a process of its own. */
async function again(args) {
  if (asksForHelp(args)) return help(AGAIN_USAGE);
  const { files, times } = readAgain(args);
  const compiled = files.map((file) => join('dist', sourceOfTest(file).replace(/\.ts$/, '.js')));
  await setUp({ lab: true, image: true });
  return runAgain(compiled, times, { cwd: ROOT });
}

function asksForHelp(args) {
  return args.includes('--help') || args.includes('-h');
}

function help(text) {
  console.log(text);
  return 0;
}

async function main([what, ...args]) {
  if (what === 'test') return test(args);
  if (what === 'test:all') return testAll(args);
  if (what === 'again') return again(args);
  if (['demo', 'handovers', 'faults', 'soak'].includes(what)) return program(what, args, { lab: true });
  if (what === 'fuzz') return program(what, args, { lab: false });
  if (what !== 'setup' || args.length > 0) throw new SetupError(USAGE);
  await setUp({ lab: true, image: true });
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`paguro: ${error.message}`);
  process.exitCode = error.exitCode;
}
