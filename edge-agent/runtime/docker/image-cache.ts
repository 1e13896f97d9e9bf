/**
 * Where the built image lies on disk: one tar archive, and a note that says which one is current.
 * Set-up writes them (`npm run setup`); the agent only reads.
 */
import { access, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { imageTag, RECIPE_ID } from './recipe.js';

const noteSchema = z.strictObject({
  hash: z.string().regex(/^[0-9a-f]{16}$/),
  packages: z.record(z.string(), z.string()),
});

export interface CachedImage {
  readonly hash: string;
  readonly tag: string;
  /** The archive of the root file system, as `docker import` takes it. */
  readonly file: string;
}

/** `$XDG_CACHE_HOME/paguro`, or `~/.cache/paguro`. */
export function defaultCacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base ? base : join(homedir(), '.cache'), 'paguro');
}

export function archivePath(directory: string, hash: string): string {
  return join(directory, `firewall-${hash}.tar`);
}

/** One for each recipe: programs of different versions on one machine don't take each other's image away. */
const notePath = (directory: string): string => join(directory, `firewall-${RECIPE_ID}.json`);

/** The image that set-up built last of this program's recipe, when its archive is there. */
export async function cachedImage(directory: string): Promise<CachedImage | undefined> {
  try {
    const note = noteSchema.parse(JSON.parse(await readFile(notePath(directory), 'utf8')));
    const file = archivePath(directory, note.hash);
    await access(file);
    return { hash: note.hash, tag: imageTag(note.hash), file };
  } catch {
    // No note, or not one of ours: the same as no image. Whoever needs one says what to run.
    return undefined;
  }
}

/** Makes `hash` the current image. The archive must be there already. */
export async function noteImage(
  directory: string,
  hash: string,
  packages: Readonly<Record<string, string>>,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const temporary = `${notePath(directory)}.${process.pid}`;
  await writeFile(temporary, `${JSON.stringify({ hash, packages }, null, 2)}\n`);
  await rename(temporary, notePath(directory));
}
