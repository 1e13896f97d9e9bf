/**
 * The image in Docker: found by its tag, imported from the cached archive when it is missing, never fetched.
 */
import { createReadStream } from 'node:fs';
import type Docker from 'dockerode';
import { DomainError } from '../../../shared/domain/domain.js';
import type { CachedImage } from './image-cache.js';
import { cachedImage } from './image-cache.js';
import { imageTag } from './recipe.js';

/** What a person does about an image that is nowhere. */
const BUILD_IT = 'run "npm run setup" on this machine, which builds it from Debian packages';

/** The HTTP status of an answer of Docker's; undefined for an error that is none. */
export const statusOf = (error: unknown): number | undefined =>
  error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;

/** True for an answer of Docker's that the thing asked about does not exist. */
export function isNotFound(error: unknown): boolean {
  return statusOf(error) === 404;
}

async function isThere(docker: Docker, tag: string): Promise<boolean> {
  try {
    await docker.getImage(tag).inspect();
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

/** Imports an archive and gives it its tag. Repeating it is harmless. */
export async function importImage(docker: Docker, image: CachedImage): Promise<void> {
  const [repo, tag] = image.tag.split(':');
  const progress = await docker.importImage(createReadStream(image.file), { repo, tag });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(progress, (error: Error | null) => (error ? reject(error) : resolve()));
  });
}

/**
 * The tag of an image that Docker has, importing it first when only the cache has it. `wanted` is a tag that the configuration
 * names instead of the current one. Fails with `not-ready` when neither has it.
 */
export async function provideImage(
  docker: Docker,
  cacheDirectory: string,
  wanted: string | undefined,
): Promise<string> {
  const cached = await cachedImage(cacheDirectory);
  const tag = wanted ?? cached?.tag;
  if (tag === undefined) {
    throw new DomainError(
      'not-ready',
      `there is no firewall image (${imageTag('…')}) in ${cacheDirectory}: ${BUILD_IT}`,
    );
  }
  if (await isThere(docker, tag)) return tag;
  if (cached?.tag !== tag) {
    throw new DomainError(
      'not-ready',
      `Docker has no image ${tag} and ${cacheDirectory} has no archive of it: ${BUILD_IT}`,
    );
  }
  await importImage(docker, cached);
  return tag;
}
