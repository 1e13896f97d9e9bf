/**
 * What steering's rules send to the controller, how it is told apart, and how much of it there may be. Pure.
 *
 *   seen     a terminal's MAC on a port where it is not attached: the whole frame, which waits in the controller
 *   sender   a terminal with two links sends by the one that is not its primary: the beginning of the frame, a copy
 *   held     a frame for or from a terminal whose traffic is held: the whole frame, which waits
 *
 * Each kind goes through meters of its own, so that a flood of one takes no room of another's in the switch's short queue to the controller, nor of
 * the copies that carry the state of connections. A few meters for all terminals: a flood of one takes the room of those few only that share
 * its meter.
 *
 *   31..28 kind   27..8 index of the terminal   0 side
 */
import type { Action, MessageOf } from '../openflow/index.js';
import { SIDE } from '../pipeline/index.js';

type MeterMod = MessageOf<'meter_mod'>;
export type NoticeKind = 'seen' | 'sender' | 'held';

export interface Notice {
  readonly kind: NoticeKind;
  /** Of the terminal in the configuration. */
  readonly terminal: number;
  /** Where the frame came from; `SIDE.terminal` unless it is held. */
  readonly side: number;
}

const KINDS: readonly (NoticeKind | undefined)[] = [undefined, 'seen', 'sender', 'held'];
const WHOLE_FRAME = 0xffff;
const BEGINNING = 64;

/** "PG", as in the cookies, and behind those of rejected packets: meters of other controllers stay. */
const FIRST = 0x5047_0100;
const METERS_A_KIND = 16;
/** Packets a second, with a burst (OpenFlow 1.3.5, 7.3.4.4: OFPMF_PKTPS, OFPMF_BURST). */
const FLAGS = 0b0110;
/** Frames a second and at once, which must all fit in the 512 that a switch can queue for the controller beside others. */
const LIMITS: Readonly<Record<NoticeKind, { readonly rate: number; readonly burst: number }>> = {
  seen: { rate: 5_000, burst: 100 },
  sender: { rate: 100, burst: 5 },
  held: { rate: 10_000, burst: 200 },
};

export function packNotice({ kind, terminal, side }: Notice): number {
  return ((KINDS.indexOf(kind) << 28) | (terminal << 8) | (side === SIDE.network ? 1 : 0)) >>> 0;
}

/** The parts of a cookie; nothing when it is none of ours. */
export function unpackNotice(cookie: number): Notice | undefined {
  const kind = KINDS[cookie >>> 28];
  if (kind === undefined) return undefined;
  const side = (cookie & 1) === 1 ? SIDE.network : SIDE.terminal;
  return { kind, terminal: (cookie & 0x0fff_ff00) >>> 8, side };
}

/** To the controller, as far as the meter lets it: the frame itself goes on, whatever becomes of the copy. */
export function noticeAction(kind: NoticeKind, terminal: number): Action {
  return {
    type: 'controller2',
    maxLen: kind === 'sender' ? BEGINNING : WHOLE_FRAME,
    meterId: FIRST + KINDS.indexOf(kind) * METERS_A_KIND + (terminal % METERS_A_KIND),
  };
}

/** All of them. A switch refuses to add what it has; then they are to be modified. */
export function noticeMeters(command: 'add' | 'modify'): MeterMod[] {
  return KINDS.flatMap((kind, number) =>
    kind === undefined
      ? []
      : Array.from({ length: METERS_A_KIND }, (_, index): MeterMod => {
          const meter = FIRST + number * METERS_A_KIND + index;
          return {
            type: 'meter_mod',
            command,
            flags: FLAGS,
            meter,
            bands: [{ type: 'drop', ...LIMITS[kind] }],
          };
        }),
  );
}
