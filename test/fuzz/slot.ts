/**
 * The input that a child is working on, in a file: when the child hangs or dies, its parent reads there what it was.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { MAX_INPUT_BYTES } from './mutate.js';

/** number of the input, its length */
const HEADER_BYTES = 8;

export class Slot {
  readonly #file: number;
  readonly #buffer = Buffer.alloc(HEADER_BYTES + MAX_INPUT_BYTES);
  #number = 0;

  /** The child opens it to write, the parent to read (`w+` makes it). */
  constructor(path: string, mode: 'w+' | 'r+') {
    this.#file = openSync(path, mode);
  }

  put(input: Uint8Array): void {
    this.#number = (this.#number + 1) >>> 0;
    this.#buffer.writeUInt32BE(this.#number, 0);
    this.#buffer.writeUInt32BE(input.length, 4);
    this.#buffer.set(input, HEADER_BYTES);
    writeSync(this.#file, this.#buffer, 0, HEADER_BYTES + input.length, 0);
  }

  /** Of the input that was put last; 0 when none was. */
  get number(): number {
    return this.#read(HEADER_BYTES) < HEADER_BYTES ? 0 : this.#buffer.readUInt32BE(0);
  }

  take(): Uint8Array {
    const length = this.#read(this.#buffer.length);
    if (length < HEADER_BYTES) return new Uint8Array();
    return Uint8Array.from(this.#buffer.subarray(HEADER_BYTES, HEADER_BYTES + this.#buffer.readUInt32BE(4)));
  }

  close(): void {
    closeSync(this.#file);
  }

  #read(bytes: number): number {
    return readSync(this.#file, this.#buffer, 0, bytes, 0);
  }
}
