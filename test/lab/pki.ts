/**
 * The lab's own CA, and certificates for whoever takes part in it: made when they are first asked for, in a few hundredths of a second each.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { initAuthority, issueCertificate, requestOf } from '../../controller-app/pki/index.js';
import { run } from '../../shared/runtime/command.js';
import type { Kind, TlsFiles } from '../../shared/tls/index.js';
import { currentLab } from './prepare.js';

const DAYS = 1;

let authority: Promise<unknown> | undefined;
const issued = new Map<string, Promise<TlsFiles>>();

/** Files of a certificate in this lab: `labCertificate('agent', 'edge-1')`. One process of the lab asks for each. */
export function labCertificate(kind: Kind, ...names: readonly string[]): Promise<TlsFiles> {
  const folder = join(currentLab().folder, 'pki');
  const request = { ...requestOf(kind, names), fileName: [kind, ...names].join('-') };
  const known = issued.get(request.fileName);
  if (known) return known;
  authority ??= existsSync(join(folder, 'ca.pem')) ? Promise.resolve() : initAuthority(folder, DAYS);
  const files = authority.then(() => issueCertificate(folder, request, DAYS));
  issued.set(request.fileName, files);
  return files;
}

/** Gives the lab's Open vSwitch a certificate for bridges with these datapath ids: from now on controllers of the form `ssl:` can be set. */
export async function certifySwitches(dpids: readonly number[]): Promise<void> {
  const { key, certificate, ca } = await labCertificate('switch', ...dpids.map(String));
  await run('ovs-vsctl', ['set-ssl', key, certificate, ca]);
}

/** The lines of a configuration file that switch TLS on. */
export function tlsYaml(files: TlsFiles): string {
  return `tls: ${JSON.stringify(files)}\n`;
}
