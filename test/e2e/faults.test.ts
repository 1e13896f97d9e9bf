/**
 * The fault matrix: something breaks exactly before a step of a handover, and what becomes of connections and forbidden packets is seen on
 * the wire. One cell of each family of faults; all of them with PAGURO_CELLS=all, as `npm run test:all` has it.
 */
import '../lab/enter.js';
import t from 'tap';
import { CELLS, REPRESENTATIVES } from '../harness/faults/cells.js';
import { Matrix } from '../harness/faults/matrix.js';
import { bringTo, type CellResult, TERMINAL } from '../harness/faults/run-cell.js';
import { markdown } from '../harness/faults/table.js';
import { casualties, Life } from '../harness/life.js';

const cells = process.env.PAGURO_CELLS === 'all' ? CELLS : REPRESENTATIVES;
const CELL_MS = 300_000;

t.setTimeout(cells.length * CELL_MS);

const results: CellResult[] = [];
const matrix = await Matrix.start();
t.teardown(() => matrix.close());

for (const cell of cells) {
  await t.test(cell.name, async (t) => {
    const result = await matrix.run(cell);
    results.push(result);
    t.same(result.faults, []);
    t.equal(result.outcome, cell.expected, cell.reason ?? `${result.connections} connections`);
    t.ok(result.forbidden > 100, `${result.forbidden} forbidden frames were tried`);
  });
}

await t.test(
  'control: a move without the connections, judged the same way, is seen to kill them',
  async (t) => {
    const { paguro } = matrix.lab;
    await bringTo(matrix.lab, 'sdn-1');
    const life = await Life.start(paguro);
    try {
      await life.open('sdn-1');
      t.same(casualties(await life.judge()), []);
      await paguro.handover(TERMINAL, 'edge-1', { omitConnections: true });
      const lost = casualties(await life.judge()).filter((name) => name.includes('tcp'));
      t.equal(lost.length, 4, lost.join(', '));
    } finally {
      await life.close();
    }
  },
);

t.comment(`\n${markdown(results)}`);
