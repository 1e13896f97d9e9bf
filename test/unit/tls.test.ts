/**
 * TLS on the channel and on OpenFlow, over real sockets: who is let in, who is turned away and told why, and what peers may do whose certificates are
 * good and whose intentions are not. An honest agent or switch on the same server notices nothing of it.
 */
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';
import { SwitchError } from '../../controller-app/switch/index.js';
import { agentCodec } from '../../shared/channel/codec.js';
import { ChannelServer, serveDomain } from '../../shared/channel/index.js';
import { MAX_STRANGERS } from '../../shared/channel/limits.js';
import { dpid } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { epoch, type FirewallState } from '../../shared/firewall/state.js';
import { silentLog } from '../../shared/runtime/log.js';
import { loadIdentity } from '../../shared/tls/index.js';
import { besieged, hello, id, listening, snapshot } from '../fixtures/besieged.js';
import { Certificates, type Pem, pemOf } from '../fixtures/certificates.js';
import { type RawPeer, Relay, rawTlsAgent, UPGRADE } from '../fixtures/channel-peers.js';
import { FakeSwitch, listening as switchListener } from '../fixtures/fake-switch.js';
import { frame, RawStream } from '../fixtures/raw-stream.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(120_000);

const ours = await Certificates.make(t);
const others = await Certificates.make(t);
const identities = { controller: await ours.controller(), agent: await ours.agent('edge-1') };
/** A good certificate; what its holder does is another matter. */
const rogue = await ours.agent('edge-2');

const files = {
  controller: await pemOf(await ours.odd(controllerLike('again', {}))),
  agent: await pemOf(await ours.issue('agent', 'edge-3')),
  switch: await pemOf(await ours.issue('switch', '1', '2')),
  otherSwitch: await pemOf(await ours.issue('switch', '3')),
  foreignAgent: await pemOf(await others.issue('agent', 'edge-1')),
  foreignSwitch: await pemOf(await others.issue('switch', '1')),
  foreignController: await pemOf(await others.issue('controller')),
  expiredAgent: await pemOf(
    await ours.odd({ name: 'old-agent', names: 'URI:paguro:agent:edge-1', usage: 'clientAuth', days: -1 }),
  ),
  expiredSwitch: await pemOf(
    await ours.odd({
      name: 'old-switch',
      names: 'URI:paguro:switch:0000000000000001',
      usage: 'clientAuth',
      days: -1,
    }),
  ),
  expiredController: await pemOf(await ours.odd(controllerLike('old-controller', { days: -1 }))),
  nobody: await pemOf(await ours.odd({ name: 'nobody', names: 'DNS:edge-1', usage: 'clientAuth' })),
  elsewhere: await pemOf(
    await ours.odd(
      controllerLike('elsewhere', { names: 'URI:paguro:controller,IP:192.0.2.1,DNS:c.example' }),
    ),
  ),
  nameless: await pemOf(await ours.odd(controllerLike('nameless', { names: 'IP:127.0.0.1' }))),
  serving: await pemOf(
    await ours.odd({ name: 'serving', names: 'URI:paguro:agent:edge-1,IP:127.0.0.1', usage: 'serverAuth' }),
  ),
};

function controllerLike(name: string, change: { readonly names?: string; readonly days?: number }) {
  return { name, names: 'URI:paguro:controller,IP:127.0.0.1', usage: 'serverAuth', ...change };
}

/** What is not cut off ends by itself here. */
const FLOOD_BYTES = 64 * 2 ** 20;

/** What a client shows. Without a key nothing. */
interface Shown extends Partial<Pem> {
  readonly maxVersion?: 'TLSv1.2';
}

/** It trusts whatever server it meets: what is tried is the server. */
function dial(port: number, shown: Shown) {
  const socket = tlsConnect({ ...shown, host: '127.0.0.1', port, rejectUnauthorized: false });
  socket.on('error', () => {});
  return socket;
}

/** Settles when the stream is closed, with an error or without. */
function closed(stream: { once(event: 'close', listener: () => void): unknown }): Promise<void> {
  return new Promise((resolve) => stream.once('close', () => resolve()));
}

const REFUSED_BY_CHANNEL: Readonly<Record<string, readonly [Shown, RegExp]>> = {
  'no certificate': [{}, /shows no certificate/],
  'a certificate of another CA': [files.foreignAgent, /not signed by our CA/],
  'one that has expired': [files.expiredAgent, /has expired: issue a new one with "paguro pki issue"/],
  'a controller’s certificate': [files.controller, /of another kind/],
  'a switch’s certificate': [files.switch, /a switch's \(0000000000000001, 0000000000000002\)/],
  'one that names nobody': [files.nobody, /names neither a controller nor an agent nor a switch/],
};

t.test('over TLS a domain is asked and answers, and the wire shows nothing of it', async (t) => {
  for (const tls of [true, false]) {
    const server = new ChannelServer({ log: silentLog, identity: tls ? identities.controller : undefined });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    const relay = await Relay.to(port);
    const wire: Buffer[] = [];
    relay.onData = (chunk) => void wire.push(chunk);
    let connected = false;
    const onConnected = (): void => {
      connected = true;
    };
    const stop = server.expect('edge-1', { connected: onConnected, disconnected: () => {} });
    const agent = serveDomain({
      url: `${tls ? 'wss' : 'ws'}://127.0.0.1:${relay.port}`,
      identity: tls ? async () => identities.agent : undefined,
      domain: new ReferenceDomain('edge-1'),
      log: silentLog,
    });
    await waitFor('connected', () => connected && agent.connected);
    const bytes = Buffer.concat(wire).toString('latin1');
    t.equal(
      bytes.includes('Upgrade: websocket') && bytes.includes('hello-ack'),
      !tls,
      tls ? 'nothing of what is said' : 'control: without TLS it can be read',
    );
    stop();
    await agent.close();
    await server.close();
    await relay.close();
  }
});

t.test(
  'who has no agent’s certificate of the CA is turned away, told why, and disturbs nobody',
  async (t) => {
    const { goesOn } = await besieged(t, {}, identities);
    for (const [what, [shown, says]] of Object.entries(REFUSED_BY_CHANNEL)) {
      const { log, warnings } = listening();
      const server = new ChannelServer({ log, identity: identities.controller });
      server.expect('edge-1', { connected: () => t.fail('it was let in'), disconnected: () => {} });
      const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
      const socket = dial(port, shown);
      let told = '';
      socket.on('data', (chunk) => {
        told += chunk;
      });
      await closed(socket);
      t.match(told, /^HTTP\/1\.1 403 /, `${what}: refused`);
      t.match(told, says, `${what}: with the reason`);
      await waitFor(`${what}: nobody is left`, () => server.load.strangers === 0);
      t.match(
        warnings().map(({ problem }) => problem),
        [says],
        `${what}: told once`,
      );
      await server.close();
    }
    t.ok(await goesOn());
  },
);

t.test('who is refused, and sends on and on, is cut off', async (t) => {
  const { port, server, goesOn } = await besieged(t, { helloMs: 60_000 }, identities);
  const socket = dial(port, files.foreignAgent);
  await once(socket, 'secureConnect');
  const gone = closed(socket);
  let sent = 0;
  while (!socket.destroyed && sent < FLOOD_BYTES) {
    sent += 16_384;
    if (!socket.write(Buffer.alloc(16_384)))
      await Promise.race([once(socket, 'drain').catch(() => {}), gone]);
  }
  await gone;
  t.ok(sent < FLOOD_BYTES, `after ${sent} bytes`);
  await waitFor('nobody is left', () => server.load.strangers === 0);
  t.ok(await goesOn());
});

t.test('TLS before 1.3, and no TLS at all, are refused', async (t) => {
  const { port, goesOn, warnings, server } = await besieged(t, {}, identities);
  const old = dial(port, { ...files.agent, maxVersion: 'TLSv1.2' });
  await closed(old);
  t.equal(old.getProtocol(), null, 'nothing was agreed on');
  await waitFor('it is told', () => warnings().length === 1);
  t.match(warnings(), [{ problem: /does not speak TLS 1\.3/ }]);
  const present = dial(port, files.agent);
  await once(present, 'secureConnect');
  t.equal(present.getProtocol(), 'TLSv1.3', 'control');
  present.destroy();

  const { log, warnings: said } = listening();
  const second = new ChannelServer({ log, identity: identities.controller });
  const { port: secondPort } = await second.listen({ host: '127.0.0.1', port: 0 });
  const plain = new WebSocket(`ws://127.0.0.1:${secondPort}`);
  plain.on('error', () => {});
  await closed(plain);
  await waitFor('it is told', () => said().length === 1);
  t.match(said(), [{ problem: /does not speak TLS: its address must begin with wss:/ }]);
  await second.close();
  await waitFor('nobody is left', () => server.load.strangers === 0);
  t.ok(await goesOn());
});

t.test('an agent acts only for the name in its certificate', async (t) => {
  const { port, other, remote, goesOn, warnings } = await besieged(t, {}, identities);
  for (const name of ['edge-1', 'edge-9']) {
    const peer = await rawTlsAgent(port, rogue);
    peer.say(hello(name));
    await waitFor('hung up on', () => peer.closed !== undefined);
    t.match(peer.closed, { code: 4003, reason: /certificate is for edge-2, not for/ });
  }
  t.match(warnings(), [
    { domain: 'edge-2', problem: /is for edge-2, not for "edge-1".*paguro pki issue agent edge-1/ },
  ]);
  t.ok(remote.connected, 'who has the name keeps it');
  t.ok(await goesOn());
  const peer = await rawTlsAgent(port, rogue);
  peer.say(hello('edge-2'));
  await waitFor('control: with its own name it is let in', () => other.connected);
  peer.destroy();
});

t.test('an agent that is told no says why, and takes up a new certificate by itself', async (t) => {
  const server = new ChannelServer({ log: silentLog, identity: identities.controller });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  server.expect('edge-7', { connected: () => {}, disconnected: () => {} });
  const certificate = await others.issue('agent', 'edge-7');
  // It trusts both CAs, and the controller only ours: that the agent cannot know before it is told.
  const both = join(others.folder, 'both.pem');
  const texts = [ours, others].map(({ folder }) => readFile(join(folder, 'ca.pem'), 'utf8'));
  await writeFile(both, (await Promise.all(texts)).join(''));
  let identity = await loadIdentity({ ...certificate, ca: both }, { kind: 'agent', domain: 'edge-7' });
  const reasons: string[] = [];
  const agent = serveDomain({
    url: `wss://127.0.0.1:${port}`,
    identity: async () => identity,
    domain: new ReferenceDomain('edge-7'),
    log: silentLog,
    limits: { backoffFirstMs: 5, backoffMaxMs: 20 },
    onConnection: (_, reason) => reason && reasons.push(reason.message),
  });
  await waitFor('a refusal', () => reasons.length > 0);
  t.match(
    reasons[0],
    /the controller refused this agent: its certificate is refused: it is not signed by our CA/,
  );
  identity = await ours.agent('edge-7');
  await waitFor('it is connected', () => agent.connected);
  await agent.close();
  await server.close();
});

t.test('both families, and a name, are dialled', async (t) => {
  for (const [host, at] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
    ['127.0.0.1', 'localhost'],
  ] as const) {
    const server = new ChannelServer({ log: silentLog, identity: identities.controller });
    server.expect('edge-1', { connected: () => {}, disconnected: () => {} });
    const { port } = await server.listen({ host, port: 0 });
    const agent = serveDomain({
      url: `wss://${at}:${port}`,
      identity: async () => identities.agent,
      domain: new ReferenceDomain('edge-1'),
      log: silentLog,
    });
    await waitFor(`${at} is dialled`, () => agent.connected);
    t.ok(agent.connected, at);
    await agent.close();
    await server.close();
  }
});

t.test('an agent dials nobody who is not the controller of its address', async (t) => {
  const cases: Readonly<Record<string, readonly [Pem, RegExp | undefined]>> = {
    'control: a controller': [files.controller, undefined],
    'a certificate of another CA': [files.foreignController, /not signed by our CA/],
    'one that has expired': [files.expiredController, /has expired/],
    'a client’s': [files.agent, /of another kind/],
    'an agent’s that may serve': [
      files.serving,
      /extended key usage is not that of an agent's|no controller's/,
    ],
    'a server’s that is no controller': [files.nameless, /names neither a controller/],
    'a controller’s of another address': [files.elsewhere, /not for the address that was dialled/],
  };
  for (const [what, [pem, says]] of Object.entries(cases)) {
    const server = createTlsServer({ ...pem, requestCert: true, rejectUnauthorized: false });
    const heard: string[] = [];
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        heard.push(String(chunk));
        socket.destroy();
      });
    });
    const { port } = await ready(server);
    const reasons: string[] = [];
    const agent = serveDomain({
      url: `wss://127.0.0.1:${port}`,
      identity: async () => identities.agent,
      domain: new ReferenceDomain('edge-1'),
      log: silentLog,
      onConnection: (_, reason) => reason && reasons.push(reason.message),
    });
    await waitFor(`${what}: an attempt ends`, () => reasons.length > 0);
    if (says) t.match(reasons[0], says, what);
    t.equal(
      heard.length > 0,
      says === undefined,
      `${what}: ${says ? 'not a byte was said to it' : 'it was spoken to'}`,
    );
    await agent.close();
    server.close();
  }
});

t.test('an agent waits for nobody who does not finish the handshake', async (t) => {
  const silent = createServer();
  silent.on('connection', (socket) => socket.on('error', () => {}));
  const { port } = await ready(silent);
  const reasons: { readonly code: string; readonly message: string }[] = [];
  const agent = serveDomain({
    url: `wss://127.0.0.1:${port}`,
    identity: async () => identities.agent,
    domain: new ReferenceDomain('edge-1'),
    log: silentLog,
    limits: { helloMs: 100, backoffFirstMs: 5, backoffMaxMs: 20 },
    onConnection: (_, reason) => reason && reasons.push(reason),
  });
  await waitFor('it tries again and again', () => reasons.length > 2);
  t.match(reasons[0], { code: 'timeout', message: /no answer within 100 ms/ });
  await agent.close();
  silent.close();
});

t.test('without TLS on one side the other says what to write', async (t) => {
  const domain = new ReferenceDomain('edge-1');
  const identity = async () => identities.agent;
  t.throws(() => serveDomain({ url: 'ws://127.0.0.1:1', domain, log: silentLog, identity }), {
    message: /write wss:\/\/ instead of ws:/,
  });
  t.throws(() => serveDomain({ url: 'wss://127.0.0.1:1', domain, log: silentLog }), {
    code: 'tls-needed',
    message: /write tls, with ca, certificate and key/,
  });
  const server = new ChannelServer({ log: silentLog });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const reasons: string[] = [];
  const agent = serveDomain({
    url: `wss://127.0.0.1:${port}`,
    domain,
    log: silentLog,
    identity,
    onConnection: (_, reason) => reason && reasons.push(reason.message),
  });
  await waitFor('an attempt ends', () => reasons.length > 0);
  t.match(reasons[0], /does not speak TLS|hung up/);
  await agent.close();
  await server.close();
});

t.test('with TLS the channel listens on addresses that are not loopback', async (t) => {
  const server = new ChannelServer({ log: silentLog, identity: identities.controller });
  const { host, port } = await server.listen({ host: '0.0.0.0', port: 0 });
  t.equal(host, '0.0.0.0');
  const present = dial(port, files.agent);
  await once(present, 'secureConnect');
  present.destroy();
  await server.close();
});

t.test('a new certificate is shown to those who come after it', async (t) => {
  const { port, server, goesOn } = await besieged(t, {}, identities);
  const serial = async (): Promise<string | undefined> => {
    const socket = dial(port, files.agent);
    await once(socket, 'secureConnect');
    const found = socket.getPeerX509Certificate()?.serialNumber;
    socket.destroy();
    return found;
  };
  const before = await serial();
  t.equal(await serial(), before, 'control');
  server.renew(await loadIdentity(await ours.odd(controllerLike('renewed', {})), { kind: 'controller' }));
  t.not(await serial(), before);
  t.ok(await goesOn(), 'who is there stays');
});

/** What is sent over TCP to a port where a TLS handshake is due. */
const NO_HANDSHAKES: Readonly<Record<string, Uint8Array>> = {
  nothing: Buffer.alloc(0),
  'half a record': Buffer.from('160301', 'hex'),
  'a record that is longer than any may be': Buffer.concat([
    Buffer.from('1603010fff', 'hex'),
    Buffer.alloc(100),
  ]),
  'a ClientHello of 16 MB, of which the beginning comes': Buffer.from('1603014000' + '01ffffff', 'hex'),
};

t.test('a handshake that does not end is ended', async (t) => {
  const { port, server, goesOn } = await besieged(t, { helloMs: 300 }, identities);
  const streams: RawStream[] = [];
  for (const bytes of Object.values(NO_HANDSHAKES)) {
    const stream = await RawStream.tcp(port);
    stream.write(bytes);
    streams.push(stream);
  }
  const silent = dial(port, files.agent);
  await once(silent, 'secureConnect');
  const silentEnds = closed(silent);
  await waitFor('all are hung up on', () => streams.every(({ ended }) => ended));
  await silentEnds;
  await waitFor('nobody is left', () => server.load.strangers === 0);
  t.ok(await goesOn());
});

t.test('whoever floods instead of a handshake is cut off', async (t) => {
  const { port, server, goesOn } = await besieged(t, { helloMs: 60_000 }, identities);
  const record = (type: number, body: Uint8Array): Buffer =>
    Buffer.concat([Uint8Array.from([type, 3, 3, body.length >> 8, body.length & 0xff]), body]);
  const part = record(22, Buffer.alloc(16_000, 1));
  const floods: Readonly<Record<string, () => Uint8Array>> = {
    'handshake records': () => part,
    'a ClientHello without end': () =>
      record(22, Buffer.concat([Buffer.from('01ffffff', 'hex'), Buffer.alloc(16_000)])),
    'empty records': () => Buffer.concat(Array.from({ length: 1_000 }, () => record(22, Buffer.alloc(0)))),
    'changes of cipher': () =>
      Buffer.concat(Array.from({ length: 1_000 }, () => record(20, Uint8Array.from([1])))),
    'application data': () => record(23, Buffer.alloc(16_000)),
  };
  for (const [what, bytes] of Object.entries(floods)) {
    const stream = await RawStream.tcp(port);
    const sent = await stream.flood(bytes, FLOOD_BYTES);
    t.ok(stream.ended && sent < FLOOD_BYTES, `${what}: cut off after ${sent} bytes`);
    t.ok(await goesOn(), what);
    stream.destroy();
  }
  await waitFor('nobody is left', () => server.load.strangers === 0);
});

t.test('a thousand who never finish their handshake keep no agent out', async (t) => {
  const { port, server, goesOn, warnings } = await besieged(t, { helloMs: 60_000 }, identities);
  const streams: RawStream[] = [];
  for (let hundred = 0; hundred < 10; hundred++) {
    streams.push(...(await Promise.all(Array.from({ length: 100 }, () => RawStream.tcp(port)))));
    for (const stream of streams.slice(-100, -50)) stream.write(Buffer.from('1603010200010001fc0303', 'hex'));
    t.ok(server.load.strangers <= MAX_STRANGERS, `${server.load.strangers} are there`);
  }
  t.ok(await goesOn(), 'the honest agent goes on');
  const late = serveDomain({
    url: `wss://127.0.0.1:${port}`,
    identity: async () => rogue,
    domain: new ReferenceDomain('edge-2'),
    log: silentLog,
  });
  await waitFor('an agent that comes late is taken', () => late.connected);
  await waitFor(
    'others have gone for those that came',
    () => streams.filter(({ ended }) => ended).length >= 1_000 - MAX_STRANGERS,
  );
  t.ok(warnings().length <= 3, 'the log stays short');
  await late.close();
  for (const stream of streams) stream.destroy();
});

/** An agent of `edge-2` with a good certificate and an accepted hello. */
async function accepted(port: number): Promise<RawPeer> {
  const peer = await rawTlsAgent(port, rogue);
  peer.say(hello());
  await waitFor('hello-ack', () => peer.heard('hello-ack') !== undefined);
  return peer;
}

function udp(port: number, address = '10.0.0.1'): Connection {
  return {
    protocol: 'udp',
    opener: 'terminal',
    local: { address, port },
    remote: { address: '192.0.2.7', port: 443 },
    replied: false,
    timeLeftSeconds: 30,
  };
}

t.test('a certified agent that lies about states is refused whole, and nothing is applied', async (t) => {
  const lies: Readonly<Record<string, readonly [Partial<FirewallState>, RegExp]>> = {
    'control: the truth': [{}, /^$/],
    'an old epoch': [{ epoch: epoch(1) }, /epoch/],
    'a later epoch': [{ epoch: epoch(77) }, /epoch/],
    'another terminal': [{ terminal: { ...snapshot.terminal, name: 'bob' } }, /bob/],
    'addresses that nobody gave': [
      { terminal: { ...snapshot.terminal, ipv4: ['10.0.0.99'] } },
      /10\.0\.0\.99/,
    ],
    'a policy that nobody put in force': [
      { policy: { ...snapshot.policy, name: 'mine', rules: [] } },
      /policy|rules/,
    ],
  };
  for (const [what, [change, says]] of Object.entries(lies)) {
    await t.test(what, async (t) => {
      const { port, other, goesOn } = await besieged(t, {}, identities);
      const peer = await accepted(port);
      await waitFor('connected', () => other.connected);
      const prepared = other.prepare(snapshot, id.epoch);
      const asked = await waitFor('the question', () => peer.heard('prepare'));
      const ends = { kind: 'ports', dpid: '0000000000000002', terminalSide: 'a', networkSide: 'b' };
      peer.say({ type: 'ends', id: asked.id, ends });
      await prepared;
      const exported = other.export(id).then(
        () => '',
        (error: Error) => error.message,
      );
      const question = await waitFor('the question', () => peer.heard('export'));
      const state = { ...snapshot, epoch: id.epoch, ...change };
      peer.socket.send(agentCodec.encode({ type: 'state', id: Number(question.id), state }));
      t.match(await exported, says);
      t.ok(await goesOn(), 'the others are served as before');
    });
  }
});

t.test('a certified agent that does without end what it may do once is hung up on', async (t) => {
  const limits = { requestMs: 300, heartbeatMs: 100, maxQueuedBytes: 200_000, maxFrameBytes: 100_000 };
  const delta = (sequence: number) => ({
    sequence,
    change: { kind: 'connection', connection: udp(1_000 + sequence) },
  });
  const wrongs: Readonly<Record<string, readonly [(peer: RawPeer, followId: unknown) => void, RegExp]>> = {
    'changes beyond its credit': [
      (peer, followId) => {
        for (let n = 0; n < 100; n++) peer.say({ type: 'delta', id: followId, deltas: [delta(n + 42)] });
      },
      /more changes came than were asked for|answers nothing/,
    ],
    'a million connections': [
      (peer) =>
        peer.say({
          type: 'state',
          id: 1,
          state: { ...snapshot, connections: Buffer.from([1, 0xc0, 0x84, 0x3d]) },
        }),
      /number of connections out of range: 1000000/,
    ],
    'half a frame for ever': [
      (peer) => peer.write(frame(new Uint8Array(10), { claims: 90_000 })),
      /nothing came from the peer for|taken for dead/,
    ],
    'a frame that is too large': [
      (peer) => peer.write(frame(new Uint8Array(10), { claims: 100_000_000 })),
      /payload size/,
    ],
    silence: [(peer) => peer.socket.pause(), /taken for dead/],
    'changes of what it is not asked for': [
      (peer) => peer.say({ type: 'delta', id: 999, deltas: [delta(1)] }),
      /answers nothing that was asked/,
    ],
  };
  for (const [what, [misbehave, says]] of Object.entries(wrongs)) {
    await t.test(what, async (t) => {
      const { port, other, warnings, lines, goesOn, server } = await besieged(t, limits, identities);
      const peer = await accepted(port);
      await waitFor('connected', () => other.connected);
      const following = new AbortController();
      const taken: unknown[] = [];
      const reading = (async () => {
        // Takes one batch and then no more: it is the agent who must stop.
        for await (const batch of other.changes(id, 41, following.signal)) {
          taken.push(batch);
          await once(following.signal, 'abort');
        }
      })().catch(() => {});
      const follow = await waitFor('the question', () => peer.heard('follow'));
      misbehave(peer, follow.id);
      await waitFor('hung up on', () => !other.connected);
      t.match(lines.filter(({ domain }) => domain === 'edge-2').at(-1), { reason: says });
      t.ok(warnings().length <= 1, 'the log stays short');
      following.abort();
      await reading;
      t.ok(taken.length <= 1, 'nothing of it went further');
      peer.destroy();
      t.ok(await goesOn(), 'the others are served as before');
      await waitFor('nothing is held for it', () => server.load.agents === 1 && server.load.heldBytes === 0);
    });
  }
});

t.test('a certified agent whose records flood is bounded like any other', async (t) => {
  const { port, goesOn, server } = await besieged(t, { maxFrameBytes: 100_000 }, identities);
  let most = 0;
  const sampling = setInterval(() => {
    most = Math.max(most, server.load.heldBytes);
  }, 1);
  t.teardown(() => clearInterval(sampling));
  const socket = dial(port, await pemOf(await ours.issue('agent', 'edge-5')));
  await once(socket, 'secureConnect');
  socket.write(UPGRADE);
  await once(socket, 'data');
  const cutOff = closed(socket);
  socket.write(frame(new Uint8Array(), { claims: 90_000 }));
  for (let n = 0; n < 200 && !socket.destroyed; n++) socket.write(Buffer.alloc(4_096, 1));
  await cutOff;
  t.ok(most <= 16 * 1024 + 2 * 65_536, `before its hello is accepted ${most} bytes were held at most`);
  t.ok(await goesOn());
});

/** A listener with TLS and an honest switch, number 1. */
async function withSwitch(t: Test, options: Parameters<typeof switchListener>[1] = {}) {
  const { listener, port, refused } = await switchListener(t, {
    identity: identities.controller,
    accepts: (wanted) => [1, 2, 3].some((known) => dpid(known) === wanted),
    ...options,
  });
  const honest = (await dialSwitch(t, port, files.switch)).lively();
  await honest.introduce(1n);
  await waitFor('switch 1', () => listener.switches.has(dpid(1)));
  const goesOn = async (): Promise<boolean> => {
    await honest.understood();
    return listener.switches.has(dpid(1)) && !honest.socket.destroyed;
  };
  t.ok(await goesOn(), 'control: before anything happens');
  return { listener, port, refused, honest, goesOn };
}

async function dialSwitch(t: Test, port: number, shown: Shown): Promise<FakeSwitch> {
  const socket = dial(port, shown);
  t.teardown(() => socket.destroy());
  await once(socket, 'secureConnect');
  return FakeSwitch.on(socket);
}

t.test('a switch may claim only what its certificate names', async (t) => {
  const { listener, port, refused, goesOn, honest } = await withSwitch(t);
  const liar = await dialSwitch(t, port, files.otherSwitch);
  await liar.claim(1n);
  await liar.closed;
  t.match(refused, [
    {
      code: 'not-certified',
      message: /claims to be 0000000000000001, and its certificate is for 0000000000000003/,
    },
  ]);
  t.ok(await goesOn(), 'the switch whose id it is was not even asked whether it lives');
  t.notOk(honest.unheard.includes('echo_request'));
  const second = (await dialSwitch(t, port, files.switch)).lively();
  await second.introduce(2n);
  await waitFor('control: one certificate, several bridges', () => listener.switches.has(dpid(2)));
  const third = (await dialSwitch(t, port, files.otherSwitch)).lively();
  await third.introduce(3n);
  await waitFor('control: with its own id it is let in', () => listener.switches.has(dpid(3)));
});

t.test('who has no switch’s certificate of the CA is no switch', async (t) => {
  const { port, refused, goesOn } = await withSwitch(t);
  const cases: Readonly<Record<string, readonly [Shown, RegExp]>> = {
    'no certificate': [{}, /shows no certificate/],
    'another CA': [files.foreignSwitch, /not signed by our CA/],
    'one that has expired': [files.expiredSwitch, /has expired/],
    'an agent’s': [files.agent, /an agent's \(edge-3\).*paguro pki issue switch/],
    'a controller’s': [files.controller, /of another kind/],
    'one that names nobody': [files.nobody, /names neither/],
    'TLS 1.2': [{ ...files.switch, maxVersion: 'TLSv1.2' }, /does not speak TLS 1\.3/],
  };
  for (const [what, [shown, says]] of Object.entries(cases)) {
    const told = refused.length;
    await closed(dial(port, shown));
    await waitFor(`${what}: it is told`, () => refused.length > told);
    t.match(refused.slice(told), [{ code: 'tls', message: says }], what);
  }
  const told = refused.length;
  const plain = await FakeSwitch.dial(port);
  plain.say({ type: 'hello', elements: [] });
  await plain.closed;
  await waitFor('it is told', () => refused.length > told);
  t.match(refused.slice(told), [{ code: 'tls', message: /does not speak TLS: its address must begin with/ }]);
  t.ok(await goesOn());
});

t.test('switches’ handshakes have their time, and only so many are under way', async (t) => {
  const { port, refused, goesOn, listener } = await withSwitch(t, {
    handshakeTimeoutMs: 300,
    maxStrangers: 20,
  });
  const silent = await RawStream.tcp(port);
  await waitFor('hung up on', () => silent.ended);
  t.match(refused, [{ code: 'timeout', message: /did not complete its TLS handshake within 300 ms/ }]);
  const talker = await dialSwitch(t, port, files.otherSwitch);
  await talker.closed;
  t.match(refused.at(-1), { code: 'timeout', message: /did not complete its handshake/ });

  const crowd = await Promise.all(Array.from({ length: 200 }, () => RawStream.tcp(port)));
  await waitFor('most have gone for those that came', () => crowd.filter(({ ended }) => ended).length >= 170);
  t.ok(refused.some(({ code }) => code === 'crowded'));
  const third = (await dialSwitch(t, port, files.otherSwitch)).lively();
  await third.introduce(3n);
  await waitFor('a switch gets in', () => listener.switches.has(dpid(3)));
  t.ok(await goesOn());
  await waitFor('the crowd has gone', () => crowd.every(({ ended }) => ended));
});

t.test('a listener that closes ends what is in its handshake', async (t) => {
  const { listener, port, refused } = await withSwitch(t);
  const stream = await RawStream.tcp(port);
  await waitFor('it has arrived', () => listener.strangerCount > 0);
  await listener.close();
  await waitFor('hung up on', () => stream.ended);
  t.ok(refused.every((error) => error instanceof SwitchError));
});

async function ready(server: Server): Promise<{ readonly port: number }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return { port: typeof address === 'object' && address ? address.port : 0 };
}
