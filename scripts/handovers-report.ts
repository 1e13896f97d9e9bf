/**
 * The words and tables of the measurement of handovers. Pure.
 */
import type { HandoversDetails, HandoversResult, Progress } from '../test/harness/handovers/job.js';
import { flowName } from '../test/harness/handovers/windows.js';
import { type Quantiles, quantiles } from '../test/harness/quantiles.js';
import { milliseconds as ms, table } from './table.js';

/** Rows while it runs, at most. */
const ROWS = 50;

/** Whether a measurement shows what it is to show: nothing lost, and losses where there must be some. */
export function isGood(result: HandoversResult, { problems }: Pick<HandoversDetails, 'problems'>): boolean {
  const { lost, duplicated, resets, control } = result;
  return (
    result.handovers > 0 &&
    result.sent > 0 &&
    lost + duplicated + resets === 0 &&
    problems.length === 0 &&
    (control.handovers === 0 || control.lost > 0)
  );
}

const COLUMNS = [
  'handovers',
  'the last',
  'sent',
  'under way or lost',
  'doubled',
  'late',
  'worst gap',
  'switch p50',
];

/** Lines while it runs: one for so many handovers that there are not too many. */
export class ProgressTable {
  readonly #each: number;
  #gapMs = 0;
  #switchMs: number[] = [];
  #begun = false;

  constructor(count: number) {
    this.#each = Math.ceil(count / ROWS);
  }

  rows({ done, kind, report, flows, gapMs }: Progress): readonly string[] {
    this.#gapMs = Math.max(this.#gapMs, gapMs);
    this.#switchMs.push(...report.phases.flatMap((phase) => (phase.name === 'switch' ? [phase.ms] : [])));
    if (done % this.#each !== 0) return [];
    const sum = (key: 'sent' | 'lost' | 'duplicated' | 'reordered'): string =>
      String(flows.reduce((total, flow) => total + flow[key], 0));
    const cells = [
      ...[String(done), `${kind} to ${report.to}`, sum('sent'), sum('lost'), sum('duplicated')],
      ...[sum('reordered'), ms(this.#gapMs), ms(quantiles(this.#switchMs).p50)],
    ];
    const line = cells.map((cell, place) =>
      cell.padStart(Math.max(COLUMNS[place]?.length ?? 0, WIDTHS[place] ?? 0)),
    );
    const header = COLUMNS.map((name, place) => name.padStart(WIDTHS[place] ?? 0)).join('  ');
    const first = this.#begun ? [] : [header];
    this.#begun = true;
    this.#gapMs = 0;
    this.#switchMs = [];
    return [...first, line.join('  ')];
  }
}

const WIDTHS = [9, 14, 10, 17, 7, 6, 9, 10];

export function renderResult(result: HandoversResult, details: HandoversDetails): string {
  const { control } = result;
  const quantity = (name: string, { p50, p99, max }: Quantiles): readonly string[] => [
    name,
    ...[p50, p99, max].map(ms),
  ];
  const list =
    details.problems.length === 0 ? [] : [`Also:\n${details.problems.map((one) => `  - ${one}`).join('\n')}`];
  return [
    table([
      ['datagrams', 'sent', 'lost', 'doubled', 'late'],
      ...details.flows.map(({ from, to, family, sent, lost, duplicated, reordered }) => [
        `${from} to ${to}, ${family === 'ipv4' ? 'IPv4' : 'IPv6'}`,
        ...[sent, lost, duplicated, reordered].map(String),
      ]),
      ['all', ...[result.sent, result.lost, result.duplicated, result.reordered].map(String)],
      ['frames (not only these) that a busy switch did not read', '', String(details.droppedUnread), '', ''],
      [`control: ${control.handovers} that break before they make`, '', String(control.lost), '', ''],
    ]),
    table([
      ['TCP', ''],
      ['bytes, each the right one at its place', String(result.tcpBytes)],
      ['resets', String(result.resets)],
      ['segments sent again', String(result.retransmits)],
    ]),
    table([
      [`${result.handovers} handovers`, 'p50', 'p99', 'max'],
      quantity('gap beyond the sending interval', result.gapMs),
      quantity(`  role alone (${details.movesByKind.role})`, details.gapMsByKind.role),
      quantity(`  sending link (${details.movesByKind.link})`, details.gapMsByKind.link),
      ...Object.entries(details.gapMsByFlow).map(([name, gaps]) => quantity(`  ${name}`, gaps)),
      quantity(`  when nothing moved (${details.quietWindows} windows)`, details.quietGapMs),
      ...Object.entries(details.phaseMs).map(([name, times]) => quantity(`phase ${name}`, times)),
    ]),
    table([
      ['the longest gaps at any time', '', 'after the begin of a handover'],
      ...details.longestGaps.map(({ ms: gap, flow, kind, afterMs }) => [
        flowName(flow),
        ms(gap),
        afterMs === null ? 'before the first' : `${kind} ${ms(afterMs)}`,
      ]),
    ]),
    ...list,
  ].join('\n\n');
}
