/**
 * The packet parser: what it tells of real frames, and that nothing which comes off a wire makes it throw.
 */
import fc from 'fast-check';
import t from 'tap';
import { checksum } from '../../controller-app/packet/build.js';
import { parsePacket, rejectionFrame } from '../../controller-app/packet/index.js';
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

const PAIRS = [
  ['10.0.0.1', '10.0.0.2', 1],
  ['fd00::1', 'fd00::2', 58],
] as const;

/** The sum over a transport message with its pseudo-header, or over ICMP alone: 0 when it is right. */
function sumOf(answer: Buffer): number {
  const six = answer.readUInt16BE(12) === 0x86dd;
  const payload = answer.subarray(14 + (six ? 40 : 20));
  const protocol = answer.readUInt8(14 + (six ? 6 : 9));
  if (protocol === 1) return checksum(payload);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(payload.length, 0);
  pseudo.writeUInt8(protocol, 7);
  return checksum(six ? answer.subarray(22, 54) : answer.subarray(26, 34), pseudo, payload);
}

t.test('a rejected SYN is answered as a closed port does, byte by byte', async (t) => {
  const syn = tcp('10.0.0.1', '10.0.0.2', 40_000, 81, TCP.syn, {
    seq: 0xffff_ffff,
    data: Buffer.from('abc'),
  });
  t.equal(
    rejectionFrame(frame(ip('10.0.0.1', '10.0.0.2', 6, syn)))?.toString('hex'),
    [
      '020000000001' + '020000000002' + '0800',
      // 40 bytes, not to be cut, 64 hops, TCP; from 10.0.0.2 to 10.0.0.1
      '45000028' + '00004000' + '400626ce' + '0a000002' + '0a000001',
      // from 81 to 40,000; sequence 0; 1 for the SYN and 3 for the data, past 2^32; RST and ACK
      '00519c40' + '00000000' + '00000003' + '50140000', // its checksum follows
    ].join('') + sumText(syn),
  );
  for (const [src, dst] of PAIRS) {
    const answer =
      rejectionFrame(frame(ip(src, dst, 6, tcp(src, dst, 40_000, 81, TCP.syn)))) ?? Buffer.alloc(80);
    t.same(sumOf(answer), 0);
    t.match(parsePacket(answer), {
      ...{ ethSrc: srv, ethDst: ter, ip: { src: dst, dst: src, fragment: 'none' } },
      transport: { src: 81, dst: 40_000, flags: TCP.rst | TCP.ack },
    });
  }
});

/** The checksum and urgent pointer of the reset that answers it. */
function sumText(syn: Buffer): string {
  const ports = [syn.subarray(2, 4), syn.subarray(0, 2)];
  const rest = Buffer.from('000000000000000350140000' + '00000000', 'hex');
  const pseudo = Buffer.from('0a0000020a000001' + '0006' + '0014', 'hex');
  const sum = checksum(pseudo, ...ports, rest)
    .toString(16)
    .padStart(4, '0');
  return `${sum}0000`;
}

t.test('a rejected datagram or echo is quoted, with as much as there is room for', async (t) => {
  for (const [src, dst, protocol] of PAIRS) {
    for (const size of [0, 100, 520, 521, 1400]) {
      const data = Buffer.alloc(size, 7);
      for (const packet of [
        ip(src, dst, 17, udp(src, dst, 1, 2, data)),
        ip(src, dst, protocol, echo(src, dst, 'request', 9, data)),
      ]) {
        // Some interfaces pad short frames.
        const answer = rejectionFrame(Buffer.concat([frame(packet), Buffer.alloc(6)])) ?? Buffer.alloc(100);
        const most = protocol === 1 ? 576 : 1280;
        const headers = protocol === 1 ? 28 : 48;
        t.equal(answer.length, 14 + Math.min(most, headers + packet.packet.length));
        t.same(answer.subarray(14 + headers), packet.packet.subarray(0, most - headers));
        t.equal(sumOf(answer), 0);
        t.match(parsePacket(answer)?.ip, { src: dst, dst: src, protocol });
      }
    }
  }
});

t.test('nobody is answered who must not be, and nothing that comes off a wire makes it throw', async (t) => {
  const packet = (src: string, dst: string): Buffer =>
    frame(ip(src, dst, 17, udp(src, dst, 1, 2, Buffer.alloc(8))));
  t.ok(rejectionFrame(packet('10.0.0.1', '10.0.0.2')), 'control');
  t.ok(rejectionFrame(packet('fd00::1', 'fd00::2')), 'control');
  for (const [src, dst] of [
    ['0.0.0.0', '10.0.0.2'],
    ['127.0.0.1', '10.0.0.2'],
    ['224.0.0.1', '10.0.0.2'],
    ['255.255.255.255', '10.0.0.2'],
    ['10.0.0.1', '239.1.2.3'],
    ['10.0.0.1', '10.0.0.1'],
    ['::', 'fd00::2'],
    ['::1', 'fd00::2'],
    ['ff02::1', 'fd00::2'],
    ['fd00::1', 'ff02::fb'],
  ] as const)
    t.equal(rejectionFrame(packet(src, dst)), undefined, `from ${src} to ${dst}`);
  const grouped = packet('10.0.0.1', '10.0.0.2');
  grouped.writeUInt8(1, 0);
  t.equal(rejectionFrame(grouped), undefined, 'for a group of stations');
  for (const flags of [TCP.rst, TCP.ack, TCP.syn | TCP.ack, TCP.fin, 0]) {
    const segment = frame(ip('10.0.0.1', '10.0.0.2', 6, tcp('10.0.0.1', '10.0.0.2', 1, 2, flags)));
    t.equal(rejectionFrame(segment), undefined, `TCP flags ${flags}`);
  }
  const later = ip('10.0.0.1', '10.0.0.2', 17, Buffer.alloc(64), { fragment: 5 });
  t.equal(rejectionFrame(frame(later)), undefined, 'a later fragment');
  t.equal(rejectionFrame(frame(later, [5])), undefined, 'with a tag');
  for (let length = 0; length <= SYN_V4.length; length++) rejectionFrame(SYN_V4.subarray(0, length));
  fc.assert(
    fc.property(
      fc.constantFrom(0x0800, 0x86dd),
      fc.constantFrom(0x45, 0x46, 0x4f, 0x60),
      fc.constantFrom(1, 6, 17, 58),
      fc.uint8Array({ minLength: 10, maxLength: 128 }),
      (ethertype, first, protocol, bytes) => {
        const any = Buffer.from(bytes);
        any.writeUInt8(first, 0);
        any.writeUInt8(protocol, ethertype === 0x0800 ? 9 : 6);
        rejectionFrame(frame({ ethertype, packet: any }));
      },
    ),
    { numRuns: 5000 },
  );
});
