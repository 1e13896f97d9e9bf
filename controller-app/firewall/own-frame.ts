/**
 * Does a frame come from one of a terminal's own addresses? Asked before a terminal is believed to be in a second place. Pure, and never throws.
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import { formatIpv4, formatMac } from '../packet/address.js';
import { parsePacket } from '../packet/index.js';

const ETHERNET_BYTES = 14;
const ARP = 0x0806;
/** Sender hardware and protocol address, and the end, of ARP for IPv4 over Ethernet (RFC 826). */
const ARP_AT = { sha: 8, spa: 14, end: 28 } as const;

/** False of frames with a VLAN tag: no terminal sends any. `terminal` has its present addresses. */
export function isOwnFrame({ mac, ipv4, ipv6 }: Terminal, frame: Uint8Array): boolean {
  if (frame.length < ETHERNET_BYTES) return false;
  const data = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  if (formatMac(data, 6) !== mac) return false;
  if (data.readUInt16BE(12) === ARP) {
    const arp = data.subarray(ETHERNET_BYTES);
    if (arp.length < ARP_AT.end || formatMac(arp, ARP_AT.sha) !== mac) return false;
    return ipv4.includes(formatIpv4(arp, ARP_AT.spa));
  }
  const ip = parsePacket(data)?.ip;
  return ip?.offset === ETHERNET_BYTES && (ip.family === 'ipv4' ? ipv4 : ipv6).includes(ip.src);
}
