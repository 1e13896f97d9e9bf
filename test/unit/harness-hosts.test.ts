/**
 * The harness's own tools, where they are pure or need no more than loopback: frames, forbidden cases, the pcap reader, patterns,
 * the probe's book, fates, the traffic program, the JSON-lines client. A harness that can't see a fault would prove nothing.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { z } from 'zod';
import { type Arrival, FlowJudge, judge } from '../harness/hosts/flow-judge.js';
import { forbiddenFrames } from '../harness/hosts/forbidden.js';
import {
  addressBytes,
  arp,
  checksum,
  echoRequest,
  neighbourSolicitation,
  redirect,
  TCP_FLAGS,
  tagged,
  tcp,
  udp,
} from '../harness/hosts/frames.js';
import { Host } from '../harness/hosts/host.js';
import { JsonLines } from '../harness/hosts/json-lines.js';
import { matchesPattern, patternBytes, streamSeed } from '../harness/hosts/pattern.js';
import { PcapReader } from '../harness/hosts/pcap.js';
import { ProbeLog } from '../harness/hosts/probe.js';
import { fates } from '../harness/hosts/survival.js';
import { Traffic } from '../harness/hosts/traffic.js';
import type { TcpReport } from '../harness/hosts/traffic-protocol.js';
import { waitFor } from '../lab/index.js';

const alice = { mac: '02:00:00:00:00:01', ipv4: '10.0.0.1', ipv6: 'fd00::1' };
const server = { mac: '02:00:00:00:00:02', ipv4: '10.0.0.2', ipv6: 'fd00::2' };
const stranger = { mac: '02:00:00:00:00:03', ipv4: '10.0.0.3', ipv6: 'fd00::3' };
const link = { from: alice.mac, to: server.mac };
const v4 = { source: alice.ipv4, destination: server.ipv4 };
const v6 = { source: alice.ipv6, destination: server.ipv6 };

t.test('addresses in text become their bytes', async (t) => {
  t.equal(addressBytes('10.0.0.255').toString('hex'), '0a0000ff');
  t.equal(addressBytes('fd00::1').toString('hex'), 'fd000000000000000000000000000001');
  t.equal(addressBytes('::').toString('hex'), '0'.repeat(32));
  t.equal(addressBytes('fe80::').toString('hex'), `fe80${'0'.repeat(28)}`);
  t.equal(addressBytes('1:2:3:4:5:6:7:8').toString('hex'), '00010002000300040005000600070008');
});

t.test('frames have the layout and the checksums of their specifications', async (t) => {
  // RFC 1071, section 3: the sum of these words is ddf2.
  t.equal(checksum(Buffer.from('0001f203f4f5f6f7', 'hex')), ~0xddf2 & 0xffff);
  t.equal(checksum(Buffer.from('01', 'hex')), ~0x0100 & 0xffff, 'an odd byte is padded on the right');
  const request = { operation: 'request', senderMac: alice.mac, senderIp: alice.ipv4 } as const;
  t.equal(
    arp(link, { ...request, targetMac: '00:00:00:00:00:00', targetIp: server.ipv4 }).toString('hex'),
    '02000000000202000000000108060001080006040001020000000001' + '0a000001' + '000000000000' + '0a000002',
  );
  const segment = { sourcePort: 40_000, destinationPort: 443, flags: TCP_FLAGS.syn, sequence: 1 };
  // Checked once against tcpdump -vv: "cksum … (correct)" for each.
  t.equal(tcp(link, v4, segment).length, 14 + 20 + 20);
  t.equal(tcp(link, v6, segment).length, 14 + 40 + 20);
  t.equal(
    tagged(tcp(link, v4, segment), 5)
      .subarray(12, 18)
      .toString('hex'),
    '810000050800',
  );
});

const noTcpdump = spawnSync('tcpdump', ['--version']).error ? 'tcpdump is not installed' : false;
t.test('tcpdump finds every checksum right, and a wrong one wrong', { skip: noTcpdump }, async (t) => {
  const segment = { sourcePort: 40_000, destinationPort: 443, flags: TCP_FLAGS.ack, sequence: 7 };
  const payload = Buffer.from('odd');
  const built = [
    ...[v4, v6].map((ip) => tcp(link, ip, { ...segment, payload })),
    ...[v4, v6].map((ip) => udp(link, ip, { sourcePort: 5_353, destinationPort: 53_000, payload })),
    ...[v4, v6].map((ip) => echoRequest(link, ip, 1, 2, payload)),
    redirect(link, v4, stranger.ipv4, server.ipv4, tcp(link, v4, segment).subarray(14, 42)),
    redirect(link, v6, stranger.ipv6, server.ipv6, tcp(link, v6, segment).subarray(14, 74)),
    neighbourSolicitation(link, v6, stranger.ipv6, alice.mac),
  ];
  const verdict = (frames: readonly Buffer[]): string =>
    spawnSync('tcpdump', ['-vv', '-n', '-r', '-'], { input: pcap(frames), encoding: 'utf8' }).stdout;
  const words = verdict(built);
  t.equal(words.match(/^\d\d:\d\d:/gm)?.length, built.length, 'all were read');
  t.notMatch(words, /incorrect|bad|wrong/i);
  const broken = built.map((frame) => {
    const copy = Buffer.from(frame);
    copy.writeUInt8((copy.at(-1) ?? 0) ^ 1, copy.length - 1);
    return copy;
  });
  t.match(verdict(broken), /incorrect|bad|wrong/i, 'the control');
});

t.test(
  'forbidden frames are all different, in every round, and cover both families and directions',
  async (t) => {
    const options = {
      terminal: alice,
      server,
      stranger,
      openPort: 443,
      closedTcpPort: 25,
      closedUdpPort: 1900,
    };
    const rounds = [0, 1, 250].map((round) => forbiddenFrames({ ...options, round, vlans: [5, 2, 3] }));
    const frames = rounds.flat().map(({ frame }) => frame.toString('hex'));
    t.equal(new Set(frames).size, frames.length);
    const cases = rounds[0] ?? [];
    for (const family of ['ipv4', 'ipv6'] as const) {
      for (const seenAt of ['terminal', 'server'] as const) {
        const names = cases
          .filter((one) => one.family === family && one.seenAt === seenAt)
          .map(({ name }) => name);
        for (const what of ['SYN', 'ACK', 'data', 'FIN', 'RST']) {
          t.ok(
            names.some((name) => name.startsWith(`${what} of`) || name.includes(what)),
            `${family} ${seenAt} ${what}`,
          );
        }
      }
      t.ok(cases.some((one) => one.family === family && one.name.includes('redirect')));
      t.equal(cases.filter((one) => one.family === family && one.name.includes("somebody else's")).length, 3);
    }
    t.equal(cases.filter(({ name }) => name.includes('VLAN')).length, 6);
    t.equal(cases.filter(({ name }) => name.includes('ethertype')).length, 2);
  },
);

/** A capture file of these frames. */
function pcap(frames: readonly Buffer[], magic = 0xa1b2c3d4): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(magic, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.map((frame, index) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(1_000 + index, 0);
    record.writeUInt32LE(500_000, 4);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return Buffer.concat([record, frame]);
  });
  return Buffer.concat([header, ...records]);
}

t.test('the pcap reader finds the same frames in pieces of any size', async (t) => {
  const frames = [Buffer.from('first'), Buffer.alloc(0), Buffer.alloc(1_500, 7)];
  const file = pcap(frames);
  for (const size of [1, 3, 17, file.length]) {
    const reader = new PcapReader();
    const found = [];
    for (let at = 0; at < file.length; at += size) found.push(...reader.push(file.subarray(at, at + size)));
    t.same(
      found.map(({ data }) => data),
      frames,
      `pieces of ${size}`,
    );
    t.equal(found[0]?.capturedAt, 1_000_500);
  }
  t.equal(new PcapReader().push(pcap(frames, 0xa1b23c4d))[0]?.capturedAt, 1_000_000.5, 'nanoseconds');
  t.throws(() => new PcapReader().push(Buffer.alloc(24)), { code: 'not-pcap' });
  const huge = pcap([Buffer.alloc(1)]);
  huge.writeUInt32LE(2 ** 31, 32);
  t.throws(() => new PcapReader().push(huge), { code: 'not-pcap' });
});

t.test('the pattern tells a byte that is lost, doubled, changed or of another connection', async (t) => {
  const seed = streamSeed(40_000, 'client');
  const whole = patternBytes(seed, 0, 1_000);
  for (const [from, to] of [
    [0, 1_000],
    [3, 5],
    [5, 29],
    [999, 1_000],
  ] as const) {
    t.ok(whole.subarray(from, to).equals(patternBytes(seed, from, to - from)));
    t.ok(matchesPattern(seed, from, whole.subarray(from, to)));
  }
  t.notOk(matchesPattern(seed, 0, whole.subarray(8)), 'lost');
  t.notOk(matchesPattern(seed, 16, whole.subarray(8, 24)), 'doubled');
  t.notOk(matchesPattern(streamSeed(40_000, 'server'), 0, whole), 'the other direction');
  t.notOk(matchesPattern(streamSeed(40_001, 'client'), 0, whole), 'another connection');
});

t.test(
  "the probe's book counts what was lost, doubled and reordered, and finds the longest gap",
  async (t) => {
    const log = new ProbeLog(10);
    for (let number = 0; number < 10; number++) log.send(number * 100);
    t.ok(log.full);
    for (const [number, at] of [
      [0, 1],
      [1, 101],
      [1, 102],
      [4, 401],
      [3, 402],
      [5, 501],
    ] as const) {
      log.answer(number, at);
    }
    log.answer(99, 1);
    t.notOk(log.complete);
    const book = log.book(2_000);
    t.same(
      { ...book, gapMs: undefined, gapAt: undefined },
      { sent: 10, answered: 5, lost: 5, doubled: 1, reordered: 1, gapMs: undefined, gapAt: undefined },
    );
    t.same([book.gapMs, book.gapAt], [399, 501], 'silence until the last datagram is the longest gap');
    t.same([log.book(1_000).lost, log.book(550).lost], [1, 0], 'what is still under way is not lost');
    t.equal(log.book(2_000, 350).sent, 6, 'a window begins with the first datagram sent in it');
  },
);

/** One datagram every ms, from 0. */
const sentAt = [...Array(10).keys()];
/** Half a ms under way each, but for those that are given. */
const arrivals = (numbers: readonly number[], late: Readonly<Record<number, number>> = {}): Arrival[] =>
  numbers.map((number, place) => ({ number, at: late[place] ?? number + 0.5 }));

t.test('of numbered datagrams the lost, late, doubled and unknown are told apart', async (t) => {
  const tally = (numbers: readonly number[], late = {}) => {
    const { gaps, ...rest } = judge(sentAt, arrivals(numbers, late));
    return rest;
  };
  const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const fine = { sent: 10, received: 10, lost: 0, duplicated: 0, reordered: 0, unknown: 0 };
  t.same(tally(all), fine);
  t.same(
    tally([0, 1, 2, 4, 5, 6, 7, 8]),
    { ...fine, received: 8, lost: 2 },
    'one in the middle, one at the end',
  );
  t.same(tally([0, 1, 3, 2, 4, 5, 6, 7, 8, 9]), { ...fine, reordered: 1 });
  t.same(
    tally([3, 0, 1, 2, 4, 5, 6, 7, 8, 9]),
    { ...fine, reordered: 3 },
    'one that is early makes the others late',
  );
  t.same(tally([...all, 9, 4]), { ...fine, duplicated: 2 }, 'a repetition is no reordering');
  t.same(tally([...all, 10, 4_000_000_000]), { ...fine, unknown: 2 }, 'what was never sent is not received');
  t.same(tally([]), { ...fine, received: 0, lost: 10 });
  t.same(judge([], []), { ...fine, sent: 0, received: 0, gaps: [] });
});

t.test('a gap is what the receiver waits longer than the sender did', async (t) => {
  const gaps = (times: readonly number[], seen: readonly Arrival[]) =>
    judge(times, seen)
      .gaps.map(({ at, ms }) => [at, Math.round(ms * 1e6) / 1e6])
      .filter(([, ms]) => ms !== 0);
  t.same(gaps(sentAt, arrivals([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])), []);
  const held = [0, 1, 2, 3, 4, 5].map((number) => ({ number, at: number < 2 ? number : 5 + number / 10 }));
  t.same(
    gaps(sentAt.slice(0, 6), held),
    [[1, 3.2]],
    'datagrams that are held: 2 was due at 2 and came at 5.2',
  );
  t.same(
    gaps(
      [0, 1, 2, 12, 13],
      arrivals([0, 1, 2], {}).concat([
        { number: 3, at: 12.5 },
        { number: 4, at: 13.5 },
      ]),
    ),
    [],
    'a sender that rests makes no gap',
  );
  t.same(gaps(sentAt, arrivals([0, 1, 6, 7, 8, 9])), [[1.5, 4]], 'four that are lost');
  t.same(gaps(sentAt, arrivals([0, 1, 2, 3])), [[3.5, 4.5]], 'silence until the last is a gap');
  t.same(
    gaps(sentAt, [{ number: 0, at: 0 }, { number: 0, at: 0.2 }, ...arrivals(sentAt).slice(1)]),
    [[0.2, 0.3]],
    'a repetition ends a wait, too',
  );
});

t.test('records in portions say the same as all at once', async (t) => {
  const seen = arrivals([0, 1, 4, 2, 4, 5, 6, 9], { 2: 5.1, 3: 5.2, 4: 5.3, 7: 14 });
  const whole = judge(sentAt, seen);
  const portions = new FlowJudge();
  const gaps = seen.flatMap((arrival, place) =>
    portions.add(sentAt.slice(place * 5, place * 5 + 5), place === 0 ? [] : [seen[place - 1] ?? arrival]),
  );
  gaps.push(...portions.add([], seen.slice(-1)), ...portions.end());
  t.same({ ...portions.tally, gaps }, whole);
  t.same(portions.missingSince, [3, 7, 8]);
  t.match(whole, { received: 7, lost: 3, duplicated: 1, reordered: 1 });
});

const alive: TcpReport = {
  ...{ id: 0, mode: 'both', family: 'ipv4', clientPort: 40_000, serverPort: 5_001, openedAt: 1 },
  ...{ received: 10, sent: 10, lastReceivedAt: 200, inOrder: true, reset: false, ended: false, error: null },
};

t.test('a fate needs both directions, order, and no reset', async (t) => {
  const fateOf = (client: Partial<TcpReport>, other: Partial<TcpReport> = {}): unknown =>
    fates([{ ...alive, ...client }], [{ ...alive, ...other }], 100)[0];
  t.equal(fateOf({}), 'survived');
  t.equal(fateOf({ lastReceivedAt: 99 }), 'dead');
  t.equal(fateOf({}, { lastReceivedAt: 99 }), 'dead', 'the server heard nothing');
  t.equal(fateOf({}, { clientPort: 1 }), 'dead', 'no report of the server');
  t.equal(fateOf({ mode: 'server-only' }, { lastReceivedAt: null }), 'survived');
  t.equal(fateOf({ mode: 'echo' }, { lastReceivedAt: null }), 'dead', 'no echo');
  t.equal(fateOf({ inOrder: false }), 'garbled');
  t.equal(fateOf({}, { reset: true, ended: true }), 'reset');
  t.equal(fateOf({ ended: true }), 'ended');
  t.equal(fateOf({ openedAt: null }), 'unopened');
});

/** The traffic program in this very namespace. */
function localTraffic(): Traffic {
  const program = fileURLToPath(new URL('../harness/hosts/traffic-main.js', import.meta.url));
  const host = new Host('here', {
    ...{ pid: process.pid, interface: 'lo', mac: '00:00:00:00:00:00', ipv4: '127.0.0.1', ipv6: '::1' },
    ...{ switch: 's1', port: 's1-eth1' },
  });
  return new Traffic(host, new JsonLines('traffic', process.execPath, [program]));
}

t.test('traffic over loopback: all modes, exchanges, a probe; an ended connection is told', async (t) => {
  const [here, there] = [localTraffic(), localTraffic()];
  t.teardown(() => Promise.all([here.close(), there.close()]));
  // Below the ports that the kernel gives to clients.
  const [both, only, echo, udpPort] = [27_001, 27_002, 27_004, 27_003];
  const tcpPorts = [
    { port: both, mode: 'both' },
    { port: only, mode: 'server-only' },
    { port: echo, mode: 'echo' },
  ] as const;
  await there.listen({ tcp: tcpPorts, udp: [udpPort] }, { tickMs: 5, chunkBytes: 100 });
  const targets = tcpPorts.flatMap(({ port, mode }) => [
    { address: '127.0.0.1', port, mode },
    { address: '127.0.0.1', port, mode },
  ]);
  const opened = await here.connect(targets, { tickMs: 5, chunkBytes: 100 });
  t.ok(opened.every(({ openedAt }) => openedAt !== null));
  const [refused] = await here.connect([{ address: '127.0.0.1', port: 27_009, mode: 'both' }]);
  t.same([refused?.openedAt, refused?.error], [null, 'ECONNREFUSED']);
  await here.exchange([{ address: '127.0.0.1', port: udpPort }], { tickMs: 5 });
  const probe = await here.probe({ address: '127.0.0.1', port: udpPort }, { perSecond: 200, seconds: 60 });
  const since = opened.reduce((latest, { openedAt }) => Math.max(latest, openedAt ?? 0), 0);
  const lives = await waitFor('all connections live', async () => {
    const [client, serverSide] = await Promise.all([here.report(), there.report()]);
    const found = fates(client.tcp.slice(0, 6), serverSide.tcp, since);
    const exchanged = (client.exchanges[0]?.answered ?? 0) > 3 && (client.probes[0]?.answered ?? 0) > 10;
    return found.every((fate) => fate === 'survived') && exchanged && { client, serverSide };
  });
  t.same(
    lives.serverSide.tcp.filter(({ mode }) => mode === 'server-only').map(({ received }) => received),
    [0, 0],
    'where only the server sends, the client sends nothing',
  );
  const echoes = lives.serverSide.tcp.filter(({ mode }) => mode === 'echo');
  t.equal(echoes.length, 2);
  for (const { received, sent } of echoes)
    t.ok(received > 0 && received <= sent, 'the client echoes, and no more');
  await here.end([0]);
  await waitFor('the end is seen', async () => (await there.report()).tcp.some(({ ended }) => ended));
  const last = await here.stopProbe(probe);
  t.same([last.lost, last.doubled, last.reordered], [0, 0, 0]);
  await there.close();
  await waitFor('the death of the server is seen', async () => {
    const report = await here.report();
    return fates(report.tcp.slice(0, 6), [], since).every((fate) => fate !== 'survived');
  });
  await t.rejects(there.report(), { code: 'helper-ended' });
  await t.rejects(here.connect([{ address: '127.0.0.1', port: 70_000, mode: 'both' }]), {
    code: 'helper-refused',
  });
});

t.test('a helper that ends, is silent or says nonsense fails the request', async (t) => {
  const script = (text: string) => new JsonLines('helper', process.execPath, ['-e', text]);
  const ends = script('process.stderr.write("no such thing\\n", () => process.exit(3))');
  await t.rejects(ends.request({ do: 'x' }, z.unknown()), { code: 'helper-ended', message: /no such thing/ });
  const silent = script('process.stdin.resume()');
  await t.rejects(silent.request({ do: 'x' }, z.unknown(), 50), { code: 'helper-silent' });
  await silent.close();
  await silent.close();
  const nonsense = script('process.stdin.once("data", () => console.log("what?")); process.stdin.resume()');
  await t.rejects(nonsense.request({ do: 'x' }, z.unknown()), { code: 'helper-garbled' });
  await nonsense.close();
  const other = script(
    'process.stdin.once("data", () => console.log(JSON.stringify({ id: 1, ok: true, n: "text" }))); process.stdin.resume()',
  );
  await t.rejects(other.request({ do: 'x' }, z.object({ n: z.number() })), { code: 'helper-garbled' });
  await other.close();
});
