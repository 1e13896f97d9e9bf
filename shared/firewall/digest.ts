/**
 * A digest of a set of connections, kept up to date in constant time a change: by it two copies of one firewall state are compared without
 * sending either. The time left, which passes everywhere, is not in it. It finds accidents, not forgeries.
 */
import { type Connection, connectionKey } from './connection.js';

/** Offset bases and prime of FNV-1a with 32 bits; the second hash begins with another basis. */
const FNV_BASES = [0x811c9dc5, 0x050c5d1f] as const;
const FNV_PRIME = 0x01000193;

/** The sum of the hashes of all connections in the set: the order in which they came does not matter. */
export class ConnectionsDigest {
  #count = 0;
  #low = 0;
  #high = 0;

  constructor(connections: Iterable<Connection> = []) {
    for (const connection of connections) this.add(connection);
  }

  /** How many connections are in the set. */
  get count(): number {
    return this.#count;
  }

  /** 16 hexadecimal digits. */
  get value(): string {
    return hex(this.#high) + hex(this.#low);
  }

  /** The connection must not be in the set already. */
  add(connection: Connection): void {
    this.#turn(connection, 1);
  }

  /** The connection must be in the set, as it was added. */
  remove(connection: Connection): void {
    this.#turn(connection, -1);
  }

  #turn(connection: Connection, by: 1 | -1): void {
    const text = meaningOf(connection);
    this.#count += by;
    this.#low = (this.#low + by * hash(text, FNV_BASES[0])) >>> 0;
    this.#high = (this.#high + by * hash(text, FNV_BASES[1])) >>> 0;
  }
}

/** Do both mean the same, but for the time that is left? */
export function isSameConnection(a: Connection, b: Connection): boolean {
  return meaningOf(a) === meaningOf(b);
}

function meaningOf(connection: Connection): string {
  const progress = connection.protocol === 'tcp' ? connection.state : connection.replied;
  return `${connectionKey(connection)} ${connection.opener} ${progress}`;
}

function hash(text: string, basis: number): number {
  let value = basis;
  for (let index = 0; index < text.length; index += 1)
    value = Math.imul(value ^ text.charCodeAt(index), FNV_PRIME);
  return value >>> 0;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
