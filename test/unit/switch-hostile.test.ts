/**
 * The switch layer against peers that are broken, slow, half there, too many, or want to do harm. Whatever they do, it ends, it is bounded, and
 * other switches go on.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { helloElements, type MessageBody, OFPP } from '../../controller-app/openflow/index.js';
import { toBytes } from '../../controller-app/switch/codec.js';
import { Connection } from '../../controller-app/switch/connection.js';
import { logRefusal, type Switch, SwitchError } from '../../controller-app/switch/index.js';
import { Lobby, neighbourhood } from '../../controller-app/switch/lobby.js';
import { bounds } from '../../controller-app/switch/options.js';
import { Requests } from '../../controller-app/switch/requests.js';
import { Turns } from '../../controller-app/switch/turns.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { QuietLog } from '../../shared/runtime/quiet-log.js';
import {
  connected,
  FakeSwitch,
  features,
  listening,
  packetIn,
  refusal,
  wirePort,
} from '../fixtures/fake-switch.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(60_000);

const [HELLO_FAILED, BAD_REQUEST] = [0, 1];
const [BAD_INSTRUCTION, BAD_MATCH] = [3, 4];
const [BAD_VERSION, BAD_TYPE, BAD_EXPERIMENTER, BAD_EXP_TYPE, BAD_LEN, OVERFLOW] = [0, 1, 3, 4, 6, 13];
const DUP_FIELD = 10;
const EPERM = 1;

/** A message of any type, with a body of this many zeros. */
function raw(
  version: number,
  type: number,
  bodyLength: number,
  { xid = 0x1234, length = 8 + bodyLength } = {},
): Buffer {
  const bytes = Buffer.alloc(8 + bodyLength);
  bytes.writeUInt8(version, 0);
  bytes.writeUInt8(type, 1);
  bytes.writeUInt16BE(length, 2);
  bytes.writeUInt32BE(xid, 4);
  return bytes;
}

const hexOf = (message: MessageBody, xid: number): string =>
  Buffer.from(toBytes(message, xid)).toString('hex');
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

// Framing, through a socket

/** A connection whose messages and chunks are written down. */
async function recorded(t: Test) {
  const chunks: number[] = [];
  /** In their bytes, as hex. */
  const messages: string[] = [];
  const closed: (Error | undefined)[] = [];
  let connection: Connection | undefined;
  const server = createServer((socket) => {
    socket.on('data', ({ length }) => chunks.push(length));
    connection = new Connection(socket, bounds({}), new Turns(), {
      onMessage: ({ message, xid }) => messages.push(hexOf(message, xid)),
      onClose: (reason) => closed.push(reason),
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const peer = await FakeSwitch.dial(typeof address === 'object' && address ? address.port : 0);
  await waitFor('the connection', () => connection);
  t.teardown(() => {
    connection?.close();
    peer.socket.destroy();
    server.close();
  });
  let sent = 0;
  /** Writes and waits until it has been read: the next write is another chunk. */
  const write = async (bytes: Uint8Array): Promise<void> => {
    peer.write(bytes);
    sent += bytes.length;
    while (chunks.reduce((sum, length) => sum + length, 0) < sent && closed.length === 0) await turn();
  };
  return { peer, chunks, messages, closed, write };
}

const STREAM: readonly MessageBody[] = [
  { type: 'hello', elements: helloElements(1, 4) },
  packetIn(1),
  { type: 'port_status', reason: 'add', port: wirePort(2) },
  packetIn(2, 300),
  refusal(1, 5),
  {
    ...{ type: 'flow_removed', cookie: 5n, priority: 3, reason: 'delete', tableId: 2 },
    ...{ durationSec: 1, durationNsec: 2, idleTimeout: 3, hardTimeout: 4, packetCount: 5n, byteCount: 6n },
    match: { in_port: 7, eth_type: 0x86dd, ipv6_src: 'fd00::1' },
  },
  packetIn(3),
];
t.test('a byte at a time, a connection hears the same messages', async (t) => {
  const bytes = Buffer.concat(STREAM.map((message, xid) => toBytes(message, xid)));
  const whole = await recorded(t);
  await whole.write(bytes);
  await waitFor('all messages', () => whole.messages.length === STREAM.length);
  t.same(whole.chunks, [bytes.length]);
  const single = await recorded(t);
  for (const byte of bytes) await single.write(Buffer.from([byte]));
  t.equal(single.chunks.length, bytes.length, 'every byte came alone');
  t.same(single.messages, STREAM.map(hexOf));
  t.same(whole.messages, STREAM.map(hexOf));
  t.same([...single.closed, ...whole.closed], []);
});

t.test('cut anywhere, a connection hears the same messages', async (t) => {
  const { messages, write, closed } = await recorded(t);
  const stream = fc.array(fc.tuple(fc.nat(STREAM.length - 1), fc.integer({ min: 1, max: 400 })), {
    minLength: 1,
    maxLength: 12,
  });
  await fc.assert(
    fc.asyncProperty(stream, async (parts) => {
      messages.length = 0;
      const said = parts.flatMap(([index]) => STREAM[index] ?? []);
      const bytes = Buffer.concat(said.map((message, xid) => toBytes(message, xid)));
      let at = 0;
      for (let i = 0; at < bytes.length; i++) {
        const [, length] = parts[i % parts.length] ?? [0, 1];
        await write(bytes.subarray(at, at + length));
        at += length;
      }
      if (messages.join() !== said.map(hexOf).join()) throw new Error('heard something else');
    }),
    { numRuns: 100 },
  );
  t.same(closed, []);
});

t.test('one wrong byte in a length is not overheard', async (t) => {
  const { messages, write, closed } = await recorded(t);
  const bytes = Buffer.concat(STREAM.map((message, xid) => Buffer.from(toBytes(message, xid))));
  const third = STREAM.slice(0, 2).reduce((at, message) => at + toBytes(message, 0).length, 0);
  bytes.writeUInt16BE(bytes.readUInt16BE(third + 2) - 1, third + 2);
  for (const byte of bytes) await write(Buffer.from([byte]));
  await waitFor('the end', () => closed.length > 0);
  t.match(closed, [{ code: 'protocol' }]);
  t.same(messages, STREAM.slice(0, 2).map(hexOf), 'what came before it was heard');
  const whole = await recorded(t);
  await whole.write(bytes);
  await waitFor('the end', () => whole.closed.length > 0);
  t.same(whole.messages, messages, 'also when it came in one piece');
});

t.test('whatever bytes come, a connection lives on or ends with a reason', async (t) => {
  const good = Buffer.concat(STREAM.map((message, xid) => toBytes(message, xid)));
  const hurt = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
    .map((changes) => {
      const bytes = Buffer.from(good);
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const ends = { reasons: new Set<string>(), lived: 0 };
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 400 }), hurt), async (bytes) => {
      const { closed, write } = await recorded(t);
      await write(bytes);
      await turn();
      const [reason] = closed;
      if (closed.length > 1) throw new Error('ended twice');
      if (closed.length === 0) ends.lived++;
      else if (reason instanceof SwitchError) ends.reasons.add(reason.code);
      else throw new Error(`ended with ${String(reason)}`);
    }),
    { numRuns: 300 },
  );
  t.same([...ends.reasons], ['protocol']);
  t.ok(ends.lived > 0, `${ends.lived} were not that bad`);
});

t.test('the longest message is heard like any other', async (t) => {
  const { messages, write } = await recorded(t);
  const empty = toBytes(packetIn(1, 0), 0).length;
  const message = packetIn(9, 0xffff - empty);
  await write(toBytes(message, 0));
  await waitFor('the message', () => messages.length === 1);
  t.same(messages, [hexOf(message, 0)]);
});

// Errors are told

interface Wrong {
  readonly name: string;
  readonly bytes: Buffer;
  readonly error: readonly [type: number, code: number];
  readonly refused?: RegExp;
}

/** A good message in which one thing is changed. */
function altered(message: MessageBody, was: string, is: string): Buffer {
  const hex = hexOf(message, 0x1234);
  if (hex.split(was).length !== 2) throw new Error(`${was} is not there once`);
  return Buffer.from(hex.replace(was, is), 'hex');
}
const removal: MessageBody = {
  ...{ type: 'flow_removed', cookie: 5n, priority: 3, reason: 'delete', tableId: 2, match: { in_port: 7 } },
  ...{ durationSec: 1, durationNsec: 2, idleTimeout: 3, hardTimeout: 4, packetCount: 5n, byteCount: 6n },
};

const WRONG: readonly Wrong[] = [
  {
    name: 'a field twice in a match',
    bytes: altered({ ...packetIn(1), match: { in_port: 1, in_phy_port: 2 } }, '80000204', '80000004'),
    error: [BAD_MATCH, DUP_FIELD],
  },
  {
    name: 'a match of another kind',
    bytes: altered(removal, '0001000c8000', '0000000c8000'),
    error: [BAD_MATCH, 0],
  },
  {
    name: 'a match that is longer than its message',
    bytes: altered(removal, '0001000c8000', '000100ff8000'),
    error: [BAD_MATCH, 1],
  },
  {
    name: 'an instruction that is shorter than its own header',
    bytes: altered(
      {
        type: 'multipart_reply',
        body: {
          type: 'flow',
          flows: [
            {
              ...{
                table: 0,
                durationSec: 0,
                durationNsec: 0,
                priority: 1,
                cookie: 0n,
                packetCount: 0n,
                byteCount: 0n,
              },
              ...{ match: {}, instructions: [{ type: 'goto_table', table: 5 }] },
            },
          ],
        },
      },
      '0001000805000000',
      '0001000205000000',
    ),
    error: [BAD_INSTRUCTION, 7],
  },
  {
    name: 'an extension that only a controller uses',
    bytes: Buffer.from(toBytes({ type: 'ct_flush_zone', zone: 7 }, 0x1234)),
    error: [BAD_REQUEST, BAD_EXP_TYPE],
  },
  { name: 'a length under 8', bytes: raw(4, 10, 0, { length: 7 }), error: [BAD_REQUEST, BAD_LEN] },
  { name: 'a length of 0', bytes: raw(4, 2, 100, { length: 0 }), error: [BAD_REQUEST, BAD_LEN] },
  { name: 'a body that is too short', bytes: raw(4, 10, 4), error: [BAD_REQUEST, BAD_LEN] },
  { name: 'a body that is too long', bytes: raw(4, 21, 90), error: [BAD_REQUEST, BAD_LEN] },
  { name: 'another version', bytes: raw(1, 10, 100), error: [BAD_REQUEST, BAD_VERSION] },
  {
    name: 'garbage',
    bytes: Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    error: [BAD_REQUEST, BAD_VERSION],
  },
  {
    name: 'an unknown message type',
    bytes: raw(4, 99, 300),
    error: [BAD_REQUEST, BAD_TYPE],
    refused: /type 99/,
  },
  { name: 'the longest unknown message', bytes: raw(4, 77, 0xffff - 8), error: [BAD_REQUEST, BAD_TYPE] },
  {
    name: 'a message that only a controller sends',
    bytes: Buffer.from(toBytes({ type: 'barrier_request' }, 0x1234)),
    error: [BAD_REQUEST, BAD_TYPE],
    refused: /barrier_request, which no switch may send/,
  },
];

t.test('a stranger that breaks the protocol is told how, and hung up', async (t) => {
  for (const { name, bytes, error, refused: words = /./ } of WRONG) {
    const { dial, refused, listener } = await listening(t);
    const peer = await dial();
    await peer.hear('hello');
    peer.say({ type: 'hello', elements: helloElements(4) });
    await peer.hear('features_request');
    peer.write(bytes);
    await answered(t, peer, name, bytes, error);
    t.match(refused, [{ code: 'protocol', message: words }], `${name}: refused, once`);
    t.equal(listener.switches.size, 0);
  }
});

t.test('so is a switch that breaks it later', async (t) => {
  for (const { name, bytes, error, refused: words = /./ } of WRONG) {
    const { sw, peer } = await connected(t);
    const closed = once(sw, 'close');
    peer.write(bytes);
    await answered(t, peer, name, bytes, error);
    t.match(await closed, [{ code: 'protocol', message: words }], name);
  }
});

async function answered(
  t: Test,
  peer: FakeSwitch,
  name: string,
  bytes: Buffer,
  [errorType, code]: readonly [number, number],
): Promise<void> {
  const { message, xid } = await peer.hear('error');
  t.match(message, { errorType, code }, name);
  const data = Buffer.from(message.data);
  t.same(data, bytes.subarray(0, data.length), `${name}: the error repeats the message`);
  if (bytes.readUInt16BE(2) >= 8 && bytes.readUInt8(0) === 4) {
    t.ok(data.length >= Math.min(64, bytes.length), `${name}: enough of it`);
    t.equal(xid, 0x1234, `${name}: under its number`);
  }
  await peer.closed;
}

t.test('what comes in the wrong order is told so', async (t) => {
  const early = await listening(t);
  const first = await early.dial();
  first.say({ type: 'barrier_reply' }, 0x1234);
  await first.closed;
  t.match(early.refused, [{ code: 'protocol' }], 'a reply before hello');
  const packets = await early.dial();
  packets.say(packetIn(1), 0x1234);
  t.match((await packets.hear('error')).message, { errorType: BAD_REQUEST, code: BAD_TYPE });
  await packets.closed;
  t.match(early.refused[1], { code: 'protocol', message: /packet_in came before hello/ });

  const { sw, peer } = await connected(t);
  const closed = once(sw, 'close');
  peer.say({ type: 'hello', elements: helloElements(4) }, 0x1234);
  t.match((await peer.hear('error')).message, { errorType: BAD_REQUEST, code: BAD_TYPE });
  t.match(await closed, [{ code: 'protocol', message: /said hello twice/ }]);
});

t.test('a reply that nobody asked for ends the connection; one that comes late does not', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock, requestTimeoutMs: 100, echoIntervalMs: 1e6 });
  const late = sw.barrier();
  const { xid } = await peer.hear('barrier_request');
  clock.advance(100);
  await t.rejects(late, { code: 'timeout' });
  peer.say({ type: 'barrier_reply' }, xid);
  peer.say({ type: 'multipart_reply', body: { type: 'flow', flows: [] } }, xid);
  const alive = sw.barrier();
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await alive;
  const closed = once(sw, 'close');
  peer.say({ type: 'barrier_reply' }, xid + 1000);
  t.match(await closed, [{ code: 'protocol', message: /nobody asked for/ }]);
});

t.test('an extension that is not known is answered, and nothing else happens', async (t) => {
  const { sw, peer } = await connected(t);
  const bytes = raw(4, 4, 200);
  bytes.writeUInt32BE(0xabcdef, 8);
  peer.write(bytes);
  const { message, xid } = await peer.hear('error');
  t.match(message, { errorType: BAD_REQUEST, code: BAD_EXPERIMENTER });
  t.equal(xid, 0x1234);
  const alive = sw.barrier();
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await alive;
});

t.test('who can be no switch of ours is told so', async (t) => {
  const cases: [name: string, code: string, reply: MessageBody][] = [
    ['datapath id 0', 'protocol', features(0n)],
    ['an auxiliary connection', 'protocol', features(1n, 1)],
    ['an unknown datapath id', 'unknown-switch', features(2n)],
  ];
  for (const [name, code, reply] of cases) {
    const { dial, refused } = await listening(t, { accepts: (dpid) => dpid === '0000000000000001' });
    const peer = await dial();
    peer.say({ type: 'hello', elements: helloElements(4) });
    await peer.answer('features_request', reply);
    t.match((await peer.hear('error')).message, { errorType: HELLO_FAILED, code: EPERM }, name);
    await peer.closed;
    t.match(refused, [{ code }], name);
  }
  const { sw } = await connected(t, { accepts: (dpid) => dpid === '0000000000000001' });
  t.notOk(sw.closed, 'one that is known is taken');
});

t.test('a connection that ends in the middle of a message says so', async (t) => {
  const { sw, peer } = await connected(t);
  const closed = once(sw, 'close');
  peer.write(raw(4, 10, 92).subarray(0, 60));
  peer.socket.end();
  t.match(await closed, [{ code: 'closed', message: /after 60 bytes of an unfinished message/ }]);
});

// Half there, slow, deaf

t.test('a handshake has its time, wherever it stops', async (t) => {
  const stages: [name: string, act: (peer: FakeSwitch) => Promise<unknown>][] = [
    ['nothing is said', async () => {}],
    ['hello only', async (peer) => peer.say({ type: 'hello', elements: helloElements(4) })],
    [
      'features only',
      async (peer) => {
        peer.say({ type: 'hello', elements: helloElements(4) });
        await peer.answer('features_request', features(1n));
        await peer.hear('barrier_request');
      },
    ],
    [
      'ports without end',
      async (peer) => {
        peer.say({ type: 'hello', elements: helloElements(4) });
        await peer.answer('features_request', features(1n));
        await peer.answer('barrier_request', { type: 'barrier_reply' });
        const { xid } = await peer.hear('multipart_request');
        peer.say(
          { type: 'multipart_reply', more: true, body: { type: 'port_desc', ports: [wirePort(1)] } },
          xid,
        );
      },
    ],
    ['half a hello', async (peer) => peer.write('0400')],
  ];
  for (const [name, act] of stages) {
    const clock = new ManualClock();
    const { dial, refused } = await listening(t, { clock });
    const peer = await dial();
    await peer.hear('hello');
    await act(peer);
    clock.advance(4_999);
    t.same(refused, [], name);
    clock.advance(1);
    t.match(refused, [{ code: 'timeout', message: /did not complete its handshake/ }], name);
    await peer.closed;
    t.equal(clock.pending, 0, `${name}: no timer is left`);
  }
});

/** A second in which what was said is also heard. */
async function second(peer: FakeSwitch, clock: ManualClock): Promise<void> {
  await peer.understood();
  clock.advance(1_000);
}

t.test('a byte a second is no sign of life', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock });
  const closed = once(sw, 'close');
  const endless = raw(4, 10, 0xffff - 8);
  peer.write(endless.subarray(0, 60));
  let seconds = 0;
  for (; !sw.closed && seconds < 60; seconds++) {
    peer.write(endless.subarray(60 + seconds, 61 + seconds));
    await turn();
    clock.advance(1_000);
  }
  t.match(await closed, [{ code: 'dead', message: /after (6\d|7\d|80) bytes of an unfinished message/ }]);
  t.equal(seconds, 20, 'asked after 5 s, given up 15 s later');
});

t.test('whoever talks without answering is no better than dead', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock });
  const closed = once(sw, 'close');
  let packets = 0;
  sw.on('packetIn', () => packets++);
  let seconds = 0;
  for (; !sw.closed && seconds < 60; seconds++) {
    peer.say(packetIn(1));
    await second(peer, clock);
  }
  t.match(await closed, [{ code: 'dead' }]);
  t.same([seconds, packets], [20, 20]);
  const other = await connected(t, { clock });
  other.peer.lively();
  for (seconds = 0; seconds < 60; seconds++) await second(other.peer, clock);
  t.notOk(other.sw.closed, 'one that answers goes on');
});

t.test('a switch that is busy with a long answer lives', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock });
  const answer = sw.multipart({ type: 'table' });
  const { xid } = await peer.hear('multipart_request');
  const part = (more: boolean): MessageBody => ({
    type: 'multipart_reply',
    ...(more ? { more } : {}),
    body: { type: 'table', tables: [] },
  });
  for (let seconds = 0; seconds < 40; seconds++) {
    peer.say(part(true), xid);
    await second(peer, clock);
  }
  t.notOk(sw.closed);
  peer.say(part(false), xid);
  t.equal((await answer).length, 41);
});

t.test('an answer without end ends the connection, by its size or by its time', async (t) => {
  const part: MessageBody = { type: 'multipart_reply', more: true, body: { type: 'table', tables: [] } };
  const large = await connected(t, { maxMultipartBytes: 10_000 });
  const request = large.sw.multipart({ type: 'table' });
  request.catch(() => {});
  const { xid } = await large.peer.hear('multipart_request');
  for (let i = 0; i < 100; i++) large.peer.say(part, xid);
  t.match((await large.peer.hear('error')).message, { errorType: BAD_REQUEST, code: OVERFLOW });
  await t.rejects(request, { code: 'too-large' });
  await large.peer.closed;
  t.ok(large.sw.closed);

  const clock = new ManualClock();
  const slow = await connected(t, { clock });
  const other = slow.sw.multipart({ type: 'table' });
  other.catch(() => {});
  const asked = await slow.peer.hear('multipart_request');
  for (let seconds = 0; !slow.sw.closed && seconds < 200; seconds += 5) {
    slow.peer.say(part, asked.xid);
    await slow.peer.understood();
    clock.advance(5_000);
    await turn();
  }
  await t.rejects(other, { code: 'endless' });
  t.ok(slow.sw.closed);
});

t.test('a stranger that asks and does not read is given up before much waits for it', async (t) => {
  const { dial, refused } = await listening(t, { maxStrangerBytes: 300_000 });
  const peer = await dial();
  peer.say({ type: 'hello', elements: helloElements(4) });
  await peer.hear('features_request');
  peer.socket.pause();
  const echo = toBytes({ type: 'echo_request', data: Buffer.alloc(60_000) }, 1);
  // The kernel's own buffers take some megabytes before anything waits here.
  for (let i = 0; i < 1_000 && refused.length === 0; i++) {
    if (!peer.socket.write(echo)) await Promise.race([once(peer.socket, 'drain'), peer.closed]);
    await turn();
  }
  t.match(refused, [{ code: 'backpressure' }]);
});

t.test('a peer that does not read its error does not stay', async (t) => {
  const clock = new ManualClock();
  const { dial, refused, listener } = await listening(t, { clock, lingerMs: 500 });
  const peer = await dial();
  peer.socket.pause();
  peer.say({ type: 'hello', elements: helloElements(4) });
  peer.write(raw(4, 99, 10));
  await waitFor('the refusal', () => refused.length === 1);
  t.equal(clock.pending, 1, 'it may still read');
  clock.advance(500);
  peer.socket.resume();
  await peer.closed;
  t.equal(clock.pending, 0);
  const chatty = await dial();
  await chatty.hear('hello');
  chatty.write(raw(4, 99, 10));
  const gone = chatty.closed;
  const junk = Buffer.alloc(100_000);
  for (let i = 0; i < 100 && !chatty.socket.destroyed; i++) {
    chatty.socket.write(junk);
    await turn();
  }
  await gone;
  t.pass('nor does one that goes on talking');
  await listener.close();
});

t.test('an error is read even by a peer that was in the middle of a long speech', async (t) => {
  const { dial } = await listening(t);
  const peer = await dial();
  peer.say({ type: 'hello', elements: helloElements(4) });
  await peer.hear('features_request');
  peer.write(raw(4, 99, 10));
  for (let i = 0; i < 10; i++) peer.say(packetIn(1, 50_000));
  t.match((await peer.hear('error')).message, { errorType: BAD_REQUEST, code: BAD_TYPE });
  await peer.closed;
});

t.test('packets for a switch that reads slowly are dropped, not kept', async (t) => {
  const { sw, peer } = await connected(t, { busyBytes: 200_000 });
  peer.socket.pause();
  const data = Buffer.alloc(50_000);
  let taken = 0;
  while (sw.packetOut({ inPort: OFPP.CONTROLLER, actions: [], data })) taken++;
  t.ok(taken > 3, `${taken} were taken`);
  t.notOk(sw.closed);
  peer.socket.resume();
  for (let i = 0; i < taken; i++) await peer.hear('packet_out');
  const alive = sw.barrier();
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await alive;
  t.equal(sw.packetOut({ inPort: OFPP.CONTROLLER, actions: [], data }), true, 'then they go again');
});

// Many

t.test('whoever opens connections without end displaces its own, and a switch still gets in', async (t) => {
  const { dial, refused, join, listener } = await listening(t, { maxStrangers: 8 });
  const idle: FakeSwitch[] = [];
  for (let i = 0; i < 20; i++) idle.push(await dial());
  await waitFor('the first to be displaced', () => refused.length === 12);
  t.match(refused, Array(12).fill({ code: 'crowded' }));
  await Promise.all(idle.slice(0, 12).map(({ closed }) => closed));
  t.ok(
    idle.slice(12).every(({ socket }) => !socket.destroyed),
    'the longest-waiting ones',
  );
  const { sw } = await join();
  t.equal(listener.switches.get(sw.dpid), sw);
});

t.test('the neighbourhood with most gives way', async (t) => {
  const lobby = new Lobby<{ readonly address: string; readonly id: number }>(4);
  const at = (address: string, id: number) => ({ address, id });
  const visitors = [at('10.0.0.1', 1), at('10.0.0.2', 2), at('10.0.0.2', 3), at('10.0.0.2', 4)];
  for (const visitor of visitors) t.equal(lobby.enter(visitor), undefined);
  t.equal(lobby.enter(at('10.0.0.3', 5))?.id, 2);
  for (const visitor of visitors) lobby.leave(visitor);
  for (const visitor of visitors) lobby.leave(visitor);
  t.equal(lobby.size, 1);
  t.equal(neighbourhood('fe80::1:2:3:4%eth0'), neighbourhood('fe80::9'));
  t.equal(neighbourhood('2001:db8:1:2:a:b:c:d'), neighbourhood('2001:db8:1:2::1'));
  t.not(neighbourhood('2001:db8:1:2::1'), neighbourhood('2001:db8:1:3::1'));
  t.equal(neighbourhood('::ffff:10.0.0.1'), '10.0.0.1');
  t.not(neighbourhood('10.0.0.1'), neighbourhood('10.0.0.2'));
});

t.test('1,000 connections that say nothing: one switch notices nothing, another gets in', async (t) => {
  const { sw, peer, dial, join } = await connected(t);
  peer.always('barrier_request', (_, xid) => peer.say({ type: 'barrier_reply' }, xid)).lively();
  const dialling: Promise<FakeSwitch>[] = [];
  for (let i = 0; i < 1_000; i++) {
    dialling.push(dial());
    if (i % 100 === 0) await sw.barrier();
  }
  await Promise.all(dialling);
  await sw.barrier();
  const late = await join(2n);
  t.notOk(sw.closed);
  t.notOk(late.sw.closed);
});

t.test('a switch that floods has turns, and others have theirs between them', async (t) => {
  const { peer: flooder, sw: flooding, join } = await connected(t);
  const { peer, sw } = await join(2n);
  peer.always('barrier_request', (_, xid) => peer.say({ type: 'barrier_reply' }, xid));
  let heard = 0;
  flooding.on('packetIn', () => heard++);
  const total = 30_000;
  flooder.write(Buffer.concat(Array.from({ length: total }, () => toBytes(packetIn(1, 40), 0))));
  await waitFor('the flood', () => heard > 0);
  const rounds: number[] = [];
  while (heard < total) {
    await sw.barrier();
    rounds.push(heard);
  }
  t.equal(heard, total, 'nothing is lost');
  t.ok(rounds.length > 10, `${rounds.length} answers came meanwhile`);
  const most = Math.max(...rounds.map((count, i) => count - (rounds[i - 1] ?? 0)));
  t.ok(most < total / 4, `at most ${most} of the flood between two of them`);
});

t.test('a turn ends, and who waits goes on in order', async (t) => {
  const turns = new Turns();
  const order: string[] = [];
  const worker = (name: string, left: number) => {
    const go = (): void => {
      for (; left > 0; left--) {
        if (!turns.open) {
          turns.wait(go);
          return;
        }
        turns.spend(16 * 1024);
        order.push(name);
      }
    };
    return go;
  };
  for (const go of [worker('a', 12), worker('b', 8)]) go();
  t.equal(order.join(''), 'aaaa', 'one turn');
  await waitFor('the others', () => order.length === 20);
  t.equal(order.join(''), 'aaaaaaaabbbbaaaabbbb');
});

t.test('50 switches at once, again and again, also when nobody was there to hear them', async (t) => {
  const clock = new ManualClock();
  const first = await listening(t, { clock });
  const ids = Array.from({ length: 50 }, (_, i) => BigInt(i + 1));
  for (let round = 0; round < 3; round++) {
    const all = await Promise.all(ids.map((id) => first.join(id)));
    t.equal(first.listener.switches.size, 50);
    const closed = all.map(({ sw }) => once(sw, 'close'));
    for (const { peer } of all) peer.socket.destroy();
    await Promise.all(closed);
    t.equal(first.listener.switches.size, 0);
  }
  t.same(first.refused, []);
  await first.listener.close();
  t.equal(clock.pending, 0);
  await t.rejects(FakeSwitch.dial(first.port), { code: 'ECONNREFUSED' });
  const again = await listening(t, { port: first.port });
  const back = await Promise.all(ids.map((id) => again.join(id)));
  t.equal(again.listener.switches.size, 50);
  for (const { sw } of back) t.notOk(sw.closed);
});

// Two of one name

t.test('while a switch lives, nobody takes its datapath id', async (t) => {
  const { sw, peer, dial, refused, listener } = await connected(t);
  peer.lively();
  for (let i = 0; i < 20; i++) {
    const other = await dial();
    other.say({ type: 'hello', elements: helloElements(4) });
    await other.answer('features_request', features(1n));
    t.match((await other.hear('error')).message, { errorType: HELLO_FAILED, code: EPERM });
    await other.closed;
  }
  t.notOk(sw.closed);
  t.equal(listener.switches.get(sw.dpid), sw);
  t.equal(refused.length, 20);
  t.match(refused[0], { code: 'duplicate', message: new RegExp(`connected already, from ${sw.peer}`) });
  t.equal(listener.listenerCount('switch'), 0);
});

t.test('one that does not answer when it connects again is replaced', async (t) => {
  const clock = new ManualClock();
  const { sw, peer, listener, dial } = await connected(t, { clock, probeMs: 1_000 });
  const waiting = sw.barrier();
  waiting.catch(() => {});
  const order: string[] = [];
  sw.on('close', () => order.push('close'));
  listener.on('switch', () => order.push('switch'));
  const back = once(listener, 'switch');
  const other = once(sw, 'close');
  const again = await dial();
  const introduced = again.introduce(1n);
  await peer.hear('echo_request');
  t.notOk(sw.closed, 'it has its time to answer');
  clock.advance(1_000);
  await t.rejects(waiting, { code: 'replaced' });
  t.match(await other, [{ code: 'replaced', message: /does not answer/ }]);
  await introduced;
  const [next] = (await back) as [Switch];
  t.strictSame(order, ['close', 'switch']);
  t.equal(listener.switches.get(sw.dpid), next);
  t.equal(listener.switches.size, 1);
});

t.test('one that owes an answer already is replaced at once', async (t) => {
  const clock = new ManualClock();
  const { sw, join } = await connected(t, { clock });
  clock.advance(5_000);
  clock.advance(5_000);
  t.notOk(sw.closed);
  const { sw: next } = await join();
  t.ok(sw.closed);
  t.notOk(next.closed);
});

t.test('one that goes while it is asked makes room', async (t) => {
  const clock = new ManualClock();
  const { sw, peer, join } = await connected(t, { clock });
  const joining = join();
  await peer.hear('echo_request');
  peer.socket.destroy();
  const { sw: next } = await joining;
  t.ok(sw.closed);
  t.notOk(next.closed);
});

t.test('of two in their handshake the later one goes on', async (t) => {
  const { dial, refused, join } = await listening(t);
  const stuck = await dial();
  stuck.say({ type: 'hello', elements: helloElements(4) });
  await stuck.answer('features_request', features(1n));
  await stuck.hear('barrier_request');
  const { sw } = await join();
  await stuck.closed;
  t.match(refused, [{ code: 'replaced' }]);
  t.notOk(sw.closed);
});

// Bookkeeping

t.test('numbers of requests come round, and none is used twice at a time', async (t) => {
  const requests = new Requests(new ManualClock(), 10);
  t.equal(requests.issued(1), false);
  const first = requests.nextXid();
  t.same([first, requests.issued(1), requests.issued(2), requests.issued(0)], [1, true, false, false]);
  const failed: string[] = [];
  requests
    .wait(first, 'the first', { timeoutMs: 1 }, () => ({ done: 1 }))
    .catch(({ message }) => failed.push(message));
  const heard: [string, number][] = [];
  const watch = requests.watch(
    0xffff_fff0,
    (place) => `thing ${place}`,
    (error, place) => heard.push([error.message, place]),
  );
  t.equal(watch.first, 2);
  const refused = {
    message: refusal(1, 5) as Extract<MessageBody, { type: 'error' }>,
    version: 4,
    frame: Buffer.alloc(0),
  };
  t.equal(requests.deliver({ ...refused, xid: 77 }), true);
  t.match(heard, [[/thing 75/, 75]]);
  watch.end();
  t.equal(requests.deliver({ ...refused, xid: 77 }), false);
  for (let i = 0; i < 14; i++) requests.nextXid();
  t.equal(requests.nextXid(), 2, 'round, past the one that waits');
  t.equal(requests.issued(0xffff_0000), true);
  requests.close(new SwitchError('closed', 'enough'));
  await turn();
  t.same(failed, ['enough']);
});

t.test('only so many requests and bundles wait', async (t) => {
  const { sw } = await connected(t, { maxRequests: 3, maxBundles: 2 });
  const waiting = [sw.barrier(), sw.barrier(), sw.barrier()];
  await t.rejects(sw.barrier(), { code: 'backpressure' });
  const flow = {
    type: 'flow_mod',
    command: 'add',
    table: 0,
    priority: 1,
    cookie: 0n,
    match: {},
    instructions: [],
  } as const;
  const bundles = [sw.bundle([flow]), sw.bundle([flow])];
  await t.rejects(sw.bundle([flow]), { code: 'backpressure' });
  const settled = Promise.allSettled([...waiting, ...bundles]);
  sw.close();
  t.equal((await settled).filter(({ status }) => status === 'rejected').length, 5);
});

t.test('refusals without end are a few lines in the log, and their number', async (t) => {
  const clock = new ManualClock();
  const lines: { readonly leftOut?: number; readonly peer: string }[] = [];
  const quiet = new QuietLog({ warn: (line: { peer: string }) => lines.push(line) } as unknown as Log, clock);
  const error = new SwitchError('protocol', 'bad');
  for (let i = 0; i < 1_000; i++) logRefusal(quiet, error, `10.0.0.1:${i}`);
  t.equal(lines.length, 5);
  logRefusal(quiet, error, '10.0.0.2:1');
  logRefusal(quiet, new SwitchError('timeout', 'slow'), '10.0.0.1:1');
  t.equal(lines.length, 7, 'another address and another reason are heard');
  clock.advance(60_000);
  t.match(lines.at(-1), { peer: '10.0.0.1:999', leftOut: 995 });
  t.equal(lines.length, 8);
  quiet.close();
  t.equal(clock.pending, 0);
});
