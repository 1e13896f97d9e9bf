/**
 * Brings entries to the disk. All that came within a few milliseconds is appended to a journal at once; when the journal has grown larger than the
 * contents, another is begun, and the contents are written beside it while it goes on.
 *
 * When something cannot be written, orders fail and are forgotten, and facts are remembered. From then on every order fails, until all contents could be
 * written to a file of their own: that is tried again and again. So a reader never finds a journal in which something is missing.
 */
import { setImmediate as othersFirst } from 'node:timers/promises';
import type { Closable } from '../../shared/runtime/lifetime.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { encodeBatch } from './batch-codec.js';
import type { Contents } from './contents.js';
import type { Entry, Manner } from './entry.js';
import { asStoreError } from './errors.js';
import { fileOf, removeAllBut } from './folder.js';
import { Journal } from './journal.js';
import { type Batch, Pending } from './pending.js';
import { writeSnapshot } from './snapshot.js';
import { StoreError, type StoreHealth } from './store.js';

/** When nothing can be written: as the end of a sentence. */
const MEANWHILE =
  '. Until then policies, placements and handovers are refused, and firewalls go on as they are';

export interface WriterLimits {
  /** How long a fact may wait for others before it is written, in ms. */
  readonly gatherMs: number;
  /** A journal that is larger than this, and larger than the contents, is followed by another. */
  readonly journalBytes: number;
  /** More than this is not written. */
  readonly maxBytes: number;
  /** After a failure it is tried again this often, in ms. */
  readonly retryMs: number;
}

export interface WriterOptions {
  readonly folder: string;
  readonly contents: Contents;
  readonly log: Log;
  readonly limits: WriterLimits;
  readonly lock: Closable;
}

/** What is on disk. */
interface Files {
  readonly snapshot: number;
  readonly snapshotBytes: number;
  /** Of journals before the present one that still count. */
  readonly olderBytes: number;
}

export class Writer {
  readonly #pending = new Pending();
  readonly #closing = new AbortController();
  #journal: Journal;
  #files: Files;
  #problem: StoreError | undefined;
  /** A journal has been begun that needs the snapshot being written. */
  #recovering = false;
  /** The number of such a journal that has no complete snapshot: the next try writes over it. */
  #spare: number | undefined;
  /** Whatever is done to journals is done one after another. */
  #tail: Promise<void> = Promise.resolve();
  #drain: Promise<void> | undefined;
  #snapshot: Promise<void> = Promise.resolve();
  #snapshotting = false;
  #gather: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  constructor(
    readonly options: WriterOptions,
    journal: Journal,
    files: Files,
  ) {
    this.#journal = journal;
    this.#files = files;
  }

  keep(entries: readonly Entry[], manner: Manner): Promise<void> {
    if (this.#closed)
      return refused(new StoreError('closed', 'the store is closed: nothing is kept any more'));
    if (manner === 'order' && this.#problem) return refused(this.#problem);
    const settled = this.#pending.add(entries, manner);
    if (manner === 'fact') this.#gather ??= setTimeout(() => this.#begin(), this.options.limits.gatherMs);
    else this.#begin();
    return settled;
  }

  /** Settles when all that was kept before is safe. */
  flushed(): Promise<void> {
    return this.keep([], 'awaited fact');
  }

  health(): StoreHealth {
    const { snapshotBytes, olderBytes } = this.#files;
    const bytes = snapshotBytes + olderBytes + this.#journal.bytes;
    return { bytes, ...(this.#problem === undefined ? {} : { problem: this.#problem.message }) };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close(this.flushed().catch(() => {}));
    return this.#closed;
  }

  async #close(flushed: Promise<void>): Promise<void> {
    await flushed;
    clearTimeout(this.#gather);
    clearTimeout(this.#retry);
    this.#closing.abort();
    await this.#snapshot;
    await this.#tail;
    await this.#journal.close();
    await this.options.lock.close();
  }

  /** Writes what is pending, unless that is done already: then it is next. */
  #begin(): void {
    clearTimeout(this.#gather);
    this.#gather = undefined;
    if (this.#drain) return;
    // What is told in the same turn comes into the same batch, and what else is done in it, perhaps for a handover, does not wait for the writing.
    this.#drain = othersFirst()
      .then(() => this.#serially(() => this.#write(this.#pending.take())))
      .finally(() => {
        this.#drain = undefined;
        if (this.#pending.isAwaited) this.#begin();
        else if (this.#pending.size > 0)
          this.#gather ??= setTimeout(() => this.#begin(), this.options.limits.gatherMs);
      });
  }

  /** Does not fail. */
  async #write(batch: Batch): Promise<void> {
    const { contents, log, folder, limits } = this.options;
    if (this.#problem && !this.#recovering) return this.#lose(batch, this.#problem);
    try {
      const { payloads, entries, problem } = await encodeBatch(batch.entries);
      if (this.health().bytes > limits.maxBytes)
        throw new StoreError(
          'full',
          `the store ${folder} has grown to ${limits.maxBytes} bytes, which is its bound`,
        );
      if (payloads.length > 0) await this.#journal.append(payloads);
      for (const entry of entries) contents.apply(entry);
      if (problem !== undefined) {
        log.error({ store: folder, error: problem }, 'something was not kept: a fault of this program');
        batch.lost(new StoreError('unwritable', `this cannot be kept: ${problem}`));
      } else if (this.#problem) batch.lost(this.#problem);
      else batch.kept();
      this.#considerAnother();
    } catch (error) {
      const problem = asStoreError(folder, error, MEANWHILE);
      this.#fail(problem);
      this.#lose(batch, problem);
    }
  }

  /** Remembers facts; orders were never given. */
  #lose(batch: Batch, error: StoreError): void {
    for (const entry of batch.entries) if (!batch.orders.has(entry)) this.options.contents.apply(entry);
    batch.lost(error);
  }

  #fail(error: StoreError): void {
    const { log, folder } = this.options;
    if (!this.#problem) log.error({ store: folder, error: error.message }, 'nothing is kept at present');
    this.#problem = error;
    this.#recovering = false;
    this.#tryLater();
  }

  /** Begins another journal when the present one is large. */
  #considerAnother(): void {
    const { limits, contents, folder, log } = this.options;
    const enough = Math.max(limits.journalBytes, this.#files.snapshotBytes);
    if (this.#journal.bytes < enough || this.#snapshotting || this.#problem) return;
    this.#snapshotting = true;
    this.#snapshot = this.#serially(async () => {
      const { number, bytes } = this.#journal;
      await this.#replace(await Journal.begin(folder, number + 1, { kind: 'journal', bytes }));
      this.#files = { ...this.#files, olderBytes: this.#files.olderBytes + bytes };
      return number + 1;
    })
      .then((number) => this.#complete(contents, number))
      .catch((error: unknown) => {
        if (!this.#closing.signal.aborted)
          log.warn(
            { store: folder, error: messageOf(error) },
            'the store grows until its contents can be written',
          );
      })
      .finally(() => {
        this.#snapshotting = false;
      });
  }

  /** After a failure: the whole contents, then what comes after them. */
  #tryLater(): void {
    if (this.#retry || this.#closing.signal.aborted) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#snapshot = this.#snapshot.then(() => this.#recover());
    }, this.options.limits.retryMs);
  }

  /** Does not fail. */
  async #recover(): Promise<void> {
    const { folder, contents, log } = this.options;
    if (this.#closing.signal.aborted) return;
    try {
      const number = await this.#serially(async () => {
        this.#spare ??= this.#journal.number + 1;
        await this.#replace(await Journal.begin(folder, this.#spare, { kind: 'snapshot' }));
        this.#recovering = true;
        return this.#spare;
      });
      await this.#complete(contents, number);
      // A fact that came meanwhile could not be written: then it is not over.
      if (!this.#recovering) return;
      this.#problem = undefined;
      this.#recovering = false;
      log.info({ store: folder }, 'what happened is kept again');
    } catch (error) {
      this.#fail(asStoreError(folder, error, MEANWHILE));
    }
  }

  /** Writes the snapshot of a journal that was begun, and removes what is older. */
  async #complete(contents: Contents, number: number): Promise<void> {
    const { folder } = this.options;
    const file = fileOf(folder, 'snapshot', number);
    const snapshotBytes = await writeSnapshot({ contents, file, number, signal: this.#closing.signal });
    this.#spare = undefined;
    this.#files = { snapshot: number, snapshotBytes, olderBytes: 0 };
    await removeAllBut(folder, { snapshot: number, lastJournal: this.#journal.number });
  }

  async #replace(journal: Journal): Promise<void> {
    const before = this.#journal;
    this.#journal = journal;
    await before.close().catch(() => {});
  }

  #serially<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(task);
    this.#tail = done.then(
      () => {},
      () => {},
    );
    return done;
  }
}

/** A promise that fails, and need not be looked at. */
function refused(error: StoreError): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}
