/**
 * Who goes first, where one machine plays many. Elsewhere hosts, switches and controller have machines of their own, and a kernel forwards packets; in a lab
 * a switch is one thread among all others, and waits its turn of 3 to 12 ms while anybody else's program starts. So whoever measures what a handover
 * does to packets puts real-time priorities in the order of the packets' way, by chrt(1).
 */
import { run } from '../../shared/runtime/command.js';
import type { Mininet, OpenVSwitch } from '../lab/index.js';

/** Of SCHED_RR; a higher one goes first. */
const PRIORITY = { hosts: 3, switches: 2, programs: 1 } as const;

/** What a measuring program of a host is started by. */
export const AS_HOST: readonly string[] = ['chrt', '--rr', String(PRIORITY.hosts)];

/** Before controller and agents are started. Who moves links tells by the clock for how long they were away, and goes with the hosts. */
export async function orderNetwork(
  { vswitchdPid }: Pick<OpenVSwitch, 'vswitchdPid'>,
  net: Pick<Mininet, 'pid'>,
): Promise<void> {
  await realTime(PRIORITY.hosts, net.pid);
  await realTime(PRIORITY.switches, vswitchdPid);
}

/** A controller or an agent that has just been started. The programs that it starts go with the others. */
export function orderProgram(pid: number): Promise<void> {
  return realTime(PRIORITY.programs, pid, '--reset-on-fork');
}

async function realTime(priority: number, pid: number, ...how: string[]): Promise<void> {
  await run('chrt', ['--all-tasks', '--rr', ...how, '--pid', `${priority}`, `${pid}`]);
}
