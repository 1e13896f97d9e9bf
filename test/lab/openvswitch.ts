/**
 * Open vSwitch in a lab: its own database and switch daemon, userspace datapath only.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError, run } from '../../shared/runtime/command.js';
import { tail } from './daemon.js';
import { LabError } from './error.js';
import { currentLab, prepareLab } from './prepare.js';
import { waitFor } from './wait.js';

const OVS_CTL = '/usr/share/openvswitch/scripts/ovs-ctl';
const RUN = '/run/openvswitch';
/**
 * Each time the switch looks at a port it takes room for 32 packets, and gives it back: more than the C library keeps at hand for a thread. With that it took 60 % of
 * a processor where it had taken 71 %.
 */
const ENVIRONMENT = { GLIBC_TUNABLES: 'glibc.malloc.tcache_count=200:glibc.malloc.tcache_max=8192' };

export interface OpenVSwitch {
  /** The switch daemon: a test may stop it with SIGSTOP. */
  readonly vswitchdPid: number;
  readonly logFile: string;
  /** Ends the switch daemon as by `kill -9`. Settles when no trace of it is left: until then a start finds that it runs already, and does nothing. */
  kill(): Promise<void>;
  /** Starts what does not run any more. `vswitchdPid` is the former's. */
  startAgain(): Promise<void>;
  /** Takes all switches away. May be called twice. */
  close(): Promise<void>;
}

/** ovs-ctl's start in the lab. Fails with `missing-program` or `did-not-start`. */
export async function startOpenVSwitch(): Promise<OpenVSwitch> {
  prepareLab();
  if (!existsSync(OVS_CTL)) {
    throw new LabError('missing-program', 'Open vSwitch is not installed: run "npm run setup"');
  }
  const logFile = join(currentLab().folder, 'ovs-vswitchd.log');
  try {
    await start();
  } catch (cause) {
    const detail = cause instanceof CommandError ? cause.stderr : String(cause);
    throw new LabError(
      'did-not-start',
      `Open vSwitch did not start: ${detail.trim()}\nThe end of ${logFile}:\n${tail(logFile)}`,
      { cause },
    );
  }
  let open = true;
  const vswitchdPid = Number(readFileSync(join(RUN, 'ovs-vswitchd.pid'), 'utf8'));
  return {
    vswitchdPid,
    logFile,
    kill: async () => {
      process.kill(vswitchdPid, 'SIGKILL');
      await waitFor('ovs-vswitchd is gone', () => !existsSync(`/proc/${vswitchdPid}`));
    },
    startAgain: start,
    close: async () => {
      if (!open) return;
      open = false;
      await run(OVS_CTL, ['stop']);
    },
  };
}

async function start(): Promise<void> {
  // The scripts write to the log folder and to stdout the same words.
  await run(OVS_CTL, ['start', '--system-id=random', '--no-monitor'], { env: ENVIRONMENT });
}
