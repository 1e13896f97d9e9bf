/**
 * `npm run soak`: handovers, faults, connections and policy changes by chance, with what must always be true looked at throughout, and what
 * the programs hold. Exit code 0: all as it must be, 1: something was not, 2: the command was wrongly written.
 */
import '../test/lab/enter.js';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { messageOf } from '../shared/runtime/message-of.js';
import { type SoakResult, soak } from '../test/harness/soak/soak.js';
import { growth, mib, trendOf } from '../test/harness/soak/usage.js';
import { end, endWhenAsked, howToLookIn } from './in-lab.js';

const MAX_SEED = 2 ** 32 - 1;

const numberFrom =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`write a number from ${least} to ${most}`);
  };

const program = new Command('npm run soak --')
  .description('handovers, faults, connections and policy changes by chance')
  .option('--minutes <n>', 'for so long', numberFrom(0.1, 10_000), 10)
  .addOption(
    new Option('--seed <n>', 'the same choices as another run')
      .env('PAGURO_SEED')
      .argParser(numberFrom(0, MAX_SEED))
      .default(Date.now() % MAX_SEED, 'from the clock'),
  )
  .option('--evidence <folder>', 'keep logs and the state of everything when something is not as it must be')
  .exitOverride(({ exitCode }) => end(exitCode === 0 ? 0 : 2))
  .parse();
const { minutes, seed, evidence } = program.opts<{ minutes: number; seed: number; evidence?: string }>();

/** What each program held at first and at last, and whether that is growth. */
function usageLines(usage: SoakResult['usage']): { lines: readonly string[]; grown: readonly string[] } {
  const lines: string[] = [];
  const grown: string[] = [];
  for (const [name, samples] of usage) {
    const trend = trendOf(samples);
    if (!trend) {
      lines.push(`${name}: ${samples.length} samples, too few to tell whether it grows`);
      continue;
    }
    const { first, last } = trend;
    lines.push(
      `${name}: ${mib(first.residentBytes)} → ${mib(last.residentBytes)} MiB, ${first.descriptors} → ${last.descriptors} file descriptors (medians of the first and the last third of ${trend.samples})`,
    );
    grown.push(...growth(trend).map((text) => `${name}: ${text}`));
  }
  return { lines, grown };
}

endWhenAsked(console.error);
try {
  console.log(`seed ${seed}, ${minutes} min`);
  console.error(howToLookIn());
  const result = await soak({
    ...{ minutes, seed },
    evidence: evidence === undefined ? undefined : resolve(evidence),
    onStep: (text) => console.log(text),
  });
  const { lines, grown } = usageLines(result.usage);
  const wrong = [...result.faults, ...grown];
  const kinds = Object.entries(result.byKind).map(([kind, number]) => `${number} ${kind}`);
  console.log(`\n${result.steps} steps (${kinds.join(', ')}), seed ${seed}`);
  console.log(`${result.judged} times a connection was judged, ${result.forbidden} forbidden frames tried`);
  for (const line of lines) console.log(line);
  for (const line of wrong) console.log(`NOT AS IT MUST BE: ${line}`);
  if (wrong.length === 0) console.log('all as it must be');
  end(wrong.length === 0 && result.steps > 0 ? 0 : 1);
} catch (error) {
  console.error(`\nThe soak failed (seed ${seed}): ${messageOf(error)}`);
  end(1);
}
