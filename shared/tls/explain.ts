/**
 * What went wrong in a TLS handshake, in words that say what to do: Node has codes of OpenSSL's for it.
 */

const ISSUE = 'issue a new one with "paguro pki issue"';
const OTHER_CA = 'it is not signed by our CA: both sides need certificates of one CA ("paguro pki issue")';

/** Of the peer's certificate: codes of OpenSSL's verification (openssl-verification-options(1)), and Node's own. */
const CERTIFICATE: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: `it has expired: ${ISSUE}`,
  CERT_NOT_YET_VALID: 'it is not valid yet: look at the clocks of both machines',
  DEPTH_ZERO_SELF_SIGNED_CERT: OTHER_CA,
  SELF_SIGNED_CERT_IN_CHAIN: OTHER_CA,
  UNABLE_TO_GET_ISSUER_CERT: OTHER_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: OTHER_CA,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: OTHER_CA,
  CERT_SIGNATURE_FAILURE: OTHER_CA,
  INVALID_PURPOSE: `it is of another kind: ${ISSUE} of the right one`,
  ERR_TLS_CERT_ALTNAME_INVALID: `it is not for the address that was dialled: ${ISSUE} that names it`,
};

/** Of the handshake itself. */
const HANDSHAKE: Readonly<Record<string, string>> = {
  ERR_SSL_HTTP_REQUEST: 'it does not speak TLS: its address must begin with wss: or ssl:',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS: its address must begin with wss: or ssl:',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'it does not speak TLS 1.3',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'it does not speak TLS 1.3',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'it does not trust the CA of our certificate: both sides need one CA',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: `it says that our certificate has expired: ${ISSUE}`,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'it does not take our certificate',
  ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 'our certificate is of a kind that it does not take',
  ECONNRESET: 'it hung up during the handshake',
};

/** Why the peer's certificate is not trusted. `code` is Node's: `CERT_HAS_EXPIRED`, … */
export function certificateProblem(code: string): string {
  return `its certificate is refused: ${CERTIFICATE[code] ?? code}`;
}

/** What a failed handshake, or a failed call that began with one, means. `undefined` for what has nothing to do with TLS. */
export function handshakeProblem(error: Error & { readonly code?: string }): string | undefined {
  const { code = '' } = error;
  if (code in CERTIFICATE) return certificateProblem(code);
  return HANDSHAKE[code] ?? (code.startsWith('ERR_SSL_') ? `TLS: ${error.message.slice(0, 300)}` : undefined);
}
