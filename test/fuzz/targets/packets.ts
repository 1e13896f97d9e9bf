/**
 * Frames that a switch hands to the controller: what is read of them, and the answer to a rejected one.
 */
import assert from 'node:assert/strict';
import {
  parseDhcp,
  parseNeighbor,
  parsePacket,
  rejectionFrame,
} from '../../../controller-app/packet/index.js';
import { ipv4Schema, ipv6Schema, macSchema } from '../../../shared/firewall/terminal.js';
import { dhcpFrame, probeFrame } from '../../fixtures/address-frames.js';
import { echo, icmpv6, ip, TCP, tcp, udp } from '../../fixtures/frames.js';
import type { FuzzTarget } from '../target.js';

const MAC = '02:00:00:00:00:01';
/** Every host takes one as long as this (RFC 8200, 5). */
const MOST_ANSWER_BYTES = 14 + 1280;

const target: FuzzTarget = {
  seeds: () => [
    ...[['10.0.0.1', '10.0.0.2'] as const, ['fd00::1', 'fd00::2'] as const].flatMap(([src, dst]) => [
      framed(ip(src, dst, 6, tcp(src, dst, 40_000, 443, TCP.syn))),
      framed(ip(src, dst, 17, udp(src, dst, 40_000, 53, Buffer.from('a question')))),
      framed(ip(src, dst, src.includes(':') ? 58 : 1, echo(src, dst, 'request', 7, Buffer.from('data')))),
    ]),
    framed(ip('fd00::1', 'fd00::2', 58, icmpv6('fd00::1', 'fd00::2', 3, Buffer.alloc(40)))),
    probeFrame(MAC, 'fd00::1'),
    ...[1, 2, 3, 5].map((kind) =>
      dhcpFrame({
        from: kind % 2 === 1 && kind < 5 ? 'client' : 'server',
        kind,
        xid: 7,
        mac: MAC,
        yiaddr: '10.0.0.9',
        options: { 50: '10.0.0.9', 51: 3600, 54: '10.0.0.2' },
      }),
    ),
  ],
  run: (input) => {
    const frame = Buffer.from(input);
    const packet = parsePacket(frame);
    if (!packet) return 'no frame';
    const { ip: header, transport } = packet;
    macAddress(packet.ethSrc);
    if (header) {
      address(header.src);
      address(header.dst);
    }
    const dhcp = parseDhcp(frame);
    if (dhcp) for (const each of [dhcp.source, dhcp.clientAddress, dhcp.yourAddress]) address(each);
    const neighbor = parseNeighbor(frame);
    if (neighbor) for (const each of [neighbor.source, neighbor.target]) address(each);
    const answer = rejectionFrame(frame);
    if (answer) {
      assert.ok(answer.length <= MOST_ANSWER_BYTES, `an answer of ${answer.length} bytes`);
      const back = parsePacket(answer)?.ip;
      assert.deepEqual([back?.src, back?.dst], [header?.dst, header?.src], 'the answer goes elsewhere');
    }
    return [
      header?.family,
      header?.fragment,
      transport?.protocol,
      dhcp?.kind,
      neighbor?.kind,
      answer && 'answered',
    ]
      .filter((word) => word !== undefined)
      .join(' ');
  },
};
export default target;

function framed({ ethertype, packet }: ReturnType<typeof ip>): Buffer {
  const head = Buffer.from('020000000002020000000001', 'hex');
  return Buffer.concat([head, Uint8Array.from([ethertype >> 8, ethertype & 0xff]), packet]);
}

function macAddress(text: string): void {
  assert.match(text, /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
  assert.ok(macSchema.safeParse(text).success || /^.[13579bdf]|^00:00:00:00:00:00$/.test(text), text);
}

/** In the one form that the rest of the system uses. */
function address(text: string): void {
  assert.equal((text.includes(':') ? ipv6Schema : ipv4Schema).parse(text), text);
}
