/**
 * The lab's folder: the one thing of a lab that is seen from outside (its logs, the controller's Unix socket), and its cgroup.
 * Both are removed by the lab's keeper. Should the keeper itself be killed, the next start sweeps what it left: a folder says who
 * keeps it (process id, start time, pid namespace, boot), so that a living lab, also one of another pid namespace, is never touched.
 */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

const FOLDERS = '/tmp';
const PREFIX = 'paguro-lab-';
const CGROUPS = '/sys/fs/cgroup';
/** A folder without a readable record is being made by somebody else unless it is older than this. */
const UNRECORDED_MS = 60_000;

interface Record {
  readonly keeper: number;
  readonly started: string;
  readonly pidNamespace: string;
  readonly boot: string;
}

export interface Lab {
  readonly id: string;
  /** Seen from inside and outside under the same path. Mode 0700. */
  readonly folder: string;
  /** Where the controller of this lab listens for the HTTP API. */
  readonly apiSocket: string;
  /** Docker puts the cgroups of its containers below this one, so that none remains on the machine. */
  readonly cgroup: string;
}

export function labAt(folder: string): Lab {
  const id = basename(folder).slice(PREFIX.length);
  return { id, folder, apiSocket: join(folder, 'api.sock'), cgroup: `${PREFIX}${id}` };
}

/** Makes the folder of a new lab, kept by this process. */
export function createLabFolder(): Lab {
  const folder = mkdtempSync(join(FOLDERS, PREFIX));
  const record: Record = {
    keeper: process.pid,
    started: startTime(process.pid) ?? '',
    pidNamespace: pidNamespace(),
    boot: bootId(),
  };
  writeFileSync(join(folder, 'lab.json'), JSON.stringify(record));
  return labAt(folder);
}

/** Removes the folder and the empty cgroups of a lab whose processes are gone. May be repeated. */
export function removeLabFolder(lab: Lab): void {
  removeCgroups(lab.cgroup);
  rmSync(lab.folder, { recursive: true, force: true });
}

/** The labs that run now, seen from this process's pid namespace. */
export function liveLabs(): Lab[] {
  return labFolders()
    .filter((folder) => stateOf(folder) === 'live')
    .map(labAt);
}

/** Removes what dead labs left. Never fails: what can't be removed is left for the next time. */
export function sweepDeadLabs(): void {
  for (const folder of labFolders()) {
    if (stateOf(folder) !== 'dead') continue;
    try {
      removeLabFolder(labAt(folder));
    } catch {
      // Another start sweeps at the same time, or a mount is still going away.
    }
  }
}

/** The pid namespace that the keeper of a lab is in, or undefined when there is no such lab. */
export function keeperNamespace(folder: string): string | undefined {
  return readRecord(folder)?.pidNamespace;
}

export function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid');
}

function labFolders(): string[] {
  return readdirSync(FOLDERS)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => join(FOLDERS, name));
}

function stateOf(folder: string): 'live' | 'dead' | 'unknown' {
  const record = readRecord(folder);
  if (!record) {
    try {
      const status = statSync(folder);
      const old = Date.now() - status.mtimeMs > UNRECORDED_MS;
      return status.isDirectory() && status.uid === process.getuid?.() && old ? 'dead' : 'unknown';
    } catch {
      return 'unknown';
    }
  }
  if (record.boot !== bootId()) return 'dead';
  if (record.pidNamespace !== pidNamespace()) return 'unknown';
  return startTime(record.keeper) === record.started ? 'live' : 'dead';
}

function readRecord(folder: string): Record | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(join(folder, 'lab.json'), 'utf8'));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record {
  return (
    typeof value === 'object' &&
    value !== null &&
    'keeper' in value &&
    typeof value.keeper === 'number' &&
    'started' in value &&
    typeof value.started === 'string' &&
    'pidNamespace' in value &&
    typeof value.pidNamespace === 'string' &&
    'boot' in value &&
    typeof value.boot === 'string'
  );
}

/** Field 22 of /proc/PID/stat: with the pid it names a process for as long as the machine is up. A zombie is no process. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold spaces and parentheses itself: the fields begin after the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The same name in every hierarchy (version 1), or once (version 2). rmdir refuses a cgroup that still has processes. */
function removeCgroups(name: string): void {
  let parents: string[];
  try {
    parents = [CGROUPS, ...readdirSync(CGROUPS).map((controller) => join(CGROUPS, controller))];
  } catch {
    return;
  }
  for (const parent of parents) removeCgroup(join(parent, name));
}

function removeCgroup(path: string): void {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) removeCgroup(join(path, entry.name));
    }
    rmdirSync(path);
  } catch {
    // Not there, or not ours to remove yet.
  }
}
