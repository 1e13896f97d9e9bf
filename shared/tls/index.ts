/**
 * TLS between the programs: who a certificate is for, what it is read from, and a listener that asks for it.
 */
export { tlsFilesIn, tlsSchema } from './config.js';
export { Door, type DoorOptions } from './door.js';
export { TlsError, type TlsErrorCode } from './errors.js';
export { handshakeProblem } from './explain.js';
export { describeHolder, type Holder, holderNamed, holderOf, type Kind, listed, urisOf } from './holder.js';
export { type Identity, loadIdentity, type TlsFiles, type Wanted } from './identity.js';
