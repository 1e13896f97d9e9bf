/**
 * Reads one file of a store, piece by piece: its header, its entries, its end. Pure but for what it remembers.
 *
 * The first frame of a file is a header and the last of a snapshot an end, both in JSON, so that a person can see what a file is. All others are lists of
 * entries.
 */
import { z } from 'zod';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { Entry } from './entry.js';
import { decodeEntries } from './entry-codec.js';
import { encodeFrame, takeFrame } from './frames.js';
import { StoreError } from './store.js';

const FORMAT = 'paguro-store';
/** Raise it with every change that an older program would misread, or that makes what it wrote unreadable. */
const VERSION = 1;

const number = z.int().min(1).max(Number.MAX_SAFE_INTEGER);
const startSchema = z.discriminatedUnion('kind', [
  /** There was nothing before. */
  z.strictObject({ kind: z.literal('nothing') }),
  /** The journal with the number before, of which so many bytes count. */
  z.strictObject({ kind: z.literal('journal'), bytes: z.int().min(0) }),
  /** Only the snapshot of this number: without it this journal means nothing. */
  z.strictObject({ kind: z.literal('snapshot') }),
]);
/** What the entries of a journal come after. */
export type Start = z.infer<typeof startSchema>;

const headerSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    format: z.literal(FORMAT),
    version: z.literal(VERSION),
    kind: z.literal('journal'),
    number,
    start: startSchema,
  }),
  z.strictObject({
    format: z.literal(FORMAT),
    version: z.literal(VERSION),
    kind: z.literal('snapshot'),
    number,
  }),
]);
export type Header = z.infer<typeof headerSchema>;
const versionSchema = z.object({ format: z.literal(FORMAT), version: z.int() });

const endSchema = z.strictObject({ entries: z.int().min(0) });
const JSON_START = '{'.charCodeAt(0);

export function journalHeader(number: number, start: Start): Buffer {
  return json(0, { format: FORMAT, version: VERSION, kind: 'journal', number, start });
}

export function snapshotHeader(number: number): Buffer {
  return json(0, { format: FORMAT, version: VERSION, kind: 'snapshot', number });
}

/** `frame`: its number. `entries`: how many the snapshot has. */
export function snapshotEnd(frame: number, entries: number): Buffer {
  return json(frame, { entries });
}

function json(frame: number, value: unknown): Buffer {
  return encodeFrame(frame, Buffer.from(JSON.stringify(value)));
}

/** Takes the entries of one frame. */
export type Taker = (entries: readonly Entry[]) => void;

export class FileParser {
  /** Whole bytes and frames so far. */
  bytes = 0;
  frames = 0;
  header: Header | undefined;
  /** The last write of the file was not finished. */
  torn = false;
  /** A snapshot is complete. */
  complete = false;
  #rest: Uint8Array = Buffer.alloc(0);
  #entries = 0;

  #take: Taker | undefined;

  /** `accept` is asked once the header is known: who takes the entries, or nobody; then the rest of the file is not looked at. It may throw. */
  constructor(readonly accept: (header: Header) => Taker | undefined) {}

  /**
   * The next bytes of the file; `last`: there are no more. Returns how many more it takes to be worth another call. Fails with a StoreError
   * `damaged` or `version`.
   */
  push(bytes: Uint8Array, last: boolean): number {
    const buffer = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let offset = 0;
    for (;;) {
      if (this.header && !this.#take) return 0;
      if (last && offset === buffer.length) break;
      const taken = takeFrame(buffer, offset, this.frames, last);
      if (taken.kind === 'damaged') throw new StoreError('damaged', `${taken.what} (byte ${this.bytes})`);
      if (taken.kind === 'torn') {
        this.torn = true;
        break;
      }
      if (taken.kind === 'more') {
        this.#rest = buffer.subarray(offset);
        return taken.bytes - this.#rest.length;
      }
      this.#frame(taken.payload);
      this.bytes += taken.next - offset;
      this.frames += 1;
      offset = taken.next;
    }
    if (this.header?.kind === 'snapshot' && !this.complete)
      throw new StoreError('damaged', `it ends too early (byte ${this.bytes})`);
    return 0;
  }

  /** The file is to be left alone: nobody takes what is in it. */
  get ignored(): boolean {
    return this.header !== undefined && this.#take === undefined;
  }

  #frame(payload: Uint8Array): void {
    if (this.complete) throw new StoreError('damaged', 'there is more after its end');
    if (!this.header) {
      this.header = headerOf(payload);
      this.#take = this.accept(this.header);
    } else if (this.header.kind === 'snapshot' && payload[0] === JSON_START) this.#end(payload);
    else {
      const entries = decodeEntries(payload);
      this.#entries += entries.length;
      this.#take?.(entries);
    }
  }

  #end(payload: Uint8Array): void {
    const { success, data } = endSchema.safeParse(parseJson(payload));
    if (!success || data.entries !== this.#entries) throw new StoreError('damaged', 'its end is not its own');
    this.complete = true;
  }
}

function headerOf(payload: Uint8Array): Header {
  const value = parseJson(payload);
  const version = versionSchema.safeParse(value);
  if (!version.success) throw new StoreError('damaged', 'it does not begin as a file of a store');
  if (version.data.version !== VERSION)
    throw new StoreError(
      'version',
      `it has version ${version.data.version} of the store, and this program reads version ${VERSION}: run the release that wrote it`,
    );
  const header = headerSchema.safeParse(value);
  if (!header.success) throw new StoreError('damaged', 'its header is not valid', { cause: header.error });
  return header.data;
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString());
  } catch (cause) {
    throw new StoreError('damaged', `a frame that should be JSON is not: ${messageOf(cause)}`, { cause });
  }
}
