/**
 * Messages that hold a message: bundles (ONF extension 230, OpenFlow 1.4's bundles for 1.3: many changes as one), and what
 * another controller asked of the switch, forwarded (OpenFlow 1.4's OFPT_REQUESTFORWARD, as Open vSwitch has it for 1.3).
 */
import { VERSION } from '../constants.js';
import type { ErrorCode } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import type { Message, MessageBody } from '../message.js';
import {
  type Codec,
  type Infer,
  oneOf,
  optional,
  pad,
  type Reader,
  rest,
  type Struct,
  struct,
  tlvs,
  u16,
  u32,
  type Writer,
} from '../wire/index.js';

const HEADER_LENGTH = 8;

/** Flags of bundles: all or nothing, and in the order in which they were added. */
export const OFPBF = { ATOMIC: 1, ORDERED: 2 } as const;

/** Only experimenters have properties of bundles. */
const properties = tlvs(
  { experimenter: [0xffff, struct({ experimenter: u32, experimenterType: u32, data: rest })] },
  { code: 'OFPTFFC_BAD_LEN' },
);

type BundleProperty = Infer<typeof properties>[number];

/** Absent when there is none. */
const anyProperties: Codec<readonly BundleProperty[] | undefined> = {
  read: (r) => (r.left > 0 ? properties.read(r) : undefined),
  write: (w, value) => properties.write(w, value ?? []),
};

/** Even numbers ask, odd ones answer. */
const control = oneOf(
  u16,
  {
    open_request: 0,
    open_reply: 1,
    close_request: 2,
    close_reply: 3,
    commit_request: 4,
    commit_reply: 5,
    discard_request: 6,
    discard_reply: 7,
  },
  'OFPBFC_BAD_TYPE',
);

export const bundleControl = struct({
  bundle: u32,
  control,
  flags: optional(u16, 0),
  properties: anyProperties,
});

/** What a bundle can not hold: what is no request, and what is about the connection or about bundles themselves. */
const UNBUNDLED = [
  'hello',
  'error',
  'echo_request',
  'echo_reply',
  'features_reply',
  'get_config_reply',
  'packet_in',
  'flow_removed',
  'port_status',
  'multipart_reply',
  'barrier_reply',
  'queue_get_config_reply',
  'role_reply',
  'get_async_reply',
  'bundle_control',
  'bundle_add',
  'request_forward',
  'role_status',
  'flow_monitor_paused',
  'flow_monitor_resumed',
  'nx_packet_in',
  'packet_in2',
  'nx_flow_removed',
  'nx_role_reply',
  'tlv_table_reply',
] as const satisfies readonly MessageBody['type'][];
const unbundled: ReadonlySet<string> = new Set(UNBUNDLED);

/** A message as a bundle holds it: its xid is that of the message around it. */
export type BundledMessage = Exclude<MessageBody, { readonly type: (typeof UNBUNDLED)[number] }>;

export interface BundleAdd {
  readonly bundle: number;
  readonly flags?: number;
  readonly message: BundledMessage;
  readonly properties?: readonly BundleProperty[];
}

export interface RequestForward {
  /** With the xid that it had. */
  readonly request: Message;
}

/** Messages without their version, length and xid: what knows all of them is given to what is one of them. */
export interface AnyMessage {
  /** Adds a message of this type to `message`, to the end of what is read. */
  readInto(r: Reader, type: number, message: Record<string, unknown>): void;
  /** From the header on. */
  write(w: Writer, message: MessageBody, xid: number): void;
}

/** A whole message within one. */
function readHeld(r: Reader, any: AnyMessage, length: ErrorCode): { message: Message; at: number } {
  const at = r.pos;
  if (r.left < HEADER_LENGTH) r.fail(length, `${r.left} bytes where a message is due`);
  const version = r.u8();
  const type = r.u8();
  const whole = r.u16();
  const xid = r.u32();
  if (version !== VERSION) r.fail('OFPBRC_BAD_VERSION', `version ${version} within a message`, at);
  if (whole < HEADER_LENGTH || whole - HEADER_LENGTH > r.left)
    r.fail(length, `a message of ${whole} bytes within one`, at + 2);
  const message: Record<string, unknown> = { type: 'unknown', xid };
  const outer = r.xid;
  r.xid = xid;
  r.nested(whole - HEADER_LENGTH, () => any.readInto(r, type, message), 'OFPBFC_MSG_UNSUP');
  r.xid = outer;
  return { message: message as unknown as Message, at };
}

export function bundleAdd(any: AnyMessage): Struct<BundleAdd> {
  const head = struct({ bundle: u32, _: pad(2), flags: optional(u16, 0) });
  const codec: Struct<BundleAdd> = {
    readInto: (r, target) => {
      head.readInto(r, target);
      const { message, at } = readHeld(r, any, 'OFPBFC_MSG_BAD_LEN');
      const { xid, ...body } = message;
      if (xid !== r.xid) r.fail('OFPBFC_MSG_BAD_XID', `xid ${xid} in a message with ${r.xid}`, at + 4);
      if (unbundled.has(body.type)) r.fail('OFPBFC_MSG_UNSUP', `${body.type} in a bundle`, at + 1);
      target.message = body;
      r.skipPadding(at);
      const more = anyProperties.read(r);
      if (more) target.properties = more;
    },
    read: (r) => {
      const value = {};
      codec.readInto(r, value);
      return value as BundleAdd;
    },
    write: (w, value) => {
      const { message, properties: more } = value;
      head.write(w, value);
      if (unbundled.has(message.type))
        throw new OpenFlowEncodeError('bad-value', `${message.type} can't be in a bundle`);
      const start = w.length;
      w.nested(() => any.write(w, message, w.xid));
      if (!more?.length) return;
      w.align8(start);
      properties.write(w, more);
    },
  };
  return codec;
}

export function requestForward(any: AnyMessage): Struct<RequestForward> {
  const codec: Struct<RequestForward> = {
    readInto: (r, target) => {
      target.request = readHeld(r, any, 'OFPBRC_BAD_LEN').message;
    },
    read: (r) => ({ request: readHeld(r, any, 'OFPBRC_BAD_LEN').message }),
    write: (w, { request }) => {
      const outer = w.xid;
      w.xid = request.xid;
      w.nested(() => any.write(w, request, request.xid));
      w.xid = outer;
    },
  };
  return codec;
}
