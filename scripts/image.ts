/**
 * Builds the firewall's image from Debian packages, without any registry: one archive in the cache directory, named by the
 * hash of its recipe. When the archive is there nothing is downloaded.
 *
 * `node dist/scripts/image.js [--cache DIR] [--import SOCKET]`
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import Docker from 'dockerode';
import { importImage } from '../edge-agent/runtime/docker/image.js';
import {
  archivePath,
  type CachedImage,
  cachedImage,
  defaultCacheDirectory,
  noteImage,
} from '../edge-agent/runtime/docker/image-cache.js';
import { DROPPED, imageHash, imageTag, PACKAGES, PROOFS } from '../edge-agent/runtime/docker/recipe.js';
import { run } from '../shared/runtime/command.js';
import { messageOf } from '../shared/runtime/message-of.js';

export class ImageError extends Error {
  override readonly name = 'ImageError';
  constructor(
    readonly code: 'not-linux' | 'unknown-package' | 'download' | 'assembly' | 'broken',
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export interface BuiltImage extends CachedImage {
  /** False when the archive was in the cache already. */
  readonly built: boolean;
}

export interface BuildOptions {
  /** Default: `$XDG_CACHE_HOME/paguro` or `~/.cache/paguro`. */
  readonly cacheDirectory?: string;
  /** Builds anew even when the cache has an archive of this recipe. */
  readonly rebuild?: boolean;
  readonly say?: (line: string) => void;
}

/** A package as apt would install it now. */
interface Candidate {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly sha256: string;
}

const APT_ARCHIVES = '/var/cache/apt/archives';
const DOWNLOAD_TIMEOUT_MS = 180_000;

/** Builds the image's archive, or finds it in the cache. Needs root, apt, dpkg and tar. Fails with an ImageError. */
export async function buildImage(options: BuildOptions = {}): Promise<BuiltImage> {
  const cache = options.cacheDirectory ?? defaultCacheDirectory();
  const say = options.say ?? (() => {});
  const known = options.rebuild ? undefined : await cachedImage(cache);
  if (known) return { ...known, built: false };

  const candidates = await findCandidates();
  const versions = Object.fromEntries(candidates.map(({ name, version }) => [name, version]));
  const hash = imageHash(versions, process.arch);
  const file = archivePath(cache, hash);
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'build-'));
  try {
    const debs = join(work, 'debs');
    const root = join(work, 'root');
    await mkdir(debs);
    say(`firewall image: fetching ${candidates.length} Debian packages`);
    await fetchPackages(candidates, debs);
    await assemble(candidates, debs, root);
    await prove(root);
    await run('tar', [
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '-cf',
      join(work, 'image.tar'),
      '-C',
      root,
      '.',
    ]);
    await rename(join(work, 'image.tar'), file);
    await noteImage(cache, hash, versions);
    say(`firewall image: built ${imageTag(hash)}`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { hash, tag: imageTag(hash), file, built: true };
}

async function findCandidates(): Promise<readonly Candidate[]> {
  const names = PACKAGES.map(({ name }) => name);
  const { stdout } = await run('apt-cache', ['show', '--no-all-versions', ...names]).catch(
    (cause: unknown) => {
      throw new ImageError(
        'unknown-package',
        'apt does not know the packages of the firewall image: run "apt-get update", then "npm run setup"',
        { cause },
      );
    },
  );
  const found = new Map(parseStanzas(stdout).map((candidate) => [candidate.name, candidate]));
  return names.map((name) => {
    const candidate = found.get(name);
    if (!candidate) {
      throw new ImageError(
        'unknown-package',
        `apt does not know the package ${name}: the firewall image needs Debian 12 and a run of "apt-get update"`,
      );
    }
    return candidate;
  });
}

/** Reads the stanzas that `apt-cache show` prints. */
export function parseStanzas(text: string): readonly Candidate[] {
  return text.split(/\n\n+/).flatMap((stanza) => {
    const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
    const [name, version, architecture, sha256] = ['Package', 'Version', 'Architecture', 'SHA256'].map(field);
    return name && version && architecture && sha256 ? [{ name, version, architecture, sha256 }] : [];
  });
}

/** Puts every package into `directory`: from apt's own cache when the very file is there, else by one download. */
async function fetchPackages(candidates: readonly Candidate[], directory: string): Promise<void> {
  const missing: Candidate[] = [];
  for (const candidate of candidates) {
    const cached = join(APT_ARCHIVES, debName(candidate));
    if (await isFile(cached, candidate.sha256)) await copyFile(cached, join(directory, debName(candidate)));
    else missing.push(candidate);
  }
  if (missing.length === 0) return;
  // apt reads the packages as its own user where it can; as root it downloads into our directory itself.
  await run(
    'apt-get',
    [
      '-q',
      '-o',
      'APT::Sandbox::User=root',
      'download',
      ...missing.map(({ name, version }) => `${name}=${version}`),
    ],
    { cwd: directory, timeoutMs: DOWNLOAD_TIMEOUT_MS },
  ).catch((cause: unknown) => {
    throw new ImageError(
      'download',
      'the packages of the firewall image could not be downloaded: look at the network, run "apt-get update", then "npm run setup"',
      { cause },
    );
  });
}

async function isFile(path: string, sha256: string): Promise<boolean> {
  const bytes = await readFile(path).catch(() => undefined);
  return bytes !== undefined && createHash('sha256').update(bytes).digest('hex') === sha256;
}

/** apt writes the colon of an epoch as %3a. */
function debName({ name, version, architecture }: Candidate): string {
  return `${name}_${version.replaceAll(':', '%3a')}_${architecture}.deb`;
}

async function assemble(candidates: readonly Candidate[], debs: string, root: string): Promise<void> {
  // Debian 12 merges /bin, /sbin and /lib into /usr by links; packages still carry files of the old paths.
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  for (const name of ['proc', 'sys', 'dev', 'etc', 'tmp', 'run', 'var'])
    await mkdir(join(root, name), { recursive: true });
  const files = await readdir(debs);
  for (const candidate of candidates) {
    const file = files.find((name) => name === debName(candidate));
    if (!file)
      throw new ImageError('assembly', `apt did not deliver ${candidate.name}: run "npm run setup" again`);
    const only = PACKAGES.find(({ name }) => name === candidate.name)?.only ?? [];
    await unpack(join(debs, file), root, only);
  }
}

/** `dpkg-deb --fsys-tarfile FILE | tar -x`, which unlike `dpkg-deb -x` leaves the links of the merged /usr alone. */
async function unpack(file: string, root: string, only: readonly string[]): Promise<void> {
  const source = spawn('dpkg-deb', ['--fsys-tarfile', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const target = spawn(
    'tar',
    [
      '-x',
      '--keep-directory-symlink',
      '-C',
      root,
      ...DROPPED.map((pattern) => `--exclude=${pattern}`),
      ...only,
    ],
    { stdio: ['pipe', 'inherit', 'pipe'] },
  );
  const complaints: Buffer[] = [];
  target.stderr.on('data', (chunk: Buffer) => complaints.push(chunk));
  const exit = (child: typeof source | typeof target): Promise<number | null> =>
    new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
  target.stdin.on('error', () => {});
  source.stdout.pipe(target.stdin);
  const [unpacked, written] = await Promise.all([exit(source), exit(target), finished(source.stdout)]);
  if (unpacked !== 0 || written !== 0) {
    throw new ImageError(
      'assembly',
      `${file} could not be unpacked: ${Buffer.concat(complaints).toString().trim()}`,
    );
  }
}

/** Runs every program once in the finished root: a library that is missing shows here and not on a user's gateway. */
async function prove(root: string): Promise<void> {
  await access(join(root, 'usr/bin/sleep'));
  for (const command of PROOFS) {
    await run('chroot', [root, ...command]).catch((cause: unknown) => {
      throw new ImageError('broken', `${command.join(' ')} does not run in the firewall image`, { cause });
    });
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cache: { type: 'string' },
      rebuild: { type: 'boolean', default: false },
      import: { type: 'string' },
    },
  });
  const image = await buildImage({
    ...(values.cache === undefined ? {} : { cacheDirectory: values.cache }),
    rebuild: values.rebuild,
    say: (line) => process.stderr.write(`${line}\n`),
  });
  if (values.import !== undefined) await importImage(new Docker({ socketPath: values.import }), image);
  process.stdout.write(`${image.tag} ${image.file}\n`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().catch((error: unknown) => {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  });
}
