/**
 * Entries of the kernel's connection table as ctnetlink has them (linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h,
 * nf_conntrack_tcp.h): bytes <-> values. Pure. What a connection is to a firewall is connection.ts.
 */
import { isIPv4 } from 'node:net';
import { bytesToIpv6, ipv4ToNumber, ipv6ToBytes, numberToIpv4 } from '../../shared/channel/address-bytes.js';
import { BytesError } from '../../shared/channel/bytes.js';
import { DomainError } from '../../shared/domain/domain.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { Attributes, FLAG, MessageWriter, NetlinkError, type NetlinkMessage } from './netlink.js';

const CTNETLINK = 1 << 8;
export const MESSAGE_TYPE = { new: CTNETLINK | 0, get: CTNETLINK | 1, delete: CTNETLINK | 2 } as const;

/** Bits of an entry's status. */
export const STATUS = { replied: 2, assured: 4, confirmed: 8 } as const;
export const TCP_STATE = {
  none: 0,
  synSent: 1,
  synReceived: 2,
  established: 3,
  finWait: 4,
  closeWait: 5,
  lastAck: 6,
  timeWait: 7,
  close: 8,
  synSent2: 9,
} as const;

const CTA = {
  tupleOriginal: 1,
  tupleReply: 2,
  status: 3,
  protocolInfo: 4,
  timeout: 7,
  mark: 8,
  zone: 18,
} as const;
const TUPLE = { addresses: 1, transport: 2, zone: 3 } as const;
const ADDRESS = { sourceV4: 1, destinationV4: 2, sourceV6: 3, destinationV6: 4 } as const;
const TRANSPORT = {
  protocol: 1,
  sourcePort: 2,
  destinationPort: 3,
  icmp: { id: 4, type: 5, code: 6 },
  icmpv6: { id: 7, type: 8, code: 9 },
} as const;
const INFO_TCP = 1;
const TCP_INFO = { state: 1, flagsOriginal: 4, flagsReply: 5 } as const;
/**
 * What conntrack-tools give the TCP entries that they load: SACK permitted and liberal about windows, as the entry has seen neither; and for one
 * that is over that its end was begun, so that a SYN opens another.
 */
const LOADED_FLAGS = 0x02 | 0x08;
const OVER_FLAG = 0x04;

const AF: Readonly<Record<Family, number>> = { ipv4: 2, ipv6: 10 };
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
/** Family, version, and a resource id that is none. */
const HEAD_BYTES = 4;
/** Reply's type of each echo request's (RFC 792, RFC 4443). */
export const ECHO: Readonly<Record<Family, { readonly request: number; readonly reply: number }>> = {
  ipv4: { request: 8, reply: 0 },
  ipv6: { request: 128, reply: 129 },
};

/** The original direction: from whoever opened. */
export type Tuple = {
  readonly source: string;
  readonly destination: string;
} & (
  | { readonly protocol: 'tcp' | 'udp'; readonly sourcePort: number; readonly destinationPort: number }
  | { readonly protocol: 'icmp'; readonly type: number; readonly id: number }
);

export interface Entry {
  readonly tuple: Tuple;
  /** Bits of STATUS; undefined when the message does not say. */
  readonly status: number | undefined;
  /** One of TCP_STATE. */
  readonly tcpState: number | undefined;
  readonly mark: number;
  readonly timeoutSeconds: number | undefined;
}

const outer = new Attributes(CTA.zone);
const tuple = new Attributes(TUPLE.zone);
const addresses = new Attributes(ADDRESS.destinationV6);
const transport = new Attributes(TRANSPORT.icmpv6.code);
const info = new Attributes(INFO_TCP);
const tcpInfo = new Attributes(TCP_INFO.state);

/** The entry that a message speaks of; undefined when it is of another protocol, or of a zone. Fails with a NetlinkError. */
export function readEntry({ bytes, from, to }: NetlinkMessage): Entry | undefined {
  if (to - from < HEAD_BYTES) throw new NetlinkError('a message of netfilter without its head');
  outer.read(bytes, from + HEAD_BYTES, to);
  if (outer.has(CTA.zone) || !outer.nested(CTA.tupleOriginal, tuple)) return undefined;
  const read = readTuple();
  if (read === undefined) return undefined;
  const isTcp = outer.nested(CTA.protocolInfo, info) && info.nested(INFO_TCP, tcpInfo);
  return {
    tuple: read,
    status: outer.u32(CTA.status),
    tcpState: isTcp ? tcpInfo.u8(TCP_INFO.state) : undefined,
    mark: outer.u32(CTA.mark) ?? 0,
    timeoutSeconds: outer.u32(CTA.timeout),
  };
}

function readTuple(): Tuple | undefined {
  if (!tuple.nested(TUPLE.addresses, addresses) || !tuple.nested(TUPLE.transport, transport))
    return undefined;
  const source = addressOf(ADDRESS.sourceV4, ADDRESS.sourceV6);
  const destination = addressOf(ADDRESS.destinationV4, ADDRESS.destinationV6);
  if (source === undefined || destination === undefined) return undefined;
  const number = transport.u8(TRANSPORT.protocol);
  switch (number) {
    case PROTOCOL.tcp:
    case PROTOCOL.udp: {
      const sourcePort = transport.u16(TRANSPORT.sourcePort);
      const destinationPort = transport.u16(TRANSPORT.destinationPort);
      if (sourcePort === undefined || destinationPort === undefined) return undefined;
      const protocol = number === PROTOCOL.tcp ? 'tcp' : 'udp';
      return { protocol, source, destination, sourcePort, destinationPort };
    }
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6: {
      const types = number === PROTOCOL.icmp ? TRANSPORT.icmp : TRANSPORT.icmpv6;
      const type = transport.u8(types.type);
      const id = transport.u16(types.id);
      return type === undefined || id === undefined
        ? undefined
        : { protocol: 'icmp', source, destination, type, id };
    }
    default:
      return undefined;
  }
}

function addressOf(v4: number, v6: number): string | undefined {
  const number = addresses.u32(v4);
  if (number !== undefined) return numberToIpv4(number);
  const bytes = addresses.value(v6, 16);
  return bytes && ipv6Text(bytes);
}

/** Few addresses come again and again, and their texts cost more than all the rest of an entry. */
const MAX_TEXTS = 4096;
const texts = new Map<string, string>();

function ipv6Text(bytes: Buffer): string {
  const key = bytes.toString('latin1');
  let text = texts.get(key);
  if (text === undefined) {
    if (texts.size >= MAX_TEXTS) texts.clear();
    text = bytesToIpv6(bytes);
    texts.set(key, text);
  }
  return text;
}

const writer = new MessageWriter();

/**
 * A message that makes this entry. `exclusive`: one that is there stays as it is (EEXIST); otherwise it is changed, and changed back is EBUSY.
 * Fails with a DomainError (`invalid`) for what is no address, port or number.
 */
export function writeEntry(entry: Entry, exclusive: boolean): Buffer {
  return written(() => {
    begin(
      MESSAGE_TYPE.new,
      FLAG.request | FLAG.create | (exclusive ? FLAG.exclusive : 0),
      familyOf(entry.tuple),
    );
    writeTuples(entry.tuple);
    if (entry.status !== undefined) writer.u32(CTA.status, entry.status);
    if (entry.timeoutSeconds !== undefined) writer.u32(CTA.timeout, entry.timeoutSeconds);
    writer.u32(CTA.mark, entry.mark);
    const { tcpState } = entry;
    if (tcpState === undefined) return;
    writer.nested(CTA.protocolInfo, () =>
      writer.nested(INFO_TCP, () => {
        writer.u8(TCP_INFO.state, tcpState);
        // The same as value and as mask.
        const flags = tcpState >= TCP_STATE.timeWait ? LOADED_FLAGS | OVER_FLAG : LOADED_FLAGS;
        for (const side of [TCP_INFO.flagsOriginal, TCP_INFO.flagsReply])
          writer.value(side, Uint8Array.of(flags, flags));
      }),
    );
  });
}

/** A message that gives an entry that is there another time (ENOENT when it is not). */
export function writeTimeout(of: Tuple, timeoutSeconds: number): Buffer {
  return written(() => {
    begin(MESSAGE_TYPE.new, FLAG.request, familyOf(of));
    writer.nested(CTA.tupleOriginal, () => writeTuple(of));
    writer.u32(CTA.timeout, timeoutSeconds);
  });
}

/** A message that deletes an entry, whichever side opened it (ENOENT when it is not there). */
export function writeDeletion(of: Tuple): Buffer {
  return written(() => {
    begin(MESSAGE_TYPE.delete, FLAG.request, familyOf(of));
    writer.nested(CTA.tupleOriginal, () => writeTuple(of));
  });
}

/** A message that asks for one entry, whichever side opened it (ENOENT when it is not there). */
export function writeGet(of: Tuple): Buffer {
  return written(() => {
    begin(MESSAGE_TYPE.get, FLAG.request, familyOf(of));
    writer.nested(CTA.tupleOriginal, () => writeTuple(of));
  });
}

/** A message that asks for the whole table, both families. */
export function writeDumpRequest(): Buffer {
  writer.begin(MESSAGE_TYPE.get, FLAG.request | FLAG.dump, new Uint8Array(HEAD_BYTES));
  return writer.end();
}

function begin(type: number, flags: number, family: Family): void {
  writer.begin(type, flags, Uint8Array.of(AF[family], 0, 0, 0));
}

function writeTuples(of: Tuple): void {
  writer.nested(CTA.tupleOriginal, () => writeTuple(of));
  writer.nested(CTA.tupleReply, () => writeTuple(replyTo(of)));
}

function replyTo(of: Tuple): Tuple {
  const ends = { source: of.destination, destination: of.source };
  if (of.protocol === 'icmp') return { ...of, ...ends, type: ECHO[familyOf(of)].reply };
  return { ...of, ...ends, sourcePort: of.destinationPort, destinationPort: of.sourcePort };
}

function writeTuple(of: Tuple): void {
  const family = familyOf(of);
  writer.nested(TUPLE.addresses, () => {
    if (family === 'ipv4') {
      writer.u32(ADDRESS.sourceV4, ipv4ToNumber(of.source));
      writer.u32(ADDRESS.destinationV4, ipv4ToNumber(of.destination));
    } else {
      writer.value(ADDRESS.sourceV6, ipv6ToBytes(of.source));
      writer.value(ADDRESS.destinationV6, ipv6ToBytes(of.destination));
    }
  });
  writer.nested(TUPLE.transport, () => {
    if (of.protocol === 'icmp') {
      const types = family === 'ipv4' ? TRANSPORT.icmp : TRANSPORT.icmpv6;
      writer.u8(TRANSPORT.protocol, family === 'ipv4' ? PROTOCOL.icmp : PROTOCOL.icmpv6);
      writer.u8(types.code, 0);
      writer.u8(types.type, of.type);
      writer.u16(types.id, of.id);
    } else {
      writer.u8(TRANSPORT.protocol, PROTOCOL[of.protocol]);
      writer.u16(TRANSPORT.sourcePort, of.sourcePort);
      writer.u16(TRANSPORT.destinationPort, of.destinationPort);
    }
  });
}

function familyOf({ source }: Tuple): Family {
  return isIPv4(source) ? 'ipv4' : 'ipv6';
}

/** The last fence: values are validated where they come in; this holds if one ever came another way. */
function written(write: () => void): Buffer {
  try {
    write();
    return writer.end();
  } catch (error) {
    if (!(error instanceof BytesError || error instanceof RangeError || error instanceof TypeError))
      throw error;
    throw new DomainError('invalid', `no entry of the connection table can say this: ${error.message}`, {
      cause: error,
    });
  }
}
