/**
 * The keeper: the program outside a lab that makes its folder, starts its first process and removes the folder when all is gone.
 * Usage: keeper.js LAUNCHER-PID PROGRAM [ARGUMENT…]. Started through `launch.ts`, never by hand.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { realClock, sleep } from '../../shared/runtime/clock.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { createLabFolder, removeLabFolder, startTime, sweepDeadLabs } from './folder.js';
import { exitCode } from './launch.js';

/** A program that was asked to end is killed after this time. */
const GRACE_MS = 10_000;

const [launcher = '', ...program] = process.argv.slice(2);
// The launcher may have died before the kernel was asked to tell of it.
if (process.ppid !== Number(launcher)) process.exit(1);

sweepDeadLabs();
const lab = createLabFolder();
const child = spawn(
  'setpriv',
  [
    ...['--pdeathsig', 'KILL'],
    ...['unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', '--mount-proc'],
    ...['tini', '--', ...program],
  ],
  { stdio: 'inherit', env: { ...process.env, PAGURO_LAB: lab.folder } },
);

/** The lab's first process as it is numbered here: unshare's only child. unshare itself holds signals back while it waits. */
function firstProcess(): number | undefined {
  try {
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    return children === '' ? undefined : Number(children.split(' ')[0]);
  } catch {
    return undefined;
  }
}

function signalLab(signal: NodeJS.Signals): void {
  const pid = firstProcess();
  try {
    if (pid === undefined || signal === 'SIGKILL') killLab(pid);
    else process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}

/** unshare would complain if its child were killed: it is ended itself, and the kernel ends the child with it. */
let dying: number | undefined;
function killLab(pid: number | undefined): void {
  dying = pid;
  child.kill('SIGKILL');
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    const orphaned = process.ppid !== Number(launcher);
    signalLab(orphaned ? 'SIGKILL' : signal);
    void sleep(realClock, GRACE_MS).then(() => signalLab('SIGKILL'));
  });
}

async function finish(code: number): Promise<void> {
  const deadline = performance.now() + GRACE_MS;
  while (dying !== undefined && startTime(dying) !== undefined && performance.now() < deadline) {
    await sleep(realClock, 5);
  }
  if (code !== 0) keepLogs();
  removeLabFolder(lab);
  process.exit(code);
}

/** PAGURO_KEEP names a folder for the logs of labs whose program failed: with a lab its logs go, and what went wrong is in them. */
function keepLogs(): void {
  const folder = process.env.PAGURO_KEEP;
  if (!folder) return;
  try {
    const isLog = (path: string): boolean => path === lab.folder || path.endsWith('.log');
    cpSync(lab.folder, join(folder, `lab-${lab.id}`), { recursive: true, filter: isLog });
  } catch (error) {
    console.error(`the lab's logs could not be kept in ${folder}: ${messageOf(error)}`);
  }
}

child.once('error', (error) => {
  console.error(`the lab could not be started: ${error.message}; run "npm run setup"`);
  void finish(1);
});
// All processes are gone when unshare returns: the kernel ends a pid namespace before its first process is reaped.
child.once('exit', (code, signal) => {
  if (code !== 0 && dying === undefined && !existsSync(join(lab.folder, 'inside'))) {
    console.error(
      'the lab did not start: the kernel refused new namespaces or mounts. In a container, run it privileged ' +
        '(it needs CAP_SYS_ADMIN and CAP_NET_ADMIN).',
    );
  }
  void finish(exitCode(code, signal));
});
