/**
 * Reads neighbor solicitations and advertisements (RFC 4861, 4.3 and 4.4) out of frames, and only those that every receiver must take
 * for valid (7.1.1 and 7.1.2): whoever has an address must have been able to hear a probe for it. Pure, and never throws.
 */
import { formatIpv6, formatMac } from './address.js';

export interface NeighborMessage {
  readonly kind: 'solicitation' | 'advertisement';
  readonly ethSrc: string;
  /** `::` in a probe: does anybody have the target already (RFC 4862, 5.4.2)? */
  readonly source: string;
  readonly target: string;
}

const ETHERNET_BYTES = 14;
const IPV6_BYTES = 40;
/** Type, code, checksum, flags, target. */
const MESSAGE_BYTES = 24;
const ICMPV6 = 58;
const HOP_LIMIT = 255;
const TYPE = { solicitation: 135, advertisement: 136 } as const;
const SOURCE_LINK_LAYER = 1;
const SOLICITED_FLAG = 0x40;
const UNSPECIFIED = '::';
/** ff02::1:ff00:0/104 (RFC 4291, 2.7.1), and the Ethernet group that goes with it (RFC 2464, 7). */
const SOLICITED_NODE = Buffer.from('ff0200000000000000000001ff', 'hex');
const ETHERNET_GROUP = Buffer.from('3333ff', 'hex');

export function parseNeighbor(frame: Buffer): NeighborMessage | undefined {
  if (frame.length < ETHERNET_BYTES + IPV6_BYTES + MESSAGE_BYTES || frame.readUInt16BE(12) !== 0x86dd)
    return undefined;
  const ip = frame.subarray(ETHERNET_BYTES);
  const bytes = ip.readUInt16BE(4);
  if (ip.readUInt8(0) >> 4 !== 6 || ip.readUInt8(6) !== ICMPV6 || ip.readUInt8(7) !== HOP_LIMIT)
    return undefined;
  if (bytes < MESSAGE_BYTES || IPV6_BYTES + bytes > ip.length) return undefined;
  const message = ip.subarray(IPV6_BYTES, IPV6_BYTES + bytes);
  const type = message.readUInt8(0);
  const kind =
    type === TYPE.solicitation ? 'solicitation' : type === TYPE.advertisement ? 'advertisement' : undefined;
  if (kind === undefined || message.readUInt8(1) !== 0 || !hasRightChecksum(ip, message)) return undefined;
  const options = optionTypes(message.subarray(MESSAGE_BYTES));
  const target = message.subarray(8, MESSAGE_BYTES);
  if (!options || target.readUInt8(0) === 0xff) return undefined;
  const source = formatIpv6(ip, 8);
  const destination = ip.subarray(24, IPV6_BYTES);
  if (kind === 'solicitation' && source === UNSPECIFIED) {
    const group = Buffer.concat([SOLICITED_NODE, target.subarray(13)]);
    const frameGroup = Buffer.concat([ETHERNET_GROUP, target.subarray(13)]);
    if (!destination.equals(group) || !frame.subarray(0, 6).equals(frameGroup)) return undefined;
    if (options.has(SOURCE_LINK_LAYER)) return undefined;
  }
  if (kind === 'advertisement' && destination.readUInt8(0) === 0xff) {
    if ((message.readUInt8(4) & SOLICITED_FLAG) !== 0) return undefined;
  }
  return { kind, ethSrc: formatMac(frame, 6), source, target: formatIpv6(target, 0) };
}

/** The types of the options; undefined when one is empty or runs over the end (RFC 4861, 4.6). Time: bytes. */
function optionTypes(options: Buffer): ReadonlySet<number> | undefined {
  const types = new Set<number>();
  for (let at = 0; at < options.length; ) {
    const length = at + 2 <= options.length ? options.readUInt8(at + 1) * 8 : 0;
    if (length === 0 || at + length > options.length) return undefined;
    types.add(options.readUInt8(at));
    at += length;
  }
  return types;
}

/** The Internet checksum over pseudo-header and message (RFC 8200, 8.1). */
function hasRightChecksum(ip: Buffer, message: Buffer): boolean {
  let sum = message.length + ICMPV6;
  for (let at = 8; at < IPV6_BYTES; at += 2) sum += ip.readUInt16BE(at);
  for (let at = 0; at + 1 < message.length; at += 2) sum += message.readUInt16BE(at);
  if (message.length % 2 === 1) sum += message.readUInt8(message.length - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum === 0xffff;
}
