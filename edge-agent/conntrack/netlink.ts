/**
 * Netlink's messages and attributes as bytes (RFC 3549, 2; linux/netlink.h), on a little-endian machine. Pure.
 *
 * Numbers of netlink itself are in host order; what netfilter puts into attributes is in network order.
 */

/** What is no netlink. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  readonly code = 'malformed';
}

export const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
const NESTED = 0x8000;
/** Without the bits for "nested" and "network order". */
const TYPE_BITS = 0x3fff;

export const MESSAGE = { error: 2, done: 3 } as const;
export const FLAG = {
  request: 0x001,
  ack: 0x004,
  dump: 0x300,
  exclusive: 0x200,
  create: 0x400,
} as const;

/** One message; `bytes` is a view, and the body lies between `from` and `to`. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Of the socket that caused it; 0 is the kernel itself. */
  readonly port: number;
  readonly bytes: Buffer;
  readonly from: number;
  readonly to: number;
}

/** The messages of one datagram. Fails with a NetlinkError where one has no sense; those before it have been given out. */
export function* messagesOf(datagram: Buffer): Generator<NetlinkMessage, void, undefined> {
  for (let at = 0; at < datagram.length; ) {
    if (datagram.length - at < HEADER_BYTES) throw new NetlinkError('a message without a whole header');
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || length > datagram.length - at)
      throw new NetlinkError(`a message of ${length} bytes in ${datagram.length - at}`);
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      bytes: datagram,
      from: at + HEADER_BYTES,
      to: at + length,
    };
    at += aligned(length);
  }
}

/** The error of an error message: 0 for an acknowledgement, else an errno. */
export function errorOf({ bytes, from, to }: NetlinkMessage): number {
  if (to - from < 4) throw new NetlinkError('an error without a number');
  return Math.abs(bytes.readInt32LE(from));
}

/**
 * Where the values of attributes lie, by type up to `highest`; others are passed over, and of two the last counts, as to the kernel. It is read again
 * and again: a table of 100,000 connections has a million attributes.
 */
export class Attributes {
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(private readonly highest: number) {
    this.#from = new Int32Array(highest + 1);
    this.#to = new Int32Array(highest + 1);
  }

  /** Fails with a NetlinkError. */
  read(bytes: Buffer, from: number, to: number): void {
    this.#bytes = bytes;
    this.#from.fill(-1);
    for (let at = from; at < to; ) {
      if (to - at < ATTRIBUTE_HEADER_BYTES) throw new NetlinkError('an attribute without a whole header');
      const length = bytes.readUInt16LE(at);
      if (length < ATTRIBUTE_HEADER_BYTES || length > to - at)
        throw new NetlinkError(`an attribute of ${length} bytes in ${to - at}`);
      const type = bytes.readUInt16LE(at + 2) & TYPE_BITS;
      if (type <= this.highest) {
        this.#from[type] = at + ATTRIBUTE_HEADER_BYTES;
        this.#to[type] = at + length;
      }
      at += aligned(length);
    }
  }

  has(type: number): boolean {
    return (this.#from[type] ?? -1) >= 0;
  }

  /** Reads the attributes inside of this one into another table; false when it is not there. */
  nested(type: number, into: Attributes): boolean {
    if (!this.has(type)) return false;
    into.read(this.#bytes, this.#from[type] ?? 0, this.#to[type] ?? 0);
    return true;
  }

  /** Undefined when it is not there; a NetlinkError when it has another length. */
  u8(type: number): number | undefined {
    const at = this.#valueOf(type, 1);
    return at === undefined ? undefined : this.#bytes[at];
  }

  u16(type: number): number | undefined {
    const at = this.#valueOf(type, 2);
    return at === undefined ? undefined : this.#bytes.readUInt16BE(at);
  }

  u32(type: number): number | undefined {
    const at = this.#valueOf(type, 4);
    return at === undefined ? undefined : this.#bytes.readUInt32BE(at);
  }

  /** A view. */
  value(type: number, length: number): Buffer | undefined {
    const at = this.#valueOf(type, length);
    return at === undefined ? undefined : this.#bytes.subarray(at, at + length);
  }

  #valueOf(type: number, length: number): number | undefined {
    const from = this.#from[type] ?? -1;
    if (from < 0) return undefined;
    const there = (this.#to[type] ?? 0) - from;
    if (there !== length)
      throw new NetlinkError(`attribute ${type} has ${there} bytes in place of ${length}`);
    return from;
  }
}

/** One message, written from front to back. */
export class MessageWriter {
  readonly #bytes = Buffer.alloc(1024);
  #at = 0;

  /** Begins a message, with the bytes that come before its attributes. */
  begin(type: number, flags: number, head: Uint8Array): void {
    this.#bytes.fill(0);
    this.#bytes.writeUInt16LE(type, 4);
    this.#bytes.writeUInt16LE(flags, 6);
    this.#bytes.set(head, HEADER_BYTES);
    this.#at = HEADER_BYTES + aligned(head.length);
  }

  u8(type: number, value: number): void {
    this.#bytes.writeUInt8(integer(value), this.#header(type, 1));
  }

  u16(type: number, value: number): void {
    this.#bytes.writeUInt16BE(integer(value), this.#header(type, 2));
  }

  u32(type: number, value: number): void {
    this.#bytes.writeUInt32BE(integer(value), this.#header(type, 4));
  }

  value(type: number, value: Uint8Array): void {
    this.#bytes.set(value, this.#header(type, value.length));
  }

  /** An attribute of attributes. */
  nested(type: number, write: () => void): void {
    const start = this.#at;
    this.#at += ATTRIBUTE_HEADER_BYTES;
    write();
    this.#bytes.writeUInt16LE(this.#at - start, start);
    this.#bytes.writeUInt16LE(type | NESTED, start + 2);
  }

  /** The finished message; its sequence is 0. */
  end(): Buffer {
    this.#bytes.writeUInt32LE(this.#at, 0);
    return Buffer.from(this.#bytes.subarray(0, this.#at));
  }

  #header(type: number, length: number): number {
    const start = this.#at;
    this.#bytes.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + length, start);
    this.#bytes.writeUInt16LE(type, start + 2);
    this.#at = start + aligned(ATTRIBUTE_HEADER_BYTES + length);
    return start + ATTRIBUTE_HEADER_BYTES;
  }
}

/** Whoever sends a message gives it its number and asks for an answer or not. */
export function setSequence(message: Buffer, sequence: number): void {
  message.writeUInt32LE(sequence, 8);
}

export function askForAnswer(message: Buffer): void {
  message.writeUInt16LE(message.readUInt16LE(6) | FLAG.ack, 6);
}

/** What is out of range Node refuses by itself, but not NaN. */
function integer(value: number): number {
  if (!Number.isInteger(value)) throw new RangeError(`${value} is no whole number`);
  return value;
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
