/**
 * Who goes first, where one machine plays many. Elsewhere hosts, switches and controller have machines of their own, and a kernel forwards packets; in a lab
 * a switch is one thread among all others, and waits its turn of 3 to 12 ms while anybody else's program starts. So whoever measures what a handover
 * does to packets puts real-time priorities in the order of the packets' way, by chrt(1), and Docker behind everybody.
 */
import { run } from '../../shared/runtime/command.js';
import type { Paguro } from './paguro.js';

/** Of SCHED_RR; a higher one goes first. */
const PRIORITY = { hosts: 3, switches: 2, programs: 1 } as const;

/** What a measuring program of a host is started by. */
export const AS_HOST: readonly string[] = ['chrt', '--rr', String(PRIORITY.hosts)];

/** Of all that runs now, and what Docker starts. Programs that controller and agents start go with the others. */
export async function giveWay(paguro: Pick<Paguro, 'openVSwitch' | 'docker' | 'pids'>): Promise<void> {
  const { openVSwitch, docker } = paguro;
  const { controller, agents } = paguro.pids();
  const programs = [...(controller === undefined ? [] : [controller]), ...agents.values()];
  await realTime(PRIORITY.switches, [openVSwitch.vswitchdPid]);
  await realTime(PRIORITY.programs, programs, '--reset-on-fork');
  for (const pid of docker?.pids ?? []) await run('chrt', ['--all-tasks', '--idle', '--pid', '0', `${pid}`]);
}

async function realTime(priority: number, pids: readonly number[], ...how: string[]): Promise<void> {
  for (const pid of pids)
    await run('chrt', ['--all-tasks', '--rr', ...how, '--pid', `${priority}`, `${pid}`]);
}
