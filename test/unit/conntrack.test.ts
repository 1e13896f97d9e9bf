/**
 * The kernel's connection table as the edge agent speaks with it: messages of ctnetlink and back, requests and their answers, what the relay says; and whatever
 * comes of it that has no meaning.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  connectionOf,
  entryOf,
  eventOf,
  ownAddresses,
  tupleOf,
} from '../../edge-agent/conntrack/connection.js';
import {
  MESSAGE_TYPE,
  readEntry,
  writeDeletion,
  writeDumpRequest,
  writeEntry,
  writeTimeout,
} from '../../edge-agent/conntrack/entry.js';
import { type Frame, FrameCutter, frameFor, MAX_FRAME_BYTES } from '../../edge-agent/conntrack/frames.js';
import { messagesOf } from '../../edge-agent/conntrack/netlink.js';
import { Requests } from '../../edge-agent/conntrack/requests.js';
import { ConnectionTable } from '../../edge-agent/conntrack/table.js';
import { secondsAtActivation } from '../../edge-agent/domain/idle-time.js';
import { type Connection, connectionSchema } from '../../shared/firewall/connection.js';
import { idleSeconds, MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';
import { anyConnection, realisticTable } from '../fixtures/connection-tables.js';
import {
  answerMessage,
  attributeTree,
  DUMPED_BY_LINUX,
  doneMessage,
  dumpMessage,
  EVENT_OF_LINUX,
  eventMessage,
  LOADED_BY_CONNTRACK,
  relayFrame,
} from '../fixtures/conntrack-messages.js';
import { alice } from '../fixtures/reference-environment.js';

const { ENOENT, EEXIST, EBUSY, ENOMEM, EINVAL } = {
  ENOENT: 2,
  EEXIST: 17,
  EBUSY: 16,
  ENOMEM: 12,
  EINVAL: 22,
};
const own = ownAddresses(alice);
const connection: Connection = {
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port: 40_000 },
  remote: { address: '192.0.2.7', port: 443 },
  state: 'established',
  timeLeftSeconds: 300,
};
const mine = anyConnection(alice).filter(({ local }) => own.has(local.address));
/** Between two of its own addresses whoever sends first has opened: the entry cannot say otherwise. */
const unmistakable = mine.filter(({ remote }) => !own.has(remote.address));
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const dumped = (datagram: Buffer): readonly Connection[] =>
  [...messagesOf(datagram)].flatMap((message) => {
    const entry = readEntry(message);
    return (entry && connectionOf(entry, own)) ?? [];
  });
const sortedText = (connections: readonly Connection[]): readonly string[] =>
  connections.map((one) => JSON.stringify(connectionSchema.parse(one))).sort();

t.test('an entry is loaded with the attributes that conntrack gives it', async (t) => {
  for (const [each, hex] of LOADED_BY_CONNTRACK) {
    const theirs = bytes(hex);
    const ours = writeEntry(entryOf(each, each.timeLeftSeconds), true);
    const what = `${each.protocol} ${each.local.address}, opened by the ${each.opener}`;
    t.same(attributeTree(ours), attributeTree(theirs), what);
    t.equal(ours.length, theirs.length);
    t.equal(ours.readUInt16LE(4), theirs.readUInt16LE(4), 'the message is the same');
    t.equal(ours.readUInt16LE(6), theirs.readUInt16LE(6) & ~0x04, 'and its flags, but for the answer');
    const other = writeEntry(entryOf({ ...each, timeLeftSeconds: 7 }, 7), true);
    t.notSame(attributeTree(other), attributeTree(theirs), 'control');
  }
});

t.test('messages, byte by byte', async (t) => {
  t.equal(
    writeEntry(entryOf(connection, 100), true).toString('hex'),
    [
      'b4000000 0001 0106 00000000 00000000 02000000',
      '3400 0180 1400 0180 0800 0100 0a000001 0800 0200 c0000207 1c00 0280 0500 0100 06000000 0600 0200 9c400000 0600 0300 01bb0000',
      '3400 0280 1400 0180 0800 0100 c0000207 0800 0200 0a000001 1c00 0280 0500 0100 06000000 0600 0200 01bb0000 0600 0300 9c400000',
      '0800 0300 0000000e 0800 0700 00000064 0800 0800 00000001',
      '2000 0480 1c00 0180 0500 0100 03000000 0600 0400 0a0a0000 0600 0500 0a0a0000',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
  t.equal(writeEntry(entryOf(connection, 100), false).readUInt16LE(6), 0x401, 'made, or changed');
  t.equal(
    writeTimeout(tupleOf(connection), 9).toString('hex'),
    '50000000 0001 0100 00000000 00000000 02000000 3400 0180 1400 0180 0800 0100 0a000001 0800 0200 c0000207 1c00 0280 0500 0100 06000000 0600 0200 9c400000 0600 0300 01bb0000 0800 0700 00000009'.replaceAll(
      ' ',
      '',
    ),
  );
  t.equal(
    writeDeletion(tupleOf({ ...connection, opener: 'remote' })).toString('hex'),
    '48000000 0201 0100 00000000 00000000 02000000 3400 0180 1400 0180 0800 0100 c0000207 0800 0200 0a000001 1c00 0280 0500 0100 06000000 0600 0200 01bb0000 0600 0300 9c400000'.replaceAll(
      ' ',
      '',
    ),
    'the original direction is the opener’s',
  );
  t.equal(writeDumpRequest().toString('hex'), '1400000001010103000000000000000000000000');
});

t.test('the least status of each state', async (t) => {
  const status = (change: object): unknown =>
    attributeTree(writeEntry(entryOf(connectionSchema.parse({ ...connection, ...change }), 1), true))[3];
  t.equal(status({ state: 'opening' }), '00000008', 'confirmed, as every entry is');
  t.equal(status({ state: 'answered' }), '0000000a', 'seen in both directions');
  for (const state of ['established', 'closing', 'closed'])
    t.equal(status({ state }), '0000000e', 'and assured');
});

t.test('what Linux dumps and reports', async (t) => {
  const datagram = bytes(DUMPED_BY_LINUX);
  const loaded = LOADED_BY_CONNTRACK.map(([each]) => ({
    ...each,
    timeLeftSeconds: each.timeLeftSeconds - 1,
  }));
  t.same(sortedText(dumped(datagram)), sortedText(loaded), 'what conntrack had loaded, a second later');
  const [message] = messagesOf(bytes(EVENT_OF_LINUX));
  t.match(message && eventOf(message, own), {
    event: 'new',
    causedBy: 9,
    saysState: false,
    connection: { protocol: 'udp', replied: false, timeLeftSeconds: 100, local: { port: 5 } },
  });
  t.equal(message && eventOf(message, new Set(['10.9.9.9'])), undefined, 'somebody else’s');
});

t.test('a connection comes out of its entry as it went in', async () => {
  fc.assert(
    fc.property(fc.array(unmistakable, { maxLength: 10 }), (connections) => {
      const datagram = Buffer.concat(connections.map((one) => dumpMessage(one)));
      return JSON.stringify(sortedText(dumped(datagram))) === JSON.stringify(sortedText(connections));
    }),
  );
});

t.test('an entry that is no connection of the terminal’s is none', async (t) => {
  const entry = entryOf(connection, 300);
  t.ok(connectionOf(entry, own), 'control');
  const { tuple } = entry;
  t.equal(connectionOf({ ...entry, mark: 0 }, own), undefined, 'it was not admitted');
  t.equal(connectionOf({ ...entry, tuple: { ...tuple, source: '10.0.0.11' } }, own), undefined);
  t.equal(connectionOf({ ...entry, tuple: { ...tuple, destination: 'fd00::7' } }, own), undefined);
  const echo = { protocol: 'icmp', source: '10.0.0.1', destination: '192.0.2.7', type: 8, id: 7 } as const;
  t.ok(connectionOf({ ...entry, tuple: echo }, own), 'control');
  t.equal(connectionOf({ ...entry, tuple: { ...echo, type: 13 } }, own), undefined, 'no echo');
  t.equal(connectionOf({ ...entry, tuple: { ...echo, type: 0 } }, own), undefined, 'a reply opens nothing');
  t.match(connectionOf({ ...entry, timeoutSeconds: 2 ** 32 - 1 }, own), {
    timeLeftSeconds: MAX_IDLE_SECONDS,
  });
  for (const [status, state] of [
    [0, 'opening'],
    [2, 'answered'],
    [6, 'established'],
  ] as const)
    t.match(connectionOf({ ...entry, tcpState: undefined, status }, own), { state }, 'the least it can be');
  const sctp = Buffer.from(
    dumpMessage(connection).toString('hex').replaceAll('0500010006', '0500010084'),
    'hex',
  );
  t.same(
    dumped(Buffer.concat([sctp, dumpMessage(connection)])),
    [connection],
    'another protocol, and the next one',
  );
});

t.test('what is no value never becomes a message', async (t) => {
  for (const address of [
    '10.0.0.2 -m 0',
    '-F',
    '',
    '1.2.3',
    'fd00::1%eth0',
    '10.0.0.2\n',
    '::ffff:1.2.3.4.5',
  ])
    t.throws(
      () => writeEntry(entryOf({ ...connection, remote: { address, port: 80 } }, 1), true),
      { code: 'invalid' },
      address,
    );
  for (const port of [-1, 65_536, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(
      () => writeDeletion(tupleOf({ ...connection, remote: { address: '10.0.0.2', port } })),
      { code: 'invalid' },
      `${port}`,
    );
  for (const seconds of [-1, 2 ** 32, Number.NaN])
    t.throws(() => writeTimeout(tupleOf(connection), seconds), { code: 'invalid' });
  t.doesNotThrow(() => writeDeletion(tupleOf(connection)), 'control, and nothing of them is left');
  t.same(dumped(dumpMessage(connection)), [connection]);
});

t.test('what is no netlink is refused', async (t) => {
  const good = dumpMessage(connection);
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(good);
    copy.writeUInt16LE(value, at);
    return copy;
  };
  t.same(dumped(good), [connection], 'control');
  const bad: Readonly<Record<string, Buffer>> = {
    'a header that is cut off': good.subarray(0, 15),
    'a message that is cut off': good.subarray(0, -1),
    'a message shorter than its header': changed(0, 15),
    'a message without its head': changed(0, 18).subarray(0, 18),
    'an attribute shorter than its header': changed(20, 3),
    'an attribute beyond the message': changed(20, 0xfff0),
    'an attribute beyond the one that it is in': changed(24, 200),
    'a port of one byte': Buffer.from(
      good.toString('hex').replace('060002009c400000', '050002009c000000'),
      'hex',
    ),
    'an address of three bytes': Buffer.from(
      good.toString('hex').replace('080001000a000001', '070001000a000001'),
      'hex',
    ),
  };
  for (const [what, datagram] of Object.entries(bad))
    t.throws(() => dumped(datagram), { code: 'malformed' }, what);
});

t.test(
  'whatever the bytes are, they make valid connections of the terminal or an error with a code',
  async () => {
    const message = fc
      .tuple(mine, fc.constantFrom('dump', 'new', 'update', 'destroy'))
      .map(([one, kind]) =>
        kind === 'dump'
          ? dumpMessage(one)
          : eventMessage(kind === 'new' ? kind : kind === 'update' ? kind : 'destroy', one),
      );
    const changed = fc
      .tuple(message, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat())
      .map(([whole, changes, cut]) => {
        const copy = Buffer.from(whole);
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return cut % 3 === 0 ? copy.subarray(0, cut % copy.length) : copy;
      });
    const any = fc.oneof(
      changed,
      fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    );
    fc.assert(
      fc.property(fc.array(any, { maxLength: 3 }), (parts) => {
        try {
          const datagram = Buffer.concat(parts);
          const events = [...messagesOf(datagram)].flatMap((each) => eventOf(each, own)?.connection ?? []);
          return [...events, ...dumped(datagram)].every(
            (one) =>
              JSON.stringify(connectionSchema.parse(one)) === JSON.stringify(one) &&
              own.has(one.local.address),
          );
        } catch (error) {
          return error instanceof Error && 'code' in error && error.code === 'malformed';
        }
      }),
      { numRuns: 1_000 },
    );
  },
);

t.test('what the relay says means the same wherever it is cut', async (t) => {
  const events = realisticTable(alice, 8, 3).map((one) => relayFrame('e', eventMessage('update', one)));
  const stream = Buffer.concat([
    relayFrame('h', bytes('b9e9bdb1')),
    ...events,
    relayFrame('o'),
    relayFrame('r', answerMessage(7, EEXIST)),
    relayFrame('f', bytes('0000006905000000')),
    relayFrame('l'),
  ]);
  const read = (pieces: readonly Buffer[]): readonly Frame[] => {
    const cutter = new FrameCutter();
    return pieces.flatMap((piece) => [...cutter.push(piece)]);
  };
  const whole = read([stream]);
  t.equal(whole.length, events.length + 5, 'control');
  t.same(whole[0], { kind: 'ready', port: 0xb9e9bdb1 });
  t.same(whole.at(-2), { kind: 'not-sent', errno: 105, sequence: 5 });
  const plain = JSON.stringify(whole);
  t.equal(JSON.stringify(read([...stream].map((byte) => Buffer.from([byte])))), plain, 'a byte at a time');
  for (let at = 0; at <= stream.length; at++) {
    if (JSON.stringify(read([stream.subarray(0, at), stream.subarray(at)])) !== plain) t.fail(`cut at ${at}`);
  }
  t.equal(read([stream.subarray(0, -1)]).length, whole.length - 1, 'a frame that is not whole is not read');

  const long = Buffer.alloc(5);
  long.writeUInt32BE(MAX_FRAME_BYTES + 1);
  t.throws(() => read([long]), { code: 'malformed' }, 'a frame that is too long is not collected');
  for (const frame of [relayFrame('x'), relayFrame('h'), relayFrame('o', bytes('00')), relayFrame('f')])
    t.throws(() => read([frame]), { code: 'malformed' });
  t.equal(frameFor([bytes('01'), bytes('0203')]).toString('hex'), '00000003010203');
});

/** A kernel that answers as it is told; what it was sent is kept. */
function fakeKernel() {
  const sent: Buffer[][] = [];
  const requests = new Requests((messages) => void sent.push([...messages]));
  const sequence = (message: Buffer | undefined): number => message?.readUInt32LE(8) ?? -1;
  return {
    requests,
    sent,
    sequence,
    /** Answers a batch: errors by index, then what its last message asks for. */
    answer(index: number, errors: Readonly<Record<number, number>> = {}): void {
      const batch = sent[index] ?? [];
      for (const [at, message] of batch.entries()) {
        const errno = errors[at] ?? 0;
        const asks = (message.readUInt16LE(6) & 0x04) !== 0;
        if (errno !== 0 || asks) requests.received(answerMessage(sequence(message), errno));
      }
    },
  };
}
const some = (count: number): Buffer[] =>
  realisticTable(alice, count, 5).map((one) => writeEntry(entryOf(one, 60), true));
const settled = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<false>((resolve) => setImmediate(resolve, false))]);

t.test('requests and their answers', async (t) => {
  await t.test('many go in few datagrams, some at a time, each error to its own', async (t) => {
    const kernel = fakeKernel();
    const done = kernel.requests.each(some(2000));
    t.same(
      kernel.sent.map((batch) => batch.length),
      [256, 256, 256, 256],
      'four batches are under way',
    );
    kernel.answer(1, { 3: EEXIST });
    t.equal(kernel.sent.length, 5, 'a place that is free is used');
    for (const index of [0, 2, 3, 4, 5, 6, 7]) kernel.answer(index, index === 7 ? { 207: ENOENT } : {});
    t.same(
      [...(await done)],
      [
        [256 + 3, EEXIST],
        [1999, ENOENT],
      ],
      'the last one’s, too',
    );
    const sequences = kernel.sent.flat().map(kernel.sequence);
    t.same(
      sequences,
      sequences.map((_, index) => index + 1),
      'numbered in order',
    );
    t.equal(
      kernel.sent.flat().filter((message) => message.readUInt16LE(6) & 0x04).length,
      8,
      'an answer a batch',
    );
    t.same([...(await kernel.requests.each([]))], []);
  });
  await t.test('an answer to nobody is passed over', async (t) => {
    const kernel = fakeKernel();
    const done = kernel.requests.each(some(2));
    kernel.requests.received(answerMessage(77, 0));
    kernel.requests.received(dumpMessage(connection, 78));
    t.notOk(await settled(done));
    kernel.answer(0);
    t.same([...(await done)], []);
  });
  await t.test('dumps come one after another, beside other requests', async (t) => {
    const kernel = fakeKernel();
    const found: number[][] = [[], []];
    const dumps = found.map((list) =>
      kernel.requests.dump(writeDumpRequest(), ({ sequence }) => list.push(sequence)),
    );
    const change = kernel.requests.each(some(1));
    t.equal(kernel.sent.length, 2, 'the kernel carries out one dump at a time');
    kernel.requests.received(Buffer.concat([dumpMessage(connection, 1), dumpMessage(connection, 1)]));
    kernel.answer(1);
    await change;
    kernel.requests.received(Buffer.concat([dumpMessage(connection, 1), doneMessage(1)]));
    await dumps[0];
    t.same(found, [[1, 1, 1], []]);
    kernel.requests.received(Buffer.concat([dumpMessage(connection, 3), doneMessage(3)]));
    await dumps[1];
    t.same(found[1], [3]);
  });
  await t.test('what can’t be answered fails, and the rest goes on', async (t) => {
    const kernel = fakeKernel();
    const unsent = kernel.requests.each(some(1));
    kernel.requests.notSent(1, ENOMEM);
    await t.rejects(unsent, { code: 'refused', message: /ENOMEM/ });
    const refused = kernel.requests.dump(writeDumpRequest(), () => {});
    kernel.requests.received(answerMessage(2, EINVAL));
    await t.rejects(refused, { code: 'refused', message: /EINVAL/ });
    const lost = [kernel.requests.each(some(1)), kernel.requests.dump(writeDumpRequest(), () => {})];
    kernel.requests.repliesLost();
    for (const one of lost) await t.rejects(Promise.all([one]), { code: 'refused', message: /lost/ });
    const next = kernel.requests.each(some(1));
    kernel.answer(kernel.sent.length - 1);
    t.same([...(await next)], [], 'control');
    const bad = kernel.requests.dump(writeDumpRequest(), () => {
      throw new TypeError('no');
    });
    kernel.requests.received(dumpMessage(connection, kernel.sequence(kernel.sent.at(-1)?.[0])));
    await t.rejects(bad, TypeError, 'the visitor’s own error');
  });
  await t.test('with the relay everything ends', async (t) => {
    const kernel = fakeKernel();
    const waiting = [kernel.requests.each(some(2000)), kernel.requests.dump(writeDumpRequest(), () => {})];
    const sent = kernel.sent.length;
    kernel.requests.fail(new Error('gone'));
    for (const one of waiting) await t.rejects(Promise.all([one]), { message: 'gone' });
    await t.rejects(kernel.requests.each(some(1)), { message: 'gone' });
    await t.rejects(
      kernel.requests.dump(writeDumpRequest(), () => {}),
      { message: 'gone' },
    );
    t.equal(kernel.sent.length, sent, 'and nothing is sent any more');
  });
});

t.test('the table', async (t) => {
  const table = realisticTable(alice, 6, 5);
  const [a, b, c] = table;
  if (!a || !b || !c) return t.fail('there are some');
  await t.test('first what ends, then what is new, then what is changed', async (t) => {
    const kernel = fakeKernel();
    const done = new ConnectionTable(kernel.requests, own).change(
      { ended: [a], added: [b], updated: [c] },
      () => 99,
    );
    const messages = kernel.sent.flat();
    t.same(
      messages.map((message) => [message.readUInt16LE(4), message.readUInt16LE(6)]),
      [
        [0x102, 0x001],
        [0x100, 0x601],
        [0x100, 0x405],
      ],
      'deleted, made unless it is there, made or changed; and the last is answered',
    );
    for (const message of messages.slice(1)) t.equal(attributeTree(message)[7], '00000063', 'its time');
    kernel.answer(0, { 0: ENOENT, 1: EEXIST, 2: EBUSY });
    t.same(await done, [c], 'harmless; of one the kernel knows better');
  });
  await t.test('says what to do when it is full', async (t) => {
    const kernel = fakeKernel();
    const done = new ConnectionTable(kernel.requests, own).change(
      { ended: [], added: table, updated: [] },
      () => 9,
    );
    kernel.answer(0, { 1: ENOMEM, 2: EEXIST, 3: ENOMEM });
    await t.rejects(done, {
      code: 'refused',
      message: /ENOMEM, 2 of 6; raise net.netfilter.nf_conntrack_max/,
    });
  });
  await t.test('deletes what an address had, whoever opened it, and nothing else', async (t) => {
    const kernel = fakeKernel();
    const done = new ConnectionTable(kernel.requests, own).deleteAddresses(['10.0.0.1']);
    const other: Connection = { ...connection, local: { address: '10.0.0.9', port: 1 } };
    const inbound: Connection = { ...connection, opener: 'remote' };
    kernel.requests.received(
      Buffer.concat([...[other, connection, inbound].map((one) => dumpMessage(one, 1)), doneMessage(1)]),
    );
    await new Promise((resolve) => setImmediate(resolve));
    kernel.answer(1);
    await done;
    const original = (message: Buffer) => attributeTree(message)[1];
    t.same(
      kernel.sent[1]?.map(original),
      [connection, inbound].map((one) => original(writeDeletion(tupleOf(one)))),
    );
    await new ConnectionTable(kernel.requests, own).deleteAddresses([]);
    t.equal(kernel.sent.length, 2, 'for no address nothing is asked');
  });
  await t.test('a few connections are asked for one by one, many by a dump', async (t) => {
    const kernel = fakeKernel();
    const table = new ConnectionTable(kernel.requests, own);
    const aged: Connection = { ...connection, timeLeftSeconds: 7 };
    const gone: Connection = { ...connection, local: { address: '10.0.0.1', port: 9 } };
    const few = table.read([connection, gone]);
    const asked = kernel.sent[0] ?? [];
    t.same(
      asked.map((message) => message.readUInt16LE(4)),
      asked.map(() => MESSAGE_TYPE.get),
    );
    kernel.requests.received(dumpMessage(aged, 1));
    kernel.answer(0, { 1: ENOENT });
    t.same(await few, [aged], 'what is there no more is left out');
    const many = table.read(realisticTable(alice, 1001, 5));
    t.equal(kernel.sent[1]?.length, 1, 'a single request');
    kernel.requests.received(Buffer.concat([dumpMessage(aged, 3), doneMessage(3)]));
    t.same(await many, [aged]);
    const broken = table.read([connection]);
    const message = dumpMessage(connection, 4);
    message.writeUInt16LE(3, 20);
    kernel.requests.received(message);
    await t.rejects(broken, { code: 'refused', message: /could not be read/ });
  });
  await t.test('a dump that makes no sense is refused', async (t) => {
    const kernel = fakeKernel();
    const done = new ConnectionTable(kernel.requests, own).dump();
    const broken = dumpMessage(connection, 1);
    broken.writeUInt16LE(3, 20);
    kernel.requests.received(broken);
    await t.rejects(done, { code: 'refused', message: /could not be read/ });
  });
});

t.test('the time that a connection has from activation on', async (t) => {
  const least = 7440;
  t.equal(secondsAtActivation({ ...connection, timeLeftSeconds: 80_000 }, least), 80_000, 'as told');
  t.equal(
    secondsAtActivation({ ...connection, timeLeftSeconds: 3 }, least),
    least,
    'packets since then are not told',
  );
  t.equal(secondsAtActivation({ ...connection, timeLeftSeconds: 432_000 }, least), idleSeconds(connection));
  const over: Connection = { ...connection, state: 'closed', timeLeftSeconds: 0 };
  t.equal(secondsAtActivation(over, least), 1, 'what is over stays over');
  fc.assert(
    fc.property(mine, fc.integer({ min: 1, max: 10_000 }), (one, seconds) => {
      const result = secondsAtActivation(one, seconds);
      return result >= 1 && result <= idleSeconds(one);
    }),
  );
});
