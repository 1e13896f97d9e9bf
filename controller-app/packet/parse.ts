/**
 * Reads the headers of an Ethernet frame, or of the beginning of one: enough to tell which connection it is of. Pure, and never throws:
 * what is too short, too deep or of another kind is simply not told.
 */
import { formatIpv4, formatIpv6, formatMac } from './address.js';

export interface Packet {
  readonly ethSrc: string;
  readonly ethDst: string;
  /** Behind a VLAN tag. */
  readonly ethType: number;
  readonly ip?: IpHeader;
  readonly transport?: Transport;
}

export interface IpHeader {
  readonly family: 'ipv4' | 'ipv6';
  /** Canonical text. */
  readonly src: string;
  readonly dst: string;
  /** Of the header behind IP and its extensions. */
  readonly protocol: number;
  /** `later` has no transport header. */
  readonly fragment: 'none' | 'first' | 'later';
  /** Where the packet begins in the frame. */
  readonly offset: number;
  /** Of the headers before the transport's, in bytes. */
  readonly headerBytes: number;
  /** Of the whole packet, as its header says, in bytes: the frame may be cut, or padded. */
  readonly totalBytes: number;
}

export type Transport =
  | { readonly protocol: 'tcp'; readonly src: number; readonly dst: number; readonly flags: number }
  | { readonly protocol: 'udp'; readonly src: number; readonly dst: number }
  /** `id` is that of an echo; undefined for every other type. */
  | {
      readonly protocol: 'icmp';
      readonly type: number;
      readonly code: number;
      readonly id: number | undefined;
    };

const ETHERNET_BYTES = 14;
const VLAN_TYPES: ReadonlySet<number> = new Set([0x8100, 0x88a8]);
const MAX_VLAN_TAGS = 2;
const IPV6_BYTES = 40;
/** RFC 8200 knows six kinds of extension headers; a chain that is longer is somebody's joke. */
const MAX_EXTENSION_HEADERS = 8;
const EXTENSION = {
  hopByHop: 0,
  routing: 43,
  fragment: 44,
  authentication: 51,
  destination: 60,
  mobility: 135,
};
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };
const ECHO_TYPES = { ipv4: new Set([0, 8]), ipv6: new Set([128, 129]) };

/** Undefined when not even the Ethernet header is whole. */
export function parsePacket(frame: Uint8Array): Packet | undefined {
  if (frame.length < ETHERNET_BYTES) return undefined;
  const data = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const ethDst = formatMac(data, 0);
  const ethSrc = formatMac(data, 6);
  let offset = 12;
  let ethType = data.readUInt16BE(offset);
  for (let tags = 0; VLAN_TYPES.has(ethType); tags++) {
    offset += 4;
    if (tags === MAX_VLAN_TAGS || data.length < offset + 2) return undefined;
    ethType = data.readUInt16BE(offset);
  }
  const network = data.subarray(offset + 2);
  const parse = ethType === 0x0800 ? parseIpv4 : ethType === 0x86dd ? parseIpv6 : undefined;
  const found = parse?.(network, offset + 2);
  if (!found) return { ethSrc, ethDst, ethType };
  const transport = parseTransport(found.ip, found.payload);
  return { ethSrc, ethDst, ethType, ip: found.ip, ...(transport ? { transport } : {}) };
}

interface Network {
  readonly ip: IpHeader;
  readonly payload: Buffer;
}

function parseIpv4(data: Buffer, at: number): Network | undefined {
  if (data.length < 20) return undefined;
  const first = data.readUInt8(0);
  const headerBytes = (first & 0x0f) * 4;
  if (first >> 4 !== 4 || headerBytes < 20 || data.length < headerBytes) return undefined;
  const fragment = data.readUInt16BE(6);
  const ip: IpHeader = {
    family: 'ipv4',
    src: formatIpv4(data, 12),
    dst: formatIpv4(data, 16),
    protocol: data.readUInt8(9),
    fragment: (fragment & 0x1fff) !== 0 ? 'later' : (fragment & 0x2000) !== 0 ? 'first' : 'none',
    offset: at,
    headerBytes,
    totalBytes: data.readUInt16BE(2),
  };
  return { ip, payload: data.subarray(headerBytes) };
}

function parseIpv6(data: Buffer, at: number): Network | undefined {
  if (data.length < IPV6_BYTES || data.readUInt8(0) >> 4 !== 6) return undefined;
  let protocol = data.readUInt8(6);
  let offset = IPV6_BYTES;
  let fragment: IpHeader['fragment'] = 'none';
  for (let headers = 0; isExtension(protocol) && fragment !== 'later'; headers++) {
    if (headers === MAX_EXTENSION_HEADERS || data.length < offset + 8) return undefined;
    const next = data.readUInt8(offset);
    if (protocol === EXTENSION.fragment) {
      const word = data.readUInt16BE(offset + 2);
      fragment = (word & 0xfff8) !== 0 ? 'later' : (word & 1) !== 0 ? 'first' : fragment;
      offset += 8;
    } else if (protocol === EXTENSION.authentication) {
      offset += (data.readUInt8(offset + 1) + 2) * 4;
    } else {
      offset += (data.readUInt8(offset + 1) + 1) * 8;
    }
    protocol = next;
  }
  const [src, dst] = [formatIpv6(data, 8), formatIpv6(data, 24)];
  const extent = { offset: at, headerBytes: offset, totalBytes: IPV6_BYTES + data.readUInt16BE(4) };
  return { ip: { family: 'ipv6', src, dst, protocol, fragment, ...extent }, payload: data.subarray(offset) };
}

function isExtension(protocol: number): boolean {
  switch (protocol) {
    case EXTENSION.hopByHop:
    case EXTENSION.routing:
    case EXTENSION.fragment:
    case EXTENSION.authentication:
    case EXTENSION.destination:
    case EXTENSION.mobility:
      return true;
    default:
      return false;
  }
}

function parseTransport(ip: IpHeader, data: Buffer): Transport | undefined {
  if (ip.fragment === 'later') return undefined;
  if (ip.protocol === PROTOCOL.tcp && data.length >= 14) {
    return {
      protocol: 'tcp',
      src: data.readUInt16BE(0),
      dst: data.readUInt16BE(2),
      flags: data.readUInt8(13),
    };
  }
  if (ip.protocol === PROTOCOL.udp && data.length >= 4) {
    return { protocol: 'udp', src: data.readUInt16BE(0), dst: data.readUInt16BE(2) };
  }
  const icmp = ip.family === 'ipv4' ? PROTOCOL.icmp : PROTOCOL.icmpv6;
  if (ip.protocol === icmp && data.length >= 2) {
    const type = data.readUInt8(0);
    const echo = ECHO_TYPES[ip.family].has(type) && data.length >= 6;
    return {
      protocol: 'icmp',
      type,
      code: data.readUInt8(1),
      id: echo ? data.readUInt16BE(4) : undefined,
    };
  }
  return undefined;
}
