/**
 * Peers that mean harm to the channel: each is refused with a reason, told in the log once, and holds no more than its share; and an honest agent on the same
 * server is asked, answers, and reports its changes all the while.
 */
import { Packr, pack } from 'msgpackr';
import t from 'tap';
import { RemoteDomain } from '../../controller-app/domains/remote/index.js';
import { ChannelServer, PROTOCOL_VERSION, serveDomain } from '../../shared/channel/index.js';
import { MAX_HELLO_BYTES, MAX_STRANGERS, MAX_UNACKNOWLEDGED } from '../../shared/channel/limits.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { QuietLog } from '../../shared/runtime/quiet-log.js';
import { besieged, hello, id, listening, snapshot } from '../fixtures/besieged.js';
import { type RawPeer, rawAgent, rawController } from '../fixtures/channel-peers.js';
import { frame, RawStream } from '../fixtures/raw-stream.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(120_000);

/** One read of a socket, and what its stream holds beside. */
const READ_BYTES = 2 * 65_536;
const keys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, 1]));
const nested = (depth: number): Uint8Array => Uint8Array.from([...Array(depth).fill(0x91), 0xc0]);

/** An agent with an accepted hello. */
async function accepted(port: number): Promise<RawPeer> {
  const peer = await rawAgent(port);
  peer.say(hello());
  await waitFor('hello-ack', () => peer.heard('hello-ack') !== undefined);
  return peer;
}

type Attack = (port: number) => Promise<RawStream>;
const webSocket =
  (...frames: readonly Uint8Array[]): Attack =>
  async (port) => {
    const stream = await RawStream.webSocket(port);
    stream.write(Buffer.concat(frames));
    return stream;
  };
const tcp =
  (bytes: Uint8Array): Attack =>
  async (port) => {
    const stream = await RawStream.tcp(port);
    stream.write(bytes);
    return stream;
  };
const message = (value: unknown): Attack => webSocket(frame(pack(value)));

/** What a stranger may do, and what the log says of it. */
const STRANGERS: Readonly<Record<string, readonly [Attack, RegExp]>> = {
  'no HTTP': [tcp(Buffer.alloc(300, 0xc1)), /does not speak HTTP/],
  'HTTP, and no WebSocket': [
    tcp(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')),
    /does not ask for a WebSocket/,
  ],
  'an endless header': [
    tcp(Buffer.from(`GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`)),
    /does not speak HTTP/,
  ],
  'half a header': [tcp(Buffer.from('GET / HTTP/1.1\r\nHo')), /no hello within \d+ ms/],
  'an upgrade to something else': [
    tcp(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n')),
    /Invalid Upgrade header/,
  ],
  'a key that is none': [
    tcp(
      Buffer.from(
        'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n',
      ),
    ),
    /Sec-WebSocket-Key/,
  ],
  'a web page': [
    tcp(
      Buffer.from(
        'GET / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
      ),
    ),
    /a web page of http:\/\/evil.example/,
  ],
  'nothing at all': [webSocket(), /no hello within \d+ ms/],
  'half a hello': [webSocket(frame(pack(hello())).subarray(0, 60)), /no hello within \d+ ms/],
  'a text': [webSocket(frame(Buffer.from('{"type":"hello"}'), { opcode: 'text' })), /a text came/],
  garbage: [webSocket(frame(Uint8Array.from([0xc1, 1, 2]))), /not plain MessagePack/],
  'a hello of another version': [
    message({ ...hello(), protocol: PROTOCOL_VERSION + 1 }),
    /install the same release/,
  ],
  'a hello of no version': [message({ ...hello(), protocol: 'new' }), /not valid: protocol/],
  'an unknown message': [message({ type: 'shutdown' }), /not valid/],
  'no message': [message([1, 2, 3]), /not valid/],
  'wrong types': [message({ type: 'hello', protocol: [], domain: {}, capabilities: 1 }), /not valid/],
  'bytes where a list belongs': [
    message({ ...hello(), capabilities: { implementation: 'x', serves: Buffer.from('x') } }),
    /not valid/,
  ],
  'a name that is not expected': [message(hello('edge-9')), /no edge domain "edge-9"/],
  'a name with another line in it': [message(hello('edge-2\nERROR')), /not valid: domain/],
  'a request before its hello': [message({ type: 'export', id: 1, instance: id }), /not valid/],
  'an answer before its hello': [message({ type: 'ack', id: 1 }), /out of turn/],
  'two hellos at once': [
    webSocket(frame(pack(hello('edge-1'))), frame(pack(hello('edge-1')))),
    /out of turn/,
  ],
  'records, which the decoder would follow': [
    webSocket(frame(new Packr({ useRecords: true }).pack(hello()))),
    /not used here|a key is not/,
  ],
  'deep nesting': [webSocket(frame(nested(10_000))), /nested deeper/],
  'a huge map': [webSocket(frame(pack(keys(1_000)))), /more than 32 keys/],
  'an array of four billion': [
    webSocket(frame(Uint8Array.from([0xdd, 255, 255, 255, 255]))),
    /more than 10000 entries/,
  ],
  'a compressed frame': [webSocket(frame(pack(hello()), { rsv1: true })), /RSV1 must be clear/],
  'a frame without a mask': [webSocket(frame(pack(hello()), { masked: false })), /MASK must be set/],
  'a frame of 100 MB': [
    webSocket(frame(new Uint8Array(100), { claims: 100_000_000 })),
    /payload size exceeded/,
  ],
  'a frame of 2^60 bytes': [
    webSocket(frame(new Uint8Array(100), { claims: 2 ** 60 })),
    /payload|frame length/,
  ],
  'a frame of a control type, in fragments': [
    webSocket(frame(new Uint8Array(1), { opcode: 'ping', fin: false })),
    /FIN must be set/,
  ],
  'a ping of the WebSocket': [
    webSocket(frame(new Uint8Array(5), { opcode: 'ping' })),
    /a ping of the WebSocket/,
  ],
  'a fragment of nothing': [
    webSocket(frame(new Uint8Array(1), { opcode: 'continuation' })),
    /invalid opcode 0/,
  ],
  'a close frame with a wrong code': [
    webSocket(frame(Uint8Array.from([0, 1]), { opcode: 'close' })),
    /invalid status code/,
  ],
};

t.test('whatever a stranger does, it is refused with a reason, and told once', async (t) => {
  for (const [what, [attack, says]] of Object.entries(STRANGERS)) {
    const { log, warnings } = listening();
    const server = new ChannelServer({ log, limits: { helloMs: 300, closeMs: 200 } });
    for (const name of ['edge-1', 'edge-2']) new RemoteDomain({ name, server });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    const stream = await attack(port);
    await waitFor(`${what}: hung up on`, () => stream.ended);
    await waitFor(`${what}: nobody is left`, () => server.load.strangers === 0);
    t.match(
      warnings().map(({ problem, reason }) => problem ?? reason),
      [says],
      `${what}: told once`,
    );
    await server.close();
  }
});

t.test('many who do all of that at once disturb nobody, and the log stays short', async (t) => {
  const { server, port, lines, warnings, goesOn, other } = await besieged(t);
  const attacks = [...Object.values(STRANGERS), ...Object.values(STRANGERS), ...Object.values(STRANGERS)];
  const streams: RawStream[] = [];
  for (const [attack] of attacks) {
    streams.push(await attack(port));
    if (streams.length % 10 === 0) t.ok(await goesOn(), `after ${streams.length}`);
  }
  await waitFor('all are hung up on', () => streams.every(({ ended }) => ended), { timeoutMs: 30_000 });
  t.ok(await goesOn(), 'the honest agent notices nothing');
  t.notOk(other.connected);
  await waitFor('nobody is left', () => server.load.strangers === 0);
  t.same(server.load, { strangers: 0, agents: 1, heldBytes: 0 });
  t.ok(warnings().length <= 10, `${warnings().length} lines of ${attacks.length} refusals`);
  await server.close();
  const counted = warnings().reduce((sum, { leftOut = 1 }) => sum + leftOut, 0);
  t.equal(counted, attacks.length, 'in the end every refusal is counted');
  t.equal(lines.filter(({ level }) => level >= 50).length, 0, 'nothing is a fault of our own');
});

/** What is not cut off ends by itself here. */
const FLOOD_BYTES = 256 * 2 ** 20;

t.test('a stranger cannot make much be held, however it sends', async (t) => {
  const { server, port, goesOn } = await besieged(t, { maxStrangers: 8 });
  let most = 0;
  const sampling = setInterval(() => {
    most = Math.max(most, server.load.heldBytes);
  }, 1);
  t.teardown(() => clearInterval(sampling));
  const part = Buffer.alloc(4_096, 1);
  const large = frame(new Uint8Array(), { claims: 30_000_000 });
  const floods: Readonly<Record<string, (stream: RawStream) => Promise<number>>> = {
    'a frame that is allowed to agents only': (stream) => {
      stream.write(large);
      return stream.flood(() => part, FLOOD_BYTES);
    },
    'fragments of a byte': (stream) => {
      stream.write(frame(part.subarray(0, 1), { fin: false }));
      return stream.flood(
        () => frame(part.subarray(0, 1), { opcode: 'continuation', fin: false }),
        FLOOD_BYTES,
      );
    },
    'empty fragments': (stream) => {
      stream.write(frame(part.subarray(0, 1), { fin: false }));
      return stream.flood(() => frame(new Uint8Array(), { opcode: 'continuation', fin: false }), FLOOD_BYTES);
    },
    'pings, and reads no pong': (stream) => {
      stream.socket.pause();
      return stream.flood(
        () =>
          Buffer.concat(Array.from({ length: 50 }, () => frame(part.subarray(0, 125), { opcode: 'ping' }))),
        FLOOD_BYTES,
      );
    },
    'pings of the channel': (stream) => stream.flood(() => frame(pack({ type: 'ping', id: 1 })), FLOOD_BYTES),
  };
  for (const [what, flood] of Object.entries(floods)) {
    const stream = await RawStream.webSocket(port);
    const flooding = flood(stream);
    t.ok(await goesOn(), `${what}: the rest goes on`);
    const sent = await flooding;
    // How much it sent is a matter of the sockets' buffers: what is held here is looked at below.
    t.ok(sent < FLOOD_BYTES && stream.ended, `${what}: cut off after ${sent} bytes`);
    stream.destroy();
  }
  clearInterval(sampling);
  const bound = 8 * (MAX_HELLO_BYTES + READ_BYTES);
  t.ok(most <= bound, `${most} bytes were held at most, of ${bound}`);
  const agent = await RawStream.webSocket(port);
  agent.write(frame(pack(hello())));
  await waitFor('an agent', () => server.load.agents === 2);
  agent.write(large);
  agent.write(Buffer.alloc(3_000_000, 1));
  await waitFor(
    'control: what an agent sends of a large message is held',
    () => server.load.heldBytes > 2_900_000,
  );
  agent.destroy();
  await waitFor('until it goes', () => server.load.heldBytes === 0);
});

t.test('a thousand strangers keep nobody out', async (t) => {
  const { server, port, goesOn, warnings } = await besieged(t, { helloMs: 60_000 });
  const streams: RawStream[] = [];
  let most = 0;
  for (let hundred = 0; hundred < 10; hundred++) {
    const open = hundred % 2 === 0 ? RawStream.tcp : RawStream.webSocket;
    streams.push(...(await Promise.all(Array.from({ length: 100 }, () => open(port)))));
    most = Math.max(most, server.load.strangers);
    t.ok(server.load.strangers <= MAX_STRANGERS, `${server.load.strangers} are there`);
    if (hundred % 3 === 0) t.ok(await goesOn(), 'the honest agent goes on');
  }
  t.equal(most, MAX_STRANGERS, 'control: there were as many as may be');
  const domain = new ReferenceDomain('edge-2');
  const late = serveDomain({ url: `ws://127.0.0.1:${port}`, domain, log: silentLog });
  await waitFor('an agent that comes late is taken', () => late.connected);
  await waitFor(
    'others have gone for those that came',
    () => streams.filter(({ ended }) => ended).length >= 1_000 - MAX_STRANGERS,
  );
  t.ok(warnings().length <= 3, 'the log stays short');
  await late.close();
  for (const stream of streams) stream.destroy();
});

t.test('a name that is in use cannot be taken, however often one asks', async (t) => {
  const { port, goesOn, warnings } = await besieged(t);
  const peers: RawPeer[] = [];
  for (let i = 0; i < 60; i++) {
    const peer = await rawAgent(port);
    peers.push(peer);
    peer.say(hello('edge-1'));
    if (i % 20 === 0) t.ok(await goesOn());
  }
  await waitFor('all are refused', () => peers.every(({ closed }) => closed !== undefined));
  for (const { received, closed } of peers) {
    const last = received.at(-1);
    if (closed?.code !== 4003 || !/connected already|just claiming/.test(String(last?.message)))
      t.match(last, {}, 'refused');
  }
  t.ok(await goesOn());
  t.equal(warnings().length, 1, 'told once');
  t.match(warnings(), [{ domain: 'edge-1', problem: /connected already/ }]);
});

/** What an agent with an accepted hello may do, and what is said of it. */
const AGENTS: Readonly<
  Record<string, readonly [(peer: RawPeer, stream: (bytes: Uint8Array) => void) => void, RegExp]>
> = {
  'says hello again': [(peer) => peer.say(hello()), /a hello came out of turn/],
  'sends a frame of 100 MB': [
    (_, write) => write(frame(new Uint8Array(100), { claims: 100_000_000 })),
    /payload size/,
  ],
  'sends fragments without end': [
    (_, write) => {
      write(frame(Uint8Array.from([1]), { fin: false }));
      for (let i = 0; i < 100; i++)
        write(frame(Uint8Array.from([1]), { opcode: 'continuation', fin: false }));
    },
    /fragments/,
  ],
  'sends a text': [(peer) => peer.socket.send('hello'), /a text came/],
  'pings by WebSocket': [(peer) => peer.socket.ping(), /a ping of the WebSocket came/],
  'sends garbage': [(peer) => peer.socket.send(Uint8Array.from([0xc1])), /not plain MessagePack/],
  'nests deeply': [(peer) => peer.socket.send(nested(100_000)), /nested deeper/],
  'sends a map of 100,000 keys': [
    (peer) => peer.socket.send(new Packr({ useRecords: false, variableMapSize: true }).pack(keys(100_000))),
    /more than 32 keys/,
  ],
  'sends a list of 100,000 changes': [
    (peer) => peer.say({ type: 'delta', id: 1, deltas: Array(100_000).fill(0) }),
    /more than 10000 entries/,
  ],
  'sends a text of a megabyte': [
    (peer) => peer.say({ type: 'error', id: 1, code: 'x'.repeat(1_000_000) }),
    /a text is longer/,
  ],
  'sends a key of a megabyte': [(peer) => peer.say({ ['x'.repeat(1_000_000)]: 1 }), /a key is not/],
  'says what only a controller says': [
    (peer) => peer.say({ type: 'retire', id: 1, instance: id }),
    /not valid/,
  ],
  'answers what nobody asked': [(peer) => peer.say({ type: 'ack', id: 1 }), /answers nothing that was asked/],
  'fails what nobody asked': [
    (peer) => peer.say({ type: 'error', id: 1, code: 'refused', message: 'no' }),
    /answers nothing/,
  ],
  'ends what nobody follows': [(peer) => peer.say({ type: 'end', id: 1 }), /answers nothing that was asked/],
  'reports changes that nobody follows': [
    (peer) =>
      peer.say({ type: 'delta', id: 1, deltas: [{ sequence: 1, change: { kind: 'ended', key: 'x' } }] }),
    /answers nothing that was asked/,
  ],
  'reports no changes': [(peer) => peer.say({ type: 'delta', id: 1, deltas: [] }), /not valid: deltas/],
  'exports bytes for a policy': [
    (peer) =>
      peer.say({
        type: 'state',
        id: 1,
        state: { ...snapshot, policy: Buffer.from('x'), connections: Buffer.from([1, 0]) },
      }),
    /not valid/,
  ],
  'exports a table that is none': [
    (peer) =>
      peer.say({ type: 'state', id: 1, state: { ...snapshot, connections: Buffer.from([1, 200, 1]) } }),
    /connection table is malformed/,
  ],
  'exports a million connections': [
    (peer) =>
      peer.say({
        type: 'state',
        id: 1,
        state: { ...snapshot, connections: Buffer.from([1, 0xc0, 0x84, 0x3d]) },
      }),
    /number of connections out of range: 1000000/,
  ],
};

t.test('an agent that misbehaves is hung up on, and told once', async (t) => {
  for (const [what, [misbehave, says]] of Object.entries(AGENTS)) {
    await t.test(what, async (t) => {
      const { port, other, warnings, goesOn, server } = await besieged(t);
      const peer = await accepted(port);
      await waitFor('connected', () => other.connected);
      misbehave(peer, (bytes) => peer.write(bytes));
      await waitFor('hung up on', () => peer.closed !== undefined && !other.connected);
      t.match(warnings(), [{ domain: 'edge-2', reason: says }]);
      t.equal(warnings().length, 1);
      t.ok(await goesOn(), 'the rest goes on');
      t.match(server.load, { agents: 1, heldBytes: 0 });
    });
  }
});

t.test('an agent that comes back to misbehave again and again is told once', async (t) => {
  const { port, other, lines, goesOn } = await besieged(t);
  for (let i = 0; i < 30; i++) {
    const peer = await accepted(port);
    await waitFor('connected', () => other.connected);
    peer.socket.send('a text');
    await waitFor('hung up on', () => peer.closed !== undefined && !other.connected);
  }
  t.ok(await goesOn());
  t.equal(lines.filter(({ msg }) => /misbehaved/.test(msg)).length, 1);
  t.ok(
    lines.filter(({ domain }) => domain === 'edge-2').length <= 7,
    'its comings are not told without end either',
  );
});

t.test('an agent that sends without end and takes nothing is hung up on within bounds', async (t) => {
  const { port, other, goesOn, server } = await besieged(t, {
    maxQueuedBytes: 200_000,
    maxFrameBytes: 100_000,
  });
  let most = 0;
  const sampling = setInterval(() => {
    most = Math.max(most, server.load.heldBytes);
  }, 1);
  t.teardown(() => clearInterval(sampling));
  const ping = frame(pack({ type: 'ping', id: 1 }));
  const floods: Readonly<Record<string, Uint8Array>> = {
    'pings of the channel': Buffer.concat(Array.from({ length: 500 }, () => ping)),
    'pings of the WebSocket': Buffer.concat(
      Array.from({ length: 100 }, () => frame(new Uint8Array(125), { opcode: 'ping' })),
    ),
  };
  for (const [what, bytes] of Object.entries(floods)) {
    const stream = await RawStream.webSocket(port);
    stream.write(frame(pack(hello())));
    await waitFor('connected', () => other.connected);
    stream.socket.pause();
    const flooding = stream.flood(() => bytes, 200_000_000);
    for (let i = 0; i < 5; i++) t.ok(await goesOn(), `${what}: the rest goes on`);
    await waitFor(`${what}: hung up on`, () => !other.connected, { timeoutMs: 60_000 });
    stream.destroy();
    await flooding;
  }
  t.ok(most <= 100_000 + 200_000 + READ_BYTES, `${most} bytes were held at most`);
});

t.test('an answer that is late is no offence, a second one is', async (t) => {
  const { port, other } = await besieged(t, { requestMs: 50 });
  const peer = await accepted(port);
  await waitFor('connected', () => other.connected);
  await t.rejects(other.retire(id), { code: 'unreachable' });
  const request = await waitFor('the request', () => peer.heard('retire'));
  peer.say({ type: 'ack', id: request.id });
  await t.rejects(other.health(), { code: 'unreachable' });
  t.ok(other.connected, 'a late answer');
  peer.say({ type: 'ack', id: request.id });
  await waitFor('hung up on', () => peer.closed !== undefined);
  t.match(peer.closed, { code: 4001, reason: /answers nothing that was asked/ });

  const follower = await accepted(port);
  await waitFor('connected', () => other.connected);
  const following = new AbortController();
  const changes = other.changes(id, 0, following.signal);
  const first = changes.next();
  const follow = await waitFor('the question', () => follower.heard('follow'));
  const delta = (sequence: number) => ({
    sequence,
    change: { kind: 'ended', key: 'udp 10.0.0.1 1 10.0.0.2 2' },
  });
  follower.say({ type: 'delta', id: follow.id, deltas: [delta(1)] });
  t.match((await first).value, [{ sequence: 1 }]);
  following.abort();
  await changes.return(undefined);
  await waitFor('it is told', () => follower.heard('unfollow'));
  for (let i = 0; i < MAX_UNACKNOWLEDGED; i++)
    follower.say({ type: 'delta', id: follow.id, deltas: [delta(i + 2)] });
  follower.say({ type: 'pong', id: 1 });
  const health = other.health();
  const asked = await waitFor('a question', () => follower.heard('health'));
  follower.say({ type: 'health-report', id: asked.id, health: { ok: true, instances: [] } });
  t.ok((await health).ok, 'what was under way may still come');
  follower.say({ type: 'delta', id: follow.id, deltas: [delta(99)] });
  await waitFor('hung up on', () => follower.closed !== undefined);
});

t.test('an agent whose domain hangs does not collect what one link after another asks', async (t) => {
  const limits = { maxInFlight: 3, backoffFirstMs: 5, backoffMaxMs: 20 };
  const refused: number[] = [];
  let links = 0;
  const raw = await rawController((peer) => {
    links++;
    peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION });
    for (let request = 1; request <= 3; request++) peer.say({ type: 'export', id: request, instance: id });
    peer.say({ type: 'health', id: 9 });
    peer.socket.on('message', () => {
      if (peer.heard('health-report') === undefined && !peer.received.some((said) => said.id === 9)) return;
      refused.push(peer.received.filter(({ type, code }) => type === 'error' && code === 'not-ready').length);
      peer.destroy();
    });
  });
  const domain = new ReferenceDomain('edge-1');
  let asked = 0;
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  domain.export = async () => {
    asked++;
    await held;
    return snapshot;
  };
  const agent = serveDomain({ url: `ws://127.0.0.1:${raw.port}`, domain, log: silentLog, limits });
  await waitFor('several links', () => links > 5 && refused.length >= 5);
  t.equal(asked, 1, 'one is under way, the others of its terminal wait');
  t.match(refused.slice(2, 5), [4, 4, 4], 'and when two links’ worth of them wait, all more are refused');
  release();
  await agent.close();
  await raw.close();
  t.equal(asked, 1, 'what a lost link asked, and had not begun, does not begin');
});

t.test('lines that others cause are written once, then counted', async (t) => {
  const { log, lines } = listening();
  const clock = new ManualClock();
  const quiet = new QuietLog(log, clock, 1_000);
  for (let i = 0; i < 50; i++) quiet.say('a', 'warn', { problem: `${i}` }, 'refused');
  for (let i = 0; i < 4; i++) quiet.say('b', 'info', {}, 'came', 3);
  t.same(
    lines.map(({ msg, problem, leftOut }) => [msg, problem, leftOut]),
    [['refused', '0', undefined], ...Array(3).fill(['came', undefined, undefined])],
  );
  clock.advance(1_000);
  t.match(lines.slice(4), [
    { msg: 'refused', problem: '49', leftOut: 49 },
    { msg: 'came', leftOut: 1 },
  ]);
  quiet.say('a', 'warn', { problem: 'more' }, 'refused');
  clock.advance(1_000);
  t.match(lines.slice(6), [{ problem: 'more', leftOut: 1 }]);
  clock.advance(10_000);
  t.equal(lines.length, 7, 'and when it is over nothing more is said');
  t.equal(clock.pending, 0);
  for (let i = 0; i < 1_000; i++) quiet.say(`kind ${i}`, 'warn', {}, 'refused');
  t.ok(lines.length < 80, 'kinds are bounded, too');
  quiet.close();
  quiet.close();
  t.equal(clock.pending, 0);
  t.match(lines.at(-1), { leftOut: 936 - 1 });
});
