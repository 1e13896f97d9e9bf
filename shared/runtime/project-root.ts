/**
 * Where the project is, seen from a source or from its compiled twin in `dist`.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest folder above `url` (an `import.meta.url`) that has a package.json. */
export function projectRoot(url: string): string {
  let folder = dirname(fileURLToPath(url));
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder);
    if (above === folder) throw new Error(`no package.json above ${fileURLToPath(url)}`);
    folder = above;
  }
  return folder;
}
