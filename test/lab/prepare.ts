/**
 * Makes a new lab ready from inside: private /run and Open vSwitch folders, loopback up, no IPv6 on the switches' own interfaces.
 * Synchronous, so that a module that enters a lab has done so before the next one is evaluated.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from './error.js';
import { keeperNamespace, type Lab, labAt, pidNamespace } from './folder.js';

/** Folders of the machine that daemons in the lab would write to otherwise. */
const MASKED = [
  '/etc/openvswitch',
  '/var/log/openvswitch',
  '/var/lib/openvswitch',
  '/var/lib/docker',
  '/var/lib/containerd',
];
const OVS = '/run/openvswitch';

let prepared: Lab | undefined;

/** Is this process in a lab? The environment alone does not say so: it may have leaked out of one. */
export function insideLab(): boolean {
  const folder = process.env.PAGURO_LAB;
  if (folder === undefined) return false;
  const outside = keeperNamespace(folder);
  return outside !== undefined && outside !== pidNamespace();
}

/** The lab that this process is in. Fails with `not-in-lab`. */
export function currentLab(): Lab {
  const folder = process.env.PAGURO_LAB;
  if (folder === undefined || !insideLab()) {
    throw new LabError(
      'not-in-lab',
      'this runs in a lab only: import test/lab/enter.js first, or use scripts/lab',
    );
  }
  return labAt(folder);
}

/** Once a lab; later calls, also from other processes of the lab, find it ready. */
export function prepareLab(): Lab {
  if (prepared) return prepared;
  const lab = currentLab();
  const marker = join(lab.folder, 'inside');
  if (!existsSync(marker)) {
    command('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run']);
    for (const folder of MASKED.filter((path) => existsSync(path))) {
      command('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder]);
    }
    mkdirSync('/run/lock', { mode: 0o1777 });
    mkdirSync('/run/netns');
    mkdirSync(OVS);
    command('ip', ['link', 'set', 'lo', 'up']);
    // Interfaces made from now on in this namespace are ports of switches: they must not speak. Hosts have namespaces of their own.
    writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
    writeFileSync(marker, '');
  }
  process.env.OVS_RUNDIR = OVS;
  process.env.OVS_DBDIR = OVS;
  process.env.OVS_SYSCONFDIR = OVS;
  process.env.OVS_LOGDIR = lab.folder;
  process.env.DOCKER_HOST = 'unix:///run/docker.sock';
  prepared = lab;
  return lab;
}

function command(file: string, args: readonly string[]): void {
  const result = spawnSync(file, args, { encoding: 'utf8' });
  if (result.status === 0) return;
  const detail = result.error?.message ?? result.stderr.trim();
  throw new LabError(
    'did-not-start',
    `the lab could not be prepared: ${file} ${args.join(' ')}: ${detail}. It needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN.`,
  );
}
