/**
 * The process that runs one target: `child.js MODULE SLOT seed SEED` makes inputs without end, `child.js MODULE SLOT replay FILE` runs one. It may
 * hang, crash and run out of memory: its parent sees to that. It tells what it sees over IPC, and ends with its parent.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { attempt, minimized } from './attempt.js';
import { Corpus } from './corpus.js';
import { loadTarget } from './load.js';
import { MAX_INPUT_BYTES } from './mutate.js';
import { Random } from './random.js';
import type { Report } from './report.js';
import { Slot } from './slot.js';
import type { FuzzTarget } from './target.js';

/** Between two looks at the parent, in ms. */
const TURN_MS = 100;
/** Failures of one kind that are told: more say nothing new. */
const MOST_ALIKE = 3;

// Ctrl-C reaches all processes of a terminal: the parent decides.
process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());

function tell(report: Report): Promise<void> {
  return new Promise((resolve) => process.send?.(report, () => resolve()));
}

async function fuzz(target: FuzzTarget, slot: Slot, seed: number): Promise<void> {
  const corpus = new Corpus(target, seed, new Random(seed));
  const seen = new Map<string, number>();
  for (let inputs = 0; ; ) {
    const end = performance.now() + TURN_MS;
    while (performance.now() < end) {
      const input = corpus.next();
      inputs++;
      slot.put(input);
      const result = attempt(target, input);
      if (result.kind === 'outcome') {
        corpus.learn(input, result.outcome);
        continue;
      }
      const { signature, text } = result;
      const alike = seen.get(signature) ?? 0;
      seen.set(signature, alike + 1);
      if (alike >= MOST_ALIKE) continue;
      const smallest = minimized(target, input, signature, (smaller) => slot.put(smaller));
      await tell({ kind: 'failure', input: Buffer.from(smallest).toString('base64'), signature, text });
    }
    await tell({ kind: 'progress', inputs, kinds: corpus.kinds });
  }
}

async function replay(target: FuzzTarget, slot: Slot, file: string): Promise<void> {
  const input = Uint8Array.from(readFileSync(file));
  slot.put(input.subarray(0, MAX_INPUT_BYTES));
  const result = attempt(target, input);
  if (result.kind === 'outcome') await tell({ kind: 'outcome', outcome: result.outcome.slice(0, 2_000) });
  else
    await tell({
      kind: 'failure',
      input: Buffer.from(input).toString('base64'),
      signature: result.signature,
      text: result.text,
    });
  process.exit();
}

const [module = '', slotPath = '', mode = '', argument = ''] = process.argv.slice(2);
const target = await loadTarget(pathToFileURL(module));
const slot = new Slot(slotPath, 'r+');
if (mode === 'replay') await replay(target, slot, argument);
else await fuzz(target, slot, Number(argument));
