/**
 * `npm run faults`: the fault matrix, all of it or the cells that are named, as a table.
 */
import '../test/lab/enter.js';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../shared/runtime/message-of.js';
import { CELLS, type Cell, REPRESENTATIVES } from '../test/harness/faults/cells.js';
import { Matrix } from '../test/harness/faults/matrix.js';
import type { CellResult } from '../test/harness/faults/run-cell.js';
import { markdown, oneLine, tables } from '../test/harness/faults/table.js';
import { end, endWhenAsked, howToLookIn } from './in-lab.js';
import { table } from './table.js';

const USAGE = `usage: npm run faults -- [--representatives | --list] [--markdown] [--evidence FOLDER] [NAME-OR-PART-OF-ONE…]
  without a name all ${CELLS.length} cells; "steer ×" and "agent killed" are parts of names
  --markdown          the tables in the end in Markdown
  --evidence FOLDER   keep logs and the state of everything for each cell that goes wrong`;

interface Wanted {
  readonly cells: readonly Cell[];
  readonly evidence: string | undefined;
  readonly print: (results: readonly CellResult[]) => string;
}

function wanted(): Wanted {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        representatives: { type: 'boolean' },
        list: { type: 'boolean' },
        evidence: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        markdown: { type: 'boolean' },
      },
    });
    if (values.help) {
      console.log(USAGE);
      end(0);
    }
    const among = values.representatives ? REPRESENTATIVES : CELLS;
    const cells = among.filter(
      ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
    );
    if (cells.length === 0) throw new Error(`there is no cell ${positionals.join(', ')}`);
    if (values.list) {
      for (const { name } of cells) console.log(name);
      end(0);
    }
    const { evidence } = values;
    return {
      cells,
      evidence: evidence === undefined ? undefined : resolve(evidence),
      print: values.markdown ? markdown : (results) => tables(results).map(table).join('\n\n'),
    };
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return end(2);
  }
}

const { cells, evidence, print } = wanted();
const began = performance.now();
const results: CellResult[] = [];
endWhenAsked(console.error);
console.error(howToLookIn());
try {
  const matrix = await Matrix.start(evidence);
  for (const cell of cells) {
    const result = await matrix.run(cell);
    results.push(result);
    console.log(oneLine(result));
  }
} catch (error) {
  console.error(`\nThe matrix ended early: ${messageOf(error)}`);
}
console.log(`\n${print(results)}\n`);
const wrong = results.filter(({ cell, outcome }) => outcome !== cell.expected);
const minutes = (performance.now() - began) / 60_000;
console.log(
  `${results.length} of ${cells.length} cells in ${minutes.toFixed(1)} min, ${wrong.length} not as expected`,
);
for (const { cell, outcome } of wrong) console.log(`  ${cell.name}: ${outcome}, expected: ${cell.expected}`);
end(wrong.length === 0 && results.length === cells.length ? 0 : 1);
