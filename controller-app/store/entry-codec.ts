/**
 * Entries to bytes and back. The payload of a frame is a list of entries in plain MessagePack, with connections in columns. Nothing of it is used before
 * the schemas have passed it: it was written by this program, but a disk is not the program's alone.
 */
import { Packr, Unpackr } from 'msgpackr';
import { z } from 'zod';
import { placementSchema } from '../../shared/api/schema.js';
import { decodeConnections, encodeConnections } from '../../shared/channel/connections-codec.js';
import { problemOfMessagePack } from '../../shared/channel/plain-messagepack.js';
import { dpidSchema, endsSchema } from '../../shared/domain/ends.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import {
  epochSchema,
  firewallStateSchema,
  MAX_EARLIER_POLICIES,
  sequenceSchema,
} from '../../shared/firewall/state.js';
import {
  ipv4Schema,
  ipv6Schema,
  MAX_ADDRESSES,
  terminalNameSchema,
  terminalSchema,
} from '../../shared/firewall/terminal.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { MAX_INSTANCE_NUMBER } from '../core/instance-numbers.js';
import { instanceHeadSchema, type KeptConnection, trackingSchema } from '../domains/openflow-ct/record.js';
import type { Entry } from './entry.js';
import { StoreError } from './store.js';

/** `skipValues` (missing from the package's types) leaves optional fields out that are there but undefined: they would become an extension type. */
const packing = { useRecords: false, variableMapSize: true, skipValues: [undefined] };
const packr = new Packr(packing);
const unpackr = new Unpackr({ useRecords: false, int64AsType: 'number' });

/** Values in one payload: more than a mirror and its policies at their worst have. */
const MAX_ITEMS = 4_000_000;
/** Entries in one payload. */
export const MAX_ENTRIES = 10_000;
/** Keys of ended connections in one entry. */
const MAX_ENDED = 10_000;
const MAX_ATTACHMENTS = 4;
/** What the columns need of a terminal is its addresses, to write them shorter. A table must be readable whatever the addresses are by then. */
const NOBODY = { name: 'nobody', mac: '02:00:00:00:00:01', ipv4: [], ipv6: [] };

const TRACKINGS = trackingSchema.options;
const FINISHED = [[], ['terminal'], ['remote'], ['terminal', 'remote']] as const;

const active = z.strictObject({
  domain: z.string().min(1).max(32),
  epoch: epochSchema,
  number: z.int().min(1).max(MAX_INSTANCE_NUMBER),
  ends: endsSchema,
});
const table = z.instanceof(Uint8Array);
const ended = z
  .array(z.string().min(1).max(200))
  .max(MAX_ENDED)
  .transform((keys): ReadonlySet<string> => new Set(keys));

const put = table.transform((bytes, context): ReadonlyMap<string, Connection> => {
  try {
    return new Map(
      decodeConnections(bytes, NOBODY).map((connection) => [connectionKey(connection), connection]),
    );
  } catch (error) {
    context.addIssue({ code: 'custom', message: messageOf(error) });
    return z.NEVER;
  }
});

/** One table for each way of being tracked, as the number of `TRACKINGS` times those of `FINISHED` and that of `FINISHED`. */
const putTracked = z
  .array(
    z.tuple([
      z
        .int()
        .min(0)
        .max(TRACKINGS.length * FINISHED.length - 1),
      put,
    ]),
  )
  .max(TRACKINGS.length * FINISHED.length)
  .transform((groups): ReadonlyMap<string, KeptConnection> => {
    const all = new Map<string, KeptConnection>();
    for (const [number, connections] of groups) {
      const tracking = TRACKINGS[Math.floor(number / FINISHED.length)] ?? 'tracked';
      const finished = FINISHED[number % FINISHED.length] ?? [];
      for (const [key, connection] of connections) all.set(key, { connection, tracking, finished });
    }
    return all;
  });

const of = { terminal: terminalNameSchema };
const entrySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('epoch'), ...of, lastEpoch: z.union([z.literal(0), epochSchema]) }),
  z.strictObject({ kind: z.literal('placement'), ...of, placement: placementSchema }),
  z.strictObject({
    kind: z.literal('policy'),
    ...of,
    policy: z
      .strictObject({ policy: policySchema, fileDigest: z.string().regex(/^[0-9a-f]{64}$/) })
      .nullable(),
  }),
  z.strictObject({ kind: z.literal('active'), ...of, instance: active.nullable() }),
  z.strictObject({
    kind: z.literal('addresses'),
    ...of,
    addresses: z
      .array(
        z.strictObject({
          address: z.union([ipv4Schema, ipv6Schema]),
          origin: z.enum(['dhcp', 'slaac', 'kept']),
          until: z.number().min(0).max(Number.MAX_SAFE_INTEGER).exactOptional(),
        }),
      )
      .max(MAX_ADDRESSES.ipv4 + MAX_ADDRESSES.ipv6)
      .readonly(),
  }),
  z.strictObject({
    kind: z.literal('attachments'),
    ...of,
    attachments: z
      .array(
        z.strictObject({
          dpid: dpidSchema,
          port: z
            .int()
            .min(1)
            .max(2 ** 32 - 1),
          portName: z.string().max(64),
        }),
      )
      .max(MAX_ATTACHMENTS)
      .readonly(),
  }),
  z.strictObject({
    kind: z.literal('mirror'),
    ...of,
    head: firewallStateSchema.omit({ connections: true }).nullable(),
  }),
  z.strictObject({ kind: z.literal('connections'), ...of, sequence: sequenceSchema, put, ended }),
  z.strictObject({
    kind: z.literal('mirror-policy'),
    ...of,
    sequence: sequenceSchema,
    policy: policySchema,
    earlier: z.array(policySchema).max(MAX_EARLIER_POLICIES).readonly(),
  }),
  z.strictObject({
    kind: z.literal('mirror-terminal'),
    ...of,
    sequence: sequenceSchema,
    present: terminalSchema,
  }),
  z.strictObject({ kind: z.literal('forget'), ...of }),
  z.strictObject({ kind: z.literal('instance'), ...of, head: instanceHeadSchema }),
  z.strictObject({ kind: z.literal('instance-head'), ...of, head: instanceHeadSchema }),
  z.strictObject({
    kind: z.literal('instance-connections'),
    ...of,
    epoch: epochSchema,
    put: putTracked,
    ended,
  }),
  z.strictObject({ kind: z.literal('instance-gone'), ...of, epoch: epochSchema }),
]) satisfies z.ZodType<Entry>;
const entriesSchema = z.array(entrySchema).max(MAX_ENTRIES);

/**
 * One entry. Several are a payload together: `joinEntries`. What could not be read again throws here, instead of making the store unreadable: a table of
 * connections is checked as it is encoded, and everything else is few and small enough to be read again at once.
 */
export function encodeEntry(entry: Entry): Uint8Array {
  const bytes: Uint8Array = packr.pack(toWire(entry));
  if (entry.kind !== 'connections' && entry.kind !== 'instance-connections')
    decodeEntries(joinEntries([bytes]));
  return bytes;
}

/** A payload: a MessagePack list of entries that are encoded already. */
export function joinEntries(entries: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(5);
  head[0] = 0xdd; // array 32
  head.writeUInt32BE(entries.length, 1);
  return Buffer.concat([head, ...entries]);
}

/** Fails with a StoreError `damaged` that says what is wrong. */
export function decodeEntries(payload: Uint8Array): Entry[] {
  const problem = problemOfMessagePack(payload, { maxItems: MAX_ITEMS });
  if (problem) throw new StoreError('damaged', `an entry is not plain MessagePack: ${problem}`);
  const result = parsed(payload);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new StoreError('damaged', `an entry is not valid: ${issue?.path.join('.')}: ${issue?.message}`, {
      cause: result.error,
    });
  }
  return result.data;
}

/** Bytes where a list belongs make zod throw: it freezes lists that are `readonly()`, and they cannot be frozen. */
function parsed(payload: Uint8Array) {
  try {
    return entriesSchema.safeParse(unpackr.unpack(payload));
  } catch (cause) {
    throw new StoreError('damaged', `an entry is not valid: ${messageOf(cause)}`, { cause });
  }
}

function toWire(entry: Entry): unknown {
  switch (entry.kind) {
    case 'connections':
      return { ...entry, put: encodeTable(entry.put.values()), ended: [...entry.ended] };
    case 'instance-connections':
      return { ...entry, put: encodeTracked(entry.put.values()), ended: [...entry.ended] };
    default:
      return entry;
  }
}

function encodeTable(connections: Iterable<Connection>): Uint8Array {
  return encodeConnections([...connections], NOBODY);
}

function encodeTracked(connections: Iterable<KeptConnection>): [number, Uint8Array][] {
  const groups = new Map<number, Connection[]>();
  for (const { connection, tracking, finished } of connections) {
    const ends = (finished.includes('terminal') ? 1 : 0) + (finished.includes('remote') ? 2 : 0);
    const number = TRACKINGS.indexOf(tracking) * FINISHED.length + ends;
    const group = groups.get(number);
    if (group) group.push(connection);
    else groups.set(number, [connection]);
  }
  return [...groups].map(([number, group]) => [number, encodeTable(group)]);
}
