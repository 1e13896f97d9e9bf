/**
 * When two flows are one flow to a switch, and when they are the same in all that a controller states. What comes back from a switch is spelled
 * differently from what went there (the order of fields, masks of all ones, loads instead of masked settings): so both are
 * compared in one spelling.
 */
import { type Flow, instructionsKey, type Match, matchKey, OFPFF } from '../openflow/index.js';

/**
 * What makes two flows one flow to a switch (OpenFlow 1.3.5, 6.4): table, priority and match. The key is not for people. Throws an
 * `OpenFlowEncodeError` for a match that cannot be sent.
 */
export function flowKey(flow: {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
}): string {
  return `${flow.table} ${flow.priority} ${matchKey(flow.match)}`;
}

/** Flags that last; the others are about the adding. */
const LASTING_FLAGS = OFPFF.SEND_FLOW_REM | OFPFF.NO_PKT_COUNTS | OFPFF.NO_BYT_COUNTS;

/** All else of a flow. Not for people either. Throws an `OpenFlowEncodeError` for instructions that cannot be sent. */
export function flowContent(flow: Flow): string {
  const { cookie, idleTimeout = 0, hardTimeout = 0, flags = 0 } = flow;
  return `${cookie} ${idleTimeout} ${hardTimeout} ${flags & LASTING_FLAGS} ${instructionsKey(flow.instructions)}`;
}

/** A flow with what it is known and compared by. */
export interface Identified {
  readonly key: string;
  readonly content: string;
  readonly flow: Flow;
}

/** Throws an `OpenFlowEncodeError` for a flow that cannot be sent. */
export function identify(flow: Flow): Identified {
  return { key: flowKey(flow), content: flowContent(flow), flow };
}

/** For people. */
export function describeFlow({ table, priority, match }: Flow): string {
  const shown = JSON.stringify(match, (_, value: unknown) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
  );
  return `table ${table}, priority ${priority}, match ${shown}`;
}
