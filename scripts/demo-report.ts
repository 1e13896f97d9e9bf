/**
 * The words and tables of the demo. Pure.
 */
import type { ApiEvent } from '../shared/api/schema.js';
import type { HandoverResult, MainJobResult } from '../test/harness/main-job/result.js';
import { milliseconds as ms, table } from './table.js';

const PHASES: Readonly<Record<string, string>> = {
  detect: 'away until its first frame on the new port',
  haul: 'traffic led from the new port to the firewall where it still is',
  prepare: 'snapshot exported, standby built, path to it laid',
  switch: 'new firewall admits, all switches lead to it',
  drain: 'packets under way still pass the old one, its changes still flow',
  retire: 'old firewall removed',
  undo: 'undone: the old firewall stays active',
};

/** What is told of an event; nothing for those that a reader of the demo has no use for. */
export function renderStep(event: ApiEvent): string | undefined {
  if (event.kind === 'attachment') {
    return event.attachment
      ? `         . attached: ${event.attachment.switch}, port ${event.attachment.port}`
      : '         . detached: the switch says that the port is gone';
  }
  if (event.kind === 'phase') {
    const bytes = event.bytes > 0 ? `, ${event.bytes} bytes of state` : '';
    return `         . ${event.phase.padEnd(8)} ${ms(event.ms).padStart(8)}   ${PHASES[event.phase] ?? ''}${bytes}`;
  }
  if (event.kind === 'paused' || event.report.outcome === 'done') return undefined;
  return `         . handover ${event.report.outcome}: ${event.report.error}`;
}

function connectionsTable({ connections, control }: MainJobResult): string {
  const row = (
    name: string,
    { opened, survived, reset }: { opened: number; survived: number; reset: number },
  ) => [name, String(opened), String(survived), String(reset)];
  return table([
    ['there and back', 'opened', 'survived', 'reset'],
    ...Object.entries(connections.byKind).map(([name, survival]) => row(name, survival)),
    ...Object.entries(connections.byFamily).map(([name, survival]) =>
      row(`of all: ${name === 'ipv4' ? 'IPv4' : 'IPv6'}`, survival),
    ),
    row('all', connections),
    ...control.byMove.map(({ from, to, opened, survived }) => [
      `control, without the state: ${from} to ${to}`,
      String(opened),
      String(survived),
      '',
    ]),
  ]);
}

function forbiddenTable({ forbidden }: MainJobResult): string {
  const { withoutFirewall } = forbidden;
  return table([
    ['forbidden packets', 'tried', 'passed'],
    ...Object.entries(forbidden.byStage).map(([stage, { tried, passed }]) => [
      stage,
      String(tried),
      String(passed),
    ]),
    ['all', String(forbidden.tried), String(forbidden.passed)],
    ['control, firewall taken away', String(withoutFirewall.tried), String(withoutFirewall.arrived)],
  ]);
}

function handoverTable({ handovers, ordinaryMove }: MainJobResult): string {
  const moves = [...handovers, ordinaryMove];
  const names = [...new Set(handovers.flatMap(({ phases }) => phases.map(({ name }) => name)))];
  const phase = (handover: HandoverResult, name: string): string => {
    const found = handover.phases.find((one) => one.name === name);
    return found ? ms(found.ms) : '';
  };
  return table([
    ['handover', ...handovers.map(({ from, to }) => `${from} to ${to}`), 'ordinary switches'],
    ...names.map((name) => [name, ...handovers.map((handover) => phase(handover, name))]),
    ['all phases', ...handovers.map(({ totalMs }) => ms(totalMs))],
    ['link itself was away', ...moves.map(({ linkDownMs }) => ms(linkDownMs))],
    ['longest gap in the traffic', ...moves.map(({ gapMs }) => ms(gapMs))],
    ['longer than the link was away', ...moves.map(({ gapMs, linkDownMs }) => ms(gapMs - linkDownMs))],
    ['connections moved', ...handovers.map(({ connections }) => String(connections))],
    ['bytes of state', ...handovers.map(({ stateBytes }) => String(stateBytes))],
    ['bytes of changes after it', ...handovers.map(({ deltaBytes }) => String(deltaBytes))],
  ]);
}

export function renderResult(result: MainJobResult): string {
  const { passedNames, withoutFirewall } = result.forbidden;
  const list = (title: string, names: readonly string[]): string[] =>
    names.length === 0
      ? []
      : [
          `${title}:\n${names
            .slice(0, 40)
            .map((name) => `  - ${name}`)
            .join('\n')}`,
        ];
  return [
    connectionsTable(result),
    forbiddenTable(result),
    handoverTable(result),
    ...list('Passed the firewall', passedNames),
    ...list('Never arrived, even without the firewall: these prove nothing', withoutFirewall.missing),
    '',
  ].join('\n\n');
}
