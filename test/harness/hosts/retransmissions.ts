/**
 * How often a host's kernel has sent TCP segments again: `tcpi_total_retrans` of TCP_INFO (linux/tcp.h), as ss(8) prints it.
 */
import type { Host } from './host.js';

/** Of all established connections of the host that have one of these ports at one end. Fails unless they are as many as expected. */
export async function retransmissions(
  host: Host,
  ports: readonly number[],
  connections: number,
): Promise<number> {
  const ends = ports.flatMap((port, place) => [
    ...(place > 0 ? ['or'] : []),
    ...['sport', '=', `:${port}`, 'or', 'dport', '=', `:${port}`],
  ]);
  const { stdout } = await host.exec('ss', ['-tinOH', 'state', 'established', '(', ...ends, ')']);
  return countRetransmissions(stdout, connections);
}

/** Of the text of `ss -tinOH`: a line each. `retrans:NOW/TOTAL` is printed only where there were any. */
export function countRetransmissions(text: string, connections: number): number {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  // Without TCP_INFO it prints the addresses alone, and "no retransmission" would mean nothing.
  const told = lines.filter((line) => /\srto:\d/.test(line));
  if (told.length !== connections) {
    throw new Error(
      `ss tells of ${told.length} TCP connections where there are ${connections}: ${text.slice(0, 500)}`,
    );
  }
  return told.reduce((sum, line) => sum + Number(/\sretrans:\d+\/(\d+)/.exec(line)?.[1] ?? 0), 0);
}
