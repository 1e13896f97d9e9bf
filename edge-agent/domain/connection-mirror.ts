/**
 * What an agent knows the kernel's connection table of one instance to hold: what the kernel's events say, those that the agent itself causes
 * included, and whole dumps. Pure but for the map and the digest it keeps.
 */
import { type Connection, connectionKey, TCP_PROGRESS } from '../../shared/firewall/connection.js';
import { ConnectionsDigest, isSameConnection } from '../../shared/firewall/digest.js';
import { type Change, MAX_CONNECTIONS } from '../../shared/firewall/state.js';
import type { ConnectionEvent } from '../conntrack/connection.js';
import type { TableChanges } from '../conntrack/table.js';

export class ConnectionMirror {
  readonly #connections = new Map<string, Connection>();
  readonly #digest = new ConnectionsDigest();
  /** What events have said since a dump was begun. */
  #sinceDump: Set<string> | undefined;

  /** Of what it holds: kept up to date with each change. */
  get digest(): { readonly connections: number; readonly digest: string } {
    return { connections: this.#digest.count, digest: this.#digest.value };
  }

  known(): Iterable<Connection> {
    return this.#connections.values();
  }

  get(key: string): Connection | undefined {
    return this.#connections.get(key);
  }

  /** What an event changes, or undefined when it tells nothing new. */
  observe({ event, connection, saysState }: Omit<ConnectionEvent, 'causedBy'>): Change | undefined {
    const key = connectionKey(connection);
    this.#sinceDump?.add(key);
    const before = this.#connections.get(key);
    if (event === 'destroy') {
      if (before === undefined) return undefined;
      this.#delete(key, before);
      return { kind: 'ended', key };
    }
    const now = saysState || before === undefined ? connection : inStateOf(before, connection);
    if (before === undefined && this.#connections.size >= MAX_CONNECTIONS) return undefined;
    this.#set(key, now);
    return before && isSameConnection(before, now) ? undefined : { kind: 'connection', connection: now };
  }

  /**
   * What changes of another instance mean for the kernel's table, only the last one of each connection counting. With `advanceOnly`, for an
   * instance that sees packets itself, no connection goes back: what its own packets have shown is later than what the other instance tells. Nothing
   * is changed here: the kernel's events tell what has come of it.
   */
  plan(changes: readonly Change[], advanceOnly: boolean): TableChanges {
    const wanted = new Map<string, Connection | undefined>();
    let size = this.#connections.size;
    for (const change of changes) {
      if (change.kind === 'policy' || change.kind === 'terminal') continue;
      const key = change.kind === 'ended' ? change.key : connectionKey(change.connection);
      const before = wanted.has(key) ? wanted.get(key) : this.#connections.get(key);
      if (change.kind === 'ended') {
        if (before === undefined) continue;
        wanted.set(key, undefined);
        size -= 1;
        continue;
      }
      const { connection } = change;
      if (before === undefined) {
        if (size >= MAX_CONNECTIONS) continue;
        size += 1;
      } else if (isSameConnection(before, connection) || (advanceOnly && !isAdvance(before, connection))) {
        continue;
      }
      wanted.set(key, connection);
    }
    const table = { ended: [] as Connection[], added: [] as Connection[], updated: [] as Connection[] };
    for (const [key, now] of wanted) {
      const before = this.#connections.get(key);
      if (now === undefined) {
        if (before) table.ended.push(before);
      } else if (before === undefined) {
        table.added.push(now);
      } else if (isAdvance(before, now)) {
        table.updated.push(now);
      } else if (!isSameConnection(before, now)) {
        // Another connection between the same ends, or one that has begun anew: no entry goes back.
        table.ended.push(before);
        table.added.push(now);
      }
    }
    return table;
  }

  /** Connections of this address of the terminal's are over. */
  forget(address: string): void {
    for (const [key, connection] of this.#connections)
      if (connection.local.address === address) this.#delete(key, connection);
  }

  /** A dump begins: what events say until `replace` is later than what it shows. */
  beginDump(): void {
    this.#sinceDump = new Set();
  }

  /** Takes a whole dump as the truth; returns what differs from what was known. */
  replace(connections: readonly Connection[]): readonly Change[] {
    const later = this.#sinceDump ?? new Set<string>();
    this.#sinceDump = undefined;
    const now = new Map(connections.map((connection) => [connectionKey(connection), connection]));
    const changes: Change[] = [];
    for (const [key, before] of this.#connections) {
      if (now.has(key) || later.has(key)) continue;
      this.#delete(key, before);
      changes.push({ kind: 'ended', key });
    }
    for (const [key, connection] of now) {
      if (later.has(key)) continue;
      const before = this.#connections.get(key);
      if (before === undefined && this.#connections.size >= MAX_CONNECTIONS) continue;
      this.#set(key, connection);
      if (!before || !isSameConnection(before, connection)) changes.push({ kind: 'connection', connection });
    }
    return changes;
  }

  #set(key: string, connection: Connection): void {
    const before = this.#connections.get(key);
    this.#connections.set(key, connection);
    if (before && isSameConnection(before, connection)) return;
    if (before) this.#digest.remove(before);
    this.#digest.add(connection);
  }

  #delete(key: string, connection: Connection): void {
    this.#connections.delete(key);
    this.#digest.remove(connection);
  }
}

/** An event that does not say the state of a TCP connection: it is what it was, or later. */
function inStateOf(before: Connection, connection: Connection): Connection {
  if (before.protocol !== 'tcp' || connection.protocol !== 'tcp' || before.opener !== connection.opener)
    return connection;
  return TCP_PROGRESS[before.state] > TCP_PROGRESS[connection.state]
    ? { ...connection, state: before.state }
    : connection;
}

function isAdvance(before: Connection, after: Connection): boolean {
  if (before.opener !== after.opener) return false;
  if (before.protocol === 'tcp' && after.protocol === 'tcp')
    return TCP_PROGRESS[after.state] > TCP_PROGRESS[before.state];
  return before.protocol !== 'tcp' && after.protocol !== 'tcp' && after.replied && !before.replied;
}
