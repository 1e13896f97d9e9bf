/**
 * The fault matrix as a table for people: a row a fault, a column a step. Pure.
 */
import { STEPS } from './cells.js';
import type { CellResult } from './run-cell.js';

const COLUMNS = ['idle', ...STEPS] as const;

/** Of a fault's row: what it is called, and its cells by step. */
interface Row {
  readonly name: string;
  readonly cells: ReadonlyMap<string, CellResult>;
}

function rows(results: readonly CellResult[]): readonly Row[] {
  const found = new Map<string, Map<string, CellResult>>();
  for (const result of results) {
    const { fault, side, step } = result.cell;
    const name = side === undefined ? fault : `${fault} (${side})`;
    const row = found.get(name) ?? new Map<string, CellResult>();
    found.set(name, row.set(step, result));
  }
  return [...found].map(([name, cells]) => ({ name, cells }));
}

/** A table in Markdown. A cell that there is none of is empty. */
export function markdown(results: readonly CellResult[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['fault', ...COLUMNS]),
    line(['---', ...COLUMNS.map(() => '---')]),
    ...rows(results).map(({ name, cells }) =>
      line([name, ...COLUMNS.map((step) => cells.get(step)?.outcome ?? '')]),
    ),
  ].join('\n');
}

/** One cell in a line, with what was wrong below it. */
export function oneLine({ cell, outcome, faults, connections, forbidden, settledMs }: CellResult): string {
  const settled =
    settledMs === undefined ? 'never at rest again' : `at rest after ${settledMs.toFixed(0)} ms`;
  const seen = `${connections} connections, ${forbidden} forbidden frames, ${settled}`;
  return [`${outcome.padEnd(12)} ${cell.name}: ${seen}`, ...faults.map((fault) => `  ${fault}`)].join('\n');
}
