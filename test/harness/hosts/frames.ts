/**
 * Frames, built from values: Ethernet, 802.1Q, ARP, IPv4, IPv6, TCP, UDP, ICMP, ICMPv6 and neighbour discovery, with right checksums.
 * Pure. Sources: RFC 826, 791, 8200, 9293, 768, 792, 4443, 4861; IEEE 802.1Q.
 */
export const ETHERTYPE = {
  ipv4: 0x0800,
  arp: 0x0806,
  vlan: 0x8100,
  ipv6: 0x86dd,
  experimental: 0x88b5,
} as const;
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
export const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
const TTL = 64;
/** Neighbour discovery and redirects are taken only when no router can have passed them on (RFC 4861, 6.1 and 8.1). */
const HOP_LIMIT_ON_LINK = 255;

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

/** 4 or 16 bytes of an address in text. */
export function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const first = groups(head);
  const last = tail === undefined ? [] : groups(tail);
  const zeros = new Array<number>(8 - first.length - last.length).fill(0);
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...first, ...zeros, ...last].entries()) bytes.writeUInt16BE(group, index * 2);
  return bytes;
}

/** The Internet checksum (RFC 1071). */
export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  if (bytes.length % 2 === 1) sum += (bytes[bytes.length - 1] ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export interface Ethernet {
  readonly from: string;
  readonly to: string;
}

/** An Ethernet frame without padding: virtual links carry it as it is. */
export function ethernet({ from, to }: Ethernet, ethertype: number, payload: Buffer): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), uint16(ethertype), payload]);
}

/** The frame with an 802.1Q tag after its addresses. */
export function tagged(frame: Buffer, vlan: number): Buffer {
  return Buffer.concat([frame.subarray(0, 12), uint16(ETHERTYPE.vlan), uint16(vlan), frame.subarray(12)]);
}

export interface Arp {
  readonly operation: 'request' | 'reply';
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}

export function arp(link: Ethernet, packet: Arp): Buffer {
  const fixed = Buffer.from('0001080006040000', 'hex');
  fixed.writeUInt16BE(packet.operation === 'request' ? 1 : 2, 6);
  const sender = [macBytes(packet.senderMac), addressBytes(packet.senderIp)];
  const target = [macBytes(packet.targetMac), addressBytes(packet.targetIp)];
  return ethernet(link, ETHERTYPE.arp, Buffer.concat([fixed, ...sender, ...target]));
}

export interface Ip {
  /** Both of one family. */
  readonly source: string;
  readonly destination: string;
}

export interface Tcp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgement?: number;
  readonly payload?: Buffer;
}

export function tcp(link: Ethernet, ip: Ip, segment: Tcp): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(segment.sourcePort, 0);
  header.writeUInt16BE(segment.destinationPort, 2);
  header.writeUInt32BE(segment.sequence >>> 0, 4);
  header.writeUInt32BE((segment.acknowledgement ?? 0) >>> 0, 8);
  header.writeUInt8(5 << 4, 12);
  header.writeUInt8(segment.flags, 13);
  header.writeUInt16BE(64_240, 14);
  const bytes = Buffer.concat([header, segment.payload ?? Buffer.alloc(0)]);
  return ipFrame(link, ip, PROTOCOL.tcp, withChecksum(bytes, 16, ip, PROTOCOL.tcp));
}

export interface Udp {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

export function udp(link: Ethernet, ip: Ip, { sourcePort, destinationPort, payload }: Udp): Buffer {
  const ports = [uint16(sourcePort), uint16(destinationPort)];
  const bytes = Buffer.concat([...ports, uint16(8 + payload.length), uint16(0), payload]);
  return ipFrame(link, ip, PROTOCOL.udp, withChecksum(bytes, 6, ip, PROTOCOL.udp));
}

/** ICMP or ICMPv6, by the family of the addresses. `body` follows the checksum. */
export function icmp(
  link: Ethernet,
  ip: Ip,
  type: number,
  code: number,
  body: Buffer,
  hopLimit = TTL,
): Buffer {
  const bytes = Buffer.concat([Buffer.from([type, code, 0, 0]), body]);
  if (!isIpv6(ip)) {
    bytes.writeUInt16BE(checksum(bytes), 2);
    return ipFrame(link, ip, PROTOCOL.icmp, bytes, hopLimit);
  }
  return ipFrame(link, ip, PROTOCOL.icmpv6, withChecksum(bytes, 2, ip, PROTOCOL.icmpv6), hopLimit);
}

export function echoRequest(link: Ethernet, ip: Ip, id: number, sequence: number, payload: Buffer): Buffer {
  const type = isIpv6(ip) ? 128 : 8;
  return icmp(link, ip, type, 0, Buffer.concat([uint16(id), uint16(sequence), payload]));
}

/** "Send what is in `about` (an IP packet, or its begin) to `gateway` instead." IPv6: `gateway` is the better next hop. */
export function redirect(
  link: Ethernet,
  ip: Ip,
  gateway: string,
  destination: string,
  about: Buffer,
): Buffer {
  if (!isIpv6(ip)) return icmp(link, ip, 5, 1, Buffer.concat([addressBytes(gateway), about]));
  const targets = [addressBytes(gateway), addressBytes(destination)];
  // The "redirected header" option, in units of 8 bytes.
  const padded = Buffer.concat([about, Buffer.alloc((8 - (about.length % 8)) % 8)]);
  const option = Buffer.concat([Buffer.from([4, 1 + padded.length / 8]), Buffer.alloc(6), padded]);
  return icmp(link, ip, 137, 0, Buffer.concat([Buffer.alloc(4), ...targets, option]), HOP_LIMIT_ON_LINK);
}

/** An option of neighbour discovery that nobody knows (253 is for experiments, RFC 4727): receivers skip it. At most 2 kB. */
export function experimentalOption(payload: Buffer): Buffer {
  const length = Math.ceil((2 + payload.length) / 8);
  return Buffer.concat([Buffer.from([253, length]), payload, Buffer.alloc(length * 8 - 2 - payload.length)]);
}

/** An unsolicited neighbour advertisement: "`target` is at `mac`", overriding what is known. `more`: further options. */
export function neighbourAdvertisement(
  link: Ethernet,
  ip: Ip,
  target: string,
  mac: string,
  more: Buffer = Buffer.alloc(0),
): Buffer {
  const option = Buffer.concat([Buffer.from([2, 1]), macBytes(mac), more]);
  const body = Buffer.concat([Buffer.from([0x20, 0, 0, 0]), addressBytes(target), option]);
  return icmp(link, ip, 136, 0, body, HOP_LIMIT_ON_LINK);
}

/** "Who has `target`? Tell `mac`." */
export function neighbourSolicitation(link: Ethernet, ip: Ip, target: string, mac: string): Buffer {
  const option = Buffer.concat([Buffer.from([1, 1]), macBytes(mac)]);
  const body = Buffer.concat([Buffer.alloc(4), addressBytes(target), option]);
  return icmp(link, ip, 135, 0, body, HOP_LIMIT_ON_LINK);
}

/** "I am a router." What a terminal must never say. `more`: further options. */
export function routerAdvertisement(
  link: Ethernet,
  ip: Ip,
  mac: string,
  more: Buffer = Buffer.alloc(0),
): Buffer {
  const option = Buffer.concat([Buffer.from([1, 1]), macBytes(mac), more]);
  // Hop limit 64, no flags, lifetime 0 (hosts that hear it take no route from it), times unspecified.
  const body = Buffer.concat([Buffer.from([64, 0]), uint16(0), Buffer.alloc(8), option]);
  return icmp(link, ip, 134, 0, body, HOP_LIMIT_ON_LINK);
}

function ipFrame(link: Ethernet, ip: Ip, protocol: number, payload: Buffer, hopLimit = TTL): Buffer {
  const [source, destination] = [addressBytes(ip.source), addressBytes(ip.destination)];
  if (isIpv6(ip)) {
    const header = Buffer.from([0x60, 0, 0, 0, 0, 0, protocol, hopLimit]);
    header.writeUInt16BE(payload.length, 4);
    return ethernet(link, ETHERTYPE.ipv6, Buffer.concat([header, source, destination, payload]));
  }
  const header = Buffer.from([0x45, 0, 0, 0, 0, 0, 0x40, 0, hopLimit, protocol, 0, 0]);
  header.writeUInt16BE(20 + payload.length, 2);
  const whole = Buffer.concat([header, source, destination]);
  whole.writeUInt16BE(checksum(whole), 10);
  return ethernet(link, ETHERTYPE.ipv4, Buffer.concat([whole, payload]));
}

/** The checksum over the pseudo-header of the family (RFC 9293, 3.1; RFC 8200, 8.1), written at `at`. */
function withChecksum(bytes: Buffer, at: number, ip: Ip, protocol: number): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  const pseudo = [
    addressBytes(ip.source),
    addressBytes(ip.destination),
    length,
    Buffer.from([0, 0, 0, protocol]),
  ];
  const sum = checksum(Buffer.concat([...pseudo, bytes]));
  // A UDP checksum of 0 would say that there is none.
  bytes.writeUInt16BE(protocol === PROTOCOL.udp && sum === 0 ? 0xffff : sum, at);
  return bytes;
}

function isIpv6(ip: Ip): boolean {
  return ip.source.includes(':');
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
