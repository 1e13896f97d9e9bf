/**
 * What can be wrong with a certificate, a key, or what a peer shows.
 */
import { CodedError } from '../runtime/coded-error.js';

export type TlsErrorCode =
  /** Not PEM, or a key that is encrypted. */
  | 'malformed'
  /** The key is not that of the certificate. */
  | 'key-mismatch'
  /** Others than the key's owner and group can read it. */
  | 'open-key'
  | 'expired'
  | 'not-yet-valid'
  /** Not signed by the CA. */
  | 'wrong-ca'
  /** For something else: a switch's where an agent's belongs, or nothing of Paguro's at all. */
  | 'wrong-kind'
  /** Of the right kind, and for other names. */
  | 'wrong-name'
  /** No certificate came, or no TLS was spoken. */
  | 'no-tls';

export class TlsError extends CodedError<TlsErrorCode> {
  override readonly name = 'TlsError';
}
