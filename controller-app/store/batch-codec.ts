/**
 * The entries of a batch as payloads: one, so that they take effect together, unless they are more than fits into one.
 */
import { messageOf } from '../../shared/runtime/message-of.js';
import type { Entry } from './entry.js';
import { encodeEntry, joinEntries, MAX_ENTRIES } from './entry-codec.js';
import { MAX_PAYLOAD_BYTES } from './frames.js';

/** Connections after which others have a turn. */
const CONNECTIONS_AT_A_TIME = 2_000;
const MOST_BYTES = MAX_PAYLOAD_BYTES / 2;

export interface EncodedBatch {
  readonly payloads: readonly Uint8Array[];
  /** The entries in them. */
  readonly entries: readonly Entry[];
  /** Why others are not in them: they could not be read again. A fault of whoever made them. */
  readonly problem?: string;
}

export async function encodeBatch(entries: readonly Entry[]): Promise<EncodedBatch> {
  const payloads: Uint8Array[] = [];
  const good: Entry[] = [];
  let problem: string | undefined;
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let connections = 0;
  const endPayload = (): void => {
    if (parts.length > 0) payloads.push(joinEntries(parts));
    parts = [];
    bytes = 0;
  };
  for (const entry of entries) {
    let part: Uint8Array;
    try {
      part = encodeEntry(entry);
    } catch (error) {
      problem ??= `${entry.kind} of ${entry.terminal}: ${messageOf(error)}`;
      continue;
    }
    good.push(entry);
    if (parts.length >= MAX_ENTRIES || bytes + part.length > MOST_BYTES) endPayload();
    parts.push(part);
    bytes += part.length;
    connections += 'put' in entry ? entry.put.size + entry.ended.size : 0;
    if (connections < CONNECTIONS_AT_A_TIME) continue;
    connections = 0;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  endPayload();
  return { payloads, entries: good, ...(problem === undefined ? {} : { problem }) };
}
