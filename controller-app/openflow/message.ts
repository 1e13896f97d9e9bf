/**
 * Messages (spec 1.3.5, 7.1):   version u8 | type u8 | length u16 (counts all) | xid u32 | body
 *
 * `encode` and `decode` are the codec's two doors. A layout below is the whole truth about a message: its type is inferred from it.
 */
import { VERSION } from './constants.js';
import { OFPET_EXPERIMENTER } from './error-codes.js';
import { OpenFlowEncodeError } from './errors.js';
import { type ExperimenterMessage, experimenter, isExperimenterMessage } from './experimenter.js';
import { flowMod, flowRemoved, groupMod, packetOut } from './flow.js';
import { multipartReply, multipartRequest } from './multipart.js';
import { matchCodec } from './oxm.js';
import { port } from './port.js';
import {
  inField,
  names,
  type OneOf,
  pad,
  Reader,
  rest,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Variants,
  variantTable,
  Writer,
} from './wire/index.js';

export const HEADER_LENGTH = 8;
const OFPT_HELLO = 0;
const OFPT_ERROR = 1;
const OFPT_EXPERIMENTER = 4;
const OFPHET_VERSIONBITMAP = 1;

/** Hello (7.5.1): the versions that the sender speaks, if it says so; otherwise up to that in its header. */
const hello: Struct<{ readonly versions?: readonly number[] }> = {
  readInto: (r, target) => {
    while (r.left > 0) {
      const start = r.pos;
      const type = r.u16();
      const length = r.u16();
      if (length < 4) r.fail('OFPBRC_BAD_LEN', `a hello element of ${length} bytes`);
      r.within(length - 4, () => {
        if (type === OFPHET_VERSIONBITMAP) target.versions = readBitmap(r);
        else r.skip(r.left);
      });
      r.skip(Math.min(-(r.pos - start) & 7, r.left));
    }
  },
  read: (r) => {
    const value = {};
    hello.readInto(r, value);
    return value;
  },
  write: (w, { versions }) => {
    if (!versions) return;
    const start = w.length;
    let bits = 0;
    for (const version of versions) bits |= 1 << version;
    w.u16(OFPHET_VERSIONBITMAP);
    const at = w.lengthLater();
    w.u32(bits >>> 0);
    w.setLength(at, w.length - start);
    w.align8(start);
  },
};

function readBitmap(r: Reader): number[] {
  const versions: number[] = [];
  for (let first = 0; r.left > 0; first += 32) {
    const bits = r.u32();
    for (let i = 0; i < 32; i++) if ((bits >>> i) & 1) versions.push(first + i);
  }
  return versions;
}

/** Errors (7.4.4). For an experimenter's, `code` is its exp_type. */
interface ErrorBody {
  readonly errorType: number;
  readonly code: number;
  readonly experimenter?: number;
  /** The first bytes (64 or more) of what was refused. */
  readonly data: Uint8Array;
}

const error: Struct<ErrorBody> = {
  readInto: (r, target) => {
    target.errorType = r.u16();
    target.code = r.u16();
    if (target.errorType === OFPET_EXPERIMENTER) target.experimenter = r.u32();
    target.data = r.take(r.left);
  },
  read: (r) => {
    const value = {};
    error.readInto(r, value);
    return value as ErrorBody;
  },
  write: (w, { errorType, code, experimenter: who, data }) => {
    w.u16(errorType);
    w.u16(code);
    if (errorType === OFPET_EXPERIMENTER) w.u32(who ?? 0);
    w.put(data);
  },
};

const config = struct({
  /** OFPC_FRAG. */
  flags: u16,
  /** Bytes of a packet that comes to the controller for want of a rule. */
  missSendLen: u16,
});

const role = struct({
  role: names(u32, { nochange: 0, equal: 1, master: 2, slave: 3 }),
  _: pad(4),
  generation: u64,
});

const empty = struct({});

const VARIANTS = {
  hello: [OFPT_HELLO, hello],
  error: [OFPT_ERROR, error],
  echo_request: [2, struct({ data: rest })],
  echo_reply: [3, struct({ data: rest })],
  features_request: [5, empty],
  features_reply: [
    6,
    struct({
      datapathId: u64,
      buffers: u32,
      tables: u8,
      auxiliaryId: u8,
      _: pad(2),
      capabilities: u32,
      _reserved: pad(4),
    }),
  ],
  get_config_request: [7, empty],
  get_config_reply: [8, config],
  set_config: [9, config],
  packet_in: [
    10,
    struct({
      bufferId: u32,
      /** Of the whole frame, of which `data` may be the beginning. */
      totalLen: u16,
      reason: names(u8, { no_match: 0, action: 1, invalid_ttl: 2 }),
      tableId: u8,
      cookie: u64,
      match: matchCodec,
      _: pad(2),
      data: rest,
    }),
  ],
  flow_removed: [11, flowRemoved],
  port_status: [12, struct({ reason: names(u8, { add: 0, delete: 1, modify: 2 }), _: pad(7), port })],
  packet_out: [13, packetOut],
  flow_mod: [14, flowMod],
  group_mod: [15, groupMod],
  multipart_request: [18, multipartRequest],
  multipart_reply: [19, multipartReply],
  barrier_request: [20, empty],
  barrier_reply: [21, empty],
  role_request: [24, role],
  role_reply: [25, role],
} as const satisfies Variants;

const table = variantTable(VARIANTS);

/** A message that this codec has no name for: kept as it came. */
export interface UnknownMessage {
  readonly type: 'unknown';
  readonly messageType: number;
  readonly body: Uint8Array;
}

export type MessageBody = OneOf<typeof VARIANTS> | ExperimenterMessage | UnknownMessage;
export type MessageType = MessageBody['type'];
export type MessageOf<T extends MessageType> = Extract<MessageBody, { readonly type: T }>;

export interface Header {
  /** What a reply has in common with its request. */
  readonly xid: number;
  /** Absent when it is 4 (OpenFlow 1.3): only a peer's first hello, or its complaint about ours, has another. */
  readonly version?: number;
}

export type Message = Header & MessageBody;

export type PacketInMessage = MessageOf<'packet_in'>;
export type PacketOutMessage = MessageOf<'packet_out'>;
export type FlowRemovedMessage = MessageOf<'flow_removed'>;
export type PortStatusMessage = MessageOf<'port_status'>;
export type ErrorMessage = MessageOf<'error'>;
export type FeaturesReply = MessageOf<'features_reply'>;

/** One writer for all: encoding is synchronous, and what leaves is a copy of the right size. */
const writer = new Writer();

/** The bytes of one message. Throws OpenFlowEncodeError when a value doesn't fit its place. */
export function encode(message: Message): Uint8Array {
  const w = writer;
  w.reset();
  w.xid = message.xid;
  try {
    const { version = VERSION } = message;
    if (version !== VERSION && message.type !== 'hello' && message.type !== 'error')
      throw new OpenFlowEncodeError('bad-value', `version ${version}, not ${VERSION}`);
    w.u8(version);
    writeTyped(w, message);
  } catch (cause) {
    throw inField(String(message.type), cause);
  }
  return w.result();
}

/** From the type on: as a message in a bundle has it, too. */
function writeTyped(w: Writer, message: MessageBody): void {
  const start = w.length - 1;
  const { type } = message;
  const experimental = isExperimenterMessage(type);
  if (type === 'unknown') w.u8(message.messageType);
  else w.u8(experimental ? OFPT_EXPERIMENTER : layoutOf(type).id);
  const at = w.lengthLater();
  w.u32(w.xid);
  if (type === 'unknown') w.put(message.body);
  else if (experimental) experimenter.write(w, message as ExperimenterMessage);
  else layoutOf(type).body.write(w, message);
  w.setLength(at, w.length - start);
}

function layoutOf(type: string): { readonly id: number; readonly body: Struct<object> } {
  const layout = table.byName(type);
  if (!layout) throw new OpenFlowEncodeError('bad-value', 'no message is called so');
  return layout;
}

/**
 * One whole message, as `Framer` gives it. The result holds no view of `bytes`. Messages, actions and fields without a name here come out
 * as `unknown`. Throws OpenFlowDecodeError for what the specification doesn't allow.
 */
export function decode(bytes: Uint8Array): Message {
  const r = new Reader(bytes);
  const version = r.u8();
  const type = r.u8();
  const length = r.u16();
  const xid = r.u32();
  r.xid = xid;
  if (length !== bytes.length)
    r.fail('OFPBRC_BAD_LEN', `${length} bytes announced, ${bytes.length} there`, 2);
  if (version !== VERSION && type !== OFPT_HELLO && type !== OFPT_ERROR)
    r.fail('OFPBRC_BAD_VERSION', `version ${version}, not ${VERSION}`, 0);
  const message: Record<string, unknown> = { type: 'unknown', xid };
  if (version !== VERSION) message.version = version;
  readBody(r, type, message);
  if (r.left > 0) r.failLength(`${r.left} bytes too many`);
  return message as unknown as Message;
}

function readBody(r: Reader, type: number, message: Record<string, unknown>): void {
  if (type === OFPT_EXPERIMENTER) {
    Object.assign(message, experimenter.read(r));
    return;
  }
  const layout = table.byId(type);
  if (layout) {
    message.type = layout.name;
    layout.body.readInto(r, message);
    return;
  }
  message.messageType = type;
  message.body = r.take(r.left);
}
