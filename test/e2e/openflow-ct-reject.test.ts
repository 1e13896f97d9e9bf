/**
 * What the SDN domain rejects is dropped and answered: real sockets hear of it at once, in both directions, and the answers on the wire are
 * what the specifications say, no more of them than may be.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { checksum } from '../../controller-app/packet/build.js';
import { type Kind, unpackCookie } from '../../controller-app/pipeline/index.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { rejectionOf } from '../../shared/firewall/reject.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { run } from '../../shared/runtime/command.js';
import { fragments, icmpv6, ip, TCP, tcp, udp } from '../fixtures/frames.js';
import { FAMILIES, fresh, nextNumber, SdnBench, type Shot, shot } from '../fixtures/sdn-bench.js';
import { BRIDGE, type Host, SERVER, startSdnLab, TERMINAL } from '../fixtures/sdn-lab.js';
import { waitFor } from '../lab/index.js';

const rejecting = policySchema.parse({
  name: 'rejecting',
  defaults: { outbound: 'accept', inbound: 'reject' },
  rules: [
    { name: 'no 81', direction: 'outbound', action: 'reject', protocol: 'tcp', remotePorts: 81 },
    { name: 'no 7001', direction: 'outbound', action: 'reject', protocol: 'udp', remotePorts: 7001 },
    { name: 'no ping', direction: 'outbound', action: 'reject', protocol: 'icmp' },
    { name: 'silent', direction: 'inbound', action: 'drop', protocol: 'tcp', localPorts: 7 },
  ],
});
/** The same, with "drop" for "reject". */
const dropping = policySchema.parse({
  ...rejecting,
  name: 'dropping',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: rejecting.rules.map((rule) => ({ ...rule, action: 'drop' })),
});

const lab = await startSdnLab();
const { domain, steering, terminal, server } = lab;
const bench = new SdnBench(lab, rejecting);
t.setTimeout(180_000);
t.teardown(() => lab.close());

/** Who opens what to whom, that is rejected. */
const DIRECTIONS = [
  { direction: 'outbound', from: terminal, to: server, tcpPort: 81, udpPort: 7001 },
  { direction: 'inbound', from: server, to: terminal, tcpPort: 82, udpPort: 7002 },
] as const;

t.test('sockets hear at once that they are refused', { timeout: 60_000 }, async (t) => {
  await steering.lead('direct');
  for (const family of FAMILIES) {
    for (const { to, tcpPort, udpPort } of DIRECTIONS) {
      for (const port of [tcpPort, udpPort]) await to.ask('serve', { address: to.at[family], port });
    }
  }
  /** What a socket says, of a connection and of a datagram. */
  const attempts = async (direction: (typeof DIRECTIONS)[number], family: Family): Promise<string[]> => {
    const { from, to, tcpPort, udpPort } = direction;
    const ends = { from: from.at[family], to: to.at[family] };
    const said: string[] = [];
    for (const [protocol, port] of [
      ['tcp', tcpPort],
      ['udp', udpPort],
    ] as const) {
      const name = `${protocol} ${nextNumber()}`;
      const { error = '' } = await from.ask('connect', { name, protocol, ...ends, port, timeout: 1 });
      const talk = error === '' ? await from.ask('talk', { name, text: 'hello', timeout: 1 }) : undefined;
      said.push(talk?.error ?? error);
      if (error === '') await from.ask('close', { name });
    }
    return said;
  };
  for (const family of FAMILIES) {
    for (const direction of DIRECTIONS) {
      const label = `${direction.direction}, ${family}`;
      await steering.lead('direct');
      t.same(await attempts(direction, family), ['', ''], `control: ${label}, nothing filters`);
      const quiet = await bench.place([], { policy: dropping });
      for (const error of await attempts(direction, family))
        t.match(error, /timed out/, `control: ${label}, dropped`);
      await bench.retired(quiet);
      const placed = await bench.place();
      for (const error of await attempts(direction, family)) t.match(error, /refused/, label);
      const { connections, counters } = await domain.export(placed.id);
      t.same(connections, [], 'nothing of it is known');
      const counted = counters.reduce((sum, { packets }) => sum + packets, 0);
      t.equal(counted, 2, 'each rejected packet is counted once');
      await bench.retired(placed);
    }
  }
});

/** The IP packet in a captured frame, and what is in it. */
function read(frame: string) {
  const bytes = Buffer.from(frame, 'hex');
  const six = bytes.readUInt16BE(12) === 0x86dd;
  const packet = bytes.subarray(14);
  const header = six ? 40 : 20;
  const [src, dst] = six
    ? [packet.subarray(8, 24), packet.subarray(24, 40)]
    : [packet.subarray(12, 16), packet.subarray(16, 20)];
  const protocol = packet.readUInt8(six ? 6 : 9);
  const payload = packet.subarray(header, six ? 40 + packet.readUInt16BE(4) : packet.readUInt16BE(2));
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(payload.length, 0);
  pseudo.writeUInt8(protocol, 7);
  const covered = protocol === 1 ? [payload] : [src, dst, pseudo, payload];
  return {
    macs: bytes.subarray(0, 12).toString('hex'),
    addresses: Buffer.concat([src, dst]).toString('hex'),
    protocol,
    payload,
    whole: packet.length === header + payload.length,
    /** Zero when a checksum is right. */
    sums: [six ? 0 : checksum(packet.subarray(0, 20)), checksum(...covered)],
  };
}

/** The one frame that comes back with these bytes. */
async function answerTo(from: Host, one: Shot, marker: string): Promise<ReturnType<typeof read>> {
  // Not each packet is answered when they come too fast.
  await waitFor('an answer', async () => {
    await one.from.send(one.frame);
    return (await from.seen(marker)) > 0;
  });
  const [frame = ''] = await from.frames(marker);
  return read(frame);
}

const hex = (bytes: Buffer): string => bytes.toString('hex');

t.test('the answers are what the specifications say', async (t) => {
  const placed = await bench.place();
  for (const family of FAMILIES) {
    for (const { direction, from, to, tcpPort, udpPort } of DIRECTIONS) {
      const label = `${direction}, ${family}`;
      const [src, dst] = [from.at[family], to.at[family]];
      const macs = (one: string): string => one.replaceAll(':', '');
      const checkEnds = (t: Test, answer: ReturnType<typeof read>, request: Shot): void => {
        t.equal(
          answer.macs,
          macs(from.at.mac) + macs(to.at.mac),
          'from the station that it was for, to the sender',
        );
        const bytes = Buffer.from(request.frame.payload, 'hex');
        const half = family === 'ipv4' ? 4 : 16;
        const at = family === 'ipv4' ? 12 : 8;
        const turned = [bytes.subarray(at + half, at + 2 * half), bytes.subarray(at, at + half)];
        t.equal(answer.addresses, hex(Buffer.concat(turned)));
        t.same(answer.sums, [0, 0], 'its checksums are right');
        t.ok(answer.whole);
      };
      for (const text of ['', 'data in a SYN']) {
        const sport = nextNumber();
        const seq = 0xffff_fff8;
        const segment = tcp(src, dst, sport, tcpPort, TCP.syn, { seq, data: Buffer.from(text) });
        const request = shot(from, to, ip(src, dst, 6, segment));
        const ports = Buffer.alloc(4);
        ports.writeUInt16BE(tcpPort, 0);
        ports.writeUInt16BE(sport, 2);
        const answer = await answerTo(from, request, hex(ports));
        checkEnds(t, answer, request);
        t.equal(answer.protocol, 6);
        t.equal(answer.payload.readUInt8(13), TCP.rst | TCP.ack, `${label}: a reset`);
        t.equal(answer.payload.readUInt32BE(4), 0, 'its sequence number is zero (RFC 9293, 3.10.7.1)');
        const acked = (seq + 1 + text.length) % 2 ** 32;
        t.equal(answer.payload.readUInt32BE(8), acked, 'and it acknowledges the SYN, and what was in it');
        t.notOk(await to.seen(request.marker), 'the SYN itself does not pass');
      }
      for (const size of [10, 1400]) {
        const data = Buffer.alloc(size, `datagram ${nextNumber()} `);
        const echoed = bench.packetOf(
          fresh('icmp', family, direction === 'outbound' ? 'terminal' : 'remote'),
          direction === 'outbound' ? 'terminal' : 'remote',
          { data: data.toString() },
        );
        const datagram = shot(from, to, ip(src, dst, 17, udp(src, dst, nextNumber(), udpPort, data)));
        for (const [protocol, request] of [
          ['udp', datagram],
          ['icmp', echoed],
        ] as const) {
          const what = `${label}, ${protocol} with ${size} bytes`;
          const packet = Buffer.from(request.frame.payload, 'hex');
          const room = family === 'ipv4' ? 576 - 28 : 1280 - 48;
          const quoted = packet.subarray(0, room);
          const answer = await answerTo(from, request, hex(quoted));
          checkEnds(t, answer, request);
          const expected = rejectionOf(protocol, family);
          t.equal(answer.protocol, family === 'ipv4' ? 1 : 58);
          const error = { kind: 'icmp-error', type: answer.payload[0], code: answer.payload[1] };
          t.same(error, expected, what);
          t.equal(hex(answer.payload.subarray(8)), hex(quoted), 'it quotes what there is room for');
          t.notOk(await to.seen(request.marker), 'the packet itself does not pass');
        }
      }
    }
  }
  await bench.retired(placed);
});

t.test('what is an answer itself, or from or for nobody in particular, is not answered', async (t) => {
  const { ipv4, ipv6 } = SERVER;
  const to4 = (src: string, dst = TERMINAL.ipv4): { ethertype: number; packet: Buffer } =>
    ip(src, dst, 17, udp(src, dst, nextNumber(), 7002, Buffer.from(`quiet ${nextNumber()}`)));
  const to6 = (src: string, dst = TERMINAL.ipv6): { ethertype: number; packet: Buffer } =>
    ip(src, dst, 17, udp(src, dst, nextNumber(), 7002, Buffer.from(`quiet ${nextNumber()}`)));
  const segment = (family: Family, flags: number): { ethertype: number; packet: Buffer } => {
    const [src, dst] = [SERVER[family], TERMINAL[family]];
    return ip(src, dst, 6, tcp(src, dst, nextNumber(), 82, flags));
  };
  const unreachable = Buffer.concat([
    Buffer.from('0303000000000000', 'hex'),
    to4(TERMINAL.ipv4, ipv4).packet,
  ]);
  unreachable.writeUInt16BE(checksum(unreachable), 2);
  const large = udp(ipv4, TERMINAL.ipv4, nextNumber(), 7002, Buffer.alloc(2000, 'later'));
  const quiet: Readonly<Record<string, Shot>> = {};
  const add = (name: string, packet: { ethertype: number; packet: Buffer }, dmac = TERMINAL.mac): void => {
    Object.assign(quiet, { [name]: shot(server, terminal, packet, { dmac }) });
  };
  for (const family of FAMILIES) {
    add(`a reset, ${family}`, segment(family, TCP.rst));
    add(`a reset with ACK, ${family}`, segment(family, TCP.rst | TCP.ack));
    add(`an ACK, ${family}`, segment(family, TCP.ack));
    add(`a SYN-ACK, ${family}`, segment(family, TCP.syn | TCP.ack));
    const [src, dst] = [SERVER[family], TERMINAL[family]];
    add(`what a rule drops, ${family}`, ip(src, dst, 6, tcp(src, dst, nextNumber(), 7, TCP.syn)));
  }
  add('an ICMP error', ip(ipv4, TERMINAL.ipv4, 1, unreachable));
  add(
    'an ICMPv6 error',
    ip(ipv6, TERMINAL.ipv6, 58, icmpv6(ipv6, TERMINAL.ipv6, 1, unreachable.subarray(4), 4)),
  );
  add('from nobody, IPv4', to4('0.0.0.0'));
  add('from a loopback address', to4('127.0.0.1'));
  add('from a multicast address, IPv4', to4('224.0.0.5'));
  add('from the broadcast address', to4('255.255.255.255'));
  add('from nobody, IPv6', to6('::'));
  add('from the loopback address', to6('::1'));
  add('from a multicast address, IPv6', to6('ff02::1'));
  add('as a link-layer broadcast', to4(ipv4), 'ff:ff:ff:ff:ff:ff');
  add('as a link-layer multicast', to6(ipv6), '33:33:00:00:00:01');
  add('a later fragment', fragments(ipv4, TERMINAL.ipv4, 17, large, { id: nextNumber() })[1] ?? to4(ipv4));
  const placed = await bench.place();
  /** All resets and errors that have come from the terminal's MAC, in order; its kernel asks for neighbours and routers meanwhile. */
  const answers = async (): Promise<readonly string[]> => {
    const frames = await server.frames(TERMINAL.mac.replaceAll(':', ''), 100_000);
    return frames.filter((frame) => /^.{24}(0800.{18}(01|06)|86dd.{12}(06|3a.{66}01))/.test(frame));
  };
  const quotes = (frame: string, shots: readonly Shot[]): boolean =>
    shots.some(({ marker }) => frame.includes(marker));
  const sent: Shot[] = [];
  for (const [name, one] of Object.entries(quiet)) {
    const before = (await answers()).length;
    await server.send(one.frame);
    // Behind it one that is answered: no answer overtakes another. (Not each is, when they come too fast.)
    const behind = sent.length;
    await waitFor('the answer to what came behind it', async () => {
      const next = shot(server, terminal, to4(ipv4));
      sent.push(next);
      await server.send(next.frame);
      return (await answers()).some((frame) => quotes(frame, sent.slice(behind)));
    });
    const strange = (await answers()).slice(before).filter((frame) => !quotes(frame, sent));
    t.same(strange, [], name);
    t.notOk(await terminal.seen(one.marker), `${name}: it does not pass either`);
  }
  await bench.retired(placed);
});

t.test(
  'a flood is answered seldom, and loses nothing of the connections beside it',
  { timeout: 120_000 },
  async (t) => {
    const kinds = (): Kind[] => steering.copies.flatMap(({ cookie }) => unpackCookie(cookie)?.kind ?? []);
    const rejectedCopies = (): number => kinds().filter((kind) => kind === 'rejected').length;
    const FLOOD = 150_000;
    const FLOWS = 100;
    const flood = async (): Promise<{ copies: number; answers: number; ms: number; unknown: number }> => {
      const placed = await bench.place();
      const sport = nextNumber();
      const syn = tcp(SERVER.ipv4, TERMINAL.ipv4, sport, 82, TCP.syn);
      const { frame } = shot(server, terminal, ip(SERVER.ipv4, TERMINAL.ipv4, 6, syn));
      const ports = Buffer.alloc(4);
      ports.writeUInt16BE(82, 0);
      ports.writeUInt16BE(sport, 2);
      const [copies, start] = [rejectedCopies(), performance.now()];
      const sent = server.ask('forge', { frame, count: FLOOD });
      const flows: Connection[] = FAMILIES.flatMap((family) =>
        Array.from({ length: FLOWS / 2 }, () => ({ ...fresh('udp', family), replied: false })),
      );
      for (const flow of flows) await terminal.send(bench.packetOf(flow, 'terminal').frame);
      await sent;
      const ms = performance.now() - start;
      // The last copies and answers have come when one that is sent now has. As long as the flood fills the kernel's queues one may be lost there.
      await waitFor('a packet behind the flood arrives', () =>
        bench.arrives(bench.packetOf(fresh('udp', 'ipv4'), 'terminal')),
      );
      const answers = await server.seen(hex(ports));
      const keys = new Set((await domain.export(placed.id)).connections.map(connectionKey));
      const unknown = flows.filter((flow) => !keys.has(connectionKey(flow))).length;
      const result = { copies: rejectedCopies() - copies, answers, ms, unknown };
      await bench.retired(placed);
      return result;
    };
    const { copies, answers, ms, unknown } = await flood();
    t.comment(`${FLOOD} rejected packets in ${ms.toFixed(0)} ms: ${copies} copies, ${answers} answers`);
    t.equal(unknown, 0, 'every connection that was opened meanwhile is known');
    t.ok(answers > 0, 'there are answers');
    const most = (perSecond: number, burst: number): number => burst + Math.ceil((ms / 1000 + 1) * perSecond);
    t.ok(answers <= most(100, 10), 'no more than 100 a second and a few at once');
    t.ok(copies <= most(100, 5), 'and no more copies to the controller');
    // Control: with the meters wide open the controller gets very many more of them.
    const dump = await run('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-meters', BRIDGE]);
    for (const [, meter] of dump.stdout.matchAll(/meter=(\d+)/g)) {
      const wide = `meter=${meter},pktps,burst,band=type=drop,rate=1000000,burst_size=1000000`;
      await run('ovs-ofctl', ['-O', 'OpenFlow13', 'mod-meter', BRIDGE, wide]);
    }
    const open = await flood();
    t.comment(
      `without meters: ${open.copies} copies, ${open.answers} answers, ${open.unknown} connections unknown`,
    );
    t.ok(open.copies > 3 * copies, 'control: it is the meter that bounds them');
    t.ok(open.answers <= 10 + Math.ceil((open.ms / 1000 + 1) * 100), 'the answers are bounded by themselves');
  },
);
