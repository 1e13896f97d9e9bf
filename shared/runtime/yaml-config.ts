/**
 * Reads configuration files: YAML, checked, with errors that name the file, the line and what to write.
 */
import { open } from 'node:fs/promises';
import type { z } from 'zod';
import { MAX_YAML_BYTES, parseYaml, type YamlDocument, type YamlOptions } from '../firewall/yaml-text.js';

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
 * Reads a text file of at most `maxBytes` bytes (one more byte is read, so that a check of the length sees that it is too long).
 * Fails with a `ConfigFileError`.
 */
export async function readTextFile(file: string, maxBytes: number = MAX_YAML_BYTES): Promise<string> {
  try {
    const handle = await open(file, 'r');
    try {
      const buffer = Buffer.alloc(maxBytes + 1);
      let length = 0;
      while (length < buffer.length) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      return buffer.toString('utf8', 0, length);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT') {
      throw new ConfigFileError('not-found', file, `${file}: there is no such file`, { cause });
    }
    const why =
      code === 'EISDIR' ? 'it is a folder: name a file in it' : cause instanceof Error ? cause.message : '';
    throw new ConfigFileError('unreadable', file, `${file} can't be read: ${why}`, { cause });
  }
}

/** Reads and checks a YAML file. Fails with a `ConfigFileError` or a `YamlError`. */
export async function loadYaml<S extends z.ZodType>(
  file: string,
  schema: S,
  options: Omit<YamlOptions, 'source'> = {},
): Promise<YamlDocument<z.output<S>>> {
  return parseYaml(await readTextFile(file, options.maxBytes), schema, { ...options, source: file });
}
