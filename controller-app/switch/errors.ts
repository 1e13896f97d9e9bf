/**
 * What can go wrong with a live switch. Every error says which switch, and what it was doing.
 */
import {
  type ErrorMessage,
  errorName,
  type FlowMod,
  type GroupMod,
  type OpenFlowEncodeError,
} from '../openflow/index.js';
import type { Answer } from './codec.js';

export type SwitchErrorCode =
  /** The connection is gone, or was closed here. */
  | 'closed'
  /** A request was not answered in time. */
  | 'timeout'
  /** The switch has not answered an echo for too long. */
  | 'dead'
  /** It reads slower than it is written to, or too much waits for it already. */
  | 'backpressure'
  /** It said something that it must not say here. */
  | 'protocol'
  /** It doesn't speak OpenFlow 1.3. */
  | 'version'
  /** The same switch has connected again. */
  | 'replaced'
  /** Another connection is this switch already, and lives. */
  | 'duplicate'
  /** Nobody here knows a switch with this datapath id. */
  | 'unknown-switch'
  /** It speaks no TLS, or shows no certificate of a switch that is trusted here. */
  | 'tls'
  /** Its certificate does not name the datapath id that it claims. */
  | 'not-certified'
  /** Too many connections that are no switches yet. */
  | 'crowded'
  /** An answer larger than what is taken. */
  | 'too-large'
  /** An answer of which part after part comes, and never the last. */
  | 'endless';

export interface SwitchErrorOptions {
  readonly cause?: unknown;
  /** What the peer is told before its connection is closed for this. */
  readonly answer?: Answer;
}

export class SwitchError extends Error {
  override readonly name = 'SwitchError';
  readonly answer: Answer | undefined;
  constructor(
    readonly code: SwitchErrorCode,
    message: string,
    options: SwitchErrorOptions = {},
  ) {
    super(message, options);
    this.answer = options.answer;
  }
}

/** The switch refused something: its error message, by name. */
export class OpenFlowError extends Error {
  override readonly name = 'OpenFlowError';
  readonly code = 'openflow-error';
  /** `OFPET_BAD_MATCH`, … */
  readonly errorType: string;
  /** `OFPBMC_BAD_PREREQ`, … */
  readonly errorCode: string;
  constructor(
    what: string,
    readonly answer: ErrorMessage,
  ) {
    const named = errorName(answer.errorType, answer.code, answer.experimenter);
    super(`the switch refused ${what}: ${named.code} (${named.type})`);
    this.errorType = named.type;
    this.errorCode = named.code;
  }
}

export interface BundleFailure {
  /** Place in what was given to `bundle`. */
  readonly index: number;
  readonly mod: FlowMod | GroupMod;
  /** The switch's answer; or why it could not even be written down. */
  readonly error: OpenFlowError | OpenFlowEncodeError;
}

/** Failures that a BundleError names one by one. */
export const MAX_NAMED_FAILURES = 100;

/**
 * Nothing of a bundle was done. `failures` names what the switch didn't like, the first MAX_NAMED_FAILURES of it; it is empty when the
 * bundle as a whole failed (`cause`).
 */
export class BundleError extends Error {
  override readonly name = 'BundleError';
  readonly code = 'bundle-failed';
  constructor(
    readonly failures: readonly BundleFailure[],
    count: number,
    options: { cause: unknown },
  ) {
    const shown = failures
      .slice(0, 3)
      .map(
        ({ index, mod, error }) =>
          `#${index} ${describe(mod)}: ${error instanceof OpenFlowError ? error.errorCode : error.message}`,
      )
      .join('; ');
    const more = failures.length > 3 ? ` and ${failures.length - 3} more` : '';
    const why = failures.length > 0 ? `${shown}${more}` : (options.cause as Error).message;
    super(`a bundle of ${count} changes was refused and none of it done: ${why}`, options);
  }
}

function describe(mod: FlowMod | GroupMod): string {
  const shown =
    mod.type === 'flow_mod'
      ? { table: mod.table, priority: mod.priority, match: mod.match, instructions: mod.instructions }
      : { group: mod.group, buckets: mod.buckets };
  const text = JSON.stringify(shown, (_, value: unknown) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
  );
  return `${mod.type} ${mod.command} ${text.slice(0, 400)}`;
}
