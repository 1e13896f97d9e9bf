/**
 * Reads DHCP messages (RFC 2131, options of RFC 2132) out of frames: as much as tells which address a server gives to whom, and for how
 * long. Pure, and never throws: a frame that is not one whole, untagged and plain message is no message.
 */
import { formatIpv4, formatMac } from './address.js';

/** In the order of their numbers (RFC 2132, 9.6). */
const KINDS = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'] as const;
export type DhcpKind = (typeof KINDS)[number];

export interface DhcpMessage {
  /** client: from its port to the server's. server: the other way. */
  readonly from: 'client' | 'server';
  readonly kind: DhcpKind;
  readonly xid: number;
  /** chaddr. */
  readonly clientMac: string;
  /** The IP source of the frame. */
  readonly source: string;
  /** ciaddr: the address that the client has and renews. 0.0.0.0: none. */
  readonly clientAddress: string;
  /** yiaddr: what the server gives. 0.0.0.0: nothing. */
  readonly yourAddress: string;
  /** Option 50. */
  readonly requested?: string;
  /** Option 54. */
  readonly server?: string;
  /** Option 51, in seconds; Infinity for a lease without an end. */
  readonly leaseSeconds?: number;
  /** Option 80: the client takes an ACK without having asked for an address (RFC 4039). */
  readonly rapidCommit: boolean;
}

const PORT = { server: 67, client: 68 } as const;
/** op, htype, hlen and hops; sname and file are where options may go on (RFC 2131, 2). */
const AT = { xid: 4, ciaddr: 12, yiaddr: 16, chaddr: 28, sname: 44, file: 108, cookie: 236, options: 240 };
const MAGIC_COOKIE = 0x63825363;
const ETHERNET_HARDWARE = 1;
const OPTION = {
  pad: 0,
  requested: 50,
  lease: 51,
  overload: 52,
  kind: 53,
  server: 54,
  rapidCommit: 80,
  end: 255,
};
/** Lengths of the options that are read. One of another length, or that is there twice, makes the message unreadable. */
const LENGTHS: ReadonlyMap<number, number> = new Map([
  [OPTION.requested, 4],
  [OPTION.lease, 4],
  [OPTION.overload, 1],
  [OPTION.kind, 1],
  [OPTION.server, 4],
  [OPTION.rapidCommit, 0],
]);
const INFINITE_LEASE = 0xffff_ffff;

export function parseDhcp(frame: Buffer): DhcpMessage | undefined {
  const datagram = udpOf(frame);
  if (!datagram) return undefined;
  const { source, from, payload } = datagram;
  if (payload.length < AT.options || payload.readUInt32BE(AT.cookie) !== MAGIC_COOKIE) return undefined;
  const [op, hardware, hardwareBytes] = payload;
  if (op !== (from === 'client' ? 1 : 2) || hardware !== ETHERNET_HARDWARE || hardwareBytes !== 6)
    return undefined;
  const options = readOptions(payload);
  const kind = KINDS[(options?.get(OPTION.kind)?.readUInt8(0) ?? 0) - 1];
  if (!options || kind === undefined) return undefined;
  const address = (option: number): string | undefined => {
    const value = options.get(option);
    return value && formatIpv4(value, 0);
  };
  const [requested, server] = [address(OPTION.requested), address(OPTION.server)];
  const lease = options.get(OPTION.lease)?.readUInt32BE(0);
  return {
    ...{ from, kind, source },
    xid: payload.readUInt32BE(AT.xid),
    clientMac: formatMac(payload, AT.chaddr),
    clientAddress: formatIpv4(payload, AT.ciaddr),
    yourAddress: formatIpv4(payload, AT.yiaddr),
    ...(requested === undefined ? {} : { requested }),
    ...(server === undefined ? {} : { server }),
    ...(lease === undefined
      ? {}
      : { leaseSeconds: lease === INFINITE_LEASE ? Number.POSITIVE_INFINITY : lease }),
    rapidCommit: options.has(OPTION.rapidCommit),
  };
}

interface Datagram {
  readonly source: string;
  readonly from: DhcpMessage['from'];
  readonly payload: Buffer;
}

/** The payload of a whole UDP datagram between the two ports. */
function udpOf(frame: Buffer): Datagram | undefined {
  if (frame.length < 14 + 20 + 8 || frame.readUInt16BE(12) !== 0x0800) return undefined;
  const ip = frame.subarray(14);
  const headerBytes = (ip.readUInt8(0) & 0x0f) * 4;
  const totalBytes = ip.readUInt16BE(2);
  if (ip.readUInt8(0) >> 4 !== 4 || headerBytes < 20 || ip.readUInt8(9) !== 17) return undefined;
  // More fragments, or an offset: the message is not whole.
  if ((ip.readUInt16BE(6) & 0x3fff) !== 0) return undefined;
  if (totalBytes > ip.length || totalBytes < headerBytes + 8) return undefined;
  const udp = ip.subarray(headerBytes, totalBytes);
  const [sourcePort, destinationPort, bytes] = [
    udp.readUInt16BE(0),
    udp.readUInt16BE(2),
    udp.readUInt16BE(4),
  ];
  const from =
    sourcePort === PORT.client && destinationPort === PORT.server
      ? 'client'
      : sourcePort === PORT.server && destinationPort === PORT.client
        ? 'server'
        : undefined;
  if (from === undefined || bytes < 8 || bytes > udp.length) return undefined;
  return { source: formatIpv4(ip, 12), from, payload: udp.subarray(8, bytes) };
}

/** The options that are read, by number: those of the options field, then those that overflow into file and sname. */
function readOptions(payload: Buffer): ReadonlyMap<number, Buffer> | undefined {
  const found = new Map<number, Buffer>();
  if (!walk(payload.subarray(AT.options), found)) return undefined;
  const overload = found.get(OPTION.overload)?.readUInt8(0) ?? 0;
  if ((overload & 1) !== 0 && !walk(payload.subarray(AT.file, AT.cookie), found)) return undefined;
  if ((overload & 2) !== 0 && !walk(payload.subarray(AT.sname, AT.file), found)) return undefined;
  return found;
}

/** False when an option runs over the end, has another length than it must have, or is there twice. Time: bytes. */
function walk(area: Buffer, found: Map<number, Buffer>): boolean {
  let at = 0;
  while (at < area.length) {
    const number = area.readUInt8(at++);
    if (number === OPTION.end) return true;
    if (number === OPTION.pad) continue;
    if (at >= area.length) return false;
    const length = area.readUInt8(at++);
    if (at + length > area.length) return false;
    const expected = LENGTHS.get(number);
    if (expected !== undefined) {
      if (length !== expected || found.has(number)) return false;
      found.set(number, area.subarray(at, at + length));
    }
    at += length;
  }
  return true;
}
