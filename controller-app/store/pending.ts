/**
 * Entries on their way to the disk. What comes while a batch is being written makes up the next one; changes of one table of connections are joined, so
 * that a connection which changes three times meanwhile is written once. Pure but for what it remembers.
 */
import {
  type Entry,
  type InstanceConnections,
  MAX_CHANGES,
  type Manner,
  type MirrorConnections,
} from './entry.js';

export interface Batch {
  readonly entries: readonly Entry[];
  /** Those that are not kept at all when the batch cannot be written. */
  readonly orders: ReadonlySet<Entry>;
  /** Settles as the batch does. */
  readonly settled: Promise<void>;
  readonly kept: () => void;
  readonly lost: (error: Error) => void;
}

type Changes = MirrorConnections | InstanceConnections;

/** Joins changes to those of a table that wait already. False: they must wait by themselves. */
type Join = (more: Changes) => boolean;

export class Pending {
  #entries: Entry[] = [];
  #orders = new Set<Entry>();
  readonly #open = new Map<string, Join>();
  #awaited = false;
  #settlement = newSettlement();

  get size(): number {
    return this.#entries.length;
  }

  /** Does somebody wait for what is there? */
  get isAwaited(): boolean {
    return this.#awaited;
  }

  /** Adds entries that belong together: they come into one batch. The promise settles as that does. */
  add(entries: readonly Entry[], manner: Manner): Promise<void> {
    if (manner !== 'fact') this.#awaited = true;
    for (const entry of entries) {
      if (manner === 'order') this.#orders.add(entry);
      if (entry.kind === 'connections' || entry.kind === 'instance-connections') this.#addChanges(entry);
      else {
        if (entry.kind.startsWith('mirror') || entry.kind === 'forget') this.#open.delete(entry.terminal);
        if (entry.kind === 'instance') this.#open.delete(`${entry.terminal} ${entry.head.epoch}`);
        if (entry.kind === 'instance-gone') this.#open.delete(`${entry.terminal} ${entry.epoch}`);
        this.#entries.push(entry);
      }
    }
    return this.#settlement.promise;
  }

  /** What is there until now. */
  take(): Batch {
    const { promise: settled, resolve: kept, reject: lost } = this.#settlement;
    const batch = { entries: this.#entries, orders: this.#orders, settled, kept, lost };
    this.#entries = [];
    this.#orders = new Set();
    this.#awaited = false;
    this.#open.clear();
    this.#settlement = newSettlement();
    return batch;
  }

  #addChanges(entry: Changes): void {
    const table = entry.kind === 'connections' ? entry.terminal : `${entry.terminal} ${entry.epoch}`;
    if (this.#open.get(table)?.(entry)) return;
    const { entry: own, join } = joinable(entry);
    this.#open.set(table, join);
    this.#entries.push(own);
  }
}

/** The entry, with tables of its own into which later ones are joined. */
function joinable(entry: Changes): { readonly entry: Entry; readonly join: Join } {
  if (entry.kind === 'connections') {
    const tables = tablesOf(entry);
    const own = { ...entry, ...tables };
    const join: Join = (more) => {
      if (more.kind !== 'connections' || !joinTables(tables, more)) return false;
      own.sequence = more.sequence;
      return true;
    };
    return { entry: own, join };
  }
  const tables = tablesOf(entry);
  return {
    entry: { ...entry, ...tables },
    join: (more) => more.kind === 'instance-connections' && joinTables(tables, more),
  };
}

interface Tables<C> {
  readonly put: Map<string, C>;
  readonly ended: Set<string>;
}

function tablesOf<C>(from: {
  readonly put: ReadonlyMap<string, C>;
  readonly ended: ReadonlySet<string>;
}): Tables<C> {
  return { put: new Map(from.put), ended: new Set(from.ended) };
}

/** False: there would be too many. */
function joinTables<C>(
  tables: Tables<C>,
  more: { readonly put: ReadonlyMap<string, C>; readonly ended: ReadonlySet<string> },
): boolean {
  const { put, ended } = tables;
  if (put.size + ended.size + more.put.size + more.ended.size > MAX_CHANGES) return false;
  for (const key of more.ended) {
    put.delete(key);
    ended.add(key);
  }
  for (const [key, connection] of more.put) {
    ended.delete(key);
    put.set(key, connection);
  }
  return true;
}

function newSettlement() {
  let resolve = (): void => {};
  let reject = (_error: Error): void => {};
  const promise = new Promise<void>((kept, lost) => {
    resolve = kept;
    reject = lost;
  });
  // Whoever waits is told; facts are often told without waiting.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
