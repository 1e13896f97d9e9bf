/**
 * Where the project is, whether it runs from its sources or from `dist`: files that the compiler does not copy are found from here.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest folder above this file that has a package.json. PAGURO_ROOT says it for a build that was put elsewhere. */
export function projectRoot(): string {
  const { PAGURO_ROOT } = process.env;
  if (PAGURO_ROOT !== undefined) return PAGURO_ROOT;
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder);
    if (above === folder) throw new Error('package.json was not found: run from a complete clone');
    folder = above;
  }
  return folder;
}

/** From package.json; `unknown` when that cannot be read, for which no program should fail. */
export function projectVersion(): string {
  try {
    const { version }: { version?: string } = JSON.parse(
      readFileSync(join(projectRoot(), 'package.json'), 'utf8'),
    );
    return version ?? 'unknown';
  } catch {
    return 'unknown';
  }
}
