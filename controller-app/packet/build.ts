/**
 * Builds frames: Ethernet, IPv4 or IPv6, and what is in them, with lengths and checksums. Pure. Addresses are bytes, as they stand in a frame.
 */
import type { Family } from '../../shared/firewall/terminal.js';

/** The ends of a packet, as one station on the link sends it to another. */
export interface PacketEnds {
  readonly family: Family;
  /** 6 bytes each. */
  readonly ethSrc: Buffer;
  readonly ethDst: Buffer;
  /** 4 or 16 bytes each. */
  readonly src: Buffer;
  readonly dst: Buffer;
}

const TTL = 64;
const DONT_FRAGMENT = 0x4000;

/** The Internet checksum (RFC 1071) of these bytes one after another; each part but the last has an even length. */
export function checksum(...parts: readonly Buffer[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let at = 0; at + 1 < part.length; at += 2) sum += part.readUInt16BE(at);
    if (part.length % 2 === 1) sum += part.readUInt8(part.length - 1) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Writes the checksum over the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1) and the message into the message, at `at`, where zeros are. */
export function sealWithEnds({ src, dst }: PacketEnds, protocol: number, message: Buffer, at: number): void {
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(message.length, 0);
  rest.writeUInt8(protocol, 7);
  message.writeUInt16BE(checksum(src, dst, rest, message), at);
}

/** A whole frame around `payload`. It has normal service (RFC 1122, 3.2.2) and is never cut into fragments. */
export function ipFrame(ends: PacketEnds, protocol: number, payload: Buffer): Buffer {
  const { family, ethSrc, ethDst, src, dst } = ends;
  const header =
    family === 'ipv4' ? ipv4Header(protocol, payload.length) : ipv6Header(protocol, payload.length);
  if (family === 'ipv4') header.writeUInt16BE(checksum(header, src, dst), 10);
  const type = Buffer.from(family === 'ipv4' ? [0x08, 0x00] : [0x86, 0xdd]);
  return Buffer.concat([ethDst, ethSrc, type, header, src, dst, payload]);
}

/** Without the addresses and the checksum. A packet that is never in fragments needs no identification (RFC 6864, 4.1). */
function ipv4Header(protocol: number, length: number): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(20 + length, 2);
  header.writeUInt16BE(DONT_FRAGMENT, 6);
  header.writeUInt8(TTL, 8);
  header.writeUInt8(protocol, 9);
  return header;
}

function ipv6Header(protocol: number, length: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(length, 4);
  header.writeUInt8(protocol, 6);
  header.writeUInt8(TTL, 7);
  return header;
}
