/**
 * Finds targets: each module of a folder is one, named as its file.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { FuzzTarget } from './target.js';

/** Where the project's own targets are, compiled. */
export const TARGETS_FOLDER = fileURLToPath(new URL('./targets/', import.meta.url));

export class FuzzError extends Error {
  override readonly name = 'FuzzError';
  constructor(
    readonly code: 'no-target' | 'no-input' | 'not-a-target' | 'did-not-start',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export interface NamedTarget {
  readonly name: string;
  /** The absolute path of its module. */
  readonly module: string;
}

/** The targets of a folder by name; `wanted` names those to take, none means all. Fails with `no-target`. */
export async function findTargets(
  folder: string,
  wanted: readonly string[] = [],
): Promise<readonly NamedTarget[]> {
  const files = await readdir(folder).catch(() => []);
  const all = files
    .filter((file) => file.endsWith('.js'))
    .map((file) => ({ name: file.slice(0, -3), module: join(folder, file) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const missing = wanted.find((name) => !all.some((target) => target.name === name));
  if (missing !== undefined || all.length === 0) {
    const names = all.map(({ name }) => name).join(', ') || 'none';
    throw new FuzzError('no-target', `there is no target ${missing ?? `in ${folder}`}; there are: ${names}`);
  }
  return wanted.length === 0 ? all : all.filter(({ name }) => wanted.includes(name));
}

/** The target that a module exports. Fails with `not-a-target`. */
export async function loadTarget(module: URL): Promise<FuzzTarget> {
  const loaded: { readonly default?: unknown } = await import(module.href);
  if (!isTarget(loaded.default))
    throw new FuzzError('not-a-target', `${module.pathname} has no default export that is a FuzzTarget`);
  return loaded.default;
}

export async function loadAll(folder: string = TARGETS_FOLDER): Promise<ReadonlyMap<string, FuzzTarget>> {
  const targets = await findTargets(folder);
  return new Map(
    await Promise.all(
      targets.map(
        async ({ name, module }): Promise<[string, FuzzTarget]> => [
          name,
          await loadTarget(pathToFileURL(module)),
        ],
      ),
    ),
  );
}

function isTarget(value: unknown): value is FuzzTarget {
  return (
    typeof value === 'object' &&
    value !== null &&
    'seeds' in value &&
    typeof value.seeds === 'function' &&
    'run' in value &&
    typeof value.run === 'function'
  );
}
