/**
 * What the system says of a process: how long it has computed, how much memory it has. Linux, proc(5).
 */
import { readFileSync } from 'node:fs';

/** USER_HZ: the kernel shows 100 ticks a second on every machine. */
const MS_A_TICK = 10;
const PAGE_BYTES = 4096;

export interface Usage {
  /** In user and kernel mode, in ms. */
  readonly cpuMs: number;
  readonly residentBytes: number;
}

/** Undefined when the process is gone. */
export function usageOf(pid: number): Usage | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // After the name, which may hold anything: field 3 is the first.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      cpuMs: (Number(fields[14 - 3]) + Number(fields[15 - 3])) * MS_A_TICK,
      residentBytes: Number(fields[24 - 3]) * PAGE_BYTES,
    };
  } catch {
    return undefined;
  }
}
