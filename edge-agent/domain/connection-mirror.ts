/**
 * What an agent believes the kernel's connection table of one instance to hold, and how that belief changes: by events, by
 * deltas of another instance, by a whole dump. Pure but for the map it keeps.
 */
import { type Connection, connectionKey, type TcpState } from '../../shared/firewall/connection.js';
import { type Change, MAX_CONNECTIONS } from '../../shared/firewall/state.js';
import type { ParsedEvent } from '../conntrack/parse.js';
import type { TableChanges } from '../conntrack/table.js';

const PROGRESS: Readonly<Record<TcpState, number>> = {
  opening: 0,
  answered: 1,
  established: 2,
  closing: 3,
  closed: 4,
};

export class ConnectionMirror {
  readonly #connections = new Map<string, Connection>();

  constructor(connections: readonly Connection[]) {
    for (const connection of connections) this.#connections.set(connectionKey(connection), connection);
  }

  known(): Iterable<Connection> {
    return this.#connections.values();
  }

  /** What an event changes, or undefined when it tells nothing new. Events that programs cause are our own doing. */
  observe({ event, byProgram, connection }: ParsedEvent): Change | undefined {
    if (byProgram) return undefined;
    const key = connectionKey(connection);
    const before = this.#connections.get(key);
    if (event === 'destroy') {
      return this.#connections.delete(key) ? { kind: 'ended', key } : undefined;
    }
    if (before === undefined && this.#connections.size >= MAX_CONNECTIONS) return undefined;
    this.#connections.set(key, connection);
    return before && alike(before, connection) ? undefined : { kind: 'connection', connection };
  }

  /**
   * Takes changes of another instance over. Returns what that means for the kernel's table, only the last change of each connection
   * counting, and what has changed here. With `advanceOnly`, for an instance that sees packets itself, no connection goes back:
   * what its own packets have shown is later than what the other instance tells.
   */
  apply(
    changes: readonly Change[],
    advanceOnly: boolean,
  ): {
    readonly table: TableChanges;
    readonly changes: readonly Change[];
    /** When the kernel's table could not be changed: takes back what nothing else has changed since. */
    readonly undo: () => void;
  } {
    const touched = new Map<string, Connection | undefined>();
    const effective: Change[] = [];
    for (const change of changes) {
      if (change.kind === 'policy' || change.kind === 'terminal') continue;
      const key = change.kind === 'ended' ? change.key : connectionKey(change.connection);
      const before = this.#connections.get(key);
      if (change.kind === 'ended') {
        if (before === undefined) continue;
        if (!touched.has(key)) touched.set(key, before);
        this.#connections.delete(key);
      } else {
        const { connection } = change;
        if (before && (alike(before, connection) || (advanceOnly && !isAdvance(before, connection))))
          continue;
        if (before === undefined && this.#connections.size >= MAX_CONNECTIONS) continue;
        if (!touched.has(key)) touched.set(key, before);
        this.#connections.set(key, connection);
      }
      effective.push(change);
    }
    const table = { added: [] as Connection[], updated: [] as Connection[], ended: [] as Connection[] };
    for (const [key, before] of touched) {
      const now = this.#connections.get(key);
      if (now === undefined) {
        if (before) table.ended.push(before);
      } else if (before === undefined) {
        table.added.push(now);
      } else if (before.opener !== now.opener) {
        // Another connection between the same ends: its entry is another one, too.
        table.ended.push(before);
        table.added.push(now);
      } else {
        table.updated.push(now);
      }
    }
    const after = new Map([...touched.keys()].map((key) => [key, this.#connections.get(key)]));
    const undo = (): void => {
      for (const [key, before] of touched) {
        if (this.#connections.get(key) !== after.get(key)) continue;
        if (before === undefined) this.#connections.delete(key);
        else this.#connections.set(key, before);
      }
    };
    return { table, changes: effective, undo };
  }

  /** Connections of this address of the terminal's are over. */
  forget(address: string): void {
    for (const [key, { local }] of this.#connections)
      if (local.address === address) this.#connections.delete(key);
  }

  /** Takes a whole dump as the truth; returns what differs from what was believed. */
  replace(connections: readonly Connection[]): readonly Change[] {
    const now = new Map(connections.map((connection) => [connectionKey(connection), connection]));
    const changes: Change[] = [];
    for (const key of this.#connections.keys()) {
      if (!now.has(key)) changes.push({ kind: 'ended', key });
    }
    for (const [key, connection] of now) {
      const before = this.#connections.get(key);
      if (!before || !alike(before, connection)) changes.push({ kind: 'connection', connection });
    }
    this.#connections.clear();
    for (const [key, connection] of now) this.#connections.set(key, connection);
    return changes;
  }
}

/** Equal but for the time left, which changes with every packet. */
function alike(a: Connection, b: Connection): boolean {
  if (a.protocol !== b.protocol || a.opener !== b.opener) return false;
  return a.protocol === 'tcp' || b.protocol === 'tcp'
    ? a.protocol === 'tcp' && b.protocol === 'tcp' && a.state === b.state
    : a.replied === b.replied;
}

function isAdvance(before: Connection, after: Connection): boolean {
  if (before.opener !== after.opener) return false;
  if (before.protocol === 'tcp' && after.protocol === 'tcp')
    return PROGRESS[after.state] > PROGRESS[before.state];
  return before.protocol !== 'tcp' && after.protocol !== 'tcp' && after.replied && !before.replied;
}
