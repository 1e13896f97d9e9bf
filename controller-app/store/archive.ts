/**
 * Backups of a store: one file each, in the form of a snapshot. Making one only reads, also while a controller runs; a backup has all that was
 * acknowledged before it was begun, and is checked because it is made of what was read.
 */
import { lchown, link, lstat, mkdir, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Contents } from './contents.js';
import { asStoreError, asUnreadable, asUnwritable, isMissing } from './errors.js';
import { fileOf, filesIn, type Loaded, loadFolder, readStoreFile, removeAllBut } from './folder.js';
import { Journal } from './journal.js';
import { lockStore } from './lock.js';
import { writeSnapshot } from './snapshot.js';
import { StoreError } from './store.js';

/** The files of a running controller change now and then while they are read; not this often. */
const MAX_TRIES = 10;

/** All of a store, also while a controller writes it. Fails with a StoreError. */
export async function readStore(folder: string): Promise<Loaded> {
  try {
    for (let tries = 1; ; tries++) {
      const before = JSON.stringify(await filesIn(folder));
      try {
        const loaded = await loadFolder(folder);
        if (!loaded.journal) break;
        return loaded;
      } catch (error) {
        if (tries >= MAX_TRIES || JSON.stringify(await filesIn(folder)) === before) throw error;
      }
    }
  } catch (cause) {
    if (!isMissing(cause)) throw asStoreError(folder, cause);
  }
  throw new StoreError(
    'unwritable',
    `there is no store at ${folder}: is this the configuration that the controller was started with?`,
  );
}

/** Writes a backup, in place of one of that name but of nothing else. Returns its bytes. Fails with a StoreError. */
export async function backUp(folder: string, file: string): Promise<number> {
  const { contents } = await readStore(folder);
  try {
    await checkReplaceable(folder, file);
    return await writeSnapshot({ contents, file, number: 1 });
  } catch (cause) {
    throw asUnwritable(file, cause);
  }
}

/** A slip of the keyboard must not cost a file. */
async function checkReplaceable(folder: string, file: string): Promise<void> {
  if (resolve(dirname(file)) === resolve(folder))
    throw new StoreError('unwritable', `${file} would be a file of the store itself: name one elsewhere`);
  let isBackup = false;
  try {
    const { header } = await readStoreFile(file, () => undefined);
    isBackup = header === undefined || header.kind === 'snapshot';
  } catch (error) {
    if (isMissing(error)) return;
    if (!(error instanceof StoreError)) throw error;
  }
  if (!isBackup)
    throw new StoreError(
      'unwritable',
      `${file} is there already, and no backup: nothing was written. Name another file`,
    );
}

/** Checks a whole backup. Fails with a StoreError `damaged`, `unreadable` or `version`. */
export async function readBackup(file: string): Promise<Contents> {
  const contents = new Contents();
  const { header } = await readStoreFile(file, (header) => {
    if (header.kind !== 'snapshot') throw new StoreError('damaged', 'it is no backup');
    return (entries) => {
      for (const entry of entries) contents.apply(entry);
    };
  }).catch((cause: unknown) => {
    throw asUnreadable(file, cause);
  });
  const excess = header ? contents.excess() : 'nothing';
  if (excess !== undefined)
    throw new StoreError('damaged', `${file} cannot be used: it holds ${excess}, and is no whole backup`);
  return contents;
}

/**
 * Puts a backup in place of what a store holds. Returns where that is now: a backup itself, or when it could not be read a folder with its files; undefined:
 * there was nothing. Fails with a StoreError, `in-use` while a controller runs; then the store is as it was.
 */
export async function restore(folder: string, file: string, now: Date): Promise<string | undefined> {
  const contents = await readBackup(file);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const lock = await lockStore(folder);
    try {
      const time = now.toISOString().replace(/[-:]|\..*/g, '');
      const before = await setAside(folder, await freeName(`${folder}-before-${time}`));
      const { snapshot, journal } = await filesIn(folder);
      const number = Math.max(0, ...snapshot, ...journal) + 1;
      // It means nothing until the snapshot has its name; from then on nothing else does.
      await (await Journal.begin(folder, number, { kind: 'snapshot' })).close();
      await writeSnapshot({ contents, file: fileOf(folder, 'snapshot', number), number });
      await removeAllBut(folder, { snapshot: number, lastJournal: number });
      await giveToOwner(folder, before === undefined ? [folder] : [folder, before]);
      return before;
    } finally {
      await lock.close();
    }
  } catch (error) {
    throw asStoreError(folder, error);
  }
}

/** Another store may have been put aside in the same second. */
async function freeName(path: string): Promise<string> {
  for (let number = 1; ; number++) {
    const name = number === 1 ? path : `${path}-${number}`;
    const isTaken = await lstat(name).then(
      () => true,
      () => false,
    );
    if (!isTaken) return name;
  }
}

async function setAside(folder: string, to: string): Promise<string | undefined> {
  try {
    const { contents, journal } = await loadFolder(folder);
    if (!journal) return undefined;
    await writeSnapshot({ contents, file: to, number: 1 });
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    await mkdir(to, { mode: 0o700 });
    const { snapshot, journal } = await filesIn(folder);
    const files = [
      ...snapshot.map((number) => fileOf(folder, 'snapshot', number)),
      ...journal.map((number) => fileOf(folder, 'journal', number)),
    ];
    for (const file of files) await link(file, join(to, basename(file)));
  }
  return to;
}

/** What root has made belongs to the user whom the store belongs to: the controller may be no root. Links that this user has put there are not followed. */
async function giveToOwner(folder: string, made: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(folder);
  for (const path of made) {
    const names = (await lstat(path)).isDirectory() ? await readdir(path) : [];
    for (const each of [path, ...names.map((name) => join(path, name))]) await lchown(each, uid, gid);
  }
}
