/**
 * `npm run handovers`: many handovers under steady traffic in a lab, and what was lost, doubled, turned round or held up by them; then the control, which must
 * show losses. Progress goes to standard error. Exit code 0: all as it should be, 1: not, 2: the command was wrongly written.
 */
import '../test/lab/enter.js';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { messageOf } from '../shared/runtime/message-of.js';
import { runHandovers } from '../test/harness/handovers/job.js';
import { currentLab, tail } from '../test/lab/index.js';
import { isGood, ProgressTable, renderResult } from './handovers-report.js';
import { end, endWhenAsked, howToLookIn } from './in-lab.js';
import { machine } from './machine.js';

interface Options {
  readonly count: number;
  readonly control: number;
  readonly rate: number;
  readonly priorities: boolean;
  readonly json: boolean;
}

const numberFrom =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || value > most)
      throw new InvalidArgumentError(`write a whole number from ${least} to ${most}`);
    return value;
  };

const program = new Command('npm run handovers --')
  .description('hands a firewall over again and again under traffic, and counts what was lost by it')
  .option(
    '--count <n>',
    'so many handovers, half of the role alone, half of the sending link',
    numberFrom(1, 5_000),
    100,
  )
  .option('--control <n>', 'so many that break before they make', numberFrom(0, 100), 10)
  .option(
    '--rate <n>',
    'so many datagrams a second, of each family in each direction; TCP in proportion',
    numberFrom(10, 2_000),
    500,
  )
  .option(
    '--no-priorities',
    'all programs compete alike for the processors, Docker and measuring programs with the switches',
  )
  .option('--json', 'the last two lines of standard output are figures, as JSON', false)
  .allowExcessArguments(false)
  .exitOverride();

function readArguments(): Options {
  try {
    return program.parse().opts<Options>();
  } catch (error) {
    if (error instanceof CommanderError) return end(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

const { count, control, rate, priorities, json } = readArguments();
const start = performance.now();
const say = (text: string): void => console.error(text);
const step = (text: string): void =>
  say(`${((performance.now() - start) / 1000).toFixed(1).padStart(6)} s  ${text}`);

endWhenAsked(say);

try {
  const about = await machine();
  say(`${about.text}\n${howToLookIn()}`);
  const table = new ProgressTable(count);
  const { result, details } = await runHandovers({
    handovers: count,
    control,
    perSecond: rate,
    priorities,
    onStep: step,
    onProgress: (progress) => {
      for (const line of table.rows(progress)) say(line);
    },
  });
  const good = isGood(result, details);
  const text = `\n${renderResult(result, details)}\n\n${good ? 'All as it should be' : 'NOT as it should be'}.`;
  if (json) {
    say(text);
    console.log(JSON.stringify({ machine: about, ...details }));
    console.log(JSON.stringify(result));
  } else console.log(text);
  end(good ? 0 : 1);
} catch (error) {
  console.error(`\nThe measurement failed: ${messageOf(error)}`);
  for (const name of ['controller', 'agent']) {
    console.error(`\nThe end of the ${name}'s log (PAGURO_LOG=debug tells more):`);
    console.error(tail(join(currentLab().folder, `${name}.log`)));
  }
  end(1);
}
