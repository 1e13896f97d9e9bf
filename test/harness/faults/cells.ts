/**
 * The fault matrix as a table: every step of a handover with every fault exactly before it, and what is expected to come of it. Pure.
 */

import { type HandoverStep, stepSchema } from '../../../shared/api/schema.js';

/** In the order in which a handover goes through them. */
export const STEPS: readonly HandoverStep[] = stepSchema.options;

export const FAULTS = [
  'controller killed',
  'controller stopped',
  "switch's connection cut",
  'agent killed',
  'agent stopped',
  'container killed',
  'channel cut',
  'channel stalled',
] as const;
export type Fault = (typeof FAULTS)[number];

/**
 * Whose agent, container or channel it is: that of the domain which the firewall leaves, to which it goes, where it is active, or where a
 * standby is.
 */
export type Side = 'old' | 'new' | 'active' | 'standby';

/**
 * lives: every connection lives on. fails closed: the fault destroyed the only copy of them, and all are dead. In both nothing passes
 * unfiltered, and afterwards all is as before by itself.
 */
export type Outcome = 'lives' | 'fails closed';

/** One thing that breaks. */
export interface Breakage {
  readonly fault: Fault;
  /** Undefined for what there is one of. */
  readonly side?: Side;
}

export interface Cell extends Breakage {
  /** `steer × old agent killed`, `steer × controller killed + old agent killed`, `steer × old agent killed, no standbys`. */
  readonly name: string;
  /** The fault comes before it; idle: no handover is under way. */
  readonly step: HandoverStep | 'idle';
  /** What breaks at once with it. */
  readonly also?: Breakage;
  /** Without standbys there is no other copy of a firewall than the active one's and the controller's. */
  readonly standbys: boolean;
  readonly expected: Outcome;
  /** Why, when it fails closed. */
  readonly reason?: string;
}

/** Faults of what both domains of a handover may have. */
const SIDED: readonly Fault[] = [
  'agent killed',
  'agent stopped',
  'container killed',
  'channel cut',
  'channel stalled',
];
const COMMON: readonly Fault[] = FAULTS.filter((fault) => !SIDED.includes(fault));

/** What does not live on, and why. */
const FAILS_CLOSED: Readonly<Record<string, string>> = {};

const nameOf = ({ fault, side }: Breakage): string => (side === undefined ? fault : `${side} ${fault}`);

/** `old agent killed`, `controller killed + old agent killed`, `old agent killed, no standbys`. */
export function whatBreaks({
  standbys,
  also,
  ...first
}: Pick<Cell, keyof Breakage | 'also' | 'standbys'>): string {
  const both = also === undefined ? nameOf(first) : `${nameOf(first)} + ${nameOf(also)}`;
  return standbys ? both : `${both}, no standbys`;
}

function cell(
  step: Cell['step'],
  first: Breakage,
  more: Partial<Pick<Cell, 'also' | 'standbys'>> = {},
): Cell {
  const what = { ...first, standbys: true, ...more };
  const name = `${step} × ${whatBreaks(what)}`;
  const reason = FAILS_CLOSED[name];
  return {
    ...what,
    ...{ name, step },
    ...(reason === undefined ? { expected: 'lives' } : { expected: 'fails closed', reason }),
  };
}

/** There is no container of the new domain before it is prepared. */
const exists = (step: HandoverStep, fault: Fault, side: Side): boolean =>
  !(fault === 'container killed' && side === 'new' && STEPS.indexOf(step) <= STEPS.indexOf('prepare'));

const sided = (side: Side, faults: readonly Fault[] = SIDED): Breakage[] =>
  faults.map((fault) => ({ fault, side }));

/** One thing breaks: every step with every fault. */
const SINGLE: readonly Cell[] = [
  ...[...COMMON.map((fault) => ({ fault })), ...sided('active'), ...sided('standby')].map((one) =>
    cell('idle', one),
  ),
  ...STEPS.flatMap((step) => [
    ...COMMON.map((fault) => cell(step, { fault })),
    ...(['old', 'new'] as const).flatMap((side) =>
      sided(
        side,
        SIDED.filter((fault) => exists(step, fault, side)),
      ).map((one) => cell(step, one)),
    ),
  ]),
];

/** Two things break at once. With an old and a new one of a kind the handover goes to a standby at the edge. */
const DOUBLE: readonly Cell[] = [
  cell('idle', { fault: 'controller killed' }, { also: { fault: 'agent killed', side: 'active' } }),
  cell('idle', { fault: 'controller stopped' }, { also: { fault: 'container killed', side: 'active' } }),
  cell(
    'idle',
    { fault: 'agent killed', side: 'active' },
    { also: { fault: 'agent killed', side: 'standby' } },
  ),
  cell('activate', { fault: 'controller killed' }, { also: { fault: 'agent stopped', side: 'new' } }),
  cell('steer', { fault: 'controller killed' }, { also: { fault: 'agent killed', side: 'old' } }),
  cell('steer', { fault: 'agent killed', side: 'old' }, { also: { fault: 'channel stalled', side: 'new' } }),
  cell('drain', { fault: 'channel cut', side: 'old' }, { also: { fault: "switch's connection cut" } }),
];

/** Nobody else has a copy ready. In the end, as each change of it is a restart of the controller. */
const ALONE: readonly Cell[] = [
  cell('idle', { fault: 'agent killed', side: 'active' }, { standbys: false }),
  cell('steer', { fault: 'container killed', side: 'old' }, { standbys: false }),
  cell('activate', { fault: 'controller killed' }, { standbys: false }),
];

export const CELLS: readonly Cell[] = [...SINGLE, ...DOUBLE, ...ALONE];

/** One of each family of faults, at the step where it has most to break. */
export const REPRESENTATIVES: readonly Cell[] = [
  'idle × active agent killed',
  'steer × controller killed',
  'activate × controller stopped',
  "steer × switch's connection cut",
  'prepare × new agent stopped',
  'drain × old container killed',
  'catch-up × new channel cut',
  'steer × old channel stalled',
].map((name) => {
  const found = CELLS.find((one) => one.name === name);
  if (!found) throw new Error(`there is no cell ${name}`);
  return found;
});
