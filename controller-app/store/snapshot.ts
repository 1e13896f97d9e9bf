/**
 * Writes all contents into one file, a little at a time, so that nothing else waits for it. The file has its name only when it is complete.
 */
import { constants } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Contents } from './contents.js';
import { encodeEntry, joinEntries } from './entry-codec.js';
import { snapshotEnd, snapshotHeader } from './file-parser.js';
import { encodeFrame } from './frames.js';
import { syncFolder, writeAll } from './journal.js';

/** Written at once. */
const WRITE_BYTES = 256 * 1024;

export interface SnapshotOptions {
  readonly contents: Contents;
  readonly file: string;
  readonly number: number;
  /** When it aborts, nothing is written any more, and it fails. */
  readonly signal?: AbortSignal;
}

/** Returns the size in bytes. When it fails nothing is left but what was there before. */
export async function writeSnapshot(options: SnapshotOptions): Promise<number> {
  const { contents, file, number, signal } = options;
  const unfinished = `${file}.tmp`;
  const handle = await open(unfinished, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    let position = 0;
    let waiting: Buffer[] = [snapshotHeader(number)];
    let waitingBytes = 0;
    let frames = 1;
    let entries = 0;
    const write = async (): Promise<void> => {
      signal?.throwIfAborted();
      const bytes = Buffer.concat(waiting);
      waiting = [];
      waitingBytes = 0;
      await writeAll(handle, bytes, position);
      position += bytes.length;
    };
    for (const entry of contents.entries()) {
      const frame = encodeFrame(frames, joinEntries([encodeEntry(entry)]));
      waiting.push(frame);
      waitingBytes += frame.length;
      frames += 1;
      entries += 1;
      if (waitingBytes >= WRITE_BYTES) await write();
      else if (entries % 16 === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    }
    waiting.push(snapshotEnd(frames, entries));
    await write();
    await handle.datasync();
    signal?.throwIfAborted();
    await rename(unfinished, file);
    await syncFolder(dirname(file));
    return position;
  } catch (error) {
    await unlink(unfinished).catch(() => {});
    throw error;
  } finally {
    await handle.close();
  }
}
