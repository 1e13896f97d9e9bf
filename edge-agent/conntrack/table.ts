/**
 * The kernel's connection table of one compartment: written and read by the conntrack program.
 *
 * What a change costs decides how it is made. Adding goes in one batch (10,000 in less than 0.1 s); for each update and deletion conntrack
 * walks the whole table, so these only touch what must change and run side by side.
 */
import { DomainError } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { CommandError } from '../../shared/runtime/command.js';
import type { Compartment } from '../runtime/runtime.js';
import { additionOf, batchOf, deletionOf, deletionsOf, updateOf } from './entry.js';
import { type OwnAddresses, parseDump } from './parse.js';

export const CONNTRACK = '/usr/sbin/conntrack';

/** A line of a dump is at most about 250 bytes: room for a million connections. */
const MAX_DUMP_BYTES = 256 * 2 ** 20;
/** About 150 bytes a line: 15 MB. */
const MAX_BATCH_LINES = 100_000;
/** Updates and deletions that run at the same time. */
const SIDE_BY_SIDE = 8;

/** What to do to the table; no connection is in two of them. */
export interface TableChanges {
  /** Not in the table. */
  readonly added: readonly Connection[];
  /** In the table, with another state. */
  readonly updated: readonly Connection[];
  readonly ended: readonly Connection[];
}

export class ConnectionTable {
  constructor(
    private readonly compartment: Compartment,
    private readonly own: OwnAddresses,
    /** Entries of a standby age although their connections live; they begin with at least this many seconds. */
    private readonly minimumSeconds: number,
  ) {}

  /** Adds connections in one batch, both families; what is there already stays. Fails with `refused`. */
  async load(connections: readonly Connection[]): Promise<void> {
    if (connections.length === 0) return;
    await this.#batch(connections.map((connection) => additionOf(connection, this.#timeout(connection))));
  }

  /** Brings the table up to date; a repetition is harmless. Fails with `refused`. */
  async change({ added, updated, ended }: TableChanges): Promise<void> {
    // First what must go: an entry of the same ends may be added anew with another opener.
    const deletions = sliced(ended, SIDE_BY_SIDE).map((part) => () => this.#batch(part.map(deletionOf)));
    await sideBySide(deletions, SIDE_BY_SIDE);
    await this.load([...added, ...updated]);
    await sideBySide(
      updated.map((connection) => () => this.#update(connection)),
      SIDE_BY_SIDE,
    );
  }

  /** Ends every connection of these addresses. */
  async deleteAddresses(addresses: readonly string[]): Promise<void> {
    await this.#batch(addresses.flatMap(deletionsOf));
  }

  /** Every connection of the terminal that the kernel knows. */
  async dump(): Promise<readonly Connection[]> {
    const { stdout } = await refusing('the connections could not be read', () =>
      this.compartment.run(CONNTRACK, ['-L', '-o', 'extended'], { maxOutputBytes: MAX_DUMP_BYTES }),
    );
    return parseDump(stdout, this.own);
  }

  #timeout(connection: Connection): number {
    const lingers = connection.protocol === 'tcp' && connection.state === 'closed';
    return Math.max(connection.timeLeftSeconds, lingers ? 1 : this.minimumSeconds);
  }

  /** From a file: conntrack opens /dev/stdin by its name, which a process that entered from outside does not have. */
  async #batch(commands: readonly (readonly string[])[]): Promise<void> {
    for (let start = 0; start < commands.length; start += MAX_BATCH_LINES) {
      const batch = batchOf(commands.slice(start, start + MAX_BATCH_LINES));
      await refusing('the connections could not be loaded', () =>
        this.compartment.withFile(batch, (path) => this.compartment.run(CONNTRACK, ['-R', path])),
      );
    }
  }

  /** One process an update: conntrack 1.4.7 now and then fails with EPROTO when a batch has several. */
  async #update(connection: Connection): Promise<void> {
    await refusing('a connection could not be updated', async () => {
      try {
        await this.compartment.run(CONNTRACK, updateOf(connection, this.#timeout(connection)));
      } catch (error) {
        // The entry ended between our adding it and this: nothing is left to update.
        if (!(error instanceof CommandError && /\b0 flow entries/.test(error.stderr))) throw error;
      }
    });
  }
}

async function refusing<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const full = /Cannot allocate memory|Table full/i.test(error.stderr);
    throw new DomainError(
      'refused',
      `${what}: ${error.stderr.trim() || error.message}${full ? '; raise net.netfilter.nf_conntrack_max' : ''}`,
      { cause: error },
    );
  }
}

function sliced<T>(items: readonly T[], parts: number): readonly (readonly T[])[] {
  const size = Math.ceil(items.length / parts);
  const slices: (readonly T[])[] = [];
  for (let start = 0; start < items.length; start += size) slices.push(items.slice(start, start + size));
  return slices;
}

/** Runs all, at most `limit` at a time. Waits for every one that was started, and fails with the first failure. */
async function sideBySide(acts: readonly (() => Promise<void>)[], limit: number): Promise<void> {
  const queue = acts.values();
  const workers = Array.from({ length: Math.min(limit, acts.length) }, async () => {
    for (const act of queue) await act();
  });
  const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
