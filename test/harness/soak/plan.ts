/**
 * What a soak does next: chosen by chance, and the same again with the same seed. Pure.
 */
import type { Random } from '../../fuzz/random.js';
import type { Fault } from '../faults/cells.js';
import { PLACES, type Place } from '../places.js';

/** Something breaks for so long. `afterMs`: after the beginning of the handover that it comes into. */
export interface Break {
  readonly fault: Fault;
  readonly where: Place;
  readonly afterMs: number;
  readonly forMs: number;
}

export type Action =
  | { readonly kind: 'handover'; readonly to: Place; readonly broken?: Break }
  /** The terminal's link goes to another switch, and its firewall after it. */
  | { readonly kind: 'move'; readonly to: Place }
  | { readonly kind: 'fault'; readonly broken: Break }
  | { readonly kind: 'open' }
  | { readonly kind: 'close' }
  | { readonly kind: 'policy'; readonly number: number };

const KILLS: readonly [Fault, ...Fault[]] = ['controller killed', 'agent killed'];
const MILD: readonly [Fault, ...Fault[]] = [
  'controller stopped',
  "switch's connection cut",
  'agent stopped',
  'container killed',
  'channel cut',
  'channel stalled',
];
const EDGES = ['edge-1', 'edge-2'] as const;
/** Shorter and longer than it takes to notice a death. */
const DURATIONS_MS = [100, 500, 1_500, 3_000] as const;
const DELAYS_MS = 400;

/** `kills`: programs may be killed, too; they then begin anew, and with them what is known of their memory. */
export function nextAction(random: Random, active: Place, kills: boolean): Action {
  const others = PLACES.filter((place) => place !== active);
  const to = others[random.below(others.length)] ?? 'sdn-1';
  switch (
    random.pick([
      'handover',
      'handover',
      'broken',
      'broken',
      'fault',
      'fault',
      'move',
      'open',
      'close',
      'policy',
    ])
  ) {
    case 'handover':
      return { kind: 'handover', to };
    case 'broken':
      return { kind: 'handover', to, broken: breaking(random, kills) };
    case 'fault':
      return { kind: 'fault', broken: breaking(random, kills) };
    case 'move':
      return { kind: 'move', to: random.pick(PLACES) };
    case 'open':
      return { kind: 'open' };
    case 'close':
      return { kind: 'close' };
    default:
      return { kind: 'policy', number: random.below(1_000) };
  }
}

function breaking(random: Random, kills: boolean): Break {
  const fault = random.pick(kills && random.oneIn(3) ? KILLS : MILD);
  return {
    fault,
    where: fault === "switch's connection cut" ? random.pick(PLACES) : random.pick(EDGES),
    afterMs: random.below(DELAYS_MS),
    forMs: KILLS.includes(fault) ? 0 : random.pick(DURATIONS_MS),
  };
}

/** For a line of the report. */
export function describe(action: Action): string {
  switch (action.kind) {
    case 'handover':
      return `handover to ${action.to}${action.broken ? `, ${describeBreak(action.broken)}` : ''}`;
    case 'fault':
      return describeBreak(action.broken);
    case 'move':
      return `the link moves to ${action.to}`;
    case 'open':
      return 'connections are opened';
    case 'close':
      return 'connections are closed';
    case 'policy':
      return `policy ${action.number}`;
  }
}

function describeBreak({ fault, where, afterMs, forMs }: Break): string {
  return `after ${afterMs} ms, ${where}: ${fault} for ${forMs} ms`;
}
