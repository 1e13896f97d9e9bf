/**
 * The channel over real sockets on loopback, and its codecs: what it carries, what it refuses, and that it comes back.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { Packr, pack } from 'msgpackr';
import t from 'tap';
import { RemoteDomain } from '../../controller-app/domains/remote/index.js';
import { bytesToIpv6, ipv6ToBytes } from '../../shared/channel/address-bytes.js';
import { agentCodec, controllerCodec } from '../../shared/channel/codec.js';
import {
  ConnectionsError,
  decodeConnections,
  encodeConnections,
} from '../../shared/channel/connections-codec.js';
import { ChannelError, ChannelServer, type Limits, serveDomain } from '../../shared/channel/index.js';
import {
  backoffMs,
  DEFAULT_LIMITS,
  MAX_DEPTH,
  MAX_HELLO_BYTES,
  MAX_UNACKNOWLEDGED,
  PROTOCOL_VERSION,
} from '../../shared/channel/limits.js';
import { loopbackAddressOf } from '../../shared/channel/loopback.js';
import { DOMAIN_ERROR_CODES } from '../../shared/channel/messages.js';
import { problemOfMessagePack } from '../../shared/channel/plain-messagepack.js';
import { type Domain, DomainError, type InstanceId, type ToldDelta } from '../../shared/domain/domain.js';
import { type Connection, connectionKey, connectionSchema } from '../../shared/firewall/connection.js';
import { type Delta, epoch, type Snapshot } from '../../shared/firewall/state.js';
import { KeyedQueue } from '../../shared/runtime/keyed-queue.js';
import { silentLog } from '../../shared/runtime/log.js';
import { isLoopback } from '../../shared/runtime/loopback.js';
import {
  HELLO,
  maskedFrame,
  type RawPeer,
  Relay,
  rawAgent,
  rawController,
  type Said,
  UPGRADE,
} from '../fixtures/channel-peers.js';
import { anyConnection, ipv6Address, realisticTable } from '../fixtures/connection-tables.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { alice, bob, connectedPair, examplePolicy } from '../fixtures/reference-environment.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(120_000);

const log = silentLog;
const id: InstanceId = { terminal: 'alice', epoch: epoch(2) };
const QUICK: Partial<Limits> = { backoffFirstMs: 5, backoffMaxMs: 20, reconnectMs: 10_000, closeMs: 200 };

function snapshot(connections: readonly Connection[] = []): Snapshot {
  return {
    terminal: alice,
    epoch: epoch(1),
    sequence: 41,
    policy: examplePolicy,
    earlier: [],
    connections,
    counters: [],
  };
}

function sorted(connections: readonly Connection[]): string[] {
  return connections
    .map((one) => `${connectionKey(one)} ${JSON.stringify(one, Object.keys(one).sort())}`)
    .sort();
}

async function codeOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
    return 'no error';
  } catch (error) {
    return error instanceof DomainError || error instanceof ChannelError ? error.code : String(error);
  }
}

/** A controller's side that waits for `edge-1`, and no agent. */
async function controller(t: Tap, limits: Partial<Limits> = {}) {
  const server = new ChannelServer({ log, limits });
  const remote = new RemoteDomain({ name: 'edge-1', server, reconnectMs: limits.reconnectMs ?? 200 });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  t.teardown(async () => {
    remote.close();
    await server.close();
  });
  return { server, remote, port };
}
type Tap = { teardown(fn: () => unknown): unknown };

async function greeted(t: Tap, port: number): Promise<RawPeer> {
  const agent = await rawAgent(port);
  t.teardown(() => agent.destroy());
  agent.say(HELLO);
  await waitFor('hello-ack', () => agent.heard('hello-ack') !== undefined);
  return agent;
}

t.test('connections in columns', async (t) => {
  t.test('come out as they went in, whatever they are', async () => {
    fc.assert(
      fc.property(fc.array(anyConnection(alice), { maxLength: 60 }), (connections) => {
        const decoded = decodeConnections(encodeConnections(connections, alice), alice);
        for (const one of decoded) connectionSchema.parse(one);
        return JSON.stringify(sorted(decoded)) === JSON.stringify(sorted(connections));
      }),
      { numRuns: 100 },
    );
  });

  t.test('addresses have the texts that the rest of the system uses', async () => {
    fc.assert(fc.property(ipv6Address, (text) => bytesToIpv6(ipv6ToBytes(text)) === text));
  });

  t.test('arbitrary bytes give valid connections or the error, never anything else', async () => {
    const harmless = (bytes: Uint8Array): boolean => {
      try {
        for (const one of decodeConnections(bytes, alice)) connectionSchema.parse(one);
        return true;
      } catch (error) {
        return error instanceof ConnectionsError;
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), harmless), { numRuns: 2000 });
    const version = fc.uint8Array({ maxLength: 200 }).map((bytes) => Uint8Array.from([1, ...bytes]));
    fc.assert(fc.property(version, harmless), { numRuns: 2000 });
    const valid = fc.array(anyConnection(alice), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(valid, fc.nat(), fc.nat(255), (connections, where, value) => {
        const bytes = encodeConnections(connections, alice);
        bytes[where % bytes.length] = value;
        return harmless(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  t.test('every truncation is an error, and so are bytes after the end', async (t) => {
    const bytes = encodeConnections(realisticTable(alice, 30, 5), alice);
    for (let length = 0; length < bytes.length; length++)
      if (!throws(() => decodeConnections(bytes.subarray(0, length), alice))) t.fail(`of ${length} bytes`);
    t.ok(throws(() => decodeConnections(Uint8Array.from([...bytes, 0]), alice)));
  });

  t.test('a table that claims a million connections and has none is refused at once', async (t) => {
    t.throws(
      () => decodeConnections(Uint8Array.from([1, 0xc0, 0x84, 0x3d, 0, 0, 0]), alice),
      ConnectionsError,
    );
  });

  t.test('what is no connection is not encoded', async (t) => {
    const good = realisticTable(alice, 20, 5).find((one) => one.protocol === 'tcp');
    if (!good) return t.fail('a TCP connection');
    const ends = { ...good, remote: { ...good.remote, address: '2001:db8::1' } };
    const mixed = good.local.address.includes(':')
      ? { ...good, remote: { ...good.remote, address: '192.0.2.1' } }
      : ends;
    for (const bad of [
      mixed,
      { ...good, remote: { ...good.remote, port: 65_536 } },
      { ...good, remote: { ...good.remote, port: 1.5 } },
      { ...good, local: { ...good.local, port: -1 } },
      { ...good, remote: { ...good.remote, address: '10.0.0.256' } },
      { ...good, timeLeftSeconds: 432_001 },
      { ...good, timeLeftSeconds: Number.NaN },
    ])
      t.throws(() => encodeConnections([bad], alice), ConnectionsError);
  });

  t.test('takes few bytes', async (t) => {
    for (const [count, servers] of [
      [25, 5],
      [500, 1],
      [500, 50],
      [10_000, 500],
      [100_000, 5_000],
      [100_000, 100_000],
    ] as const) {
      const connections = realisticTable(alice, count, servers);
      const started = performance.now();
      const bytes = encodeConnections(connections, alice);
      const encoded = performance.now();
      const decoded = decodeConnections(bytes, alice);
      const ended = performance.now();
      t.equal(decoded.length, count);
      const each = bytes.length / count;
      t.ok(each <= 24, `${count} connections to ${servers} servers`);
      t.comment(
        `${count} connections to ${servers} servers: ${each.toFixed(1)} bytes each, encoded in ${(encoded - started).toFixed(0)} ms, decoded in ${(ended - encoded).toFixed(0)} ms`,
      );
    }
  });
});

t.test('a frame is plain MessagePack, or refused before anything is built from it', async (t) => {
  const nested = (depth: number): Uint8Array => Uint8Array.from([...Array(depth).fill(0x91), 0xc0]);
  const records = new Packr({ useRecords: true }).pack([{ a: 1 }, { a: 2 }]);
  const refused: Readonly<Record<string, Uint8Array>> = {
    nothing: new Uint8Array(),
    'a record extension': records,
    'a date': pack(new Date(0)),
    'an undefined': pack(undefined),
    'a type that does not exist': Uint8Array.from([0xc1]),
    'deep nesting': nested(MAX_DEPTH + 1),
    'very deep nesting': nested(100_000),
    'an array of four billion': Uint8Array.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
    'a map of four billion': Uint8Array.from([0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0]),
    'a text longer than the frame': Uint8Array.from([0xdb, 0x7f, 0xff, 0xff, 0xff, 0x41]),
    'half a length': Uint8Array.from([0xdc, 0x00]),
    'two values': Uint8Array.from([0xc0, 0xc0]),
  };
  for (const [what, bytes] of Object.entries(refused)) t.type(problemOfMessagePack(bytes), 'string', what);
  t.equal(problemOfMessagePack(nested(MAX_DEPTH)), undefined, 'as deep as allowed');
  t.match(problemOfMessagePack(pack([1, 2, 3]), { maxItems: 3 }), /more than 3/);
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => problemOfMessagePack(pack(value)) === undefined),
  );
  const harmless = (bytes: Uint8Array): boolean =>
    [agentCodec, controllerCodec].every((codec) => {
      try {
        codec.decode(bytes);
        return true;
      } catch (error) {
        return error instanceof ChannelError;
      }
    });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), harmless), { numRuns: 2000 });
  const message = controllerCodec.encode({
    type: 'prepare',
    id: 7,
    epoch: epoch(2),
    snapshot: snapshot(realisticTable(alice, 20, 5)),
  });
  fc.assert(
    fc.property(fc.nat(message.length - 1), fc.nat(255), (where, value) => {
      const bytes = Uint8Array.from(message);
      bytes[where] = value;
      return harmless(bytes);
    }),
    { numRuns: 2000 },
  );
});

t.test('without TLS nothing but loopback is spoken to', async (t) => {
  for (const address of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'])
    t.ok(isLoopback(address), address);
  for (const address of [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '::ffff:10.0.0.1',
    'fe80::1',
    '192.0.2.1',
    'localhost',
    '',
  ])
    t.notOk(isLoopback(address), address);
  const server = new ChannelServer({ log });
  for (const host of ['0.0.0.0', '::', '192.0.2.1'])
    t.equal(await codeOf(() => server.listen({ host, port: 0 })), 'tls-needed', `listen on ${host}`);
  await server.close();
  const domain = new ReferenceDomain();
  for (const url of ['ws://192.0.2.1:7653', 'ws://[2001:db8::1]:7653', 'wss://127.0.0.1:7653'])
    t.throws(
      () => serveDomain({ url, domain, log }),
      { code: 'tls-needed', message: /TLS is not configured/ },
      url,
    );
  t.throws(() => serveDomain({ url: 'http://127.0.0.1', domain, log }), { code: 'refused' });
  // A name, for the resolver: another way to write 192.0.2.1 and 127.0.0.1.
  t.equal(await codeOf(() => loopbackAddressOf('3221225985')), 'tls-needed', 'a name that leads elsewhere');
  t.equal(await loopbackAddressOf('2130706433'), '127.0.0.1');
  t.ok(isLoopback(await loopbackAddressOf('localhost')));
});

t.test('a web page cannot open the channel', async (t) => {
  const { port } = await controller(t);
  await t.rejects(rawAgent(port, { origin: 'http://127.0.0.1' }));
});

t.test('a stranger is refused, with the reason, when it', async (t) => {
  const { remote, port } = await controller(t, { helloMs: 10_000 });
  const cases: readonly {
    readonly what: string;
    readonly frame: string | Uint8Array;
    readonly code: number;
    readonly says: RegExp;
    readonly type: string;
  }[] = [
    { what: 'says a text', frame: '{"type":"hello"}', code: 4001, says: /text/, type: 'error' },
    {
      what: 'says garbage',
      frame: Uint8Array.from([0xc1, 1, 2]),
      code: 4001,
      says: /not plain MessagePack/,
      type: 'error',
    },
    {
      what: 'says half a hello',
      frame: pack(HELLO).subarray(0, 40),
      code: 4001,
      says: /ends too early/,
      type: 'error',
    },
    {
      what: 'says a hello in records',
      frame: new Packr({ useRecords: true }).pack(HELLO),
      code: 4001,
      says: /not used here/,
      type: 'error',
    },
    {
      what: 'says something unknown',
      frame: pack({ type: 'hi' }),
      code: 4001,
      says: /not valid/,
      type: 'error',
    },
    {
      what: 'says more than it may',
      frame: pack({ ...HELLO, extra: 1 }),
      code: 4001,
      says: /not valid/,
      type: 'error',
    },
    {
      what: 'says a switch that is none',
      frame: pack({ ...HELLO, capabilities: { implementation: 'x', serves: ['2'] } }),
      code: 4001,
      says: /serves/,
      type: 'error',
    },
    {
      what: 'answers before its hello',
      frame: pack({ type: 'ack', id: 1 }),
      code: 4001,
      says: /out of turn/,
      type: 'error',
    },
    {
      what: 'says a large hello',
      frame: pack({ ...HELLO, padding: 'x'.repeat(MAX_HELLO_BYTES) }),
      code: 4006,
      says: /too large/,
      type: 'error',
    },
    {
      what: 'speaks another version',
      frame: pack({ ...HELLO, protocol: PROTOCOL_VERSION + 1, news: true }),
      code: 4002,
      says: /version 5 .* version 4: install/,
      type: 'refusal',
    },
    {
      what: 'has a name that is not configured',
      frame: pack({ ...HELLO, domain: 'edge-9' }),
      code: 4003,
      says: /no edge domain "edge-9"/,
      type: 'refusal',
    },
  ];
  for (const { what, frame, code, says, type } of cases) {
    const agent = await rawAgent(port);
    agent.socket.send(frame);
    await waitFor(what, () => agent.closed !== undefined);
    t.equal(agent.closed?.code, code, what);
    t.match(agent.received.at(-1), { type, message: says }, what);
    t.notOk(remote.connected);
  }
  const agent = await greeted(t, port);
  await waitFor('connected', () => remote.connected);
  t.match(
    agent.received,
    [{ type: 'hello-ack', protocol: PROTOCOL_VERSION }],
    'control: a good hello is accepted',
  );
  agent.say(HELLO);
  await waitFor('a second hello ends it', () => agent.closed !== undefined);
});

t.test('a stranger who says nothing is sent away, and there are not many at a time', async (t) => {
  const { server, port } = await controller(t, { helloMs: 1500, maxStrangers: 8 });
  const strangers: RawPeer[] = [];
  for (let i = 0; i < 8; i++) strangers.push(await rawAgent(port));
  t.ok(
    strangers.every((one) => one.closed === undefined),
    'control: so many may stay',
  );
  strangers.push(await rawAgent(port));
  await waitFor('the first goes', () => strangers[0]?.closed !== undefined);
  t.match(strangers[0]?.received.at(-1), { type: 'refusal', message: /too many others/ });
  t.ok(
    strangers.slice(1).every((one) => one.closed === undefined),
    'and no other',
  );
  await waitFor('they are sent away', () => strangers.every((one) => one.closed !== undefined));
  t.match(strangers[1]?.received.at(-1), { type: 'refusal', message: /no hello/ });
  await waitFor('nobody is left', () => server.load.strangers === 0);
});

t.test('a connected agent that misbehaves is hung up on when it', async (t) => {
  const { remote, port } = await controller(t, { maxFrameBytes: 100_000 });
  const cases: readonly [string, (agent: RawPeer) => void, number][] = [
    ['sends an oversized frame', (agent) => agent.socket.send(Buffer.alloc(100_001)), 1009],
    ['sends garbage', (agent) => agent.socket.send(Uint8Array.from([0xdd, 0xff, 0xff, 0xff, 0xff])), 4001],
    [
      'reports a malformed change',
      (agent) => agent.say({ type: 'delta', id: 1, deltas: [{ sequence: 0 }] }),
      4001,
    ],
    ['says what only a controller says', (agent) => agent.say({ type: 'retire', id: 1, instance: id }), 4001],
  ];
  for (const [what, misbehave, code] of cases) {
    const agent = await greeted(t, port);
    await waitFor('connected', () => remote.connected);
    misbehave(agent);
    await waitFor(what, () => agent.closed !== undefined && !remote.connected);
    t.equal(agent.closed?.code, code, what);
  }
});

t.test('a hello that comes a byte at a time is a hello, half a frame after it is nothing', async (t) => {
  const { remote, port } = await controller(t);
  const stream = connect(port, '127.0.0.1');
  t.teardown(() => stream.destroy());
  await once(stream, 'connect');
  stream.setNoDelay(true);
  for (const byte of Buffer.concat([Buffer.from(UPGRADE), maskedFrame(pack(HELLO))])) {
    stream.write(Uint8Array.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await waitFor('connected', () => remote.connected);
  const report = { type: 'delta', id: 1, deltas: [{ sequence: 0 }] };
  const frame = maskedFrame(pack(report));
  stream.end(frame.subarray(0, frame.length - 3));
  await waitFor('disconnected', () => !remote.connected);
  t.equal(await codeOf(() => remote.health()), 'unreachable');
});

t.test('a domain without an agent exists, and says what to do', async (t) => {
  const { remote, server } = await controller(t);
  t.equal(remote.name, 'edge-1');
  const signal = new AbortController().signal;
  const calls: readonly (() => Promise<unknown>)[] = [
    () => remote.capabilities(),
    () => remote.health(),
    () => remote.prepare(snapshot(), epoch(2)),
    () => remote.apply(id, []),
    () => remote.activate(id, 1000),
    () => remote.drain(id, 1000),
    () => remote.retire(id),
    () => remote.export(id),
    () => remote.setPolicy(id, examplePolicy),
    () => remote.changes(id, 0, signal).next(),
  ];
  for (const call of calls) await t.rejects(call(), { code: 'unreachable', message: /start paguro-agent/ });
  t.throws(() => new RemoteDomain({ name: 'edge-1', server }), { message: /two edge domains/ });
});

t.test('errors of the domain come through with their code and words', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  let thrown: Error = new Error('not set');
  domain.activate = async () => {
    throw thrown;
  };
  const { remote, close } = await connectedPair(domain);
  t.teardown(close);
  for (const code of DOMAIN_ERROR_CODES) {
    thrown = new DomainError(code, `because of ${code}`);
    await t.rejects(remote.activate(id, 1000), { name: 'DomainError', code, message: `because of ${code}` });
  }
  thrown = new Error('a fault');
  await t.rejects(remote.activate(id, 1000), { name: 'DomainError', code: 'refused', message: /a fault/ });
  domain.changes = async function* () {
    yield [];
    throw new DomainError('changes-lost', 'too far back');
  };
  const all = async (): Promise<void> => {
    for await (const _ of remote.changes(id, 0, new AbortController().signal));
  };
  await t.rejects(all(), { code: 'changes-lost', message: 'too far back' });
});

t.test('what is wrong with a call fails the call, not the link', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  const { remote, close } = await connectedPair(domain, { maxFrameBytes: 20_000 });
  t.teardown(close);
  t.equal(await codeOf(() => remote.activate(id, -1)), 'invalid');
  t.equal(await codeOf(() => remote.retire({ terminal: 'NO NAME', epoch: epoch(1) })), 'invalid');
  t.equal(
    await codeOf(() => remote.prepare(snapshot(realisticTable(alice, 10_000, 10_000)), epoch(2))),
    'refused',
  );
  domain.export = async () => ({ ...snapshot(), sequence: -1 });
  t.equal(await codeOf(() => remote.export(id)), 'invalid', 'what the domain answers is checked too');
  domain.export = async () => snapshot(realisticTable(alice, 10_000, 10_000));
  t.equal(await codeOf(() => remote.export(id)), 'refused', 'and its size');
  t.ok(remote.connected);
});

t.test('bytes on the wire are reported', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  const { remote, transfers, close } = await connectedPair(domain);
  t.teardown(close);
  const connections = realisticTable(alice, 20_000, 2_000);
  await remote.prepare(snapshot(connections), epoch(2));
  const table = encodeConnections(connections, alice).length;
  const [prepared] = transfers;
  t.match(prepared, { kind: 'prepare', ...id });
  t.ok(prepared && prepared.bytes > table && prepared.bytes < table + 2000);
  t.equal((await remote.export(id)).connections.length, 20_000);
  const deltas: Delta[] = connections
    .slice(0, 2500)
    .map((connection, index) => ({ sequence: 42 + index, change: { kind: 'connection', connection } }));
  await remote.apply(id, deltas);
  t.same(
    transfers.map(({ kind }) => kind),
    ['prepare', 'export', 'apply', 'apply', 'apply'],
    'many deltas go in several messages',
  );
  for await (const batch of remote.changes(id, 41, new AbortController().signal))
    if (batch.at(-1)?.sequence === 2541) break;
  t.ok(transfers.at(-1)?.kind === 'changes');
  t.comment(`a delta is ${((transfers[2]?.bytes ?? 0) / 1000).toFixed(0)} bytes on the wire`);
});

t.test('how old changes were when the agent sent them is told with them', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  const told = (ageMs?: number): ToldDelta => ({
    sequence: 42,
    change: { kind: 'terminal', terminal: alice },
    ...(ageMs === undefined ? {} : { ageMs }),
  });
  const { remote, close } = await connectedPair(domain);
  t.teardown(close);
  await remote.prepare(snapshot(), epoch(2));
  for (const [delta, heard] of [
    [told(70_000), (ageMs = 0) => ageMs >= 70_000 && ageMs < 130_000],
    [told(1e12), (ageMs = 0) => ageMs === 3_600_000],
    [told(), (ageMs?: number) => ageMs === undefined],
  ] as const) {
    domain.changes = async function* () {
      yield [delta];
    };
    for await (const batch of remote.changes(id, 41, new AbortController().signal)) {
      t.match(batch, [{ sequence: 42, change: { kind: 'terminal' } }]);
      t.ok(heard(batch[0]?.ageMs), `told: ${delta.ageMs}, heard: ${batch[0]?.ageMs}`);
    }
  }
});

t.test('requests wait for their own reply, within bounds', async (t) => {
  const { remote, port } = await controller(t, { maxInFlight: 2, requestMs: 1500 });
  const agent = await greeted(t, port);
  await waitFor('connected', () => remote.connected);
  const first = codeOf(() => remote.retire(id));
  const second = remote.health();
  t.equal(await codeOf(() => remote.retire(id)), 'not-ready', 'one too many');
  await waitFor('two requests', () => agent.received.length === 3);
  const [, retire, health] = agent.received;
  agent.say({ type: 'health-report', id: health?.id, health: { ok: true, instances: [] } });
  t.same(await second, { ok: true, instances: [] }, 'answered out of order');
  t.equal(await first, 'unreachable', 'not answered in time');
  agent.say({ type: 'ack', id: retire?.id });
  const wrong = codeOf(() => remote.export(id));
  await waitFor('the export', () => agent.heard('export') !== undefined);
  agent.say({ type: 'ack', id: agent.heard('export')?.id });
  t.equal(await wrong, 'unreachable', 'an answer of the wrong kind');
  t.ok(remote.connected);
});

t.test('a peer that takes nothing is hung up on before the queue grows beyond its bound', async (t) => {
  const { remote, port } = await controller(t, { maxQueuedBytes: 1_000_000, maxInFlight: 10_000 });
  const agent = await greeted(t, port);
  await waitFor('connected', () => remote.connected);
  agent.socket.pause();
  const big = snapshot(realisticTable(alice, 100_000, 500));
  const calls: Promise<string>[] = [];
  for (let i = 0; i < 100 && remote.connected; i++) {
    calls.push(codeOf(() => remote.prepare(big, epoch(2))));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.notOk(remote.connected);
  t.ok((await Promise.all(calls)).every((code) => code === 'unreachable'));
});

t.test('a silent peer is taken for dead', async (t) => {
  const limits = { heartbeatMs: 30, heartbeatMisses: 4, backoffFirstMs: 5, backoffMaxMs: 20 };
  t.test('by the controller', async (t) => {
    const { remote, port } = await controller(t, limits);
    const agent = await greeted(t, port);
    await waitFor('connected', () => remote.connected);
    await waitFor('disconnected', () => !remote.connected && agent.closed !== undefined);
    t.ok(agent.heard('ping'), 'it was asked first');
  });
  t.test('by the agent, which dials again', async (t) => {
    const raw = await rawController((peer) => peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION }));
    const agent = serveDomain({
      url: `ws://127.0.0.1:${raw.port}`,
      domain: new ReferenceDomain(),
      log,
      limits,
    });
    t.teardown(async () => {
      await agent.close();
      await raw.close();
    });
    await waitFor('a second call', () => raw.peers.length >= 2);
    t.ok(raw.peers[0]?.heard('ping'));
  });
  t.test('control: two who answer each other stay connected', async (t) => {
    let ends = 0;
    const { remote, agent } = await relayed(t, new ReferenceDomain('edge-1'), limits, () => ends++);
    const end = Date.now() + 20 * limits.heartbeatMs;
    await waitFor('many heartbeats later', () => Date.now() > end);
    t.ok(remote.connected && agent.connected);
    t.equal(ends, 0);
  });
});

t.test('an activation that may have been under way for long is refused', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  await domain.prepare(snapshot(), id.epoch);
  const raw = await rawController((peer) => {
    peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION });
    // It lives, and answers no ping: nobody can say when it sent what comes from it.
    peer.socket.on('message', () => {
      if (peer.received.at(-1)?.type === 'ping') peer.say({ type: 'ping', id: 0 });
    });
  });
  const limits = { ...QUICK, heartbeatMs: 150, heartbeatMisses: 4 };
  const agent = serveDomain({ url: `ws://127.0.0.1:${raw.port}`, domain, log, limits });
  t.teardown(async () => {
    await agent.close();
    await raw.close();
  });
  const pings = (): Said[] => raw.peers[0]?.received.filter(({ type }) => type === 'ping') ?? [];
  await waitFor('more pings than a silent peer gets', () => pings().length > limits.heartbeatMisses + 1);
  const [peer] = raw.peers;
  const activate = {
    type: 'activate',
    instance: { terminal: id.terminal, epoch: id.epoch },
    leaseMs: 60_000,
  };
  const role = async (): Promise<string | undefined> => (await domain.health()).instances[0]?.role;
  peer?.say({ ...activate, id: 1 });
  await waitFor('the answer', () => peer?.heard('error'));
  t.match(peer?.heard('error'), { id: 1, code: 'not-ready', message: /under way.*ask again/ });
  t.equal(await role(), 'standby', 'it admits nothing');
  // Whatever follows the answer to a ping is younger than that ping.
  peer?.say({ type: 'pong', id: pings().at(-1)?.id });
  peer?.say({ ...activate, id: 2 });
  await waitFor('the answer', () => peer?.heard('ack'));
  t.match(peer?.heard('ack'), { id: 2 });
  t.equal(await role(), 'active', 'control');
  t.equal(raw.peers.length, 1, 'all over one link');
});

t.test('one name, one agent', async (t) => {
  const { remote, port } = await controller(t, { probeMs: 200 });
  const agent = serveDomain({ url: `ws://127.0.0.1:${port}`, domain: new ReferenceDomain('edge-1'), log });
  t.teardown(() => agent.close());
  await waitFor('connected', () => remote.connected);
  const second = await rawAgent(port);
  second.say(HELLO);
  await waitFor('the newcomer is refused', () => second.closed !== undefined);
  t.match(second.received, [
    { type: 'refusal', code: 'refused', message: /connected already, from 127.0.0.1/ },
  ]);
  t.match(await remote.capabilities(), { implementation: 'reference' });
  await agent.close();
  await waitFor('disconnected', () => !remote.connected);

  const dead = await greeted(t, port);
  await waitFor('connected', () => remote.connected);
  dead.socket.pause();
  const heir = await greeted(t, port);
  await waitFor('the heir has the name', () => remote.connected && heir.heard('hello-ack') !== undefined);
  dead.socket.resume();
  await waitFor('the dead one is gone', () => dead.closed !== undefined);
  t.ok(remote.connected);
  const health = remote.health();
  await waitFor('the heir is asked', () => heir.heard('health') !== undefined);
  heir.say({ type: 'health-report', id: heir.heard('health')?.id, health: { ok: true, instances: [] } });
  t.same(await health, { ok: true, instances: [] });
});

t.test('a refused agent tries again, and is taken when its name is expected', async (t) => {
  const server = new ChannelServer({ log });
  const { port } = await server.listen({ host: 'localhost', port: 0 });
  const reasons: string[] = [];
  const agent = serveDomain({
    url: `ws://localhost:${port}`,
    domain: new ReferenceDomain('edge-7'),
    log,
    limits: QUICK,
    onConnection: (connected, reason) => reasons.push(connected ? 'connected' : (reason?.message ?? '')),
  });
  t.teardown(async () => {
    await agent.close();
    await agent.close();
    await server.close();
    await server.close();
  });
  await waitFor('refused twice', () => reasons.length >= 2);
  t.match(reasons[0], /refused this agent: the controller has no edge domain "edge-7"/);
  t.notOk(agent.connected);
  const remote = new RemoteDomain({ name: 'edge-7', server });
  await waitFor('connected', () => remote.connected && agent.connected);
  t.ok((await remote.health()).ok);
  remote.close();
  remote.close();
  await waitFor('hung up on', () => !agent.connected);
  await t.rejects(remote.health(), { code: 'unreachable', message: /closed/ });
});

t.test('an agent waits for its controller, and for its own domain', async (t) => {
  const raw = await rawController(() => {});
  const { port } = raw;
  await raw.close();
  const domain = new ReferenceDomain('edge-1');
  let asked = 0;
  domain.capabilities = async () => {
    if (++asked < 3) throw new DomainError('not-ready', 'no bridge yet');
    return { implementation: 'late', serves: [] };
  };
  const agent = serveDomain({ url: `ws://127.0.0.1:${port}`, domain, log, limits: QUICK });
  await waitFor('it has tried often', () => asked >= 5);
  const server = new ChannelServer({ log });
  const remote = new RemoteDomain({ name: 'edge-1', server });
  await server.listen({ host: '127.0.0.1', port });
  t.teardown(async () => {
    await agent.close();
    await server.close();
  });
  await waitFor('connected', () => remote.connected);
  t.same(await remote.capabilities(), { implementation: 'late', serves: [] });
  const other = new ChannelServer({ log });
  t.equal(await codeOf(() => other.listen({ host: '127.0.0.1', port })), 'listen', 'the port is taken');
});

/** Controller and agent with a relay between them that can be cut. */
async function relayed(t: Tap, domain: Domain, limits: Partial<Limits> = QUICK, onEnd = (): void => {}) {
  const { remote, port } = await controller(t, limits);
  const relay = await Relay.to(port);
  const agent = serveDomain({
    url: `ws://127.0.0.1:${relay.port}`,
    domain,
    log,
    limits,
    onConnection: (connected) => connected || onEnd(),
  });
  t.teardown(async () => {
    await agent.close();
    await relay.close();
  });
  await waitFor('connected', () => remote.connected && agent.connected);
  return { remote, relay, agent };
}

t.test('a lost link is survived', async (t) => {
  t.test('by a call under way: it is asked again, after the first has ended', async (t) => {
    const domain = new ReferenceDomain('edge-1');
    const prepare = domain.prepare.bind(domain);
    let calls = 0;
    let running = 0;
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    domain.prepare = async (...args) => {
      calls++;
      t.equal(++running, 1, 'one at a time');
      await held;
      running--;
      return prepare(...args);
    };
    const { remote, relay } = await relayed(t, domain);
    const ends = remote.prepare(snapshot(), epoch(2));
    await waitFor('the call arrives', () => calls === 1);
    relay.cut();
    await waitFor('disconnected', () => !remote.connected);
    await waitFor('connected again', () => remote.connected);
    release();
    t.match(await ends, { kind: 'ports', terminalSide: 'ref1t' });
    t.equal(calls, 2);
  });

  t.test('by changes: they go on after the last that came, none twice', async (t) => {
    const domain = new ReferenceDomain('edge-1');
    const { remote, relay } = await relayed(t, domain);
    await remote.prepare(snapshot(), epoch(2));
    await remote.activate(id, 60_000);
    const abort = new AbortController();
    const seen: number[] = [];
    const reading = (async () => {
      for await (const batch of remote.changes(id, 41, abort.signal))
        seen.push(...batch.map(({ sequence }) => sequence));
    })();
    const [one, two, three] = realisticTable(alice, 3, 3);
    if (!one || !two || !three) return t.fail('three connections');
    const change = (connection: Connection): boolean =>
      domain.admit(id, { ...connection, opener: 'terminal' });
    change(one);
    await waitFor('the first change', () => seen.length === 1);
    relay.cut();
    change(two);
    await waitFor('connected again', () => relay.connections === 2 && remote.connected);
    change(three);
    await waitFor('the other changes', () => seen.length >= 3);
    t.same(seen, [42, 43, 44]);
    relay.cut();
    await waitFor('disconnected', () => !remote.connected);
    abort.abort();
    await reading;
  });

  t.test('control: not for ever', async (t) => {
    const domain = new ReferenceDomain('edge-1');
    const { remote, agent } = await relayed(t, domain, { ...QUICK, reconnectMs: 100 });
    await remote.prepare(snapshot(), epoch(2));
    const changes = codeOf(async () => {
      for await (const _ of remote.changes(id, 41, new AbortController().signal));
    });
    domain.export = () => new Promise(() => {});
    const under = codeOf(() => remote.export(id));
    await remote.health();
    await agent.close();
    t.equal(await under, 'unreachable');
    t.equal(await changes, 'unreachable');
  });

  t.test('by a link that is open and passes nothing', async (t) => {
    const { remote, relay } = await relayed(t, new ReferenceDomain('edge-1'), {
      ...QUICK,
      heartbeatMs: 30,
      probeMs: 100,
    });
    relay.freeze();
    await waitFor('a second connection', () => relay.connections >= 2);
    await waitFor('connected', () => remote.connected);
    t.ok((await remote.health()).ok);
  });
});

t.test(
  'an agent whose domain reports faster than the controller reads stops reading its domain',
  async (t) => {
    const domain = new ReferenceDomain('edge-1');
    let yielded = 0;
    let ended = false;
    domain.changes = async function* (_id, fromSequence) {
      try {
        for (let sequence = fromSequence + 1; ; sequence++) {
          yielded++;
          yield [{ sequence, change: { kind: 'ended', key: `udp ${sequence}` } }];
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        ended = true;
      }
    };
    const { remote, close } = await connectedPair(domain);
    t.teardown(close);
    const changes = remote.changes(id, 0, new AbortController().signal);
    t.match((await changes.next()).value, [{ sequence: 1 }]);
    await waitFor('it sends what it may', () => yielded >= MAX_UNACKNOWLEDGED);
    for (let i = 0; i < 10; i++) await remote.health();
    t.ok(yielded <= MAX_UNACKNOWLEDGED + 1, 'and no more');
    for (let sequence = 2; sequence <= 100; sequence++) t.match((await changes.next()).value, [{ sequence }]);
    await changes.return(undefined);
    await waitFor('the domain is told that nobody reads', () => ended);
  },
);

t.test('an agent that sends more changes than asked for is hung up on', async (t) => {
  const { remote, port } = await controller(t, { reconnectMs: 100 });
  const agent = await greeted(t, port);
  await waitFor('connected', () => remote.connected);
  const changes = remote.changes(id, 0, new AbortController().signal);
  const first = changes.next();
  await waitFor('it is asked', () => agent.heard('follow') !== undefined);
  for (let sequence = 1; sequence <= MAX_UNACKNOWLEDGED + 3; sequence++)
    agent.say({
      type: 'delta',
      id: agent.heard('follow')?.id,
      deltas: [{ sequence, change: { kind: 'ended', key: 'x' } }],
    });
  t.match((await first).value, [{ sequence: 1 }]);
  await waitFor('hung up on', () => agent.closed !== undefined);
  t.match(agent.closed, { code: 4001, reason: /more changes/ });
});

t.test('an agent hangs up on a controller that', async (t) => {
  const cases: readonly [string, (peer: RawPeer) => void, RegExp][] = [
    ['says garbage', (peer) => peer.socket.send(Uint8Array.from([0xc1])), /not plain MessagePack/],
    [
      'asks before its hello-ack',
      (peer) => peer.say({ type: 'health', id: 1 }),
      /before the controller's hello-ack/,
    ],
    [
      'asks for something malformed',
      (peer) => {
        peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION });
        peer.say({ type: 'prepare', id: 1, epoch: 0, snapshot: {} });
      },
      /not valid/,
    ],
    [
      'sends a table that is none',
      (peer) => {
        peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION });
        peer.say({
          type: 'prepare',
          id: 1,
          epoch: 2,
          snapshot: { ...snapshot(), connections: Buffer.from([1, 200, 1]) },
        });
      },
      /connection table is malformed/,
    ],
  ];
  for (const [what, misbehave, says] of cases) {
    const raw = await rawController((peer) => peer.socket.once('message', () => misbehave(peer)));
    const domain = new ReferenceDomain('edge-1');
    domain.prepare = async () => {
      t.fail('the domain was asked');
      throw new DomainError('refused', 'not in this test');
    };
    const agent = serveDomain({ url: `ws://127.0.0.1:${raw.port}`, domain, log, limits: QUICK });
    const [peer] = await waitFor(what, () => raw.peers[0]?.closed !== undefined).then(() => raw.peers);
    t.match(peer?.received.at(-1), { type: 'error', code: 'invalid', message: says }, what);
    await waitFor('it dials again', () => raw.peers.length >= 2);
    await agent.close();
    await raw.close();
  }
});

t.test('too many requests at once are refused by the agent too', async (t) => {
  const raw = await rawController((peer) => peer.say({ type: 'hello-ack', protocol: PROTOCOL_VERSION }));
  const domain = new ReferenceDomain('edge-1');
  domain.health = () => new Promise(() => {});
  const limits = { ...QUICK, maxInFlight: 3 };
  const agent = serveDomain({ url: `ws://127.0.0.1:${raw.port}`, domain, log, limits });
  t.teardown(async () => {
    await agent.close();
    await raw.close();
  });
  await waitFor('connected', () => agent.connected);
  for (let id = 1; id <= 5; id++) raw.peers[0]?.say({ type: 'health', id });
  await waitFor('two refusals', () => (raw.peers[0]?.received.length ?? 0) >= 3);
  t.match(raw.peers[0]?.received.slice(1), [
    { type: 'error', id: 4, code: 'not-ready' },
    { type: 'error', id: 5, code: 'not-ready' },
  ]);
});

t.test('work of one terminal is done in order, that of two side by side', async (t) => {
  const queue = new KeyedQueue();
  const done: string[] = [];
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = queue.run(alice.name, async () => {
    await held;
    done.push('alice 1');
    throw new Error('a failure does not stop the queue');
  });
  const after = queue.run(alice.name, async () => done.push('alice 2'));
  await queue.run(bob.name, async () => done.push('bob'));
  release();
  await t.rejects(slow);
  await after;
  t.same(done, ['bob', 'alice 1', 'alice 2']);
});

t.test('pauses between attempts grow to a bound, and vary', async (t) => {
  const full = Array.from({ length: 12 }, (_, attempt) => backoffMs(attempt, DEFAULT_LIMITS, 0));
  t.same(full.slice(0, 4), [100, 200, 400, 800]);
  t.equal(full.at(-1), DEFAULT_LIMITS.backoffMaxMs);
  t.equal(backoffMs(1e9, DEFAULT_LIMITS, 0), DEFAULT_LIMITS.backoffMaxMs);
  t.equal(backoffMs(0, DEFAULT_LIMITS, 0.5), 75);
});

function throws(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (error) {
    return error instanceof ConnectionsError;
  }
}
