/**
 * Multipart messages (spec 1.3.5, 7.3.5):   kind u16 | flags u16 (1: more parts follow) | pad 4 | body
 */
import { NICIRA, ONF } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { monitors, updates } from '../extensions/monitor.js';
import {
  experimenterOf,
  extension,
  extensionNumber,
  typeOf,
  type UnknownExtension,
  unknownExtension,
} from '../extensions/numbers.js';
import { ipfixBridge, ipfixFlows } from '../extensions/statistics.js';
import { flowFilter, flowStats } from '../messages/flow.js';
import { port } from '../messages/port.js';
import {
  list,
  type OneOf,
  pad,
  type Reader,
  type Simplify,
  type Struct,
  struct,
  u32,
  type Variants,
  variantTable,
} from '../wire/index.js';
import {
  aggregate,
  description,
  groupDescription,
  groupFeatures,
  groupStats,
  meterConfig,
  meterFeatures,
  meterStats,
  portStats,
  queueStats,
  tableStats,
} from './statistics.js';
import { tableFeatures } from './table-features.js';

const MORE = 1;
const OFPMP_EXPERIMENTER = 0xffff;

const empty = struct({});
const flowMonitor = extension(ONF, 1870);
const ipfixBridgeNumber = extension(NICIRA, 3);
const ipfixFlowsNumber = extension(NICIRA, 4);

const REQUESTS = {
  desc: [0, empty],
  flow: [1, flowFilter],
  aggregate: [2, flowFilter],
  table: [3, empty],
  /** OFPP.ANY for all ports. */
  port_stats: [4, struct({ port: u32, _: pad(4) })],
  /** OFPP.ANY and OFPQ_ALL for all. */
  queue: [5, struct({ port: u32, queue: u32 })],
  /** OFPG.ALL for all. */
  group: [6, struct({ group: u32, _: pad(4) })],
  group_desc: [7, empty],
  group_features: [8, empty],
  /** OFPM.ALL for all. */
  meter: [9, struct({ meter: u32, _: pad(4) })],
  meter_config: [10, struct({ meter: u32, _: pad(4) })],
  meter_features: [11, empty],
  /** Empty, it asks; otherwise it says how the tables are to be from now on. */
  table_features: [12, struct({ tables: list(tableFeatures) })],
  port_desc: [13, empty],
  flow_monitor: [flowMonitor, monitors],
  ipfix_bridge: [ipfixBridgeNumber, empty],
  ipfix_flow: [ipfixFlowsNumber, empty],
} as const satisfies Variants;

const REPLIES = {
  desc: [0, description],
  flow: [1, struct({ flows: list(flowStats) })],
  aggregate: [2, aggregate],
  table: [3, struct({ tables: list(tableStats) })],
  port_stats: [4, struct({ ports: list(portStats) })],
  queue: [5, struct({ queues: list(queueStats) })],
  group: [6, struct({ groups: list(groupStats) })],
  group_desc: [7, struct({ groups: list(groupDescription) })],
  group_features: [8, groupFeatures],
  meter: [9, struct({ meters: list(meterStats) })],
  meter_config: [10, struct({ meters: list(meterConfig) })],
  meter_features: [11, meterFeatures],
  table_features: [12, struct({ tables: list(tableFeatures) })],
  port_desc: [13, struct({ ports: list(port) })],
  flow_monitor: [flowMonitor, updates],
  ipfix_bridge: [ipfixBridgeNumber, ipfixBridge],
  ipfix_flow: [ipfixFlowsNumber, ipfixFlows],
} as const satisfies Variants;

/** A kind that this codec has no name for: kept as it came. */
export interface UnknownPart {
  readonly type: 'unknown';
  readonly multipartType: number;
  readonly body: Uint8Array;
}

export type MultipartRequest = OneOf<typeof REQUESTS> | UnknownExtension | UnknownPart;
export type MultipartReply = OneOf<typeof REPLIES> | UnknownExtension | UnknownPart;

interface Part<B> {
  /** More parts of the same request or reply follow. */
  readonly more?: boolean;
  readonly body: B;
}

function part<B extends { readonly type: string }>(variants: Variants): Struct<Simplify<Part<B>>> {
  const table = variantTable(variants);
  const readBody = (r: Reader, kind: number): unknown => {
    const start = r.pos;
    const number = kind === OFPMP_EXPERIMENTER ? extensionNumber(r.u32(), r.u32()) : kind;
    const layout = table.byId(number);
    if (layout) {
      const body = { type: layout.name };
      layout.body.readInto(r, body);
      return body;
    }
    if (kind !== OFPMP_EXPERIMENTER) return { type: 'unknown', multipartType: kind, body: r.take(r.left) };
    r.pos = start;
    return { type: 'experimenter', ...unknownExtension.read(r) };
  };
  const readInto = (r: Reader, target: Record<string, unknown>): void => {
    const kind = r.u16();
    if (r.u16() & MORE) target.more = true;
    r.skip(4);
    target.body = readBody(r, kind);
  };
  return {
    readInto,
    read: (r) => {
      const value: Record<string, unknown> = {};
      readInto(r, value);
      return value as unknown as Part<B>;
    },
    write: (w, { more, body }) => {
      const known = body as unknown as UnknownPart | UnknownExtension;
      const layout = table.byName(body.type);
      const number = known.type === 'unknown' ? known.multipartType : layout ? layout.id : OFPMP_EXPERIMENTER;
      const isExtension = number > OFPMP_EXPERIMENTER;
      w.u16(isExtension ? OFPMP_EXPERIMENTER : number);
      w.u16(more ? MORE : 0);
      w.zeros(4);
      if (known.type === 'unknown') w.put(known.body);
      else if (known.type === 'experimenter') unknownExtension.write(w, known);
      else if (layout) {
        if (isExtension) {
          w.u32(experimenterOf(number));
          w.u32(typeOf(number));
        }
        layout.body.write(w, body);
      } else throw new OpenFlowEncodeError('bad-value', `no multipart message is called ${body.type}`);
    },
  };
}

export const multipartRequest = part<MultipartRequest>(REQUESTS);
export const multipartReply = part<MultipartReply>(REPLIES);
