/**
 * Who this program is to its peers: its certificate, its key, and the CA that it trusts, read from files and checked before anything is done with them.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import {
  checkServerIdentity,
  connect,
  type PeerCertificate,
  type SecureVersion,
  type TLSSocket,
} from 'node:tls';
import { messageOf } from '../runtime/message-of.js';
import { readTextFile } from '../runtime/text-file.js';
import { TlsError } from './errors.js';
import { describeHolder, type Holder, holderOf, listed } from './holder.js';

/** Paths of PEM files. */
export interface TlsFiles {
  /** The certificates of the CAs that peers' certificates may be of. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** A chain of certificates has a few kB. */
const MAX_PEM_BYTES = 65_536;
const OPEN_TO_OTHERS = 0o007;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const MIN_VERSION: SecureVersion = 'TLSv1.3';

interface Secrets {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** The key is in no field that a log or an inspection would show. */
export class Identity {
  readonly #secrets: Secrets;

  constructor(
    secrets: Secrets,
    readonly holder: Holder,
  ) {
    this.#secrets = secrets;
  }

  /** For `tls.createServer` and `setSecureContext`. Whether the peer's certificate is good is for who listens to look at: see door.ts. */
  serverOptions() {
    return {
      ...this.#secrets,
      minVersion: MIN_VERSION,
      requestCert: true,
      // The door looks, and can then say why.
      rejectUnauthorized: false,
    };
  }

  /** Dials a controller. The handshake fails unless the peer has a controller's certificate that is for this host, a name or an address. */
  connect(host: string, port: number): TLSSocket {
    const socket = connect({
      ...this.#secrets,
      minVersion: MIN_VERSION,
      rejectUnauthorized: true,
      host,
      port,
      // An address is no name to ask for (RFC 6066, section 3).
      servername: isIP(host) === 0 ? host : '',
      checkServerIdentity: (_, peer) => controllerProblem(host, peer),
    });
    return socket.setNoDelay(true);
  }
}

/** Why this peer is not the controller that was dialled. */
function controllerProblem(host: string, peer: PeerCertificate): Error | undefined {
  try {
    const holder = holderOf(new X509Certificate(peer.raw));
    if (holder.kind !== 'controller')
      throw new TlsError(
        'wrong-kind',
        `the certificate there is ${describeHolder(holder)}, and no controller's`,
      );
  } catch (error) {
    return error instanceof Error ? error : new Error(messageOf(error));
  }
  return checkServerIdentity(host, peer);
}

/** Who the files must be of. */
export type Wanted = { readonly kind: 'controller' } | { readonly kind: 'agent'; readonly domain: string };

/**
 * Reads and checks the three files. Fails with a ConfigFileError for one that cannot be read, and with a TlsError that names the file and says what
 * to do. `now` is in ms since 1970.
 */
export async function loadIdentity(
  files: TlsFiles,
  wanted: Wanted,
  now: number = Date.now(),
): Promise<Identity> {
  const [ca, cert, key] = await Promise.all(
    [files.ca, files.certificate, files.key].map((file) => readTextFile(file, MAX_PEM_BYTES)),
  );
  if (ca === undefined || cert === undefined || key === undefined) throw new Error('three files were read');
  const authorities = certificatesIn(files.ca, ca);
  const [certificate] = certificatesIn(files.certificate, cert);
  await checkKeyFile(files.key);
  const holder = checkCertificate(files, certificate, authorities, now);
  checkHolder(files.certificate, holder, wanted);
  let matches: boolean;
  try {
    matches = certificate.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    // Not with OpenSSL's own words: nothing of the file is to be shown.
    throw new TlsError('malformed', `${files.key}: this is no private key in PEM without a passphrase`, {
      cause,
    });
  }
  if (!matches)
    throw new TlsError(
      'key-mismatch',
      `${files.key} is not the key of ${files.certificate}: name the two files that "paguro pki issue" wrote together`,
    );
  return new Identity({ ca, cert, key }, holder);
}

function certificatesIn(file: string, text: string): readonly [X509Certificate, ...X509Certificate[]] {
  try {
    const [first, ...more] = (text.match(PEM_CERTIFICATE) ?? []).map((pem) => new X509Certificate(pem));
    if (first) return [first, ...more];
  } catch (cause) {
    throw new TlsError('malformed', `${file}: a certificate in it cannot be read`, { cause });
  }
  throw new TlsError('malformed', `${file}: there is no certificate in PEM in it`);
}

async function checkKeyFile(file: string): Promise<void> {
  const { mode } = await stat(file);
  if ((mode & OPEN_TO_OTHERS) !== 0)
    throw new TlsError('open-key', `${file} can be read by everybody on this machine: chmod 600 ${file}`);
}

function checkCertificate(
  { certificate: file, ca }: TlsFiles,
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
  now: number,
): Holder {
  if (now > Date.parse(certificate.validTo))
    throw new TlsError(
      'expired',
      `${file} has expired on ${certificate.validTo}: issue a new one with "paguro pki issue"`,
    );
  if (now < Date.parse(certificate.validFrom))
    throw new TlsError(
      'not-yet-valid',
      `${file} is not valid before ${certificate.validFrom}: look at this machine's clock`,
    );
  if (!authorities.some((authority) => authority.ca && isIssuer(authority, certificate)))
    throw new TlsError(
      'wrong-ca',
      `${file} is not signed by ${ca}: both must come from one "paguro pki init"`,
    );
  try {
    return holderOf(certificate);
  } catch (cause) {
    throw new TlsError('wrong-kind', `${file}: ${messageOf(cause)}`, { cause });
  }
}

function isIssuer(authority: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
}

function checkHolder(file: string, holder: Holder, wanted: Wanted): void {
  if (holder.kind !== wanted.kind) {
    const name = wanted.kind === 'agent' ? ` ${wanted.domain}` : '';
    throw new TlsError(
      'wrong-kind',
      `${file} is ${describeHolder(holder)} certificate, and ${wanted.kind === 'agent' ? "an agent's" : "a controller's"} is needed: issue one with "paguro pki issue ${wanted.kind}${name}"`,
    );
  }
  if (holder.kind === 'agent' && wanted.kind === 'agent' && !holder.domains.includes(wanted.domain))
    throw new TlsError(
      'wrong-name',
      `${file} is for ${listed(holder.domains)}, not for ${wanted.domain}: issue one with "paguro pki issue agent ${wanted.domain}"`,
    );
}
