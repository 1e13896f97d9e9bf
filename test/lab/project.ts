/**
 * Where the project is: files that the compiler does not copy (Python, package.json) are found from here.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The folder that holds package.json, upward from this file, whether it runs from `dist/` or not. PAGURO_ROOT says it for a build that
 * was put elsewhere.
 */
export function projectRoot(): string {
  const { PAGURO_ROOT } = process.env;
  if (PAGURO_ROOT !== undefined) return PAGURO_ROOT;
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('package.json was not found: run from a complete clone');
    folder = parent;
  }
  return folder;
}

/** The absolute path of a file of the sources that is not compiled, such as `scripts/topology.py`. */
export function sourceFile(...path: readonly string[]): string {
  const file = join(projectRoot(), ...path);
  if (existsSync(file)) return file;
  throw new Error(`${file} is missing: run from a complete clone, or set PAGURO_ROOT to one`);
}
