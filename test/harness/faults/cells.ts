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

export interface Cell {
  /** `steer × old agent killed`. */
  readonly name: string;
  /** The fault comes before it; idle: no handover is under way. */
  readonly step: HandoverStep | 'idle';
  readonly fault: Fault;
  /** Undefined for what there is one of. */
  readonly side?: Side;
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

function cell(step: Cell['step'], fault: Fault, side: Side | undefined): Cell {
  const name = `${step} × ${side === undefined ? '' : `${side} `}${fault}`;
  const reason = FAILS_CLOSED[name];
  return {
    name,
    step,
    fault,
    ...(side === undefined ? {} : { side }),
    standbys: true,
    ...(reason === undefined ? { expected: 'lives' } : { expected: 'fails closed', reason }),
  };
}

/** There is no container of the new domain before it is prepared. */
const exists = (step: HandoverStep, fault: Fault, side: Side): boolean =>
  !(fault === 'container killed' && side === 'new' && STEPS.indexOf(step) <= STEPS.indexOf('prepare'));

/** Every cell, by rows: idle, then step by step. */
export const CELLS: readonly Cell[] = [
  ...COMMON.map((fault) => cell('idle', fault, undefined)),
  ...(['active', 'standby'] as const).flatMap((side) => SIDED.map((fault) => cell('idle', fault, side))),
  ...STEPS.flatMap((step) => [
    ...COMMON.map((fault) => cell(step, fault, undefined)),
    ...(['old', 'new'] as const).flatMap((side) =>
      SIDED.filter((fault) => exists(step, fault, side)).map((fault) => cell(step, fault, side)),
    ),
  ]),
];

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
