/**
 * Why rules could not be set.
 */
import { CodedError } from '../../shared/runtime/coded-error.js';

export type CoreErrorCode =
  /** A plugin states rules faster than the switch takes them. */
  | 'busy'
  /** More rules than one switch may have. */
  | 'too-many-rules';

export class CoreError extends CodedError<CoreErrorCode> {
  override readonly name = 'CoreError';
}
