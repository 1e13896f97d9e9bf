/**
 * Reads text files that people name: nothing but regular files, never more than was asked for, and only UTF-8.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

export class ConfigFileError extends Error {
  override readonly name = 'ConfigFileError';
  constructor(
    readonly code: 'not-found' | 'unreadable',
    readonly file: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/**
 * The text of a file; of one larger than `maxBytes` its first `maxBytes` + 1 bytes, so that a check of the length sees that it is too long.
 * Fails with a `ConfigFileError`.
 */
export async function readTextFile(file: string, maxBytes: number): Promise<string> {
  try {
    // Without O_NONBLOCK a pipe that nobody writes to would be waited for.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const bytes = await readStart(file, handle, maxBytes + 1);
      return bytes.length > maxBytes ? bytes.toString() : decoded(file, bytes);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof ConfigFileError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT') {
      throw new ConfigFileError('not-found', file, `${file}: there is no such file`, { cause });
    }
    throw unreadable(file, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

async function readStart(file: string, handle: FileHandle, most: number): Promise<Buffer> {
  const stat = await handle.stat();
  if (stat.isDirectory()) throw unreadable(file, 'it is a folder: name a file in it');
  if (!stat.isFile()) throw unreadable(file, 'it is a pipe or a device: write its contents to a file');
  // One byte more than it has, to see its end; a file that grows meanwhile is read as it was.
  const buffer = Buffer.alloc(Math.min(most, stat.size + 1));
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

/** Fails where the bytes are no UTF-8: what stands there instead of them would be a guess. */
function decoded(file: string, bytes: Buffer): string {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const what = utf16 ? 'it is UTF-16' : 'this line is not UTF-8';
    throw new ConfigFileError(
      'unreadable',
      file,
      `${file}:${utf16 ? 1 : firstForeignLine(bytes)}: ${what}: save the file as UTF-8`,
      { cause },
    );
  }
}

function firstForeignLine(bytes: Buffer): number {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start);
    const stop = end < 0 ? bytes.length : end;
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(start, stop));
    } catch {
      return line;
    }
    start = stop + 1;
  }
  return line;
}

function unreadable(file: string, why: string, cause?: unknown): ConfigFileError {
  return new ConfigFileError('unreadable', file, `${file} can't be read: ${why}`, { cause });
}
