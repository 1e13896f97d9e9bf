/**
 * The switch layer over loopback, against a scripted peer: everything that a real switch can't be made to do on cue.
 */
import { once } from 'node:events';
import t from 'tap';
import { type FlowMod, helloElements, OFPP } from '../../controller-app/openflow/index.js';
import { toBytes } from '../../controller-app/switch/codec.js';
import {
  BundleError,
  OpenFlowError,
  OpenFlowListener,
  SwitchError,
} from '../../controller-app/switch/index.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import {
  connected,
  type FakeSwitch,
  features,
  listening,
  packetIn,
  refusal,
  wirePort,
} from '../fixtures/fake-switch.js';

t.setTimeout(30_000);

const flow = (priority: number): FlowMod => ({
  type: 'flow_mod',
  command: 'add',
  table: 0,
  priority,
  cookie: 0n,
  match: {},
  instructions: [],
});

t.test('a handshake makes a switch', async (t) => {
  const { sw, peer, listener } = await connected(t);
  t.equal(sw.dpid, '0000000000000001');
  t.equal(sw.features.tables, 254);
  t.strictSame([...sw.ports.keys()], [1]);
  t.equal(sw.portNamed('s1-eth1')?.linkDown, false);
  t.equal(sw.portNamed('s1-eth2'), undefined);
  t.equal(listener.switches.get(sw.dpid), sw);
  t.equal(sw.peer, `127.0.0.1:${peer.socket.localPort}`);
});

t.test('the hello names 1.3 and the configuration keeps the ports of fragments', async (t) => {
  const { dial } = await listening(t);
  const peer = await dial();
  t.strictSame((await peer.hear('hello')).message, { type: 'hello', elements: helloElements(4) });
  peer.say({ type: 'hello', elements: [] });
  await peer.answer('features_request', features(1n));
  t.strictSame((await peer.hear('set_config')).message, { type: 'set_config', flags: 3, missSendLen: 128 });
});

t.test('a switch that knows no nx-match fragments is configured without', async (t) => {
  const { dial, listener } = await listening(t);
  const peer = await dial();
  const ready = once(listener, 'switch');
  peer.say({ type: 'hello', elements: helloElements(1, 4) });
  await peer.answer('features_request', features(1n));
  await peer.answer('set_config', refusal(10, 0));
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  t.equal((await peer.hear('set_config')).message.flags, 0);
  await peer.answer('multipart_request', { type: 'multipart_reply', body: { type: 'port_desc', ports: [] } });
  await ready;
});

t.test('without being told otherwise it listens on loopback only', async (t) => {
  const listener = new OpenFlowListener({ port: 0 });
  t.equal((await listener.listen()).host, '127.0.0.1');
  const taken = new OpenFlowListener({ port: (await listening(t)).port });
  await t.rejects(taken.listen(), { name: 'SwitchError', message: /EADDRINUSE/ });
  await listener.close();
  await taken.close();
});

t.test('other versions are refused as the specification says', async (t) => {
  for (const hello of ['0100000800000001', '05000010000000010001000800000026']) {
    const { dial, refused } = await listening(t);
    const peer = await dial();
    await peer.hear('hello');
    peer.socket.write(Buffer.from(hello, 'hex'));
    const { message } = await peer.hear('error');
    t.match(message, { errorType: 0, code: 0 });
    await peer.closed;
    t.match(refused, [{ code: 'version', message: /protocols=OpenFlow13/ }]);
  }
});

t.test('what does not behave is refused', async (t) => {
  const cases: [name: string, code: string, act: (peer: FakeSwitch) => Promise<void> | void][] = [
    ['something before hello', 'protocol', (peer) => peer.say({ type: 'barrier_request' })],
    ['nonsense', 'protocol', (peer) => void peer.socket.write('GET / HTTP/1.1\r\n\r\n')],
    [
      'an auxiliary connection',
      'protocol',
      async (peer) => {
        peer.say({ type: 'hello', elements: helloElements(4) });
        await peer.answer('features_request', features(1n, 1));
      },
    ],
    [
      'a wrong answer',
      'protocol',
      async (peer) => {
        peer.say({ type: 'hello', elements: helloElements(4) });
        await peer.answer('features_request', { type: 'barrier_reply' });
      },
    ],
    [
      'hanging up',
      'closed',
      (peer) => {
        peer.socket.end();
      },
    ],
  ];
  for (const [name, code, act] of cases) {
    const { dial, refused, listener } = await listening(t);
    const peer = await dial();
    await peer.hear('hello');
    await act(peer);
    await peer.closed;
    while (refused.length === 0) await once(listener, 'refused');
    t.match(refused, [{ name: 'SwitchError', code }], name);
    t.equal(listener.switches.size, 0);
  }
});

t.test('a handshake that stops is given up', async (t) => {
  const clock = new ManualClock();
  const { dial, refused } = await listening(t, { clock, handshakeTimeoutMs: 1_000 });
  const peer = await dial();
  peer.say({ type: 'hello', elements: helloElements(4) });
  await peer.hear('features_request');
  clock.advance(999);
  t.equal(refused.length, 0);
  clock.advance(1);
  await peer.closed;
  t.match(refused, [{ code: 'timeout' }]);
  t.equal(clock.pending, 0, 'no timer is left');
});

t.test('what comes before the switch is ready comes after it is announced, in order', async (t) => {
  const { dial, listener } = await listening(t, { maxStrangerBytes: 1_000 });
  const peer = await dial();
  const seen: string[] = [];
  const second = new Promise<void>((resolve) => {
    listener.on('switch', (sw) => {
      seen.push('ready');
      sw.on('packetIn', ({ data }) => {
        seen.push(`packet ${data[0]}`);
        if (data[0] === 9) resolve();
      });
      sw.on('portStatus', (port, change) => seen.push(`${port.name} ${change}`));
    });
  });
  peer.say({ type: 'hello', elements: helloElements(4) });
  await peer.hear('features_request').then(({ xid }) => {
    peer.say(packetIn(1));
    peer.say({ type: 'port_status', reason: 'add', port: wirePort(2) });
    peer.say(packetIn(2));
    peer.say(packetIn(3, 900));
    peer.say(features(1n), xid);
  });
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await peer.answer('multipart_request', {
    type: 'multipart_reply',
    body: { type: 'port_desc', ports: [wirePort(1), wirePort(2)] },
  });
  peer.say(packetIn(9));
  await second;
  t.strictSame(
    seen,
    ['ready', 'packet 1', 's1-eth2 modified', 'packet 2', 'packet 9'],
    'for packet 3 there was no room',
  );
});

t.test('replies find their requests, whatever their order', async (t) => {
  const { sw, peer } = await connected(t);
  const first = sw.request({ type: 'get_config_request' });
  const second = sw.barrier();
  const a = await peer.hear('get_config_request');
  const b = await peer.hear('barrier_request');
  t.not(a.xid, b.xid);
  peer.say({ type: 'barrier_reply' }, b.xid);
  await second;
  peer.say({ type: 'get_config_reply', flags: 3, missSendLen: 5 }, a.xid);
  t.equal((await first).missSendLen, 5);
});

t.test('an error is given to its request, with names; any other is an event', async (t) => {
  const { sw, peer } = await connected(t);
  const request = sw.request({ type: 'role_request', role: 'master', generation: 1n });
  await peer.answer('role_request', refusal(11, 0));
  await t.rejects(request, {
    name: 'OpenFlowError',
    code: 'openflow-error',
    errorType: 'OFPET_ROLE_REQUEST_FAILED',
    errorCode: 'OFPRRFC_STALE',
  });
  peer.say(refusal(1, 5), 77);
  peer.say(refusal(1, 5), 78);
  const later = once(sw, 'error');
  const [error] = await later;
  t.ok(error instanceof OpenFlowError);
  t.equal(error.errorCode, 'OFPBRC_EPERM');
  t.notOk(sw.closed);
});

t.test('errors that nobody listens for do no harm', async (t) => {
  const { sw, peer } = await connected(t);
  peer.say(refusal(1, 5), 77);
  const alive = sw.barrier();
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await alive;
  t.notOk(sw.closed);
});

t.test('a request without an answer ends, and its late answer is nobody’s', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, {
    clock,
    requestTimeoutMs: 100,
    echoIntervalMs: 1e6,
    deadAfterMs: 1e6,
  });
  const request = sw.barrier();
  const { xid } = await peer.hear('barrier_request');
  clock.advance(100);
  await t.rejects(request, { name: 'SwitchError', code: 'timeout', message: /barrier_request/ });
  peer.say({ type: 'barrier_reply' }, xid);
  const longer = sw.barrier({ timeoutMs: 1_000 });
  const again = await peer.hear('barrier_request');
  clock.advance(900);
  peer.say({ type: 'barrier_reply' }, again.xid);
  await longer;
  t.notOk(sw.closed);
});

t.test('a wrong kind of answer fails the request only', async (t) => {
  const { sw, peer } = await connected(t);
  const request = sw.barrier();
  await peer.answer('barrier_request', { type: 'role_reply', role: 'equal', generation: 0n });
  await t.rejects(request, { code: 'protocol' });
  t.notOk(sw.closed);
});

t.test('values that cannot be sent fail their request, and nothing stays behind', async (t) => {
  const { sw, peer } = await connected(t);
  await t.rejects(sw.flowStats({ table: 3, match: { ipv4_src: 'no address' } }), {
    name: 'OpenFlowEncodeError',
  });
  const alive = sw.barrier();
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await alive;
});

t.test('parts of two answers are put together, also a byte at a time', async (t) => {
  const { sw, peer } = await connected(t);
  const statistics = (priority: number) => ({
    ...{ table: 1, durationSec: 0, durationNsec: 0, priority, cookie: 5n },
    ...{ packetCount: 1n, byteCount: 2n, match: { in_port: priority }, instructions: [] },
  });
  const all = sw.flowStats();
  const some = sw.flowStats({ table: 1 });
  const a = await peer.hear('multipart_request');
  const b = await peer.hear('multipart_request');
  t.match(a.message.body, { type: 'flow', table: 0xff });
  t.match(b.message.body, { type: 'flow', table: 1 });
  const part = (xid: number, more: boolean, ...priorities: number[]) =>
    toBytes(
      {
        type: 'multipart_reply',
        ...(more ? { more } : {}),
        body: { type: 'flow', flows: priorities.map(statistics) },
      },
      xid,
    );
  const bytes = Buffer.concat([
    part(a.xid, true, 1, 2),
    part(b.xid, true, 7),
    part(a.xid, true),
    part(b.xid, false),
    part(a.xid, false, 3),
  ]);
  for (const byte of bytes) peer.socket.write(Buffer.from([byte]));
  t.strictSame(
    (await all).map(({ priority }) => priority),
    [1, 2, 3],
  );
  t.strictSame(await some, [statistics(7)]);
});

t.test('messages without a reply can be confirmed', async (t) => {
  const { sw, peer } = await connected(t);
  const good = sw.confirm([flow(1), flow(2)]);
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await good;
  const bad = sw.confirm([flow(1), flow(2)]);
  await peer.hear('flow_mod');
  await peer.answer('flow_mod', refusal(5, 3));
  await peer.answer('barrier_request', { type: 'barrier_reply' });
  await t.rejects(bad, { name: 'OpenFlowError', errorCode: 'OFPFMFC_OVERLAP' });
});

t.test('an echo is answered, and a silent switch is asked and then given up', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock, echoIntervalMs: 10, deadAfterMs: 30 });
  peer.say({ type: 'echo_request', data: Buffer.from('abc') }, 99);
  const { message, xid } = await peer.hear('echo_reply');
  t.strictSame([Buffer.from(message.data).toString(), xid], ['abc', 99]);
  for (let i = 0; i < 20; i++) {
    clock.advance(10);
    const asked = await peer.hear('echo_request');
    peer.say({ type: 'echo_reply', data: asked.message.data }, asked.xid);
    const heard = sw.barrier();
    await peer.answer('barrier_request', { type: 'barrier_reply' });
    await heard;
  }
  t.notOk(sw.closed, 'it answers: it lives');
  const waiting = sw.barrier();
  const closed = once(sw, 'close');
  clock.advance(30);
  t.notOk(sw.closed);
  clock.advance(10);
  await t.rejects(waiting, { code: 'dead' });
  t.match(await closed, [{ code: 'dead' }]);
  await peer.closed;
  t.equal(clock.pending, 0, 'no timer is left');
});

t.test('a switch that does not read is given up before the memory is full', async (t) => {
  const { sw, peer } = await connected(t, { maxBufferedBytes: 100_000 });
  peer.socket.pause();
  const closed = once(sw, 'close');
  const data = Buffer.alloc(50_000);
  t.throws(
    () => {
      for (let i = 0; i < 10_000; i++) sw.packetOut({ inPort: OFPP.CONTROLLER, actions: [], data });
    },
    { code: 'closed' },
  );
  t.match(await closed, [{ code: 'backpressure' }]);
});

t.test('a bundle waits for a switch that reads slowly', async (t) => {
  const { sw, peer } = await connected(t, { maxBufferedBytes: 2_000_000 });
  peer.socket.pause();
  const mods = Array.from({ length: 50_000 }, (_, i) => flow(i));
  const bundle = sw.bundle(mods);
  peer.socket.resume();
  const open = await peer.hear('bundle_control');
  peer.say({ ...open.message, control: 'open_reply' }, open.xid);
  await peer.hear('bundle_add');
  peer.socket.pause();
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(sw.closed);
  peer.socket.resume();
  const close = await peer.hear('bundle_control');
  peer.say({ ...close.message, control: 'close_reply' }, close.xid);
  const commit = await peer.hear('bundle_control');
  peer.say({ ...commit.message, control: 'commit_reply' }, commit.xid);
  await bundle;
});

t.test('bundle: what cannot be read is named, and the bundle discarded', async (t) => {
  const { sw, peer } = await connected(t);
  const mods = [flow(1), flow(2), flow(3)];
  const bundle = sw.bundle(mods);
  bundle.catch(() => {});
  const open = await peer.hear('bundle_control');
  t.match(open.message, { control: 'open_request', flags: 3 });
  peer.say({ ...open.message, control: 'open_reply' }, open.xid);
  const adds = [await peer.hear('bundle_add'), await peer.hear('bundle_add'), await peer.hear('bundle_add')];
  t.strictSame(
    adds.map(({ message }) => message.message),
    mods,
  );
  const close = await peer.hear('bundle_control');
  t.equal(close.message.control, 'close_request');
  peer.say(refusal(4, 9), adds[1]?.xid);
  peer.say(refusal(4, 6), adds[2]?.xid);
  peer.say({ ...close.message, control: 'close_reply' }, close.xid);
  const discard = await peer.hear('bundle_control');
  t.equal(discard.message.control, 'discard_request', 'not committed');
  peer.say({ ...discard.message, control: 'discard_reply' }, discard.xid);
  const error = await bundle.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof BundleError)) throw new Error('not refused');
  t.strictSame(
    error.failures.map(({ index, error }) => [index, error instanceof OpenFlowError && error.errorCode]),
    [
      [1, 'OFPBMC_BAD_PREREQ'],
      [2, 'OFPBMC_BAD_FIELD'],
    ],
  );
  t.match(error.message, /bundle of 3 changes.*#1 flow_mod add.*"priority":2.*OFPBMC_BAD_PREREQ/);
});

t.test('bundle: refused as a whole, refused at its opening, and cut off', async (t) => {
  const { sw, peer } = await connected(t);
  const refusedOpen = sw.bundle([flow(1)]);
  refusedOpen.catch(() => {});
  await peer.answer('bundle_control', refusal(0xffff, 2305, 0x4f4e4600));
  await peer.answer('bundle_control', refusal(0xffff, 2302, 0x4f4e4600));
  await t.rejects(refusedOpen, {
    code: 'bundle-failed',
    failures: [],
    message: /OFPBFC_OUT_OF_BUNDLES/,
  });
  const go = async (until: string): Promise<void> => {
    for (;;) {
      const { message, xid } = await peer.hear('bundle_control');
      if (message.control === until) return;
      peer.say(
        { ...message, control: message.control === 'open_request' ? 'open_reply' : 'close_reply' },
        xid,
      );
    }
  };
  const cut = sw.bundle([flow(1)]);
  const next = sw.bundle([flow(2)]);
  cut.catch(() => {});
  next.catch(() => {});
  await go('commit_request');
  peer.socket.destroy();
  await t.rejects(cut, { name: 'SwitchError', code: 'closed' }, 'nobody knows: not a BundleError');
  await t.rejects(next, { name: 'SwitchError', code: 'closed' }, 'the one that waited for it');
});

t.test('bundle: a change that cannot be written down is named, and the bundle discarded', async (t) => {
  const { sw, peer } = await connected(t);
  const bundle = sw.bundle([
    flow(1),
    { ...flow(2), match: { eth_type: 0x0800, ipv4_src: 'nowhere' } },
    flow(3),
  ]);
  bundle.catch(() => {});
  const open = await peer.hear('bundle_control');
  peer.say({ ...open.message, control: 'open_reply' }, open.xid);
  const discard = await peer.hear('bundle_control');
  t.equal(discard.message.control, 'discard_request');
  peer.say({ ...discard.message, control: 'discard_reply' }, discard.xid);
  await t.rejects(bundle, {
    code: 'bundle-failed',
    message: /#1 flow_mod.*ipv4_src: not an IPv4 address: "nowhere"/,
    failures: [{ index: 1, error: { name: 'OpenFlowEncodeError' } }],
  });
});

t.test('bundle: without an answer to its commit nobody claims that nothing was done', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, {
    clock,
    requestTimeoutMs: 100,
    echoIntervalMs: 1e6,
    deadAfterMs: 1e6,
  });
  const bundle = sw.bundle([flow(1)]);
  bundle.catch(() => {});
  const open = await peer.hear('bundle_control');
  peer.say({ ...open.message, control: 'open_reply' }, open.xid);
  const close = await peer.hear('bundle_control');
  peer.say({ ...close.message, control: 'close_reply' }, close.xid);
  await peer.hear('bundle_control');
  clock.advance(100);
  await t.rejects(bundle, { name: 'SwitchError', code: 'timeout' });
});

t.test('an empty bundle is nothing', async (t) => {
  const { sw } = await connected(t);
  await sw.bundle([]);
  t.pass();
});

t.test('ports follow what the switch tells', async (t) => {
  const { sw, peer } = await connected(t);
  const seen: string[] = [];
  sw.on('portStatus', ({ name, linkDown }, change) =>
    seen.push(`${name} ${change}${linkDown ? ' down' : ''}`),
  );
  peer.say({ type: 'port_status', reason: 'add', port: wirePort(2) });
  peer.say({ type: 'port_status', reason: 'modify', port: wirePort(1, 1) });
  peer.say({ type: 'port_status', reason: 'modify', port: { ...wirePort(2), config: 1 } });
  peer.say({ type: 'port_status', reason: 'delete', port: wirePort(1, 1) });
  peer.say({ type: 'port_status', reason: 'delete', port: wirePort(1) });
  const done = once(sw, 'packetIn');
  peer.say(packetIn(1));
  await done;
  t.strictSame(seen, [
    's1-eth2 added',
    's1-eth1 modified down',
    's1-eth2 modified down',
    's1-eth1 deleted down',
  ]);
  t.strictSame([...sw.ports.keys()], [2]);
});

t.test('a broken protocol ends the connection with words', async (t) => {
  const { sw, peer } = await connected(t);
  const closed = once(sw, 'close');
  peer.socket.write(Buffer.from('040a000c00000000ffffffff', 'hex'));
  t.match(await closed, [
    { code: 'protocol', cause: { name: 'OpenFlowDecodeError', code: 'OFPBRC_BAD_LEN' } },
  ]);
});

t.test('closing settles everything, once, and leaves nothing behind', async (t) => {
  const clock = new ManualClock();
  const { sw, peer, listener } = await connected(t, { clock });
  let closes = 0;
  sw.on('close', () => closes++);
  const waiting = [sw.barrier(), sw.flowStats(), sw.bundle([flow(1)]), sw.confirm([flow(1)])];
  const settled = Promise.allSettled(waiting);
  sw.close(new SwitchError('closed', 'enough'));
  sw.close();
  for (const outcome of await settled) t.match(outcome, { status: 'rejected', reason: { code: 'closed' } });
  t.equal(closes, 1);
  t.throws(() => sw.send({ type: 'barrier_request' }), { code: 'closed' });
  await t.rejects(sw.barrier(), { code: 'closed' });
  await t.rejects(sw.bundle([flow(1)]), { code: 'closed' });
  await peer.closed;
  await Promise.all([listener.close(), listener.close()]);
  t.equal(clock.pending, 0, 'no timer is left');
  t.equal(listener.switches.size, 0);
});

t.test('closing the listener closes switches and those on their way', async (t) => {
  const { sw, listener, dial, refused } = await connected(t);
  const half = await dial();
  await half.hear('hello');
  const closed = once(sw, 'close');
  await listener.close();
  await closed;
  await half.closed;
  t.match(refused, [{ code: 'closed' }]);
});
