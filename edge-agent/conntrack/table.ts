/**
 * The kernel's connection table of one compartment, written and read as connections. What there is to be done goes in batches; nothing starts a process.
 */
import { constants } from 'node:os';
import { DomainError } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { connectionOf, entryOf, type OwnAddresses, tupleOf } from './connection.js';
import {
  MESSAGE_TYPE,
  readEntry,
  writeDeletion,
  writeDumpRequest,
  writeEntry,
  writeGet,
  writeTimeout,
} from './entry.js';
import { NetlinkError } from './netlink.js';
import { nameOf, type Visit } from './requests.js';

/** What the kernel is asked by: the relay. */
export interface KernelRequests {
  each(messages: readonly Buffer[], visit?: Visit): Promise<ReadonlyMap<number, number>>;
  dump(request: Buffer, visit: Visit): Promise<void>;
}

/** What to do to the table; no connection is in two of them, but one that is replaced in the last two. */
export interface TableChanges {
  /** In the table. Carried out first. */
  readonly ended: readonly Connection[];
  /** Not in the table. What is there all the same stays as it is. */
  readonly added: readonly Connection[];
  /** In the table, in a state that comes before this one. */
  readonly updated: readonly Connection[];
}

/** Whole seconds that an entry may be idle. */
export type Seconds = (connection: Connection) => number;

/** More than any instance holds (MAX_CONNECTIONS): a table that somebody else fills is not collected. */
const MAX_DUMPED = 1_000_000;
/** So many are asked for one by one: a dump goes through all buckets of a table that is every namespace's, 10 ms in one piece where there are 262,144. */
const FEW = 1_000;
const { EBUSY, EEXIST, ENOENT, ENOMEM } = constants.errno;

export class ConnectionTable {
  constructor(
    private readonly kernel: KernelRequests,
    private readonly own: OwnAddresses,
  ) {}

  /**
   * Brings the table up to date; a repetition is harmless. Returns those of which the kernel has a later state already: that stays, but the
   * time is that of the earlier one now. Fails with `refused`.
   */
  async change({ ended, added, updated }: TableChanges, seconds: Seconds): Promise<readonly Connection[]> {
    const messages = [
      ...ended.map((connection) => writeDeletion(tupleOf(connection))),
      ...added.map((connection) => writeEntry(entryOf(connection, seconds(connection)), true)),
      ...updated.map((connection) => writeEntry(entryOf(connection, seconds(connection)), false)),
    ];
    const errors = await this.#send(messages, 'the connections could not be loaded', [ENOENT, EEXIST, EBUSY]);
    const before = ended.length + added.length;
    return updated.filter((_, index) => errors.get(before + index) === EBUSY);
  }

  /** Gives entries that are there other times. Fails with `refused`. */
  async retime(connections: readonly Connection[], seconds: Seconds): Promise<void> {
    const messages = connections.map((connection) => writeTimeout(tupleOf(connection), seconds(connection)));
    await this.#send(messages, 'the times of connections could not be set', [ENOENT]);
  }

  /** Ends every connection of these addresses. Fails with `refused`. */
  async deleteAddresses(addresses: readonly string[]): Promise<void> {
    if (addresses.length === 0) return;
    const messages: Buffer[] = [];
    await this.#dump((message) => {
      const entry = readEntry(message);
      if (entry && [entry.tuple.source, entry.tuple.destination].some((end) => addresses.includes(end)))
        messages.push(writeDeletion(entry.tuple));
    });
    await this.#send(messages, 'connections could not be ended', [ENOENT]);
  }

  /** Every connection of the terminal that the kernel knows. Fails with `refused`. */
  async dump(): Promise<readonly Connection[]> {
    return this.#collected((visit) => this.#dump(visit));
  }

  /** Those of these connections that the kernel still knows, as they are now; of many, whatever it knows. Fails with `refused`. */
  async read(connections: readonly Connection[]): Promise<readonly Connection[]> {
    if (connections.length > FEW) return this.dump();
    const messages = connections.map((connection) => writeGet(tupleOf(connection)));
    return this.#collected(async (visit) => {
      await this.#send(messages, 'the connections could not be read', [ENOENT], visit);
    });
  }

  async #collected(read: (visit: Visit) => Promise<void>): Promise<readonly Connection[]> {
    const connections: Connection[] = [];
    await read((message) => {
      const entry = readEntry(message);
      const connection = entry && connectionOf(entry, this.own);
      if (connection) connections.push(connection);
    });
    return connections;
  }

  async #dump(visit: Visit): Promise<void> {
    let count = 0;
    await readable(
      this.kernel.dump(writeDumpRequest(), (message) => {
        if (message.type !== MESSAGE_TYPE.new) return;
        count += 1;
        if (count > MAX_DUMPED)
          throw new DomainError('refused', `more than ${MAX_DUMPED} entries: who fills the table?`);
        visit(message);
      }),
    );
  }

  async #send(
    messages: readonly Buffer[],
    what: string,
    harmless: readonly number[],
    visit?: Visit,
  ): Promise<ReadonlyMap<number, number>> {
    const errors = await readable(this.kernel.each(messages, visit));
    const bad = [...errors.values()].filter((errno) => !harmless.includes(errno));
    const [first] = bad;
    if (first === undefined) return errors;
    const advice = first === ENOMEM ? 'raise net.netfilter.nf_conntrack_max' : 'try again';
    throw new DomainError(
      'refused',
      `${what}: ${nameOf(first)}, ${bad.length} of ${messages.length}; ${advice}`,
    );
  }
}

/** Fails with `refused` where an answer made no sense. */
async function readable<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error;
    throw new DomainError('refused', `the connections could not be read: ${error.message}`, {
      cause: error,
    });
  }
}
