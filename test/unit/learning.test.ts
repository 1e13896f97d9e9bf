/**
 * How terminals come by addresses: what the parsers tell of DHCP and neighbor discovery, which replies grant something, which addresses a
 * terminal may have, and what waits for what.
 */
import fc from 'fast-check';
import t from 'tap';
import { type DhcpMessage, parseDhcp, parseNeighbor } from '../../controller-app/packet/index.js';
import { AddressBook, MAX_TENTATIVE, UNUSED_MS } from '../../controller-app/terminals/address-book.js';
import { AddressLearning } from '../../controller-app/terminals/address-learning.js';
import { DhcpExchanges } from '../../controller-app/terminals/dhcp-exchanges.js';
import { PROBE_MS } from '../../controller-app/terminals/probe-learning.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { type DhcpFrame, dhcpFrame, neighborFrame, probeFrame } from '../fixtures/address-frames.js';
import { alice, bob } from '../fixtures/reference-environment.js';

const LEARN = { ipv4: ['10.0.0.0/24'], ipv6: ['fd00::/64'] };
const NOWHERE = { ipv4: [], ipv6: [] };
const XID = 0x1234_5678;
const OFFERED = '10.0.0.100';

const request = (more: Partial<DhcpFrame> = {}): Buffer =>
  dhcpFrame({
    from: 'client',
    kind: 3,
    xid: XID,
    mac: alice.mac,
    options: { 50: OFFERED, 54: '10.0.0.2' },
    ...more,
  });
const ack = (more: Partial<DhcpFrame> = {}): Buffer =>
  dhcpFrame({
    ...{ from: 'server', kind: 5, xid: XID, mac: alice.mac, yiaddr: OFFERED },
    options: { 51: 3600, 54: '10.0.0.2' },
    ...more,
  });

t.test('DHCP messages', async (t) => {
  t.same(parseDhcp(request()), {
    ...{ from: 'client', kind: 'request', xid: XID, clientMac: alice.mac, source: '0.0.0.0' },
    ...{ clientAddress: '0.0.0.0', yourAddress: '0.0.0.0', requested: OFFERED, server: '10.0.0.2' },
    rapidCommit: false,
  });
  t.match(parseDhcp(ack()), { from: 'server', kind: 'ack', yourAddress: OFFERED, leaseSeconds: 3600 });
  t.equal(parseDhcp(ack({ options: { 51: 0xffff_ffff } }))?.leaseSeconds, Number.POSITIVE_INFINITY);
  t.match(
    parseDhcp(ack({ options: { 52: 1 }, file: { 51: 60 } })),
    { leaseSeconds: 60 },
    'options go on in file',
  );
  t.notOk(parseDhcp(ack({ file: { 51: 60 } }))?.leaseSeconds === 60, 'control: only if the message says so');
  const whole = ack();
  t.ok(parseDhcp(Buffer.concat([whole, Buffer.alloc(20)])), 'the padding of a short frame is no part of it');
  const wrong: [string, (frame: Buffer) => unknown][] = [
    ['another protocol', (frame) => frame.writeUInt8(6, 23)],
    ['a first fragment', (frame) => frame.writeUInt16BE(0x2000, 20)],
    ['a later fragment', (frame) => frame.writeUInt16BE(1, 20)],
    ['another port', (frame) => frame.writeUInt16BE(53, 34)],
    ['a length beyond the packet', (frame) => frame.writeUInt16BE(2000, 38)],
    ['a request from the port of servers', (frame) => frame.writeUInt8(1, 42)],
    ['another kind of hardware', (frame) => frame.writeUInt8(6, 43)],
    ['no magic cookie', (frame) => frame.writeUInt8(0, 278)],
    ['no such message', (frame) => frame.writeUInt8(9, 284)],
  ];
  for (const [what, spoil] of wrong) {
    const frame = Buffer.from(whole);
    spoil(frame);
    t.equal(parseDhcp(frame), undefined, what);
  }
  t.equal(parseDhcp(ack({ raw: Buffer.from([53, 1, 5, 53, 1, 6]) })), undefined, 'an option twice');
  t.equal(
    parseDhcp(ack({ raw: Buffer.from([53, 1, 5, 51, 8, 0, 0, 0, 0, 0, 0, 0, 1]) })),
    undefined,
    'of another length',
  );
  t.equal(parseDhcp(ack({ raw: Buffer.from([53, 1, 5, 51, 200, 0]) })), undefined, 'over the end');
});

t.test('neighbor discovery: only what every receiver takes for valid', async (t) => {
  const target = 'fd00::1234:5678';
  t.same(parseNeighbor(probeFrame(alice.mac, target)), {
    ...{ kind: 'solicitation', ethSrc: alice.mac, source: '::', target },
  });
  const claim = neighborFrame({ type: 136, mac: bob.mac, source: target, destination: 'ff02::1', target });
  t.match(parseNeighbor(claim), { kind: 'advertisement', source: target, target });
  const wrong: [string, Buffer][] = [
    ['through a router', neighborFrame({ type: 135, mac: alice.mac, target, hopLimit: 254 })],
    ['to another group', neighborFrame({ type: 135, mac: alice.mac, target, destination: 'ff02::1' })],
    ['to one host’s MAC', neighborFrame({ type: 135, mac: alice.mac, target, ethDst: bob.mac })],
    [
      'with a link-layer option',
      neighborFrame({ type: 135, mac: alice.mac, target, options: '0101020000000001' }),
    ],
    [
      'with an empty option',
      neighborFrame({ type: 135, mac: alice.mac, target, options: '0e00020000000001' }),
    ],
    [
      'with an option over the end',
      neighborFrame({ type: 135, mac: alice.mac, target, options: '0e02020000000001' }),
    ],
    ['about a group', neighborFrame({ type: 135, mac: alice.mac, target: 'ff02::1:2' })],
    ['with a code', neighborFrame({ type: 135, mac: alice.mac, target, code: 1 })],
    ['with a wrong checksum', spoilt(probeFrame(alice.mac, target), 56)],
    ['of another type', neighborFrame({ type: 133, mac: alice.mac, target })],
  ];
  for (const [what, frame] of wrong) t.equal(parseNeighbor(frame), undefined, what);
  const nonce = neighborFrame({ type: 135, mac: alice.mac, target, options: '0e01020000000001' });
  t.match(parseNeighbor(nonce), { target }, 'control: a nonce (RFC 7527) is no harm');
});

function spoilt(frame: Buffer, at: number): Buffer {
  frame.writeUInt8(frame.readUInt8(at) ^ 0x55, at);
  return frame;
}

t.test('nothing that comes off a wire makes the parsers throw, or read beyond it', async () => {
  const valid = [request(), ack({ options: { 52: 3 }, file: { 51: 60 } }), probeFrame(alice.mac, 'fd00::5')];
  const parse = (frame: Buffer): void => {
    const message = parseDhcp(frame);
    if (message) new DhcpExchanges(alice.mac).event(message, 0);
    parseNeighbor(frame);
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 700 }), (bytes) => parse(Buffer.from(bytes))),
    { numRuns: 2000 },
  );
  const changes = fc.array(fc.tuple(fc.nat(600), fc.nat(255)), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(fc.constantFrom(...valid), changes, fc.nat(600), (frame, edits, cut) => {
      const mutated = Buffer.from(frame);
      for (const [at, value] of edits) if (at < mutated.length) mutated[at] = value;
      parse(mutated);
      parse(mutated.subarray(0, cut));
    }),
    { numRuns: 3000 },
  );
  for (const frame of valid) for (let end = 0; end < frame.length; end++) parse(frame.subarray(0, end));
});

function message(frame: Buffer): DhcpMessage {
  const parsed = parseDhcp(frame);
  if (!parsed) throw new Error('not a DHCP message');
  return parsed;
}

t.test('a reply grants what the terminal was seen to ask for, once', async (t) => {
  const after = (requests: readonly Buffer[], reply: Buffer, at = 10): string => {
    const exchanges = new DhcpExchanges(alice.mac);
    for (const frame of requests) exchanges.event(message(frame), 0);
    return exchanges.event(message(reply), at).kind;
  };
  t.equal(after([request()], ack()), 'granted', 'control');
  t.equal(after([], ack()), 'unasked', 'nothing asked');
  t.equal(after([request()], ack({ xid: 1 })), 'unasked', 'another transaction');
  t.equal(after([request()], ack({ yiaddr: '10.0.0.101' })), 'unasked', 'another address than it asked for');
  t.equal(
    after([request()], ack({ options: { 51: 60, 54: '10.0.0.3' } })),
    'unasked',
    'another server than it asked',
  );
  t.equal(after([request()], ack({ options: { 54: '10.0.0.2' } })), 'unasked', 'no lease time');
  t.equal(after([request()], ack({ mac: bob.mac })), 'unasked', 'for somebody else');
  t.equal(after([request({ mac: bob.mac })], ack()), 'unasked', 'asked for somebody else');
  t.equal(after([request()], ack(), 200_000), 'unasked', 'long ago');
  t.equal(after([request({ kind: 1 })], ack()), 'unasked', 'an offer was looked for, nothing asked');
  t.equal(after([request({ kind: 1, options: { 80: '' } })], ack()), 'granted', 'rapid commit');
  const renewal = request({ source: OFFERED, ciaddr: OFFERED, options: {} });
  t.equal(after([renewal], ack()), 'granted', 'a renewal');
  t.equal(after([request()], ack({ yiaddr: '0.0.0.0' })), 'none', 'an answer to INFORM');
  t.equal(after([request()], ack({ kind: 6, yiaddr: '0.0.0.0' })), 'withdrawn', 'NAK');
  t.equal(after([], ack({ kind: 6, yiaddr: '0.0.0.0' })), 'none', 'NAK of nothing asked');
  t.equal(after([], request({ kind: 7, source: OFFERED, ciaddr: OFFERED })), 'withdrawn', 'RELEASE');
  t.equal(
    after([], request({ kind: 7, ciaddr: OFFERED })),
    'none',
    'RELEASE of an address it does not send from',
  );
  t.equal(after([], request({ kind: 4 })), 'withdrawn', 'DECLINE');

  const two = new DhcpExchanges(alice.mac);
  two.event(message(request({ options: { 50: OFFERED } })), 0);
  t.equal(two.event(message(ack()), 1).kind, 'granted', 'of two servers the first');
  t.equal(
    two.event(message(ack({ options: { 51: 60, 54: '10.0.0.3' } })), 2).kind,
    'unasked',
    'not the second',
  );
  two.event(message(request()), 3);
  t.equal(two.event(message(ack()), 4).kind, 'granted', 'asked again: granted again');

  const many = new DhcpExchanges(alice.mac);
  for (let xid = 0; xid < 1000; xid++) many.event(message(request({ xid })), 0);
  t.equal(many.event(message(ack({ xid: 0 })), 1).kind, 'unasked', 'only the last few are remembered');
  t.equal(many.event(message(ack({ xid: 999 })), 1).kind, 'granted');
});

function bookOf(more: Partial<Terminal> = {}): AddressBook {
  return new AddressBook([
    { terminal: { ...alice, ...more }, learn: LEARN },
    { terminal: bob, learn: LEARN },
  ]);
}

t.test('the book: within the prefixes, nobody else’s, and not for ever', async (t) => {
  const book = bookOf();
  t.equal(book.grant('alice', OFFERED, 5000, 0), undefined);
  t.same(book.present('alice').ipv4, ['10.0.0.1', OFFERED]);
  t.same(book.takeChanged(), ['alice']);
  t.same(book.takeChanged(), []);
  t.same(book.held('alice').at(-1), { address: OFFERED, origin: 'dhcp', until: 5000 });
  t.equal(book.grant('alice', '10.0.1.1', 5000, 0), 'outside');
  t.equal(book.grant('bob', OFFERED, 5000, 0), 'taken', 'another terminal has learnt it');
  t.equal(book.grant('alice', '10.0.0.11', 5000, 0), 'taken', 'another terminal is configured to have it');
  t.equal(book.probe('alice', 'fd00::b', 0), 'taken');
  t.equal(book.grant('alice', '10.0.0.1', 5000, 0), undefined, 'its own from its configuration');
  t.equal(book.held('alice')[0]?.origin, 'fixed', 'stays what it is');

  t.equal(book.grant('alice', OFFERED, 9000, 4000), undefined, 'a renewal');
  t.same(book.takeChanged(), [], 'changes no address');
  t.equal(book.nextEnd(), 9000);
  book.expire(8999);
  t.ok(book.present('alice').ipv4.includes(OFFERED));
  book.expire(9000);
  t.same(book.present('alice'), alice);
  t.same(book.takeChanged(), ['alice']);
  t.notOk(book.withdraw('alice', '10.0.0.1'), 'a configured address never goes');
  t.equal(book.grant('bob', OFFERED, undefined, 0), undefined, 'free again; without end');
  t.equal(book.nextEnd(), Number.POSITIVE_INFINITY);

  const control = new AddressBook([{ terminal: alice, learn: NOWHERE }]);
  t.equal(
    control.grant('alice', OFFERED, 5000, 0),
    'outside',
    'nothing is learnt unless the configuration says so',
  );
  t.equal(control.probe('alice', 'fd00::5', 0), 'outside');
  const all = new AddressBook([{ terminal: alice, learn: { ipv4: ['0.0.0.0/0'], ipv6: ['::/0'] } }]);
  for (const never of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '169.254.1.1'])
    t.equal(all.grant('alice', never, 5000, 0), 'outside', never);
  for (const never of ['::', '::1', 'ff02::1', 'fe80::1'])
    t.equal(all.probe('alice', never, 0), 'outside', never);
});

t.test('a probed address is nobody’s until it is confirmed', async (t) => {
  const book = bookOf();
  t.equal(book.probe('alice', 'fd00::5', 0), undefined);
  t.same(book.tentative('alice'), ['fd00::5']);
  t.same(book.present('alice'), alice);
  t.equal(book.probe('bob', 'fd00::5', 0), 'taken', 'who asks first may have it');
  t.ok(book.abandon('alice', 'fd00::5'));
  t.equal(book.confirm('alice', 'fd00::5', 1), 'taken', 'somebody else has it');
  t.same(book.present('alice'), alice);
  t.equal(book.probe('bob', 'fd00::5', 2), undefined);
  t.equal(book.confirm('bob', 'fd00::5', 3), undefined);
  t.same(book.present('bob').ipv6, ['fd00::b', 'fd00::5']);
  book.expire(3 + UNUSED_MS - 1);
  t.equal(book.present('bob').ipv6.length, 2);
  const [slot = -1] = book.slots('bob').values();
  book.used('bob', slot, 1000);
  book.expire(3 + UNUSED_MS);
  t.equal(book.present('bob').ipv6.length, 2, 'it was used');
  book.expire(1000 + UNUSED_MS);
  t.same(book.present('bob'), bob, 'not any more');
});

t.test('a terminal has as many addresses as a state can hold, whatever it announces', async (t) => {
  const book = bookOf();
  const announced = (address: string, now: number) =>
    book.probe('alice', address, now) ?? book.confirm('alice', address, now);
  const at = (index: number): number => index * 10_000;
  for (let index = 0; index < 100; index++) {
    t.equal(announced(`fd00::1:${index.toString(16)}`, at(index)), undefined);
    if (index >= 3) book.used('alice', book.slots('alice').get('fd00::1:3') ?? -1, at(index));
  }
  const { ipv6 } = book.present('alice');
  t.equal(ipv6.length, 16);
  t.ok(ipv6.includes('fd00::1') && ipv6.includes('fd00::1:3') && ipv6.includes('fd00::1:63'));
  t.notOk(ipv6.includes('fd00::1:4'), 'those that were not used for longest have gone');
  t.equal(new Set(book.slots('alice').values()).size, 15);

  for (let index = 0; index < 20; index++) book.grant('alice', `10.0.0.${100 + index}`, 9000 + index, 0);
  t.same(book.present('alice').ipv4.length, 8);
  t.notOk(book.present('alice').ipv4.includes('10.0.0.100'), 'leases that end first have gone');

  const full = bookOf({ ipv6: Array.from({ length: 16 }, (_, index) => `fd00::f${index.toString(16)}`) });
  t.equal(full.probe('alice', 'fd00::5', 0) ?? full.confirm('alice', 'fd00::5', 0), 'full');

  const hasty = bookOf();
  const answers = Array.from({ length: 100 }, (_, index) =>
    hasty.probe('alice', `fd00::2:${index.toString(16)}`, 0),
  );
  t.equal(answers.filter((answer) => answer === undefined).length, MAX_TENTATIVE);
  t.equal(hasty.probe('bob', 'fd00::3', 0), undefined, 'others are not concerned');
});

t.test('what an earlier controller’s firewall had is kept, as far as it is allowed', async (t) => {
  const book = bookOf();
  book.keep('alice', ['10.0.0.1', OFFERED, '10.9.9.9', '10.0.0.11', 'fd00::5', 'fe80::1'], 0);
  t.same(book.present('alice').ipv4, ['10.0.0.1', OFFERED]);
  t.same(book.present('alice').ipv6, ['fd00::1', 'fd00::5']);
  t.equal(book.grant('alice', OFFERED, 5000, 0), undefined);
  t.match(
    book.held('alice').find(({ address }) => address === OFFERED),
    { origin: 'dhcp', until: 5000 },
  );
  book.keep('bob', ['10.0.0.120'], 0);
  t.equal(book.grant('alice', '10.0.0.120', 5000, 1), undefined, 'the server knows better whose it is');
  t.same(book.present('bob'), bob);
  t.same([...book.takeChanged()].sort(), ['alice', 'bob']);
});

/** Learning with switches and firewalls that take what they are told when the test says so. */
function learning(t: { teardown(done: () => void): void }) {
  const clock = new ManualClock(1_000_000);
  const diary: string[] = [];
  const held: (() => void)[] = [];
  const control = { holds: false, failure: undefined as Error | undefined, connected: true };
  const taken = (): Promise<void> => {
    if (control.failure) return Promise.reject(control.failure);
    return control.holds ? new Promise((resolve) => held.push(resolve)) : Promise.resolve();
  };
  const uses = new Map<number, number>();
  let firewall: Terminal = alice;
  const all = new AddressLearning({
    ...{ clock, log: silentLog },
    terminals: [
      { terminal: alice, learn: LEARN },
      { terminal: bob, learn: NOWHERE },
    ],
    outlet: {
      guard: async () => {
        await taken();
        diary.push('guard');
      },
      firewall: async (terminal) => {
        await taken();
        firewall = terminal;
        diary.push('firewall');
      },
      fromTerminal: (_name, frame) => {
        if (control.connected) diary.push(`from ${frame.length}`);
        return control.connected;
      },
      toTerminal: (_name, frame) => diary.push(`to ${frame.length}`),
      uses: async () => uses,
      changed: () => {},
    },
  });
  t.teardown(() => all.close());
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
  };
  return {
    ...{ all, clock, diary, control, uses, settled },
    release: async () => {
      for (const resolve of held.splice(0)) resolve();
      await settled();
    },
    send: async (reason: Parameters<AddressLearning['packetIn']>[0], frame: Buffer) => {
      all.packetIn(reason, 0, frame);
      await settled();
    },
    firewall: () => firewall,
  };
}

t.test('a lease is in force before its reply is delivered', async (t) => {
  const { send, diary, control, release, firewall, all } = learning(t);
  await send('dhcp-client', request());
  t.same(diary, [], 'a request changes nothing');
  control.holds = true;
  const reply = ack();
  await send('dhcp-server', reply);
  t.same(diary, [], 'the reply waits');
  await release();
  t.same(diary.toSorted(), ['firewall', 'guard', `to ${reply.length}`].toSorted());
  t.equal(diary.at(-1), `to ${reply.length}`, 'for both');
  t.ok(firewall().ipv4.includes(OFFERED));
  await send('dhcp-server', ack({ yiaddr: '10.0.0.101' }));
  t.equal(diary.length, 3, 'what was not asked for is not delivered');
  await send('dhcp-server', ack({ kind: 2 }));
  t.equal(diary.length, 4, 'an offer is');
  await send('dhcp-server', ack({ mac: bob.mac, kind: 2 }));
  t.equal(diary.length, 4, 'one for somebody else is not');
  all.packetIn('dhcp-server', 1, reply);
  all.packetIn('dhcp-server', 77, reply);
  t.equal(diary.length, 4, 'nor what a terminal that may learn nothing is said to get');
});

t.test('a reply is not delivered while its address is not in force', async (t) => {
  const { send, diary, control, firewall } = learning(t);
  control.failure = new Error('the switch refuses');
  await send('dhcp-client', request());
  await send('dhcp-server', ack());
  t.same(diary, []);
  control.failure = undefined;
  await send('dhcp-client', request());
  const again = ack();
  await send('dhcp-server', again);
  t.ok(firewall().ipv4.includes(OFFERED), 'the client asks again: now it is');
  t.equal(diary.at(-1), `to ${again.length}`);
});

t.test('a lease ends: with its time, or given back', async (t) => {
  const { send, clock, firewall, settled } = learning(t);
  await send('dhcp-client', request());
  await send('dhcp-server', ack());
  t.ok(firewall().ipv4.includes(OFFERED));
  clock.advance(3_599_000);
  await settled();
  t.ok(firewall().ipv4.includes(OFFERED));
  clock.advance(1_000);
  await settled();
  t.ok(isSameTerminal(firewall(), alice));
  await send('dhcp-client', request());
  await send('dhcp-server', ack());
  t.ok(firewall().ipv4.includes(OFFERED));
  await send('dhcp-client', request({ kind: 7, source: OFFERED, ciaddr: OFFERED }));
  t.ok(isSameTerminal(firewall(), alice));
});

const V6_DATA = 'fd00::5';
/** A datagram from an address that is being probed. */
const early = (): Buffer => {
  const frame = neighborFrame({
    type: 128,
    mac: alice.mac,
    source: V6_DATA,
    destination: 'fd00::2',
    target: '::',
  });
  return Buffer.concat([frame, Buffer.alloc(3)]);
};

t.test('a probe goes on once its answers are heard; without one the address is the terminal’s', async (t) => {
  const { send, diary, clock, control, release, firewall, settled, all } = learning(t);
  const probe = probeFrame(alice.mac, V6_DATA);
  control.holds = true;
  await send('probe', probe);
  t.same(diary, [], 'it waits');
  await release();
  t.same(diary, ['guard', `from ${probe.length}`]);
  control.holds = false;
  await send('early', early());
  clock.advance(PROBE_MS - 1);
  await settled();
  t.ok(isSameTerminal(firewall(), alice), 'not yet');
  clock.advance(1);
  await settled();
  t.ok(firewall().ipv6.includes(V6_DATA));
  t.equal(diary.at(-1), `from ${early().length}`, 'what it sent meanwhile goes on');
  t.same(all.book.held('alice').at(-1), { address: V6_DATA, origin: 'slaac' });
  await send('early', early());
  t.equal(diary.at(-1), `from ${early().length}`, 'so does what was under way');
  await send('probe', probe);
  t.equal(diary.at(-1), `from ${probe.length}`, 'it may ask about its own');
  clock.advance(2 * PROBE_MS);
  await settled();
  t.ok(firewall().ipv6.includes(V6_DATA));
});

t.test('somebody has the address: it is not learnt, and what was sent from it is gone', async (t) => {
  const target = V6_DATA;
  const claims: [string, Buffer][] = [
    [
      'an advertisement',
      neighborFrame({ type: 136, mac: bob.mac, source: target, destination: 'ff02::1', target }),
    ],
    ['a probe of somebody else', probeFrame(bob.mac, target)],
  ];
  for (const [what, claim] of claims) {
    const { send, clock, diary, firewall, settled, all } = learning(t);
    await send('probe', probeFrame(alice.mac, target));
    await send('early', early());
    await send('claim', claim);
    clock.advance(10 * PROBE_MS);
    await settled();
    t.ok(isSameTerminal(firewall(), alice), what);
    t.same(all.book.tentative('alice'), []);
    t.notOk(diary.includes(`from ${early().length}`));
  }
  const { send, clock, firewall, settled } = learning(t);
  await send('probe', probeFrame(alice.mac, target));
  await send('claim', probeFrame(alice.mac, target));
  await send(
    'claim',
    neighborFrame({ type: 135, mac: bob.mac, source: 'fd00::b', target, destination: target }),
  );
  clock.advance(PROBE_MS);
  await settled();
  t.ok(firewall().ipv6.includes(target), 'control: its own echo and ordinary questions are no claims');
});

t.test('a terminal that goes away while it asks has not asked', async (t) => {
  const { send, clock, firewall, settled, all } = learning(t);
  await send('probe', probeFrame(alice.mac, V6_DATA));
  all.interrupted('alice');
  clock.advance(PROBE_MS);
  await settled();
  t.ok(isSameTerminal(firewall(), alice));
  await send('probe', probeFrame(alice.mac, V6_DATA));
  clock.advance(PROBE_MS);
  await settled();
  t.ok(firewall().ipv6.includes(V6_DATA), 'it may ask again');
});

t.test('an address is not learnt from a question that nobody can have heard', async (t) => {
  const { send, clock, firewall, settled, all, control, release, diary } = learning(t);
  control.holds = true;
  await send('probe', probeFrame(alice.mac, V6_DATA));
  all.interrupted('alice');
  await release();
  clock.advance(2 * PROBE_MS);
  await release();
  t.ok(isSameTerminal(firewall(), alice), 'it went away while the question waited');
  t.notOk(diary.some((line) => line.startsWith('from')));
  control.holds = false;
  control.connected = false;
  await send('probe', probeFrame(alice.mac, V6_DATA));
  clock.advance(2 * PROBE_MS);
  await settled();
  t.ok(isSameTerminal(firewall(), alice), 'its switch is away');
  t.same(all.book.tentative('alice'), []);
  control.connected = true;
  await send('probe', probeFrame(alice.mac, V6_DATA));
  await send('probe', probeFrame(alice.mac, V6_DATA));
  clock.advance(PROBE_MS);
  await settled();
  t.ok(firewall().ipv6.includes(V6_DATA), 'control: asked, and once more');
});

t.test('frames that wait for an address are bounded', async (t) => {
  const { send, clock, diary, settled } = learning(t);
  await send('probe', probeFrame(alice.mac, V6_DATA));
  for (let count = 0; count < 1000; count++) await send('early', early());
  clock.advance(PROBE_MS);
  await settled();
  t.equal(diary.filter((line) => line === `from ${early().length}`).length, 64);
});

t.test('what is used stays, what is not used for two days goes', async (t) => {
  const { send, clock, firewall, settled, uses, all } = learning(t);
  const minute = async (count: number): Promise<void> => {
    for (let passed = 0; passed < count; passed++) {
      clock.advance(60_000);
      await settled();
    }
  };
  await send('probe', probeFrame(alice.mac, V6_DATA));
  clock.advance(PROBE_MS);
  await settled();
  const slot = all.book.slots('alice').get(V6_DATA) ?? -1;
  uses.set(slot, 7);
  await minute(2 * 24 * 60);
  t.ok(firewall().ipv6.includes(V6_DATA), 'it was used in the first minute');
  await minute(2);
  t.ok(isSameTerminal(firewall(), alice));
});
