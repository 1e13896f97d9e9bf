/**
 * The two address tables of a coded connection table: local addresses (mostly the terminal's own, by index) and remote ones (each once).
 */
import type { Terminal } from '../firewall/terminal.js';
import { bytesToIpv6, ipv4ToNumber, ipv6ToBytes, numberToIpv4 } from './address-bytes.js';
import { type ByteReader, BytesError, type ByteWriter } from './bytes.js';

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;

/** The terminal's addresses in their order, then the others: link-local ones, or addresses it no longer has. */
export class LocalAddresses {
  readonly #texts: string[];
  readonly #index = new Map<string, number>();
  readonly #own: number;

  constructor(terminal: Terminal) {
    this.#texts = [...terminal.ipv4, ...terminal.ipv6];
    this.#own = this.#texts.length;
    for (const [index, text] of this.#texts.entries())
      if (!this.#index.has(text)) this.#index.set(text, index);
  }

  get length(): number {
    return this.#texts.length;
  }

  add(text: string): number {
    const known = this.#index.get(text);
    if (known !== undefined) return known;
    this.#index.set(text, this.#texts.length);
    return this.#texts.push(text) - 1;
  }

  text(index: number): string {
    return valueAt(this.#texts, index);
  }

  isIpv6(index: number): boolean {
    return this.text(index).includes(':');
  }

  /** How many others there are; then of each its family (4 or 6) and its bytes. */
  write(writer: ByteWriter): void {
    const others = this.#texts.slice(this.#own);
    writer.varint(others.length);
    for (const text of others) {
      if (text.includes(':')) {
        writer.u8(6);
        writer.bytes(ipv6ToBytes(text));
      } else {
        const value = ipv4ToNumber(text);
        writer.u8(4);
        writer.u16(value >>> 16);
        writer.u16(value & 0xffff);
      }
    }
  }

  static read(reader: ByteReader, terminal: Terminal, maxCount: number): LocalAddresses {
    const table = new LocalAddresses(terminal);
    const count = reader.varint();
    if (count > maxCount) throw new BytesError('more local addresses than connections');
    for (let i = 0; i < count; i++) {
      const family = reader.u8();
      if (family !== 4 && family !== 6) throw new BytesError('unknown family');
      table.#texts.push(
        family === 6
          ? bytesToIpv6(reader.bytes(IPV6_BYTES))
          : numberToIpv4(reader.u16() * 0x10000 + reader.u16()),
      );
    }
    return table;
  }
}

/** Remote addresses, each once: IPv4 ascending, then IPv6 ascending. */
export class RemoteAddresses {
  readonly #index = new Map<string, number>();
  readonly #ipv4: { readonly value: number; readonly index: number }[] = [];
  readonly #ipv6: { readonly bytes: Uint8Array; readonly index: number }[] = [];

  /** A number for this address, by order of arrival; `ranks` turns it into its place. */
  add(text: string): number {
    const known = this.#index.get(text);
    if (known !== undefined) return known;
    const index = this.#index.size;
    if (text.includes(':')) this.#ipv6.push({ bytes: ipv6ToBytes(text), index });
    else this.#ipv4.push({ value: ipv4ToNumber(text), index });
    this.#index.set(text, index);
    return index;
  }

  ranks(): Uint32Array {
    const ranks = new Uint32Array(this.#index.size);
    this.#ipv4.sort((a, b) => a.value - b.value);
    this.#ipv6.sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    for (const [rank, { index }] of [...this.#ipv4, ...this.#ipv6].entries()) ranks[index] = rank;
    return ranks;
  }

  /**
   * After `ranks`. IPv4: count, then differences. IPv6: count, then of each one byte with how many leading bytes are those of the one before (high four bits)
   * and how many zeros follow (low four bits), then the rest.
   */
  write(writer: ByteWriter): void {
    writer.varint(this.#ipv4.length);
    let before = 0;
    for (const { value } of this.#ipv4) {
      writer.varint(value - before);
      before = value;
    }
    writer.varint(this.#ipv6.length);
    let previous: Uint8Array = new Uint8Array(IPV6_BYTES);
    for (const { bytes } of this.#ipv6) {
      let same = 0;
      while (same < 15 && bytes[same] === previous[same]) same++;
      let zeros = 0;
      while (zeros < 15 && same + zeros < IPV6_BYTES && bytes[same + zeros] === 0) zeros++;
      writer.u8(same * 16 + zeros);
      writer.bytes(bytes.subarray(same + zeros));
      previous = bytes;
    }
  }

  static read(reader: ByteReader, maxCount: number): RemoteTexts {
    const ipv4Count = reader.varint();
    if (ipv4Count > maxCount) throw new BytesError('more remote addresses than connections');
    const texts: string[] = [];
    let value = 0;
    for (let i = 0; i < ipv4Count; i++) {
      value += reader.varint();
      if (value >= 2 ** (8 * IPV4_BYTES)) throw new BytesError('an IPv4 address out of range');
      texts.push(numberToIpv4(value));
    }
    const ipv6Count = reader.varint();
    if (ipv4Count + ipv6Count > maxCount) throw new BytesError('more remote addresses than connections');
    let bytes = new Uint8Array(IPV6_BYTES);
    for (let i = 0; i < ipv6Count; i++) {
      const lengths = reader.u8();
      const same = lengths >>> 4;
      const start = same + (lengths & 0x0f);
      if (start > IPV6_BYTES) throw new BytesError('an IPv6 address out of range');
      const next = new Uint8Array(IPV6_BYTES);
      next.set(bytes.subarray(0, same));
      next.set(reader.bytes(IPV6_BYTES - start), start);
      texts.push(bytesToIpv6(next));
      bytes = next;
    }
    return new RemoteTexts(texts, ipv4Count);
  }
}

export class RemoteTexts {
  readonly #texts: readonly string[];
  readonly #ipv4Count: number;

  constructor(texts: readonly string[], ipv4Count: number) {
    this.#texts = texts;
    this.#ipv4Count = ipv4Count;
  }

  get length(): number {
    return this.#texts.length;
  }

  isIpv6(rank: number): boolean {
    return rank >= this.#ipv4Count;
  }

  text(rank: number): string {
    return valueAt(this.#texts, rank);
  }
}

function valueAt(values: readonly string[], index: number): string {
  const value = values[index];
  if (value === undefined) throw new BytesError('index out of range');
  return value;
}
