/**
 * The store on disk: a folder with a lock, of which all is read when it is opened, and into which a `Writer` writes from then on.
 */
import { mkdir } from 'node:fs/promises';
import type { Closable } from '../../shared/runtime/lifetime.js';
import type { Log } from '../../shared/runtime/log.js';
import { asStoreError } from './errors.js';
import { loadFolder, removeAllBut } from './folder.js';
import { Journal } from './journal.js';
import { KeptStore } from './kept-store.js';
import { lockStore } from './lock.js';
import type { ControllerStore, StoreHealth } from './store.js';
import { Writer, type WriterLimits } from './writer.js';

const LIMITS: WriterLimits = {
  gatherMs: 5,
  journalBytes: 2 ** 20,
  maxBytes: 4 * 2 ** 30,
  retryMs: 2_000,
};

export interface StoreOptions {
  /** Made if it is not there. */
  readonly folder: string;
  readonly log: Log;
  readonly limits?: Partial<WriterLimits>;
}

/** Opens a store. Fails with a StoreError: `in-use`, `damaged`, `version`, `unwritable`, `full`. */
export async function openStore({ folder, log, limits }: StoreOptions): Promise<ControllerStore> {
  let lock: Closable | undefined;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    lock = await lockStore(folder);
    const { contents, journal: end, snapshot, snapshotBytes, journalBytes, torn } = await loadFolder(folder);
    if (torn)
      log.warn({ store: folder }, 'a write that was never acknowledged had not come to its end: left out');
    await removeAllBut(folder, { snapshot, lastJournal: end?.number ?? 0 });
    const journal = end
      ? await Journal.resume(folder, end)
      : await Journal.begin(folder, 1, { kind: 'nothing' });
    const files = { snapshot, snapshotBytes, olderBytes: journalBytes - (end?.bytes ?? 0) };
    const writer = new Writer(
      { folder, contents, log, limits: { ...LIMITS, ...limits }, lock },
      journal,
      files,
    );
    return new JournalStore(writer);
  } catch (error) {
    await lock?.close();
    throw asStoreError(folder, error);
  }
}

class JournalStore extends KeptStore {
  constructor(readonly writer: Writer) {
    super(writer.options.contents, (entries, manner) => writer.keep(entries, manner));
  }

  flushed(): Promise<void> {
    return this.writer.flushed();
  }

  health(): StoreHealth {
    return this.writer.health();
  }

  close(): Promise<void> {
    return this.writer.close();
  }
}
