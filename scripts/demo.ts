/**
 * `npm run demo`: the main job in a lab, each phase as it happens, and at the end what became of connections and forbidden packets.
 * With --json the last line of standard output is the whole result as one JSON object, and all else goes to standard error.
 */
import '../test/lab/enter.js';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../shared/runtime/message-of.js';
import { runMainJob } from '../test/harness/main-job/job.js';
import type { MainJobResult } from '../test/harness/main-job/result.js';
import type { Paguro } from '../test/harness/paguro.js';
import { currentLab, tail } from '../test/lab/index.js';
import { renderResult, renderStep } from './demo-report.js';
import { end, endWhenAsked, howToLookIn } from './in-lab.js';

const USAGE = `usage: npm run demo -- [--json]
  --json: the last line of standard output is the whole result as one JSON object`;

function readArguments(): { json: boolean } {
  try {
    const { values } = parseArgs({
      options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h' } },
    });
    if (!values.help) return values;
    console.log(USAGE);
    return end(0);
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return end(2);
  }
}

const { json } = readArguments();
const say = (text: string): void => {
  if (json) console.error(text);
  else console.log(text);
};
const start = performance.now();
const at = (): number => performance.now() - start;

/** Each phase of a handover as the controller tells of it. */
async function follow(paguro: Paguro): Promise<void> {
  for await (const event of await paguro.api.events(new AbortController().signal)) {
    const text = renderStep(event);
    if (text !== undefined) say(text);
  }
}

endWhenAsked(say);

say('Paguro: a personal firewall moves live from an SDN domain to an edge domain and back.');
say(howToLookIn());
try {
  const result: MainJobResult = await runMainJob({
    onStep: (text) => say(`${(at() / 1000).toFixed(1).padStart(5)} s  ${text}`),
    onSystem: (paguro) => {
      // The stream ends with the controller, at the end of the job.
      follow(paguro).catch(() => {});
    },
  });
  say(`\n${renderResult(result)}`);
  const good = isGood(result);
  say(`${good ? 'All as it should be' : 'NOT as it should be'}, in ${(at() / 1000).toFixed(0)} s.`);
  if (json) console.log(JSON.stringify(result));
  end(good ? 0 : 1);
} catch (error) {
  console.error(`\nThe demo failed: ${messageOf(error)}`);
  for (const name of ['controller', 'agent']) {
    console.error(`\nThe end of the ${name}'s log (PAGURO_LOG=debug tells more):`);
    console.error(tail(join(currentLab().folder, `${name}.log`)));
  }
  end(1);
}

function isGood({ connections, forbidden, control }: MainJobResult): boolean {
  return (
    connections.opened > 0 &&
    connections.survived === connections.opened &&
    forbidden.passed === 0 &&
    forbidden.withoutFirewall.arrived === forbidden.withoutFirewall.tried &&
    control.aliveBefore === control.opened &&
    control.survived === 0
  );
}
