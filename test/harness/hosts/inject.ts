/**
 * Injection: raw frames out of a host's interface, through python3's AF_PACKET (Node has no raw sockets).
 */
import { z } from 'zod';
import { sourceFile } from '../../lab/project.js';
import type { Host } from './host.js';
import type { JsonLines } from './json-lines.js';

const answerSchema = z.object({ sent: z.number(), lost: z.array(z.number()), at: z.number() });

export class Injector {
  readonly host: Host;
  readonly #program: JsonLines;

  constructor(host: Host, program: JsonLines) {
    this.host = host;
    this.#program = program;
  }

  /**
   * Sends frames in order, `count` times over, `intervalMs` apart. Returns when the last is with the kernel: its time, monotonic ms, and the
   * places in `frames` of those that the kernel did not take because the link was away.
   */
  async send(
    frames: readonly Buffer[],
    { count = 1, intervalMs = 0 }: { readonly count?: number; readonly intervalMs?: number } = {},
  ): Promise<{ readonly at: number; readonly lost: readonly number[] }> {
    const hex = frames.map((frame) => frame.toString('hex'));
    const timeoutMs = 30_000 + frames.length * count * intervalMs;
    const request = { do: 'send', frames: hex, count, intervalMs };
    return this.#program.request(request, answerSchema, timeoutMs);
  }

  /** May be called twice. */
  close(): Promise<void> {
    return this.#program.close();
  }
}

/** Starts the injecting program in a host. */
export function startInjector(host: Host): Injector {
  const script = sourceFile('test', 'harness', 'hosts', 'inject.py');
  return new Injector(host, host.helper('inject.py', '/usr/bin/python3', [script, host.interface]));
}
