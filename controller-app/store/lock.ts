/**
 * One controller for each store: the lock of a file (flock(2)), which the kernel takes back with the process, however that ends. It holds over network
 * and process namespaces, and leaves nothing that could be stale. Node.js cannot lock a file: util-linux' flock(1) locks the description that
 * it is handed, and that goes on belonging to this process.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Closable } from '../../shared/runtime/lifetime.js';
import { StoreError } from './store.js';

/** flock(1) says by this that another process has the lock. */
const TAKEN = 75;
const MAX_PID_BYTES = 20;

/** Takes the store in a folder until it is closed or the process ends. Fails with a StoreError `in-use` that names the process. */
export async function lockStore(folder: string): Promise<Closable> {
  const handle = await open(join(folder, 'lock'), 'a+', 0o600);
  try {
    const flock = spawn('flock', ['--nonblock', '--conflict-exit-code', String(TAKEN), '3'], {
      stdio: ['ignore', 'ignore', 'ignore', handle.fd],
    });
    const [code]: (number | null)[] = await once(flock, 'close');
    if (code === TAKEN) {
      const pid = await pidIn(handle);
      throw new StoreError(
        'in-use',
        `the store ${folder} is in use by process ${pid}: stop that first ("kill ${pid}"), or give this controller another store in its configuration`,
      );
    }
    if (code !== 0)
      throw new StoreError(
        'unwritable',
        `the store ${folder} cannot be locked: is flock (util-linux) installed?`,
      );
    await handle.truncate(0);
    await handle.write(`${process.pid}\n`, 0);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return { close: () => handle.close() };
}

async function pidIn(handle: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_PID_BYTES), 0, MAX_PID_BYTES, 0);
  return /^\d+/.exec(buffer.toString('latin1', 0, bytesRead))?.[0] ?? '(unknown)';
}
