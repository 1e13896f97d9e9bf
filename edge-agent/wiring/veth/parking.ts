/**
 * Where inner sides wait for a compartment: a network namespace of the agent's own, in which nothing runs. It ends with the agent, and every pair with it
 * that has its inner side there.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { DomainError } from '../../../shared/domain/domain.js';
import { MORE_DESCRIPTORS } from '../../../shared/runtime/command.js';
import { messageOf } from '../../../shared/runtime/message-of.js';

const DEADLINE_MS = 5000;

export class Parking {
  private constructor(private readonly namespace: FileHandle) {}

  /** For ip(8) and nsenter(1), as long as it is open. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.namespace.fd}`;
  }

  /** Fails with `refused`. */
  static async open(): Promise<Parking> {
    // Once it says back what it was told it runs in a namespace of its own.
    const child = spawn('unshare', ['--net', '--', 'cat'], { stdio: 'pipe' });
    try {
      if (child.stdout === undefined) {
        child.on('error', () => {});
        throw new Error(`unshare could not be started${MORE_DESCRIPTORS}`);
      }
      const signal = AbortSignal.timeout(DEADLINE_MS);
      const ended = once(child, 'close', { signal }).then(() => {
        throw new Error('unshare ended at once: the agent needs CAP_SYS_ADMIN');
      });
      child.stdin.on('error', () => {});
      child.stdin.write('here\n');
      await Promise.race([once(child.stdout, 'data', { signal }), ended]);
      return new Parking(await open(`/proc/${child.pid}/ns/net`));
    } catch (cause) {
      const what = `no network namespace could be made for the ends of instances: ${messageOf(cause)}`;
      throw new DomainError('refused', what, { cause });
    } finally {
      child.kill('SIGKILL');
    }
  }

  close(): Promise<void> {
    return this.namespace.close();
  }
}
