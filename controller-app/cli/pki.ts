/**
 * `paguro pki`: a private CA and certificates, for a network in which nothing is trusted.
 */
import { dirname, relative, resolve } from 'node:path';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { stringify } from 'yaml';
import type { Kind, TlsFiles } from '../../shared/tls/index.js';
import { initAuthority, issueCertificate, requestOf } from '../pki/index.js';

const KINDS = ['controller', 'agent', 'switch'] as const satisfies readonly Kind[];
const CA_DAYS = 3650;
const DAYS = 825;
const MAX_DAYS = 36_500;

export function addPkiCommands(program: Command, print: (text: string) => void): void {
  const pki = program.command('pki').description('make a private CA, and certificates for TLS');
  const folder = (): Option =>
    new Option('--folder <path>', 'where the CA and its certificates are').default('pki');
  const days = (fallback: number): Option =>
    new Option('--days <number>', 'how long it is valid').default(fallback).argParser(dayCount);

  pki
    .command('init')
    .description('make a CA: ca.pem, which everybody gets, and ca.key, which nobody gets')
    .addOption(folder())
    .addOption(days(CA_DAYS))
    .action(async (options: { folder: string; days: number }) => {
      const made = await initAuthority(resolve(options.folder), options.days);
      print(`made ${made.ca} and ${made.key}: whoever has the key can be anybody here`);
    });

  pki
    .command('issue')
    .description('issue a certificate and its key')
    .addArgument(new Argument('<kind>', 'who it is for').choices(KINDS))
    .argument(
      '[names...]',
      'controller: its IP addresses and DNS names (without any: loopback); agent: its domain; switch: the datapath ids of its bridges',
    )
    .addOption(folder())
    .addOption(days(DAYS))
    .action(async (kind: Kind, names: string[], options: { folder: string; days: number }) => {
      const files = await issueCertificate(resolve(options.folder), requestOf(kind, names), options.days);
      print(`made ${files.certificate} and ${files.key}`);
      print(usage(kind, files));
    });
}

/** What to do with them. A configuration file that uses them is taken to lie beside their folder, as the examples do. */
function usage(kind: Kind, files: TlsFiles): string {
  if (kind === 'switch')
    return `on its machine, with all three files there:\n  ovs-vsctl set-ssl ${files.key} ${files.certificate} ${files.ca}\n  ovs-vsctl set-controller BRIDGE ssl:CONTROLLER:6653`;
  const beside = dirname(dirname(files.ca));
  const [ca, certificate, key] = [files.ca, files.certificate, files.key].map((path) =>
    relative(beside, path),
  );
  const tls = stringify({ ca, certificate, key }, { collectionStyle: 'flow', lineWidth: 0 }).trim();
  const lines = [...(kind === 'agent' ? ['controller: wss://CONTROLLER:7653'] : []), `tls: ${tls}`];
  return [`in ${kind}.yaml, if it lies in ${beside} (paths are relative to it):`, ...lines].join('\n  ');
}

function dayCount(text: string): number {
  const days = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (days < 1 || days > MAX_DAYS) throw new InvalidArgumentError(`write a number of days, 1 to ${MAX_DAYS}`);
  return days;
}
