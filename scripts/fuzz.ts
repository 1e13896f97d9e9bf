/**
 * `npm run fuzz`: gives made-up inputs to everything that reads what others write, for as long as one likes. Exit code 0: nothing was found, 1: something was
 * (or a replayed input still fails), 2: the command was wrongly written.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { projectRoot } from '../shared/runtime/project-root.js';
import { targetOf } from '../test/fuzz/findings.js';
import { fuzz, summaryText } from '../test/fuzz/fuzz.js';
import { live } from '../test/fuzz/life.js';
import { FuzzError, findTargets, TARGETS_FOLDER } from '../test/fuzz/load.js';
import type { Report } from '../test/fuzz/report.js';

interface Options {
  readonly minutes?: number;
  readonly target?: readonly string[];
  readonly seed?: number;
  readonly replay?: string;
  readonly findings: string;
  readonly targets: string;
  readonly hangMs: number;
}

const EXIT = { nothing: 0, found: 1, usage: 2 } as const;
/** A replay computes as long as the run did, and is not cut short by its memory either. */
const MAX_RESIDENT_BYTES = 2 ** 30;

const numberFrom =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!(value >= least && value <= most))
      throw new InvalidArgumentError(`write a number from ${least} to ${most}`);
    return value;
  };

const program = new Command('npm run fuzz --')
  .description('gives made-up inputs to what reads the wire, files and other programs, until Ctrl-C')
  .option('--minutes <n>', 'end after so many minutes', numberFrom(0.001, 1e6))
  .option(
    '--target <name>',
    'this target only (may be given several times)',
    (name: string, others: readonly string[] = []) => [...others, name],
  )
  .option('--seed <n>', 'the same inputs as another run', numberFrom(0, 2 ** 32 - 1))
  .option('--replay <file>', 'run one kept input again')
  .option('--findings <folder>', 'where to keep what is found', 'fuzz-findings')
  .addOption(
    new Option('--targets <folder>', 'where the compiled targets are').default(
      TARGETS_FOLDER,
      'the project’s own',
    ),
  )
  .option(
    '--hang-ms <n>',
    'computing for longer than this on one input is a hang',
    numberFrom(100, 600_000),
    5_000,
  )
  .exitOverride();

const say = (line: string): void => console.log(line);

async function main(): Promise<number> {
  try {
    program.parse();
    const options = program.opts<Options>();
    return options.replay === undefined ? await run(options) : await replay(options, options.replay);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.nothing : EXIT.usage;
    if (!(error instanceof FuzzError)) throw error;
    console.error(error.message);
    return EXIT.usage;
  }
}

async function run(options: Options): Promise<number> {
  const targets = await findTargets(resolve(options.targets), options.target);
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  const timer = options.minutes === undefined ? undefined : setTimeout(stop, options.minutes * 60_000);
  const folder = resolve(projectRoot(), options.findings);
  const long = options.minutes === undefined ? 'until Ctrl-C' : `for ${options.minutes} minutes`;
  const { hangMs, seed = Math.floor(Math.random() * 2 ** 32) } = options;
  say(`seed ${seed}, ${long}: ${targets.map(({ name }) => name).join(', ')}`);
  const summary = await fuzz({ targets, seed, hangMs, folder, signal: stopping.signal, say }).finally(() =>
    clearTimeout(timer),
  );
  say(`\n${summaryText(summary)}\n`);
  const seconds = summary.seconds.toFixed(0);
  say(
    summary.findings === 0
      ? `Nothing was found in ${seconds} s. Seed ${seed}.`
      : `${summary.findings} different failures in ${seconds} s, kept in ${relative(process.cwd(), folder) || '.'}. Seed ${seed}.`,
  );
  return summary.findings === 0 ? EXIT.nothing : EXIT.found;
}

async function replay(options: Options, file: string): Promise<number> {
  const name = options.target?.[0] ?? targetOf(file);
  if (name === undefined)
    throw new FuzzError(
      'no-target',
      `of which target is ${file}? Say it with --target, or keep the name that the file had`,
    );
  if (!existsSync(file)) throw new FuzzError('no-input', `there is no file ${file}`);
  const [target] = await findTargets(resolve(options.targets), [name]);
  if (!target) throw new FuzzError('no-target', `there is no target ${name}`);
  const folder = await mkdtemp(join(tmpdir(), 'paguro-fuzz-'));
  try {
    let told: Report | undefined;
    const end = await live({
      target,
      slot: join(folder, 'slot'),
      mode: { kind: 'replay', file: resolve(file) },
      hangMs: options.hangMs,
      maxResidentBytes: MAX_RESIDENT_BYTES,
      signal: new AbortController().signal,
      onReport: (report) => {
        told = report;
      },
    });
    if (end.kind === 'finding') {
      say(`${name} fails: ${end.finding.kind}: ${end.finding.signature}\n${end.finding.text}`);
      return EXIT.found;
    }
    if (told?.kind === 'failure') {
      say(`${name} fails: ${told.text}`);
      return EXIT.found;
    }
    if (told?.kind !== 'outcome')
      throw new FuzzError('did-not-start', `${name} came to an end and said nothing`);
    say(`${name} does not fail: ${told.outcome}`);
    return EXIT.nothing;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main();
