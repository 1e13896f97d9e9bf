/**
 * Who goes first, where one machine plays many. Elsewhere hosts, switches and controller have machines of their own, and a kernel forwards packets; in a lab
 * a switch is one thread among all others, and waits its turn of 3 to 12 ms while anybody else's program starts. So whoever measures what a handover
 * does to packets puts real-time priorities in the order of the packets' way, by chrt(1).
 */
import { CommandError, run } from '../../shared/runtime/command.js';
import type { Mininet, OpenVSwitch } from '../lab/index.js';

/** Of SCHED_RR; a higher one goes first. */
const PRIORITY = { hosts: 3, switches: 2, programs: 1 } as const;

export interface Order {
  /** Whether there is one. */
  readonly given: boolean;
  /** What a measuring program of a host is started by. */
  readonly asHost: readonly string[];
  /** A controller or an agent that has just been started takes its place. The programs that it starts go with the others. */
  program(pid: number): Promise<void>;
}

/** Everybody competes alike. */
export const NO_ORDER: Order = { given: false, asHost: [], program: async () => {} };

/**
 * Gives the network its places, before controller and agents are started. Who moves links tells by the clock for how long they were away, and goes with the
 * hosts. No order where the kernel gives no real-time priorities.
 */
export async function orderLab(
  { vswitchdPid }: Pick<OpenVSwitch, 'vswitchdPid'>,
  net: Pick<Mininet, 'pid'>,
): Promise<Order> {
  try {
    await realTime(PRIORITY.hosts, net.pid);
  } catch (error) {
    if (error instanceof CommandError && error.code === 'failed') return NO_ORDER;
    throw error;
  }
  await realTime(PRIORITY.switches, vswitchdPid);
  return {
    given: true,
    asHost: ['chrt', '--rr', String(PRIORITY.hosts)],
    program: (pid) => realTime(PRIORITY.programs, pid, '--reset-on-fork'),
  };
}

async function realTime(priority: number, pid: number, ...how: string[]): Promise<void> {
  await run('chrt', ['--all-tasks', '--rr', ...how, '--pid', `${priority}`, `${pid}`]);
}
