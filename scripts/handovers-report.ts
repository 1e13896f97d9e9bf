/**
 * The words and tables of the measurement of handovers. Pure.
 */
import type { HandoversDetails, HandoversResult, Progress } from '../test/harness/handovers/job.js';
import { flowName, type Place } from '../test/harness/handovers/windows.js';
import { type Quantiles, quantiles } from '../test/harness/quantiles.js';
import { milliseconds as ms, table } from './table.js';

/** Rows while it runs, at most. */
const ROWS = 50;
/** Rows of a list. */
const LISTED = 40;

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

/** `handover 12, role, after 31 ms`. */
function place({ handover, kind, afterMs }: Place): string {
  return kind === null ? 'before the first' : `handover ${handover}, ${kind}, after ${ms(afterMs)}`;
}

/** No table where there is nothing; long ones are cut short. */
function listed(header: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  return rows.length === 0 ? [] : [table([header, ...rows.slice(0, LISTED)])];
}

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
      ['frames (not only these) that a busy switch did not read', '', String(details.drops.unread), '', ''],
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
      quantity(`  this machine alone (${details.machineWindows} windows)`, details.machineGapMs),
      ...Object.entries(details.phaseMs).map(([name, times]) => quantity(`phase ${name}`, times)),
    ]),
    ...listed(
      ['frames that Open vSwitch dropped (some by rules that say so)', ''],
      Object.entries(details.drops.byReason).map(([reason, count]) => [reason, String(count)]),
    ),
    ...listed(
      ['lost', 'datagrams', 'sent'],
      details.losses.map(({ flow, lost, first, last }) => [
        flow,
        String(lost),
        `${place(first)} to ${ms(last.afterMs)}`,
      ]),
    ),
    ...listed(
      ['the longest gaps at any time', '', 'begin'],
      details.longestGaps.map((gap) => [flowName(gap.flow), ms(gap.ms), place(gap)]),
    ),
    ...(details.priorities
      ? []
      : ['All programs competed alike for the processors: what a gap is here is theirs, too.']),
    ...list,
  ].join('\n\n');
}
