/**
 * The answer to a rejected packet (shared/firewall/reject.ts), as the station that the packet was for would send it. Pure.
 */
import { rejectionOf } from '../../shared/firewall/reject.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { checksum, ipFrame, type PacketEnds, sealWithEnds } from './build.js';
import { type IpHeader, parsePacket } from './parse.js';

const PROTOCOL = { tcp: 6, icmp: 1, icmpv6: 58 } as const;
const SYN = 0x02;
const ACK = 0x10;
const FIN = 0x01;
const RST = 0x04;
/** An error with all its headers is no longer than any host must take (RFC 1812, 4.3.2.3; RFC 4443, 2.4 c). */
const MAX_ERROR_BYTES = { ipv4: 576, ipv6: 1280 } as const;
const HEADER_BYTES = { ipv4: 20, ipv6: 40 } as const;
const ICMP_HEADER_BYTES = 8;
/** UDP's and echo's headers; TCP's is longer. */
const MIN_TRANSPORT_BYTES = 8;

/**
 * The frame that answers this one, of which at least the headers are there; it may be cut behind them. Nothing when nobody may be answered: what is
 * from or for a group, or from nobody, or a later fragment; what is an answer itself is no opening packet and never comes here
 * (RFC 1122, 3.2.2; RFC 4443, 2.4 e). Frames with a VLAN tag are not answered.
 */
export function rejectionFrame(bytes: Uint8Array): Buffer | undefined {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const { ip, transport } = parsePacket(frame) ?? {};
  if (!ip || !transport || ip.offset !== 14 || ip.fragment === 'later') return undefined;
  if (ip.totalBytes < ip.headerBytes + MIN_TRANSPORT_BYTES) return undefined;
  const ends = answeringEnds(frame, ip);
  if (!ends) return undefined;
  const rejection = rejectionOf(transport.protocol, ip.family);
  if (rejection.kind === 'icmp-error') return icmpError(ends, rejection, frame, ip);
  if (transport.protocol !== 'tcp' || ip.fragment !== 'none') return undefined;
  const opens = (transport.flags & (SYN | ACK | FIN | RST)) === SYN;
  return opens ? tcpReset(ends, frame, ip) : undefined;
}

/** From the one that the frame was for, to the one that sent it. */
function answeringEnds(frame: Buffer, { family, offset }: IpHeader): PacketEnds | undefined {
  const [ethDst, ethSrc] = [frame.subarray(6, 12), frame.subarray(0, 6)];
  const [at, bytes] = family === 'ipv4' ? [offset + 12, 4] : [offset + 8, 16];
  const [dst, src] = [frame.subarray(at, at + bytes), frame.subarray(at + bytes, at + 2 * bytes)];
  const single = !isGroup(ethDst) && !isGroup(ethSrc) && isOneHost(family, src) && isOneHost(family, dst);
  return single && !src.equals(dst) ? { family, ethSrc, ethDst, src, dst } : undefined;
}

function isGroup(mac: Buffer): boolean {
  return ((mac[0] ?? 1) & 1) === 1;
}

/** Not unspecified, loopback, multicast or broadcast (RFC 1122, 3.2.1.3; RFC 4291, 2.4). */
function isOneHost(family: Family, address: Buffer): boolean {
  const [first = 0] = address;
  if (family === 'ipv4') return first !== 0 && first !== 127 && first < 224;
  const mostlyZero = address.subarray(0, 15).every((byte) => byte === 0);
  return first !== 0xff && !(mostlyZero && (address[15] ?? 0) <= 1);
}

/** To a SYN without ACK: sequence 0, and everything of the segment acknowledged (RFC 9293, 3.10.7.1). */
function tcpReset(ends: PacketEnds, frame: Buffer, ip: IpHeader): Buffer | undefined {
  const at = ip.offset + ip.headerBytes;
  const headerBytes = (frame.readUInt8(at + 12) >> 4) * 4;
  const dataBytes = ip.totalBytes - ip.headerBytes - headerBytes;
  if (headerBytes < 20 || dataBytes < 0) return undefined;
  const reset = Buffer.alloc(20);
  frame.copy(reset, 0, at + 2, at + 4);
  frame.copy(reset, 2, at, at + 2);
  // The SYN counts as one.
  reset.writeUInt32BE((frame.readUInt32BE(at + 4) + 1 + dataBytes) >>> 0, 8);
  reset.writeUInt8(5 << 4, 12);
  reset.writeUInt8(RST | ACK, 13);
  sealWithEnds(ends, PROTOCOL.tcp, reset, 16);
  return ipFrame(ends, PROTOCOL.tcp, reset);
}

/** With as much of the packet as there is room for. */
function icmpError(
  ends: PacketEnds,
  { type, code }: { readonly type: number; readonly code: number },
  frame: Buffer,
  { family, offset, totalBytes }: IpHeader,
): Buffer {
  const room = MAX_ERROR_BYTES[family] - HEADER_BYTES[family] - ICMP_HEADER_BYTES;
  const quoted = frame.subarray(offset, offset + Math.min(room, totalBytes));
  const message = Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0, 0]), quoted]);
  if (family === 'ipv6') sealWithEnds(ends, PROTOCOL.icmpv6, message, 2);
  else message.writeUInt16BE(checksum(message), 2);
  return ipFrame(ends, family === 'ipv4' ? PROTOCOL.icmp : PROTOCOL.icmpv6, message);
}
