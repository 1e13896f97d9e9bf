/**
 * The part of a configuration file that switches TLS on.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import type { TlsFiles } from './identity.js';

const path = z.string().min(1).max(1000);

export const tlsSchema = z.strictObject({
  /** The certificate of the CA; several, one after another in one file, while one CA takes over from another. */
  ca: path,
  certificate: path,
  /** Readable by nobody but this program. */
  key: path,
});

/** Paths in a configuration file are relative to its folder. */
export function tlsFilesIn(folder: string, { ca, certificate, key }: z.infer<typeof tlsSchema>): TlsFiles {
  return { ca: resolve(folder, ca), certificate: resolve(folder, certificate), key: resolve(folder, key) };
}
