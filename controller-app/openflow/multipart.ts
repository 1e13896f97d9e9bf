/**
 * Multipart messages (spec 1.3.5, 7.3.5):   kind u16 | flags u16 (1: more parts follow) | pad 4 | body
 */
import { OpenFlowEncodeError } from './errors.js';
import { flowFilter, flowStats } from './flow.js';
import { port } from './port.js';
import {
  type Codec,
  type Infer,
  list,
  type OneOf,
  pad,
  type Simplify,
  type Struct,
  struct,
  text,
  u8,
  u32,
  u64,
  type Variants,
  variantTable,
} from './wire/index.js';

const DESC = 0;
const FLOW = 1;
const AGGREGATE = 2;
const TABLE = 3;
const PORT_STATS = 4;
const PORT_DESC = 13;
const MORE = 1;

const REQUESTS = {
  desc: [DESC, struct({})],
  flow: [FLOW, flowFilter],
  aggregate: [AGGREGATE, flowFilter],
  table: [TABLE, struct({})],
  port_stats: [PORT_STATS, struct({ port: u32, _: pad(4) })],
  port_desc: [PORT_DESC, struct({})],
} as const satisfies Variants;

const REPLIES = {
  desc: [
    DESC,
    struct({
      manufacturer: text(256),
      hardware: text(256),
      software: text(256),
      serialNumber: text(32),
      datapath: text(256),
    }),
  ],
  flow: [FLOW, struct({ flows: list(flowStats) })],
  aggregate: [AGGREGATE, struct({ packetCount: u64, byteCount: u64, flowCount: u32, _: pad(4) })],
  table: [
    TABLE,
    struct({
      tables: list(struct({ table: u8, _: pad(3), activeCount: u32, lookupCount: u64, matchedCount: u64 })),
    }),
  ],
  port_stats: [
    PORT_STATS,
    struct({
      ports: list(
        struct({
          port: u32,
          _: pad(4),
          rxPackets: u64,
          txPackets: u64,
          rxBytes: u64,
          txBytes: u64,
          rxDropped: u64,
          txDropped: u64,
          rxErrors: u64,
          txErrors: u64,
          rxFrameErrors: u64,
          rxOverErrors: u64,
          rxCrcErrors: u64,
          collisions: u64,
          durationSec: u32,
          durationNsec: u32,
        }),
      ),
    }),
  ],
  port_desc: [PORT_DESC, struct({ ports: list(port) })],
} as const satisfies Variants;

/** A kind that this codec has no name for: kept as it came. */
export interface UnknownPart {
  readonly type: 'unknown';
  readonly multipartType: number;
  readonly body: Uint8Array;
}

export type MultipartRequest = OneOf<typeof REQUESTS> | UnknownPart;
export type MultipartReply = OneOf<typeof REPLIES> | UnknownPart;
export type PortStats = Infer<(typeof REPLIES)['port_stats'][1]>['ports'][number];
export type TableStats = Infer<(typeof REPLIES)['table'][1]>['tables'][number];

interface Part<B> {
  /** More parts of the same request or reply follow. */
  readonly more?: boolean;
  readonly body: B;
}

function part<B extends { readonly type: string }>(
  variants: Variants,
): Struct<Simplify<Part<B | UnknownPart>>> {
  const table = variantTable(variants);
  const readInto = (r: Parameters<Codec<unknown>['read']>[0], target: Record<string, unknown>): void => {
    const type = r.u16();
    if (r.u16() & MORE) target.more = true;
    r.skip(4);
    const layout = table.byId(type);
    if (!layout) {
      target.body = { type: 'unknown', multipartType: type, body: r.take(r.left) };
      return;
    }
    const body = { type: layout.name };
    layout.body.readInto(r, body);
    target.body = body;
  };
  return {
    readInto,
    read: (r) => {
      const value: Record<string, unknown> = {};
      readInto(r, value);
      return value as unknown as Part<B>;
    },
    write: (w, { more, body }) => {
      const unknown = body.type === 'unknown' ? (body as UnknownPart) : undefined;
      const layout = table.byName(body.type);
      const id = unknown?.multipartType ?? layout?.id;
      if (id === undefined)
        throw new OpenFlowEncodeError('bad-value', `no multipart message is called ${body.type}`);
      w.u16(id);
      w.u16(more ? MORE : 0);
      w.zeros(4);
      if (unknown) w.put(unknown.body);
      else layout?.body.write(w, body);
    },
  };
}

export const multipartRequest = part<OneOf<typeof REQUESTS>>(REQUESTS);
export const multipartReply = part<OneOf<typeof REPLIES>>(REPLIES);
