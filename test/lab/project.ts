/**
 * Files of the sources that the compiler does not copy, such as Python programs.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../shared/runtime/project-root.js';

/** The absolute path of a file or folder of the sources that is not compiled, such as `scripts/topology.py`. */
export function sourceFile(...path: readonly string[]): string {
  const file = join(projectRoot(), ...path);
  if (existsSync(file)) return file;
  throw new Error(`${file} is missing: run from a complete clone, or set PAGURO_ROOT to one`);
}
