/**
 * The error of the API, on both sides: the service throws it, the server writes it as a body, the client throws it again.
 */
import { CodedError } from '../runtime/coded-error.js';
import type { ErrorCode } from './schema.js';

export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  forbidden: 403,
  'unknown-terminal': 404,
  'unknown-domain': 404,
  'unknown-path': 404,
  'no-instance': 409,
  busy: 409,
  'already-there': 409,
  'too-large': 413,
  internal: 500,
  unavailable: 503,
};

/** `message` says what went wrong and what to do. */
export class ApiError extends CodedError<ErrorCode> {
  override readonly name = 'ApiError';
}
