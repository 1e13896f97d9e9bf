/**
 * The HTTP API, from the typed client to the service: over TCP and over a Unix socket, and what is refused.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest } from 'node:http';
import { connect, createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { startHttp } from '../../controller-app/http/server.js';
import { formatApiAddress, parseApiAddress } from '../../shared/api/address.js';
import { ApiClient } from '../../shared/api/client.js';
import { ApiError } from '../../shared/api/errors.js';
import type { ApiEvent } from '../../shared/api/schema.js';
import { formatEvent, HEARTBEAT, MAX_EVENT_LENGTH, readEvents } from '../../shared/api/sse.js';
import { DomainError } from '../../shared/domain/domain.js';
import { silentLog } from '../../shared/runtime/log.js';
import { FakeController, PHONE, phaseEvent } from '../fixtures/fake-controller.js';
import { waitFor } from '../lab/wait.js';

async function start(t: Test): Promise<{
  fake: FakeController;
  tcp: ApiClient;
  unix: ApiClient;
  port: number;
  socket: string;
}> {
  const fake = new FakeController();
  const socket = join(await shortFolder(t), 'api.sock');
  const server = await startHttp(fake, { host: '127.0.0.1', port: 0, socket }, silentLog);
  t.teardown(() => server.close());
  const tcp = new ApiClient(`http://127.0.0.1:${server.port}`);
  return { fake, tcp, unix: new ApiClient(`unix:${socket}`), port: server.port, socket };
}

/** A request that the client would not send. */
async function raw(
  port: number,
  options: { method?: string; path?: string; headers?: Record<string, string>; body?: string },
): Promise<{ status: number; code?: string; message?: string }> {
  return await new Promise((resolve, reject) => {
    const { method = 'GET', path = '/v1/status', headers = {}, body } = options;
    const request = httpRequest(
      { host: '127.0.0.1', port, method, path, headers, agent: false },
      (response) => {
        response.setEncoding('utf8');
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, ...JSON.parse(text || '{}') }));
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

t.test('every call, over TCP and over the Unix socket', async (t) => {
  const { fake, tcp, unix, socket } = await start(t);
  for (const api of [tcp, unix]) {
    const status = await api.status();
    t.equal(status.terminals[0]?.name, 'alice');
    t.same(await api.terminals(), status.terminals);
    const state = await api.state('alice');
    t.equal(state.connections.length, 2);
    t.same(state.policy, PHONE, 'a policy comes through unchanged');
    await api.setPolicy('alice', { ...PHONE, name: 'other' });
    t.equal(fake.policy.name, 'other');
    fake.policy = PHONE;
    await api.setPlacement('alice', 'stay');
    t.equal((await api.terminals())[0]?.placement, 'stay');
    await api.setPlacement('alice', 'stay');
    t.equal(fake.placement, 'stay');
    fake.placement = 'follow';
    const report = await api.handover('alice', { to: 'edge-1', omitConnections: true });
    t.match(report, { terminal: 'alice', to: 'edge-1', outcome: 'done' });
    t.same(fake.asked.at(-1), { terminal: 'alice', to: 'edge-1', omitConnections: true });
    t.match(await api.startHandover('alice', { to: 'sdn-1' }), { id: /^h\d+$/ });
    t.same(fake.asked.at(-1), { terminal: 'alice', to: 'sdn-1', omitConnections: false });
    t.ok((await api.handovers()).length > 0);
  }
  t.equal((await stat(socket)).mode & 0o777, 0o600, 'only the owner may use the socket');
});

t.test('failures keep their code and say what to do', async (t) => {
  const { fake, tcp, port } = await start(t);
  await t.rejects(tcp.state('nobody'), { name: 'ApiError', code: 'unknown-terminal', message: /nobody/ });
  await t.rejects(tcp.state('../status'), { code: 'unknown-terminal' });
  await t.rejects(tcp.state('a'.repeat(500)), { code: 'invalid', message: /too long/ });
  await t.rejects(tcp.handover('alice', { to: 'mars' }), { code: 'unknown-domain' });
  fake.failure = new DomainError('unreachable', 'edge-1 is not connected: start its agent');
  await t.rejects(tcp.state('alice'), {
    code: 'unavailable',
    message: 'edge-1 is not connected: start its agent',
  });
  fake.failure = new TypeError('secret detail');
  await t.rejects(tcp.state('alice'), { code: 'internal', message: /its log says how/ });
  fake.failure = undefined;

  const put = (body: string, headers = { 'content-type': 'application/json' }) =>
    raw(port, { method: 'PUT', path: '/v1/terminals/alice/policy', headers, body });
  const wrong = { ...PHONE, rules: [{ name: 'a', direction: 'inward', action: 'drop', remotePorts: 'x' }] };
  t.match(await put(JSON.stringify(wrong)), {
    status: 400,
    code: 'invalid',
    message: [
      'rules[0].direction: write one of outbound, inbound; found "inward"',
      'rules[0].remotePorts: write a port such as 443, or a range such as 5000-5999; found "x"',
    ].join('\n'),
  });
  t.match(await put('{'), { status: 400, code: 'invalid' });
  t.match(await put(''), { status: 400, code: 'invalid' });
  t.match(await put('{"__proto__": {}}'), { status: 400, code: 'invalid' });
  t.match(await put(JSON.stringify('x'.repeat(2 ** 22))), { status: 413, code: 'too-large' });
  t.equal(fake.policy, PHONE, 'nothing of it was put in force');
  const post = (body: unknown) =>
    raw(port, {
      method: 'POST',
      path: '/v1/terminals/alice/handover',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  t.match(await post({}), { status: 400, message: 'to: is missing: write a text' });
  t.match(await post({ to: 'edge-1', omit: true }), {
    status: 400,
    message: /omit: no such key; there are to, omitConnections, breakBeforeMake, pauseBefore, wait/,
  });
  t.match(await raw(port, { path: '/v2' }), {
    status: 404,
    code: 'unknown-path',
    message: /there are GET \/v1\/status/,
  });
});

t.test('pages in a browser are refused, programs are not', async (t) => {
  const { fake, port } = await start(t);
  const json = { 'content-type': 'application/json' };
  const handover = {
    method: 'POST',
    path: '/v1/terminals/alice/handover',
    body: '{"to":"edge-1","wait":false}',
  };
  const host = `127.0.0.1:${port}`;
  t.match(await raw(port, { headers: { host } }), { status: 200 });
  t.match(await raw(port, { headers: { host: `localhost:${port}` } }), { status: 200 });
  t.match(await raw(port, { headers: { host: `[::1]:${port}` } }), { status: 200 });
  for (const name of [
    'attacker.example',
    `attacker.example:${port}`,
    '127.0.0.1.attacker.example',
    '10.0.0.1',
  ]) {
    t.match(
      await raw(port, { headers: { host: name } }),
      { status: 403, code: 'forbidden' },
      `Host: ${name}`,
    );
  }
  const old = connect(port, '127.0.0.1', () => old.write('GET /v1/status HTTP/1.0\r\n\r\n'));
  const [head] = await once(old, 'data');
  old.destroy();
  t.match(String(head), /^HTTP\/1.1 403 /, 'no Host at all');
  t.match(await raw(port, { ...handover, headers: { ...json, host, origin: `http://${host}` } }), {
    status: 202,
  });
  const before = fake.asked.length;
  for (const origin of ['http://attacker.example', 'null', 'http://127.0.0.1:1']) {
    t.match(
      await raw(port, { ...handover, headers: { ...json, host, origin } }),
      { status: 403 },
      `Origin: ${origin}`,
    );
  }
  const form = { 'content-type': 'text/plain' };
  t.match(await raw(port, { ...handover, headers: { ...form, host } }), {
    status: 400,
    code: 'invalid',
    message: /as JSON/,
  });
  t.equal(fake.asked.length, before, 'and began nothing');
});

t.test('events come as they happen, to every listener', async (t) => {
  const { fake, tcp, unix } = await start(t);
  const stop = new AbortController();
  const streams = await Promise.all([tcp.events(stop.signal), unix.events(stop.signal)]);
  const seen = streams.map(async (stream) => {
    const names: string[] = [];
    for await (const event of stream) {
      names.push(event.kind === 'phase' ? event.phase : event.kind);
      if (event.kind === 'handover') return names;
    }
    return names;
  });
  fake.happenings.publish(phaseEvent('prepare'));
  await tcp.handover('alice', { to: 'edge-1' });
  t.same(await Promise.all(seen), [
    ['prepare', 'switch', 'handover'],
    ['prepare', 'switch', 'handover'],
  ]);
  await waitFor('nobody listens any more', () => fake.happenings.listeners === 0);
  t.equal(fake.happenings.listeners, 0, 'nobody is left listening');
});

t.test('a listener that leaves is forgotten, one too many is refused', async (t) => {
  const { fake, tcp } = await start(t);
  const stops = Array.from({ length: 32 }, () => new AbortController());
  await Promise.all(stops.map((stop) => tcp.events(stop.signal)));
  await t.rejects(tcp.events(new AbortController().signal), { code: 'unavailable', message: /32 clients/ });
  for (const stop of stops) stop.abort();
  await waitFor('nobody listens any more', () => fake.happenings.listeners === 0);
  const stop = new AbortController();
  await tcp.events(stop.signal);
  t.equal(fake.happenings.listeners, 1);
  stop.abort();
});

t.test('a listener that does not read holds up neither the others nor the memory', async (t) => {
  const { fake, tcp, port } = await start(t);
  const deaf = connect(port, '127.0.0.1');
  t.teardown(() => deaf.destroy());
  deaf.pause();
  deaf.write(`GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  await waitFor('one listens', () => fake.happenings.listeners === 1);
  const stop = new AbortController();
  const stream = await tcp.events(stop.signal);
  const total = 60_000;
  const error = 'x'.repeat(200);
  const read = (async () => {
    let count = 0;
    for await (const _ of stream) if (++count === total) return count;
    return count;
  })();
  for (let i = 0; i < total; i++) {
    fake.happenings.publish({ ...phaseEvent('drain'), handover: error });
    if (i % 500 === 499) await waitFor('the events are sent', () => fake.happenings.pendingOfLast < 500);
  }
  t.equal(await read, total, 'who reads gets all');
  t.ok(
    fake.happenings.mostTaken > 0 && fake.happenings.leastTaken < total / 2,
    'who does not is not written to without end',
  );
  stop.abort();
});

t.test('closing ends streams and requests, frees the port and removes the socket', async (t) => {
  const fake = new FakeController();
  const socket = join(await shortFolder(t), 'api.sock');
  const server = await startHttp(fake, { host: '127.0.0.1', port: 0, socket }, silentLog);
  const api = new ApiClient(`http://127.0.0.1:${server.port}`);
  const overSocket = new ApiClient(`unix:${socket}`);
  const stop = new AbortController();
  const [a, b] = await Promise.all([api.events(stop.signal), overSocket.events(stop.signal)]);
  const drain = async (stream: AsyncIterable<ApiEvent>): Promise<void> => {
    for await (const _ of stream);
  };
  const ended = [drain(a), drain(b)].map((stream) => t.rejects(stream, { code: 'unavailable' }));
  await Promise.all([server.close(), server.close()]);
  await Promise.all(ended);
  await t.rejects(stat(socket), { code: 'ENOENT' });
  t.equal(fake.happenings.listeners, 0);
  const again = await startHttp(fake, { host: '127.0.0.1', port: server.port, socket }, silentLog);
  t.equal(again.port, server.port);
  await again.close();
});

t.test('where it does not listen', async (t) => {
  const fake = new FakeController();
  const folder = await shortFolder(t);
  await writeFile(join(folder, 'file'), 'no socket');
  for (const host of ['0.0.0.0', '10.0.0.1', '::', 'localhost']) {
    await t.rejects(startHttp(fake, { host, port: 0 }, silentLog), {
      code: 'invalid',
      message: /write a loopback address/,
    });
  }
  const first = await startHttp(fake, { host: '127.0.0.1', port: 0, socket: join(folder, 's') }, silentLog);
  const { port } = first;
  await t.rejects(startHttp(fake, { host: '127.0.0.1', port }, silentLog), {
    code: 'unavailable',
    message: /is taken/,
  });
  const at = (socket: string) => startHttp(fake, { host: '127.0.0.1', port: 0, socket }, silentLog);
  await t.rejects(at(join(folder, 's')), { code: 'unavailable', message: /a program listens on/ });
  t.equal(
    (await new ApiClient(`unix:${join(folder, 's')}`).status()).version,
    '0.0.0',
    'the first is not harmed',
  );
  await t.rejects(at(join(folder, 'file')), { code: 'invalid', message: /no socket/ });
  await t.rejects(at(join(folder, 'x'.repeat(120))), { code: 'invalid', message: /too long/ });
  await t.rejects(at(join(folder, 'none/s')), { code: 'unavailable' });
  await first.close();
});

t.test('a socket that a dead program left behind is taken over', async (t) => {
  const folder = await shortFolder(t);
  const socket = join(folder, 's');
  const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script]), 'close');
  t.ok((await stat(socket)).isSocket(), 'it is there');
  const server = await startHttp(new FakeController(), { host: '127.0.0.1', port: 0, socket }, silentLog);
  t.equal((await new ApiClient(`unix:${socket}`).status()).version, '0.0.0');
  await server.close();
});

t.test('what the client says when there is no controller', async (t) => {
  const folder = await shortFolder(t);
  const none = createNetServer().listen(0, '127.0.0.1');
  await once(none, 'listening');
  const address = none.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  none.close();
  await once(none, 'close');
  const start = /start one with "paguro controller --config FILE"/;
  await t.rejects(new ApiClient(`http://127.0.0.1:${port}`).status(), {
    code: 'unavailable',
    message: start,
  });
  await t.rejects(new ApiClient(`unix:${join(folder, 'none')}`).status(), {
    code: 'unavailable',
    message: start,
  });

  const answers = async (respond: Parameters<typeof createServer>[1]) => {
    const server = createServer(respond).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => void server.close());
    const at = server.address();
    return new ApiClient(`http://127.0.0.1:${typeof at === 'object' && at !== null ? at.port : 0}`);
  };
  const foreign = await answers((_, response) => void response.end('<html>'));
  await t.rejects(foreign.status(), { code: 'unavailable', message: /no controller of this version/ });
  const other = await answers((_, response) => void response.end('{"version":"1"}'));
  await t.rejects(other.status(), { code: 'unavailable', message: /no controller of this version/ });
  const breaks = await answers((request) => void request.socket.destroy());
  await t.rejects(breaks.status(), { code: 'unavailable', message: /broke/ });
  const slow = await answers(() => {});
  await t.rejects(slow.status(AbortSignal.timeout(50)), { name: /Abort|Timeout/ });
});

t.test('addresses', async (t) => {
  for (const text of ['http://127.0.0.1:7680', 'http://[::1]:80', 'unix:/run/p.sock', 'unix:p']) {
    t.equal(formatApiAddress(parseApiAddress(text)), text);
  }
  for (const text of [
    '',
    'unix:',
    '127.0.0.1:80',
    'https://127.0.0.1',
    'http://127.0.0.1/x',
    'http://u@127.0.0.1',
  ]) {
    t.throws(() => parseApiAddress(text), { code: 'invalid', message: /write one such as/ }, text);
  }
});

t.test('server-sent events, also a byte at a time', async (t) => {
  const text = `${HEARTBEAT}${formatEvent('{"a":"è"}')}id: 1\r\ndata: x\r\ndata:y\r\n\r\n: c\rdata: z\r\r${formatEvent('last')}data: cut`;
  const bytes = Buffer.from(text);
  const collect = async (chunks: Iterable<Uint8Array>): Promise<string[]> => {
    const events: string[] = [];
    for await (const event of readEvents(Readable.from(chunks))) events.push(event);
    return events;
  };
  const wanted = ['{"a":"è"}', 'x\ny', 'z', 'last'];
  t.same(await collect([bytes]), wanted);
  t.same(await collect([...bytes].map((byte) => Uint8Array.of(byte))), wanted);
  const long = [Buffer.from('data: '), Buffer.alloc(MAX_EVENT_LENGTH + 1, 'x')];
  await t.rejects(collect(long), { code: 'too-large' });
  const many = Array.from({ length: 5000 }, () => Buffer.from(`data: ${'x'.repeat(300)}\n`));
  await t.rejects(collect(many), ApiError, 'many lines of one event are bounded, too');
});

/** A folder whose path leaves room for that of a Unix socket. */
async function shortFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'paguro-'));
  t.teardown(() => rm(folder, { recursive: true }));
  return folder;
}
