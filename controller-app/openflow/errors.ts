/**
 * What goes wrong between values and bytes. Whatever comes off a wire is checked before it is used; what fails a check is an
 * `OpenFlowDecodeError`, which says what the protocol wants the sender to be told.
 */
import { type ErrorCode, errorName, errorNumbers } from './error-codes.js';

/** An error message repeats at least so much of what it is about (spec 1.3.5, 7.4.4). */
const REPEATED = 64;

/** Bytes that are no well-formed message. `code` is the name of the protocol's error code. */
export class OpenFlowDecodeError extends Error {
  override readonly name = 'OpenFlowDecodeError';
  /** OFPET number, as an error message has it. */
  readonly errorType: number;
  /** `OFPET_BAD_MATCH`, … */
  readonly errorTypeName: string;
  /** The number of `code`; for an experimenter's error its exp_type. */
  readonly errorCode: number;
  /** Set for errors of type OFPET_EXPERIMENTER: whose they are. */
  readonly experimenter?: number;
  /** Of the message that was refused; 0 when it ended before its xid. */
  readonly xid: number;
  /** The beginning of the message that was refused, copied: what an error message repeats. */
  readonly data: Uint8Array;

  constructor(
    /** `OFPBMC_BAD_LEN`, … */
    readonly code: ErrorCode,
    message: string,
    /** Bytes from the start of the message. */
    readonly offset: number,
    refused: Uint8Array,
  ) {
    super(`${message}, at byte ${offset} (${code})`);
    const { errorType, errorCode, experimenter } = errorNumbers(code);
    this.errorType = errorType;
    this.errorCode = errorCode;
    this.errorTypeName = errorName(errorType, errorCode, experimenter).type;
    if (experimenter !== undefined) this.experimenter = experimenter;
    this.data = new Uint8Array(refused.subarray(0, REPEATED));
    this.xid = this.data.length < 8 ? 0 : new DataView(this.data.buffer).getUint32(4);
  }
}

/** A value that does not fit its place in a message. Nothing is cut to size. */
export class OpenFlowEncodeError extends Error {
  override readonly name = 'OpenFlowEncodeError';
  constructor(
    readonly code: 'bad-value' | 'too-long',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
