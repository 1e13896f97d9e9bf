/**
 * The fault matrix as tables for people: a row a fault, a column a step; and what is more than one fault, a row each. Pure.
 */
import { type Cell, STEPS, whatBreaks } from './cells.js';
import type { CellResult } from './run-cell.js';

const COLUMNS = ['idle', ...STEPS] as const;

/** Rows of a table, the first of which is its header. */
export type Rows = readonly (readonly string[])[];

const isSingle = ({ also, standbys }: Cell): boolean => also === undefined && standbys;

/** While nothing is under way, the active domain is where the old ones are, and a standby's where the new ones are. */
function rowOf({ fault, side }: Cell): string {
  if (side === undefined) return fault;
  return `${side === 'old' || side === 'active' ? 'old' : 'new'} ${fault}`;
}

/** One fault at a time. A cell that there is none of, or that was not run, is empty. */
export function singleFaults(results: readonly CellResult[]): Rows {
  const rows = new Map<string, Map<string, string>>();
  for (const { cell, outcome } of results) {
    if (!isSingle(cell)) continue;
    const row = rows.get(rowOf(cell)) ?? new Map<string, string>();
    rows.set(rowOf(cell), row.set(cell.step, outcome));
  }
  return [
    ['exactly before', ...COLUMNS],
    ...[...rows].map(([name, cells]) => [name, ...COLUMNS.map((step) => cells.get(step) ?? '')]),
  ];
}

/** Two at once, and those that come where there are no standbys. */
export function otherFaults(results: readonly CellResult[]): Rows {
  const others = results.filter(({ cell }) => !isSingle(cell));
  return [
    ['together, or without standbys', 'exactly before', 'connections'],
    ...others.map(({ cell, outcome }) => [whatBreaks(cell), cell.step, outcome]),
  ];
}

/** Those tables that have rows, in Markdown. */
export function markdown(results: readonly CellResult[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return tables(results)
    .map(([header = [], ...rows]) => [header, header.map(() => '---'), ...rows].map(line).join('\n'))
    .join('\n\n');
}

/** Those that have rows. */
export function tables(results: readonly CellResult[]): readonly Rows[] {
  return [singleFaults(results), otherFaults(results)].filter((rows) => rows.length > 1);
}

/** One cell in a line, with what was wrong below it. */
export function oneLine({ cell, outcome, faults, connections, forbidden, settledMs }: CellResult): string {
  const settled =
    settledMs === undefined ? 'never at rest again' : `at rest after ${settledMs.toFixed(0)} ms`;
  const seen = `${connections} connections, ${forbidden} forbidden frames, ${settled}`;
  return [`${outcome.padEnd(12)} ${cell.name}: ${seen}`, ...faults.map((fault) => `  ${fault}`)].join('\n');
}
