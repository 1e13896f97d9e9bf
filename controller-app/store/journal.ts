/**
 * One journal on disk: frames are appended, and are safe when `append` settles: from `kill -9`, and from the loss of power as far as the disk keeps what
 * it has confirmed (fdatasync(2)).
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { journalHeader, type Start } from './file-parser.js';
import { fileOf, type JournalEnd } from './folder.js';
import { encodeFrame } from './frames.js';

export class Journal {
  #bytes: number;
  #frames: number;

  private constructor(
    readonly number: number,
    readonly file: string,
    private readonly handle: FileHandle,
    end: { readonly bytes: number; readonly frames: number },
  ) {
    this.#bytes = end.bytes;
    this.#frames = end.frames;
  }

  /** Begins a journal; one of that number that was begun before is written over. */
  static async begin(folder: string, number: number, start: Start): Promise<Journal> {
    const file = fileOf(folder, 'journal', number);
    const handle = await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
    try {
      const header = journalHeader(number, start);
      await writeAll(handle, header, 0);
      await handle.datasync();
      await syncFolder(dirname(file));
      return new Journal(number, file, handle, { bytes: header.length, frames: 1 });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Goes on with a journal after what counts of it. */
  static async resume(folder: string, end: JournalEnd): Promise<Journal> {
    const file = fileOf(folder, 'journal', end.number);
    const handle = await open(file, constants.O_RDWR);
    try {
      await handle.truncate(end.bytes);
      await handle.datasync();
      return new Journal(end.number, file, handle, end);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Appends payloads, a frame each. When it fails nothing of them counts, and nothing more can be appended. One call at a time. */
  async append(payloads: readonly Uint8Array[]): Promise<void> {
    const frames = payloads.map((payload, index) => encodeFrame(this.#frames + index, payload));
    const bytes = Buffer.concat(frames);
    try {
      await writeAll(this.handle, bytes, this.#bytes);
      await this.handle.datasync();
    } catch (error) {
      // So that a later reader does not find what was refused. Should that fail, too, the snapshot that must come first now makes up for it.
      await this.handle.truncate(this.#bytes).catch(() => {});
      throw error;
    }
    this.#bytes += bytes.length;
    this.#frames += frames.length;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, position + written);
    written += bytesWritten;
  }
}

/** Makes the names of files in a folder safe. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
