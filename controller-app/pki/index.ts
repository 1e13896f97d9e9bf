/**
 * A private CA and its certificates.
 */
export { initAuthority, issueCertificate } from './authority.js';
export { PkiError, type PkiErrorCode } from './errors.js';
export { type CertificateRequest, requestOf } from './request.js';
