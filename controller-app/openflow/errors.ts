/**
 * What goes wrong between values and bytes. Whatever comes off a wire is checked before it is used; what fails a check is one of these.
 */

export type DecodeErrorCode =
  /** The bytes end before the value does. */
  | 'too-short'
  /** A length contradicts what it measures. */
  | 'bad-length'
  /** Not OpenFlow 1.3. */
  | 'bad-version'
  /** A value that the specification forbids in this place. */
  | 'bad-value'
  /** One match names a field twice. */
  | 'duplicate-field'
  /** Actions in actions in actions. */
  | 'too-deep';

export class OpenFlowDecodeError extends Error {
  override readonly name = 'OpenFlowDecodeError';
  constructor(
    readonly code: DecodeErrorCode,
    message: string,
    /** Bytes from the start of the message (or of what was given to decode). */
    readonly offset: number,
  ) {
    super(`${message}, at byte ${offset}`);
  }
}

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
