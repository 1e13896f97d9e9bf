/**
 * Experimenter messages (spec 1.3.5, 7.5.4): bundles (ONF extension 230) and Open vSwitch's flushing of connections.
 *
 *   experimenter u32 | type u32 | body
 */
import { ipv4, ipv6 } from './addresses.js';
import { VERSION } from './constants.js';
import { NICIRA, ONF } from './error-codes.js';
import { OpenFlowEncodeError } from './errors.js';
import { flowMod, groupMod } from './flow.js';
import {
  type Codec,
  type OneOf,
  optional,
  pad,
  type Reader,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  type Variants,
  variantTable,
  type Writer,
} from './wire/index.js';

/** Messages that a bundle can hold here. */
const BUNDLED = { flow_mod: [14, flowMod], group_mod: [15, groupMod] } as const satisfies Variants;
const bundledTable = variantTable(BUNDLED);

export type BundledMessage = OneOf<typeof BUNDLED>;

/** A whole message in a message; its xid is that of the message around it. */
const bundledMessage: Codec<BundledMessage> = {
  read: (r: Reader) => {
    const version = r.u8();
    const type = r.u8();
    const length = r.u16();
    r.skip(4);
    const layout = bundledTable.byId(type);
    if (version !== VERSION) r.fail('OFPBRC_BAD_VERSION', `version ${version} in a bundle`);
    if (!layout) r.fail('OFPBFC_MSG_UNSUP', `a message of type ${type} in a bundle`);
    if (length < 8) r.fail('OFPBFC_MSG_BAD_LEN', `a message of ${length} bytes in a bundle`);
    const message: Record<string, unknown> = { type: layout.name };
    r.within(length - 8, () => layout.body.readInto(r, message), 'OFPBFC_MSG_BAD_LEN');
    return message as unknown as BundledMessage;
  },
  write: (w, message) => {
    const start = w.length;
    const layout = bundledTable.byName(message.type);
    if (!layout) throw new OpenFlowEncodeError('bad-value', `${message.type} can't be in a bundle`);
    w.u8(VERSION);
    w.u8(layout.id);
    const at = w.lengthLater();
    w.u32(w.xid);
    layout.body.write(w, message);
    w.setLength(at, w.length - start);
  },
};

/** Flags of bundles: all or nothing, and in the order in which they were added. */
export const OFPBF = { ATOMIC: 1, ORDERED: 2 } as const;

/** What kinds of control message there are: even numbers ask, odd ones answer. */
export const BUNDLE_CONTROL = {
  open_request: 0,
  open_reply: 1,
  close_request: 2,
  close_reply: 3,
  commit_request: 4,
  commit_reply: 5,
  discard_request: 6,
  discard_reply: 7,
} as const;

const control: Codec<keyof typeof BUNDLE_CONTROL | number> = {
  read: (r) => {
    const value = r.u16();
    for (const [name, number] of Object.entries(BUNDLE_CONTROL))
      if (number === value) return name as keyof typeof BUNDLE_CONTROL;
    return value;
  },
  write: (w, value) => w.u16(typeof value === 'number' ? value : BUNDLE_CONTROL[value]),
};

/** Properties: type u16 | length u16 (without padding) | body, padded to 8 bytes. */
function readProperties(r: Reader, property: (type: number) => void): void {
  while (r.left > 0) {
    const start = r.pos;
    const type = r.u16();
    const length = r.u16();
    if (length < 4) r.fail('OFPBRC_BAD_LEN', `a property of ${length} bytes`);
    r.within(length - 4, () => {
      property(type);
      r.skip(r.left);
    });
    // The last one may come without its padding.
    r.skip(Math.min(-(r.pos - start) & 7, r.left));
  }
}

function writeProperty(w: Writer, type: number, body: () => void): void {
  const start = w.length;
  w.u16(type);
  const at = w.lengthLater();
  body();
  w.setLength(at, w.length - start);
  w.align8(start);
}

/** Always 16 bytes: IPv4 addresses are mapped into IPv6 ones. */
const eitherAddress: Codec<string> = {
  read: (r) => {
    r.need(16);
    const address = new DataView(r.bytes.buffer, r.bytes.byteOffset + r.pos, 16);
    const mapped = address.getUint32(8) === 0xffff && address.getBigUint64(0) === 0n;
    if (!mapped) return ipv6.read(r);
    r.skip(12);
    return ipv4.read(r);
  },
  write: (w, value) => ipv6.write(w, value.includes(':') ? value : `::ffff:${value}`),
};

/** A 16-bit number as a property fills 8 bytes and says so. */
const padded16: Codec<number> = {
  read: (r) => r.u16(),
  write: (w, value) => {
    w.u16(value);
    w.zeros(2);
  },
};

/** Parts of one direction of a connection; what is absent is not compared. */
export interface ConnectionTuple {
  readonly src?: string;
  readonly dst?: string;
  readonly srcPort?: number;
  readonly dstPort?: number;
  readonly icmpId?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
}

const TUPLE = {
  src: [0, eitherAddress],
  dst: [1, eitherAddress],
  srcPort: [2, u16],
  dstPort: [3, u16],
  icmpId: [4, u16],
  icmpType: [5, u8],
  icmpCode: [6, u8],
} as const;

function readTuple(r: Reader): ConnectionTuple {
  const tuple: Record<string, unknown> = {};
  r.skip(4);
  readProperties(r, (type) => {
    for (const [name, [id, codec]] of Object.entries(TUPLE)) if (id === type) tuple[name] = codec.read(r);
  });
  return tuple;
}

function writeTuple(w: Writer, tuple: ConnectionTuple): void {
  w.zeros(4);
  for (const [name, [id, codec]] of Object.entries(TUPLE)) {
    const value = tuple[name as keyof ConnectionTuple];
    if (value === undefined) continue;
    writeProperty(w, id, () => (codec === u16 ? padded16 : (codec as Codec<unknown>)).write(w, value));
  }
}

/** NXT_CT_FLUSH, of Open vSwitch 3.1: connections of a zone (of all zones), or those that a tuple describes (then the zone is 0 unless given). */
export interface CtFlush {
  /** IP protocol; 0 (absent) for any. */
  readonly protocol?: number;
  readonly zone?: number;
  /** The direction of the packet that opened the connection. */
  readonly original?: ConnectionTuple;
  readonly reply?: ConnectionTuple;
}

const ICMPV6 = 58;

const ctFlush: Struct<CtFlush> = {
  readInto: (r, target) => {
    const protocol = r.u8();
    if (protocol !== 0) target.protocol = protocol;
    r.skip(7);
    readProperties(r, (type) => {
      if (type === 0) target.original = readTuple(r);
      else if (type === 1) target.reply = readTuple(r);
      else if (type === 2) target.zone = r.u16();
    });
  },
  read: (r) => {
    const value = {};
    ctFlush.readInto(r, value);
    return value;
  },
  write: (w, { protocol, zone, original, reply }) => {
    if (protocol === ICMPV6 && [original, reply].some((tuple) => tuple?.icmpType !== undefined))
      throw new OpenFlowEncodeError(
        'bad-value',
        'ct_flush of ICMPv6 by type makes Open vSwitch 3.1 abort: leave icmpType out, icmpId is enough',
      );
    w.u8(protocol ?? 0);
    w.zeros(7);
    if (original) writeProperty(w, 0, () => writeTuple(w, original));
    if (reply) writeProperty(w, 1, () => writeTuple(w, reply));
    if (zone !== undefined) writeProperty(w, 2, () => padded16.write(w, zone));
  },
};

/** Numbers of experimenter messages, in one table: experimenter and type together. */
const key = (experimenter: number, type: number): number => experimenter * 0x10000 + type;

const VARIANTS = {
  bundle_control: [key(ONF, 2300), struct({ bundle: u32, control, flags: optional(u16, 0) })],
  bundle_add: [
    key(ONF, 2301),
    struct({ bundle: u32, _: pad(2), flags: optional(u16, 0), message: bundledMessage }),
  ],
  ct_flush_zone: [key(NICIRA, 29), struct({ _: pad(6), zone: u16 })],
  ct_flush: [key(NICIRA, 32), ctFlush],
} as const satisfies Variants;

const table = variantTable(VARIANTS);

/** A message that this codec has no name for: kept as it came. */
export interface UnknownExperimenter {
  readonly type: 'experimenter';
  readonly experimenter: number;
  readonly experimenterType: number;
  readonly data: Uint8Array;
}

export type ExperimenterMessage = OneOf<typeof VARIANTS> | UnknownExperimenter;

export function isExperimenterMessage(type: string): boolean {
  return type === 'experimenter' || table.byName(type) !== undefined;
}

export const experimenter: Codec<ExperimenterMessage> = {
  read: (r) => {
    const who = r.u32();
    const type = r.u32();
    const layout = type <= 0xffff ? table.byId(key(who, type)) : undefined;
    if (!layout)
      return { type: 'experimenter', experimenter: who, experimenterType: type, data: r.take(r.left) };
    const message: Record<string, unknown> = { type: layout.name };
    layout.body.readInto(r, message);
    return message as unknown as ExperimenterMessage;
  },
  write: (w, message) => {
    if (message.type === 'experimenter') {
      w.u32(message.experimenter);
      w.u32(message.experimenterType);
      w.put(message.data);
      return;
    }
    const layout = table.byName(message.type);
    if (!layout) throw new OpenFlowEncodeError('bad-value', `no message is called ${message.type}`);
    w.u32(Math.floor(layout.id / 0x10000));
    w.u32(layout.id % 0x10000);
    layout.body.write(w, message);
  },
};
