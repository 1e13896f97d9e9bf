/**
 * Messages (spec 1.3.5, 7.1):   version u8 | type u8 | length u16 (counts all) | xid u32 | body
 *
 * `decode` and `encode` are the codec's two doors. A layout is the whole truth about a message: its type is inferred from it.
 */
import { VERSION } from './constants.js';
import { OpenFlowEncodeError } from './errors.js';
import {
  type AnyMessage,
  type BundleAdd,
  bundleAdd,
  type RequestForward,
  requestForward,
} from './extensions/bundle.js';
import { BUNDLE_ADD, EXTENSIONS, type ExtensionMessage, REQUEST_FORWARD } from './extensions/messages.js';
import {
  experimenterOf,
  extensionNumber,
  typeOf,
  type UnknownExtension,
  unknownExtension,
} from './extensions/numbers.js';
import { error } from './messages/error.js';
import { flowMod, flowRemoved } from './messages/flow.js';
import { groupMod } from './messages/group.js';
import { hello } from './messages/hello.js';
import { meterMod } from './messages/meter.js';
import { packetIn, packetOut } from './messages/packet.js';
import { portMod, portStatus } from './messages/port.js';
import { queueConfigReply, queueConfigRequest } from './messages/queue.js';
import { asyncConfig, config, features, role, tableMod } from './messages/switch.js';
import { multipartReply, multipartRequest } from './multipart/multipart.js';
import {
  inField,
  type OneOf,
  Reader,
  rest,
  struct,
  type Variants,
  variantTable,
  Writer,
} from './wire/index.js';

export const HEADER_LENGTH = 8;
const OFPT_HELLO = 0;
const OFPT_ERROR = 1;
const OFPT_EXPERIMENTER = 4;

const empty = struct({});
const data = struct({ data: rest });

const STANDARD = {
  hello: [OFPT_HELLO, hello],
  error: [OFPT_ERROR, error],
  echo_request: [2, data],
  echo_reply: [3, data],
  features_request: [5, empty],
  features_reply: [6, features],
  get_config_request: [7, empty],
  get_config_reply: [8, config],
  set_config: [9, config],
  packet_in: [10, packetIn],
  flow_removed: [11, flowRemoved],
  port_status: [12, portStatus],
  packet_out: [13, packetOut],
  flow_mod: [14, flowMod],
  group_mod: [15, groupMod],
  port_mod: [16, portMod],
  table_mod: [17, tableMod],
  multipart_request: [18, multipartRequest],
  multipart_reply: [19, multipartReply],
  barrier_request: [20, empty],
  barrier_reply: [21, empty],
  queue_get_config_request: [22, queueConfigRequest],
  queue_get_config_reply: [23, queueConfigReply],
  role_request: [24, role],
  role_reply: [25, role],
  get_async_request: [26, empty],
  get_async_reply: [27, asyncConfig],
  set_async: [28, asyncConfig],
  meter_mod: [29, meterMod],
} as const satisfies Variants;

/** A message that this codec has no name for: kept as it came. */
export interface UnknownMessage {
  readonly type: 'unknown';
  readonly messageType: number;
  readonly body: Uint8Array;
}

/** A message without what all have. */
export type MessageBody =
  | OneOf<typeof STANDARD>
  | ExtensionMessage
  | ({ readonly type: 'bundle_add' } & BundleAdd)
  | ({ readonly type: 'request_forward' } & RequestForward)
  | UnknownExtension
  | UnknownMessage;

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

/** What messages that hold messages go through. */
const any: AnyMessage = { readInto: readBody, write: writeMessage };

/** The standard's types under their numbers, experimenters' above them. */
const table = variantTable({
  ...STANDARD,
  ...EXTENSIONS,
  bundle_add: [BUNDLE_ADD, bundleAdd(any)],
  request_forward: [REQUEST_FORWARD, requestForward(any)],
});

/** One writer for all: encoding is synchronous, and what leaves is a copy of the right size. */
const writer = new Writer();

/**
 * The bytes of one message. Throws OpenFlowEncodeError when a value doesn't fit its place; nothing is cut. What `decode` made of
 * a well-formed message becomes the same bytes again.
 */
export function encode(message: Message): Uint8Array {
  const { type, xid, version = VERSION } = message;
  const w = writer;
  w.reset();
  w.xid = xid;
  try {
    if (version !== VERSION && type !== 'hello' && type !== 'error')
      throw new OpenFlowEncodeError('bad-value', `version ${version}, not ${VERSION}`);
    writeMessage(w, message, xid, version);
  } catch (cause) {
    throw inField(String(type), cause);
  }
  return w.result();
}

function writeMessage(w: Writer, message: MessageBody, xid: number, version = VERSION): void {
  const start = w.length;
  w.u8(version);
  const layout = message.type === 'unknown' ? undefined : table.byName(message.type);
  const number = message.type === 'unknown' ? message.messageType : layout ? layout.id : OFPT_EXPERIMENTER;
  const isExtension = number > 0xff && layout !== undefined;
  w.u8(isExtension ? OFPT_EXPERIMENTER : number);
  const at = w.lengthLater();
  w.u32(xid);
  if (isExtension) {
    w.u32(experimenterOf(number));
    w.u32(typeOf(number));
  }
  if (layout) layout.body.write(w, message);
  else if (message.type === 'unknown') w.put(message.body);
  else if (message.type === 'experimenter') unknownExtension.write(w, message);
  else throw new OpenFlowEncodeError('bad-value', 'no message is called so');
  w.setLength(at, w.length - start);
}

/**
 * One whole message, as `Framer` gives it. The result is plain data which holds no view of `bytes`. Messages, actions, fields, properties
 * without a name here come out as unknown. Throws OpenFlowDecodeError, which says what the protocol has for it, for what the
 * specification doesn't allow.
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
  const start = r.pos;
  const number = type === OFPT_EXPERIMENTER ? extensionNumber(r.u32(), r.u32()) : type;
  const layout = table.byId(number);
  if (layout) {
    message.type = layout.name;
    layout.body.readInto(r, message);
  } else if (type === OFPT_EXPERIMENTER) {
    message.type = 'experimenter';
    r.pos = start;
    unknownExtension.readInto(r, message);
  } else {
    message.messageType = type;
    message.body = r.take(r.left);
  }
}
