/**
 * Why rules could not be set.
 */
export type CoreErrorCode =
  /** A plugin states rules faster than the switch takes them. */
  | 'busy'
  /** More rules than one switch may have. */
  | 'too-many-rules';

export class CoreError extends Error {
  override readonly name = 'CoreError';
  constructor(
    readonly code: CoreErrorCode,
    message: string,
  ) {
    super(message);
  }
}
