/**
 * The packet parser: what it tells of real frames, and that nothing which comes off a wire makes it throw.
 */
import fc from 'fast-check';
import t from 'tap';
import { parsePacket } from '../../controller-app/packet/index.js';
import { canonicalIpv6 } from '../../shared/firewall/terminal.js';
import { bytesOf, echo, ip, TCP, tcp, udp } from '../fixtures/frames.js';

const [ter, srv] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];

function frame(
  { ethertype, packet }: { ethertype: number; packet: Buffer },
  tags: readonly number[] = [],
): Buffer {
  const type = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
  const tag = tags.map((vid) => Buffer.concat([type(0x8100), type(vid)]));
  return Buffer.concat([bytesOf.mac(srv), bytesOf.mac(ter), ...tag, type(ethertype), packet]);
}

/** IPv6 with these extension headers before the transport. */
function extended(
  headers: readonly { readonly type: number; readonly bytes: Buffer }[],
  last: number,
  body: Buffer,
): Buffer {
  const chain = headers.map(({ bytes }, index) => {
    const copy = Buffer.from(bytes);
    copy.writeUInt8(headers[index + 1]?.type ?? last, 0);
    return copy;
  });
  return frame(ip('fd00::1', 'fd00::2', headers[0]?.type ?? last, Buffer.concat([...chain, body])));
}

const SYN_V4 = frame(ip('10.0.0.1', '10.0.0.2', 6, tcp('10.0.0.1', '10.0.0.2', 40_000, 443, TCP.syn)));

t.test('tells protocol, addresses, ports and flags', async (t) => {
  t.same(parsePacket(SYN_V4), {
    ethSrc: ter,
    ethDst: srv,
    ethType: 0x0800,
    ip: {
      ...{ family: 'ipv4', src: '10.0.0.1', dst: '10.0.0.2', protocol: 6, fragment: 'none' },
      ...{ offset: 14, headerBytes: 20, totalBytes: 40 },
    },
    transport: { protocol: 'tcp', src: 40_000, dst: 443, flags: TCP.syn },
  });
  const six = parsePacket(
    frame(ip('fd00::1', 'fd00::2', 17, udp('fd00::1', 'fd00::2', 5, 6, Buffer.from('x')))),
  );
  t.same(six?.transport, { protocol: 'udp', src: 5, dst: 6 });
  for (const [src, dst, type, protocol] of [
    ['10.0.0.1', '10.0.0.2', 8, 1],
    ['fd00::1', 'fd00::2', 128, 58],
  ] as const) {
    const ping = parsePacket(frame(ip(src, dst, protocol, echo(src, dst, 'request', 77, Buffer.from('x')))));
    t.same(ping?.transport, { protocol: 'icmp', type, code: 0, id: 77 });
  }
});

t.test("an id is an echo's only", async (t) => {
  const unreachable = Buffer.from('0301fcfe00000000', 'hex');
  const packet = parsePacket(frame(ip('10.0.0.1', '10.0.0.2', 1, unreachable)));
  t.same(packet?.transport, { protocol: 'icmp', type: 3, code: 1, id: undefined });
});

t.test('looks behind VLAN tags, at most two', async (t) => {
  const inner = ip('10.0.0.1', '10.0.0.2', 17, udp('10.0.0.1', '10.0.0.2', 1, 2, Buffer.alloc(0)));
  t.equal(parsePacket(frame(inner, [5]))?.ethType, 0x0800);
  t.equal(parsePacket(frame(inner, [5, 6]))?.ethType, 0x0800);
  t.equal(parsePacket(frame(inner, [5, 6, 7])), undefined);
});

t.test('skips IPv6 extension headers, a bounded number of them', async (t) => {
  const body = udp('fd00::1', 'fd00::2', 1000, 2000, Buffer.alloc(4));
  const options = { type: 60, bytes: Buffer.alloc(8) };
  t.same(parsePacket(extended([{ type: 0, bytes: Buffer.alloc(8) }, options], 17, body))?.transport, {
    protocol: 'udp',
    src: 1000,
    dst: 2000,
  });
  const many = parsePacket(extended(new Array(9).fill(options), 17, body));
  t.equal(many?.ip, undefined);
  t.equal(many?.ethType, 0x86dd);
});

t.test('only the first fragment has a transport header', async (t) => {
  const body = udp('10.0.0.1', '10.0.0.2', 1000, 2000, Buffer.alloc(64));
  const piece = (fragment: number) => parsePacket(frame(ip('10.0.0.1', '10.0.0.2', 17, body, { fragment })));
  t.match(piece(0x2000), { ip: { fragment: 'first' }, transport: { src: 1000 } });
  t.equal(piece(0x2005)?.transport, undefined);
  t.equal(piece(5)?.ip?.fragment, 'later');
  const fragment = (word: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16BE(word, 2);
    return parsePacket(extended([{ type: 44, bytes }], 17, udp('fd00::1', 'fd00::2', 1, 2, Buffer.alloc(8))));
  };
  t.match(fragment(1), { ip: { fragment: 'first' }, transport: { src: 1 } });
  t.match(fragment(0x0800), { ip: { fragment: 'later', protocol: 17 } });
  t.equal(fragment(0x0800)?.transport, undefined);
});

t.test('a frame cut anywhere is told as far as it goes, and never throws', async (t) => {
  for (let length = 0; length <= SYN_V4.length; length++) {
    const packet = parsePacket(SYN_V4.subarray(0, length));
    t.equal(packet !== undefined, length >= 14);
    t.equal(packet?.ip !== undefined, length >= 34);
    t.equal(packet?.transport !== undefined, length >= 48);
  }
  const anything = fc.uint8Array({ maxLength: 128 });
  const types = fc.constantFrom(0x0800, 0x86dd, 0x8100, 0x0806);
  fc.assert(
    fc.property(types, anything, (ethertype, bytes) => {
      parsePacket(frame({ ethertype, packet: Buffer.from(bytes) }));
    }),
    { numRuns: 3000 },
  );
});

t.test('addresses are the texts that everybody else uses', async (_t) => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, 0, 0, 1, 0xabcd, 0x10), { minLength: 8, maxLength: 8 }),
      (groups) => {
        const text = canonicalIpv6(groups.map((group) => group.toString(16)).join(':'));
        const packet = frame(ip(text, text, 59, Buffer.alloc(0)));
        return parsePacket(packet)?.ip?.src === text;
      },
    ),
  );
});
