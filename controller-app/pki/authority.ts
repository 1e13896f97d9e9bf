/**
 * A private CA in a folder, and the certificates that it signs, made by the program openssl. What each certificate says is in shared/tls/holder.ts.
 *
 * Keys are on the curve P-256, which Node, OpenSSL and Open vSwitch all take and which signs in a fraction of a millisecond. Files appear
 * whole or not at all, and never in place of others.
 */
import { access, chmod, constants, link, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { CommandError, run } from '../../shared/runtime/command.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { type Holder, type TlsFiles, urisOf } from '../../shared/tls/index.js';
import { PkiError } from './errors.js';
import type { CertificateRequest } from './request.js';

const AUTHORITY = 'ca';
const KEY_MODE = 0o600;
const FOLDER_MODE = 0o700;
const CERTIFICATE_MODE = 0o644;

/** The extended key usage of each kind, as openssl names it. */
const USAGE: Readonly<Record<Holder['kind'], string>> = {
  controller: 'serverAuth',
  agent: 'clientAuth',
  switch: 'clientAuth',
};

/** Makes `ca.pem` and `ca.key`, and their folder, with mode 0700, unless it is there: then it stays as it is. Fails with a PkiError. */
export async function initAuthority(folder: string, days: number): Promise<Pick<TlsFiles, 'ca' | 'key'>> {
  await mkdir(folder, { recursive: true, mode: FOLDER_MODE }).catch((cause: unknown) => {
    throw cannot(folder, 'be made', cause);
  });
  const made = await make(folder, AUTHORITY, [
    ...['-days', String(days), '-subj', '/CN=Paguro CA'],
    ...extensions({
      basicConstraints: 'critical,CA:TRUE,pathlen:0',
      keyUsage: 'critical,keyCertSign,cRLSign',
      subjectKeyIdentifier: 'hash',
    }),
  ]);
  return { ca: made.certificate, key: made.key };
}

/** Writes a certificate and its key beside the CA's. Fails with a PkiError. */
export async function issueCertificate(
  folder: string,
  { holder, addresses, fileName }: CertificateRequest,
  days: number,
): Promise<TlsFiles> {
  const authority = filesOf(folder, AUTHORITY);
  for (const file of [authority.certificate, authority.key])
    await access(file, constants.R_OK).catch((cause: unknown) => {
      throw codeOf(cause) === 'ENOENT'
        ? new PkiError(
            'no-authority',
            `there is no ${file}: run "paguro pki init" first, or name its folder with --folder`,
            { cause },
          )
        : cannot(file, 'be read', cause);
    });
  const names = [
    ...urisOf(holder).map((uri) => `URI:${uri}`),
    ...addresses.map((address) => `${isIP(address) === 0 ? 'DNS' : 'IP'}:${address}`),
  ];
  const made = await make(folder, fileName, [
    ...['-CA', authority.certificate, '-CAkey', authority.key],
    // The names that count are in the extension; this one is for people.
    ...['-days', String(days), '-subj', `/CN=Paguro ${fileName}`],
    ...extensions({
      basicConstraints: 'critical,CA:FALSE',
      keyUsage: 'critical,digitalSignature',
      extendedKeyUsage: USAGE[holder.kind],
      subjectAltName: names.join(','),
      subjectKeyIdentifier: 'hash',
      authorityKeyIdentifier: 'keyid',
    }),
  ]);
  return { ca: authority.certificate, ...made };
}

function extensions(values: Readonly<Record<string, string>>): string[] {
  return Object.entries(values).flatMap(([name, value]) => ['-addext', `${name}=${value}`]);
}

function filesOf(folder: string, name: string): { readonly certificate: string; readonly key: string } {
  return { certificate: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) };
}

/** A key and its certificate, made beside their place and then put there. openssl chooses a random serial number of 159 bits. */
async function make(folder: string, name: string, args: readonly string[]) {
  const files = filesOf(folder, name);
  const workshop = await mkdtemp(join(folder, '.new-')).catch((cause: unknown) => {
    throw cannot(folder, 'be written to', cause);
  });
  try {
    const fresh = filesOf(workshop, name);
    await openssl([
      // The machine's own configuration adds extensions.
      ...['req', '-x509', '-config', '/dev/null', '-sha256'],
      ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'],
      ...['-keyout', fresh.key, '-out', fresh.certificate],
      ...args,
    ]);
    await chmod(fresh.key, KEY_MODE);
    await chmod(fresh.certificate, CERTIFICATE_MODE);
    await place(fresh.key, files.key);
    try {
      await place(fresh.certificate, files.certificate);
    } catch (error) {
      await rm(files.key);
      throw error;
    }
  } finally {
    await rm(workshop, { recursive: true, force: true });
  }
  return files;
}

/** Unlike a rename this never takes the place of a file that is there. */
async function place(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST')
      throw new PkiError(
        'exists',
        `${to} is there already, and is not overwritten: move it away, or name another folder with --folder`,
        { cause },
      );
    throw cannot(to, 'be written', cause);
  }
}

function cannot(path: string, what: string, cause: unknown): PkiError {
  const remedy = 'be the user whom the folder belongs to, or name another with --folder';
  return new PkiError('failed', `${path} cannot ${what} (${messageOf(cause)}): ${remedy}`, { cause });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

async function openssl(args: readonly string[]): Promise<void> {
  try {
    await run('openssl', args);
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    if (cause.code === 'not-found')
      throw new PkiError('no-openssl', 'the program openssl is missing: apt-get install openssl', { cause });
    const old = /Unknown option|Unrecognized flag/i.test(cause.stderr);
    throw old
      ? new PkiError(
          'no-openssl',
          `openssl is older than 3.0, as "openssl version" says: install a newer one`,
          {
            cause,
          },
        )
      : new PkiError('failed', `openssl made no certificate: ${cause.message}`, { cause });
  }
}
