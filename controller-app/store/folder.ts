/**
 * The folder of a store, read as a whole.
 *
 *   lock          which process has the store
 *   snapshot-N    all contents as they were when journal N was begun, or a little later
 *   journal-N     what has come since, in frames of entries that took effect together
 *
 * The contents are those of the newest snapshot, then those of the journal with its number, and of the journals that follow it. A journal is begun before
 * the snapshot of its number is written, and what is older goes after that is complete.
 */
import { constants } from 'node:fs';
import { open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Contents } from './contents.js';
import type { Entry } from './entry.js';
import { FileParser, type Header, type Start, type Taker } from './file-parser.js';
import { StoreError } from './store.js';

const READ_BYTES = 2 ** 20;

export type FileKind = 'snapshot' | 'journal';

export function fileOf(folder: string, kind: FileKind, number: number): string {
  return join(folder, `${kind}-${String(number).padStart(8, '0')}`);
}

/** Files of the store that are there, by kind: their numbers, ascending. */
export async function filesIn(folder: string): Promise<Readonly<Record<FileKind, readonly number[]>>> {
  const names = await readdir(folder);
  const of = (kind: FileKind): number[] =>
    names
      .flatMap((name) => {
        const digits = new RegExp(`^${kind}-([0-9]{8,15})$`).exec(name)?.[1];
        return digits === undefined ? [] : [Number(digits)];
      })
      .sort((a, b) => a - b);
  return { snapshot: of('snapshot'), journal: of('journal') };
}

/** A journal that can be gone on with. */
export interface JournalEnd {
  readonly number: number;
  /** What follows them was not written to its end, and goes. */
  readonly bytes: number;
  readonly frames: number;
}

export interface Loaded {
  readonly contents: Contents;
  /** Undefined: the folder is empty. */
  readonly journal: JournalEnd | undefined;
  /** The number of the snapshot, 0 without. */
  readonly snapshot: number;
  readonly snapshotBytes: number;
  /** Bytes of all journals that count. */
  readonly journalBytes: number;
  /** The last write was not finished. */
  readonly torn: boolean;
}

/** Reads a store without changing it, also while a controller writes it. Fails with a StoreError `damaged` or `version` that names the file. */
export async function loadFolder(folder: string): Promise<Loaded> {
  try {
    return await load(folder);
  } catch (error) {
    throw withRemedy(error);
  }
}

async function load(folder: string): Promise<Loaded> {
  const files = await filesIn(folder);
  const snapshot = files.snapshot.at(-1) ?? 0;
  const contents = new Contents();
  const read = (kind: FileKind, number: number, isWanted: (header: Header) => boolean): Promise<FileParser> =>
    readStoreFile(fileOf(folder, kind, number), (header) => {
      if (header.kind !== kind || header.number !== number)
        throw new StoreError('damaged', 'it has another name than it was given');
      return isWanted(header) ? (entries) => applyAll(contents, entries) : undefined;
    });
  const first = snapshot === 0 ? undefined : await read('snapshot', snapshot, () => true);
  if (first?.complete === false)
    throw inFile(fileOf(folder, 'snapshot', snapshot), new StoreError('damaged', 'it has no beginning'));
  let last: JournalEnd | undefined;
  let journalBytes = 0;
  let torn = false;
  for (const number of files.journal.filter((each) => each >= snapshot)) {
    const parser = await read('journal', number, (header) => {
      if (header.kind !== 'journal') return false;
      // Begun after a failure, and never given the snapshot that it needs.
      if (header.start.kind === 'snapshot' && number !== snapshot) return false;
      if (!follows(number, header.start, snapshot, last))
        throw new StoreError('damaged', 'what it goes on from is missing, or is other than it was');
      return true;
    });
    // Without a header it was begun and nothing more.
    if (!parser.header || parser.ignored) continue;
    torn = parser.torn;
    journalBytes += parser.bytes;
    last = { number, bytes: parser.bytes, frames: parser.frames };
  }
  if (!last && snapshot > 0)
    throw inFile(folder, new StoreError('damaged', `journal ${snapshot} is missing`));
  const excess = contents.excess();
  if (excess !== undefined) throw inFile(folder, new StoreError('damaged', `it holds ${excess}`));
  return { contents, journal: last, snapshot, snapshotBytes: first?.bytes ?? 0, journalBytes, torn };
}

/** Reads one file to its end, or as far as somebody takes it. Fails with a StoreError that names it. */
export async function readStoreFile(
  file: string,
  accept: (header: Header) => Taker | undefined,
): Promise<FileParser> {
  const parser = new FileParser(accept);
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) throw new StoreError('damaged', 'it is no file');
    for (let position = 0, wanted = READ_BYTES; ; ) {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(wanted), 0, wanted, position);
      position += bytesRead;
      const more = parser.push(buffer.subarray(0, bytesRead), bytesRead === 0);
      if (bytesRead === 0 || parser.ignored) return parser;
      wanted = Math.max(READ_BYTES, more);
    }
  } catch (error) {
    throw inFile(file, error);
  } finally {
    await handle.close();
  }
}

/** Removes what is left over: files older than the snapshot that counts, or newer than the journal that does, and what was not written to its end. */
export async function removeAllBut(
  folder: string,
  { snapshot, lastJournal }: { readonly snapshot: number; readonly lastJournal: number },
): Promise<void> {
  const { snapshot: snapshots, journal: journals } = await filesIn(folder);
  const unfinished = (await readdir(folder)).filter((name) => /^snapshot-[0-9]+\.tmp$/.test(name));
  const stale = [
    ...snapshots.filter((number) => number !== snapshot).map((number) => fileOf(folder, 'snapshot', number)),
    ...journals
      .filter((number) => number < snapshot || number > lastJournal)
      .map((number) => fileOf(folder, 'journal', number)),
    ...unfinished.map((name) => join(folder, name)),
  ];
  for (const file of stale) await unlink(file);
}

function applyAll(contents: Contents, entries: readonly Entry[]): void {
  for (const entry of entries) contents.apply(entry);
}

/** Does a journal with this start go on where the last one, or the snapshot, ended? */
function follows(number: number, start: Start, snapshot: number, last: JournalEnd | undefined): boolean {
  if (last) return start.kind === 'journal' && last.number === number - 1 && start.bytes === last.bytes;
  return snapshot > 0 ? number === snapshot : start.kind === 'nothing';
}

/** The same error with the file's name. */
function inFile(file: string, error: unknown): unknown {
  if (!(error instanceof StoreError) || (error.code !== 'damaged' && error.code !== 'version')) return error;
  return new StoreError(error.code, `${file} cannot be used: ${error.message}`, { cause: error });
}

/** The same error, and what to do about a store that is damaged. */
function withRemedy(error: unknown): unknown {
  if (!(error instanceof StoreError) || error.code !== 'damaged') return error;
  return new StoreError(
    error.code,
    `${error.message}. Nothing of the store was used. Restore a backup ("paguro store restore"), or move the store away to begin with an empty one: firewalls are then placed anew, without the connections that were in it`,
    { cause: error },
  );
}
