/**
 * Nicira's messages about connections that a switch tracks (Open vSwitch 3.1, nicira-ext.h): NXT_CT_FLUSH_ZONE and NXT_CT_FLUSH.
 */
import { ipv4, ipv6 } from '../addresses.js';
import { OpenFlowEncodeError } from '../errors.js';
import {
  type Codec,
  optional,
  pad,
  padAfter,
  padBefore,
  type Struct,
  struct,
  type TlvObject,
  tlvObject,
  u8,
  u16,
} from '../wire/index.js';
import { HEADER } from './header.js';

const SHAPE = { code: 'OFPTFFC_BAD_LEN' } as const;

/** Always 16 bytes: IPv4 addresses are mapped into IPv6 ones, ::ffff:0:0/96. */
const eitherAddress: Codec<string> = {
  read: (r) => {
    r.need(16);
    for (let i = 0; i < 12; i++) if (r.bytes[r.pos + i] !== (i < 10 ? 0 : 0xff)) return ipv6.read(r);
    r.skip(12);
    return ipv4.read(r);
  },
  write: (w, value) => ipv6.write(w, value.includes(':') ? value : `::ffff:${value}`),
};

const TUPLE = {
  src: [0, eitherAddress],
  dst: [1, eitherAddress],
  srcPort: [2, padAfter(u16, 2)],
  dstPort: [3, padAfter(u16, 2)],
  icmpId: [4, padAfter(u16, 2)],
  icmpType: [5, u8],
  icmpCode: [6, u8],
} as const;

/** Parts of one direction of a connection; what is absent is not compared. */
export interface ConnectionTuple extends TlvObject<typeof TUPLE> {}

const tuple: Codec<ConnectionTuple> = padBefore(4, tlvObject(TUPLE, SHAPE));

const PARTS = {
  /** The direction of the packet that opened the connection. */
  original: [0, tuple],
  reply: [1, tuple],
  zone: [2, padAfter(u16, 2)],
} as const;

/** Connections of a zone (of all zones), or those that a tuple describes (then the zone is 0 unless given). */
export interface CtFlush extends TlvObject<typeof PARTS> {
  /** IP protocol; 0 (absent) for any. */
  readonly protocol?: number;
}

const protocol = struct({ protocol: optional(u8, 0), _: pad(7) });
const parts = tlvObject(PARTS, SHAPE, [...HEADER, 'protocol']);

export const ctFlush: Struct<CtFlush> = {
  readInto: (r, target) => {
    protocol.readInto(r, target);
    parts.readInto(r, target);
  },
  read: (r) => {
    const value = {};
    ctFlush.readInto(r, value);
    return value;
  },
  write: (w, value) => {
    protocol.write(w, value);
    parts.write(w, value);
  },
};

export const ctFlushZone = struct({ _: pad(6), zone: u16 });

const ICMPV6 = 58;

/**
 * To be asked before a message goes to a switch: Open vSwitch 3.1 ends itself when it is told to flush ICMPv6 connections by type. Throws
 * OpenFlowEncodeError for such a message.
 */
export function refuseFatal(message: { readonly type: string }): void {
  if (message.type !== 'ct_flush') return;
  const { protocol, original, reply } = message as CtFlush;
  if (protocol === ICMPV6 && (original?.icmpType ?? reply?.icmpType) !== undefined)
    throw new OpenFlowEncodeError(
      'bad-value',
      'ct_flush of ICMPv6 by type makes Open vSwitch 3.1 abort: leave icmpType out, icmpId is enough',
    );
}
