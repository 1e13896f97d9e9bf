/**
 * Why a certificate could not be made.
 */
import { CodedError } from '../../shared/runtime/coded-error.js';

export type PkiErrorCode =
  /** A name or address that cannot stand in a certificate. */
  | 'bad-name'
  /** It is there already. */
  | 'exists'
  /** There is no CA in the folder. */
  | 'no-authority'
  /** The program openssl is missing or too old. */
  | 'no-openssl'
  /** openssl failed, or a file could not be written. */
  | 'failed';

export class PkiError extends CodedError<PkiErrorCode> {
  override readonly name = 'PkiError';
}
