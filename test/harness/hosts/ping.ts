/**
 * The real `ping`, running in a host: what was answered, and when last.
 */
import { createInterface } from 'node:readline';
import { type Family, familyOf } from '../../../shared/firewall/terminal.js';
import { monotonicMs } from './clock.js';
import type { Host } from './host.js';

export interface PingReport {
  readonly family: Family;
  readonly answered: number;
  readonly doubled: number;
  /** Sequence numbers up to the last one answered that never were. */
  readonly lost: number;
  /** Monotonic ms. */
  readonly lastAnsweredAt: number | null;
}

export interface Ping {
  report(): PingReport;
  /** Ends it and returns the last report. May be called twice. */
  close(): Promise<PingReport>;
}

/** Starts a ping that goes on until it is closed. `intervalMs` at least 10; default 200. */
export function startPing(host: Host, address: string, { intervalMs = 200 } = {}): Ping {
  const seen = new Set<number>();
  let [doubled, last] = [0, 0];
  let lastAnsweredAt: number | null = null;
  const child = host.spawn('ping', ['-n', '-i', String(Math.max(10, intervalMs) / 1000), address], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /bytes from .* icmp_seq=(\d+) /.exec(line);
      if (!found) return;
      const number = Number(found[1]);
      if (seen.has(number)) doubled++;
      seen.add(number);
      last = Math.max(last, number);
      lastAnsweredAt = monotonicMs();
    });
  }
  const report = (): PingReport => ({
    family: familyOf(address),
    answered: seen.size,
    doubled,
    lost: last - seen.size,
    lastAnsweredAt,
  });
  return {
    report,
    close: async () => {
      child.kill('SIGINT');
      await ended;
      return report();
    },
  };
}
