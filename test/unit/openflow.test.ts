/**
 * The OpenFlow codec: against bytes that Open vSwitch 3.1 and its ovs-ofctl sent and bytes from the specification, against nonsense, and
 * as a stream.
 */
import { deepStrictEqual } from 'node:assert';
import { isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import {
  type Action,
  decode,
  encode,
  errorAnswer,
  errorName,
  Framer,
  helloElements,
  helloOffers,
  type Match,
  type Message,
  type MessageBody,
  OpenFlowDecodeError,
  OpenFlowEncodeError,
  refuseFatal,
} from '../../controller-app/openflow/index.js';
import { bodies } from '../fixtures/openflow-arbitraries.js';
import { hex, VECTORS } from '../fixtures/openflow-vectors.js';
import { SPEC_VECTORS } from '../fixtures/openflow-vectors-spec.js';
import { assertPlain, byteArraysIn } from '../fixtures/plain-data.js';

t.setTimeout(60_000);

const toText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ALL_VECTORS = [...VECTORS, ...SPEC_VECTORS];
const xidOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(4);

for (const { name, bytes, message } of ALL_VECTORS)
  t.test(`${name}: bytes and value are each other's`, async () => {
    const whole = { ...message, xid: xidOf(bytes) };
    const input = Uint8Array.from(bytes);
    const decoded = decode(input);
    deepStrictEqual(decoded, whole);
    assertPlain(decoded);
    deepStrictEqual(toText(encode(decoded)), toText(bytes));
    deepStrictEqual(toText(encode(whole)), toText(bytes));
    for (const held of byteArraysIn(decoded)) if (held.buffer === input.buffer) throw new Error('a view');
    input.fill(0xaa);
    deepStrictEqual(decoded, whole, 'nothing of it is a view of the input');
  });

t.test('every type that has a body has a vector', async (t) => {
  const shown = new Set<string>(ALL_VECTORS.map(({ message }) => message.type));
  const others = Object.keys(bodies).filter((type) => !shown.has(type));
  t.strictSame(
    others.filter((type) => !/request|paused|resumed|barrier|unknown/.test(type)),
    [],
  );
});

t.test('what is decoded from a Buffer is no Buffer', async (t) => {
  const message = decode(Buffer.from(hex('0402000b 00000001 010203')));
  t.ok(message.type === 'echo_request' && message.data.constructor === Uint8Array);
  t.equal(encode(message).constructor, Uint8Array);
});

// Malformed messages

/** The announced length made true. */
function sized(...parts: string[]): Uint8Array {
  const bytes = hex(...parts);
  new DataView(bytes.buffer).setUint16(2, bytes.length);
  return bytes;
}

const packetOut = (actions: string): Uint8Array => {
  const length = hex(actions).length.toString(16).padStart(4, '0');
  return sized('040d0000 00000001 ffffffff 00000001', length, '000000000000', actions);
};
const packetIn = (match: string): Uint8Array =>
  sized('040a0000 00000000 ffffffff 002c 01 15 0000000000001234', match);
const flowMod = (command: string, instructions = ''): Uint8Array =>
  sized(
    '040e0000 00000000 0000000000000000 0000000000000000 00',
    command,
    '0000 0000 8000 ffffffff ffffffff ffffffff 0000 0000',
    '0001 0004 00000000',
    instructions,
  );
const groupMod = (command: string, type: string, buckets: string): Uint8Array =>
  sized('040f0000 00000000', command, type, '00 00000001', buckets);
const reply = (kind: string, body: string): Uint8Array =>
  sized('04130000 00000001', kind, '0000 00000000', body);
const tableFeatures = (length: string, properties: string): Uint8Array =>
  reply(
    '000c',
    `${length} 02 0000000000 ${'00'.repeat(32)} ${'00'.repeat(16)} 00000000 00000000 ${properties}`,
  );
const bundleAdd = (message: string, xid = '00000001'): Uint8Array =>
  sized('04040000', xid, '4f4e4600 000008fd 00000005 0000 0003', message);
const nicira = (type: string, body: string): Uint8Array => sized('04040000 00000001 00002320', type, body);

const MALFORMED: readonly (readonly [name: string, bytes: Uint8Array, code: string])[] = [
  ['no header', hex('0400'), 'OFPBRC_BAD_LEN'],
  ['nothing', hex(''), 'OFPBRC_BAD_LEN'],
  ['a length that is not the message’s', hex('0402000900000001'), 'OFPBRC_BAD_LEN'],
  ['more bytes than announced', hex('0402000800000001 00'), 'OFPBRC_BAD_LEN'],
  ['version 1', hex('0102000800000001'), 'OFPBRC_BAD_VERSION'],
  ['version 5', hex('0515000800000001'), 'OFPBRC_BAD_VERSION'],
  ['bytes after a barrier', sized('04150000 00000001 00'), 'OFPBRC_BAD_LEN'],
  ['a set_config that ends early', sized('04090000 00000001 0000'), 'OFPBRC_BAD_LEN'],
  ['a packet-in that ends in its header', sized('040a0000 00000000 ffffffff'), 'OFPBRC_BAD_LEN'],
  ['an experimenter without a type', sized('04040000 00000001 00002320'), 'OFPBRC_BAD_LEN'],
  ['an error without a code', sized('04010000 00000001 0000'), 'OFPBRC_BAD_LEN'],
  ['an experimenter’s error without its id', sized('04010000 00000001 ffff 0001 0000'), 'OFPBRC_BAD_LEN'],
  ['a hello element of 2 bytes', sized('04000000 00000001 0001 0002 00000010'), 'OFPBRC_BAD_LEN'],
  ['a hello element that goes beyond', sized('04000000 00000001 0001 000c 00000010'), 'OFPBRC_BAD_LEN'],
  ['a bitmap of 3 bytes', sized('04000000 00000001 0001 0007 000010 00'), 'OFPBRC_BAD_LEN'],
  ['a match longer than the message', packetIn('0001 00ff 80000004'), 'OFPBMC_BAD_LEN'],
  ['a match of 3 bytes', packetIn('0001 0003 00000000 0000'), 'OFPBMC_BAD_LEN'],
  ['a match of the old type', packetIn('0000 0004 00000000 0000'), 'OFPBMC_BAD_TYPE'],
  [
    'actions longer than the message',
    sized('040d0000 00000001 ffffffff 00000001 0010 000000000000'),
    'OFPBRC_BAD_LEN',
  ],
  ['an action of 4 bytes', packetOut('0000 0004 00000001'), 'OFPBAC_BAD_LEN'],
  ['an action of 12 bytes', packetOut('0000 000c 00000001 00000000'), 'OFPBAC_BAD_LEN'],
  ['an action longer than its list', packetOut('0000 0018 00000001 ffff 000000000000'), 'OFPBAC_BAD_LEN'],
  ['an output that ends early', packetOut('0000 0008 00000001'), 'OFPBAC_BAD_LEN'],
  ['a flow_mod with command 5', flowMod('05'), 'OFPFMFC_BAD_COMMAND'],
  ['an instruction of 4 bytes', flowMod('00', '0005 0004 00000000'), 'OFPBIC_BAD_LEN'],
  ['an instruction longer than the message', flowMod('00', '0005 0010 00000000'), 'OFPBIC_BAD_LEN'],
  ['a group_mod with command 3', groupMod('0003', '00', ''), 'OFPGMFC_BAD_COMMAND'],
  ['a group of type 4', groupMod('0000', '04', ''), 'OFPGMFC_BAD_TYPE'],
  ['a bucket of 8 bytes', groupMod('0000', '00', '0008 0000 00000000'), 'OFPGMFC_BAD_BUCKET'],
  ['a bucket of 0 bytes', groupMod('0000', '00', '0000 0000 00000000'), 'OFPGMFC_BAD_BUCKET'],
  [
    'a bucket that goes beyond',
    groupMod('0000', '00', '0018 0000 00000000 00000000 00000000'),
    'OFPGMFC_BAD_BUCKET',
  ],
  [
    'a bad action in a bucket',
    groupMod('0000', '00', '0018 0000 00000000 00000000 00000000 0016 0007 00000001'),
    'OFPBAC_BAD_LEN',
  ],
  ['a meter_mod with command 3', sized('041d0000 00000001 0003 0000 00000001'), 'OFPMMFC_BAD_COMMAND'],
  ['a band of 8 bytes', sized('041d0000 00000001 0000 0000 00000001 0001 0008 00000001'), 'OFPBRC_BAD_LEN'],
  ['role 4', sized('04180000 00000001 00000004 00000000 0000000000000000'), 'OFPRRFC_BAD_ROLE'],
  ['flow statistics of 0 bytes', reply('0001', '0000 0000'), 'OFPBRC_BAD_LEN'],
  ['flow statistics in front of too little', reply('0001', '0038 0000'), 'OFPBRC_BAD_LEN'],
  ['half the statistics of a port', reply('0004', '00000001 00000000'), 'OFPBRC_BAD_LEN'],
  ['a multipart message without its kind', sized('04120000 00000001 00'), 'OFPBRC_BAD_LEN'],
  ['a meter’s statistics of 4 bytes', reply('0009', '00000001 0004 0000'), 'OFPBRC_BAD_LEN'],
  ['a table’s features of 8 bytes', reply('000c', '0008 02 0000000000'), 'OFPTFFC_BAD_LEN'],
  ['a table’s features in front of too little', tableFeatures('0048', ''), 'OFPTFFC_BAD_LEN'],
  ['a property of a table of 2 bytes', tableFeatures('0048', '0000 0002 00000000'), 'OFPTFFC_BAD_LEN'],
  ['a property that goes beyond', tableFeatures('0048', '0000 0010 00010004'), 'OFPTFFC_BAD_LEN'],
  ['an id of 2 bytes', tableFeatures('0048', '0000 0008 0001 0002'), 'OFPTFFC_BAD_LEN'],
  [
    'a bundle control of type 8',
    sized('04040000 00000001 4f4e4600 000008fc 00000005 0008 0003'),
    'OFPBFC_BAD_TYPE',
  ],
  ['half a message in a bundle', bundleAdd('04100008'), 'OFPBFC_MSG_BAD_LEN'],
  ['a message that goes beyond its bundle', bundleAdd('04140010 00000001'), 'OFPBFC_MSG_BAD_LEN'],
  ['another xid in a bundle', bundleAdd('04140008 00000002'), 'OFPBFC_MSG_BAD_XID'],
  ['a hello in a bundle', bundleAdd('04000008 00000001'), 'OFPBFC_MSG_UNSUP'],
  ['an echo in a bundle', bundleAdd('04020008 00000001'), 'OFPBFC_MSG_UNSUP'],
  ['a reply in a bundle', bundleAdd('04150008 00000001'), 'OFPBFC_MSG_UNSUP'],
  [
    'a bundle in a bundle',
    bundleAdd('04040020 00000001 4f4e4600 000008fd 00000005 0000 0003 04140008 00000001'),
    'OFPBFC_MSG_UNSUP',
  ],
  ['another version in a bundle', bundleAdd('05140008 00000001'), 'OFPBRC_BAD_VERSION'],
  ['a bad command in a bundle', bundleAdd('041d0010 00000001 0007 0000 00000001'), 'OFPMMFC_BAD_COMMAND'],
  [
    'a flush whose zone has 1 byte',
    nicira('00000020', '0600000000000000 0002 0005 07 000000'),
    'OFPTFFC_BAD_LEN',
  ],
  [
    'a flush of two zones',
    nicira('00000020', '0600000000000000 0002 0008 0007 0000 0002 0008 0007 0000'),
    'OFPBPC_DUP_TYPE',
  ],
  ['a packet-in’s property of 3 bytes', nicira('0000001e', '0000 0003 00000000'), 'OFPTFFC_BAD_LEN'],
  ['a bad field in a packet-in’s metadata', nicira('0000001e', '0006 0008 80000004'), 'OFPBMC_BAD_LEN'],
  ['a tlv table command 3', nicira('00000018', '0003 000000000000'), 'NXTTMFC_BAD_COMMAND'],
  [
    'an update of flows of kind 9',
    reply('ffff', '4f4e4600 0000074e 0008 0009 00000000'),
    'NXBRC_FM_BAD_EVENT',
  ],
];

for (const [name, bytes, code] of MALFORMED)
  t.test(`${name} is ${code}`, async (t) => {
    t.throws(() => decode(bytes), { name: 'OpenFlowDecodeError', code });
  });

t.test('the same messages without their fault are read', async (t) => {
  for (const bytes of [
    hex('0100000800000001'),
    hex('0514000800000001').fill(4, 0, 1),
    sized('04000000 00000001 0001 0008 00000010'),
    packetIn('0001 0004 00000000 0000'),
    packetOut('0000 0010 00000001 0000 000000000000'),
    flowMod('04', '0005 0008 00000000'),
    groupMod('0002', '03', '0018 0001 00000000 00000000 00000000 0016 0008 00000001'),
    sized('041d0000 00000001 0000 0000 00000001 0001 0010 00000001 00000002 00000000'),
    tableFeatures('0048', '0000 0008 0001 0004'),
    bundleAdd('04140008 00000001'),
    nicira('00000020', '0600000000000000 0002 0008 0007 0000'),
    nicira('0000001e', '0006 000c 80000004 00000001 00000000'),
    reply('ffff', '4f4e4600 0000074e 0008 0003 00000000'),
  ])
    t.doesNotThrow(() => decode(bytes));
});

t.test('an error tells its peer what the protocol has for it', async (t) => {
  const fails = (bytes: Uint8Array): OpenFlowDecodeError => {
    try {
      decode(bytes);
    } catch (error) {
      if (error instanceof OpenFlowDecodeError) return error;
    }
    throw new Error('it should have failed');
  };
  const bytes = packetOut(`0000 000c 00000001 00000000 ${'00'.repeat(100)}`);
  const error = fails(bytes);
  t.match(error, {
    errorType: 2,
    errorTypeName: 'OFPET_BAD_ACTION',
    errorCode: 1,
    code: 'OFPBAC_BAD_LEN',
    xid: 1,
  });
  t.ok(error.offset >= 24 && error.offset <= 28, `at byte ${error.offset}`);
  t.match(error.message, /an action of 12 bytes.*byte/);
  t.strictSame(error.data, bytes.slice(0, 64));
  const answer = decode(encode(errorAnswer(error)));
  t.strictSame(answer, { type: 'error', xid: 1, errorType: 2, code: 1, data: bytes.slice(0, 64) });

  const ofExtension = fails(bundleAdd('04000008 00000001', '0000abcd'));
  t.match(ofExtension, {
    errorType: 0xffff,
    errorTypeName: 'OFPET_EXPERIMENTER',
    errorCode: 2309,
    experimenter: 0x4f4e4600,
  });
  t.match(decode(encode(errorAnswer(ofExtension))), { xid: 0xabcd, code: 2309, experimenter: 0x4f4e4600 });
  t.equal(fails(hex('04')).xid, 0, 'a message without an xid');
});

t.test('error names are the specification’s', async (t) => {
  t.strictSame(errorName(2, 9), { type: 'OFPET_BAD_ACTION', code: 'OFPBAC_BAD_OUT_GROUP' });
  t.strictSame(errorName(4, 9), { type: 'OFPET_BAD_MATCH', code: 'OFPBMC_BAD_PREREQ' });
  t.strictSame(errorName(5, 7), { type: 'OFPET_FLOW_MOD_FAILED', code: 'OFPFMFC_BAD_FLAGS' });
  t.strictSame(errorName(13, 5), { type: 'OFPET_TABLE_FEATURES_FAILED', code: 'OFPTFFC_EPERM' });
  t.equal(errorName(0xffff, 2313, 0x4f4e4600).code, 'OFPBFC_MSG_FAILED');
  t.equal(errorName(0xffff, 42, 0x2320).code, 'NXBAC_CT_DATAPATH_SUPPORT');
  t.equal(errorName(99, 5).code, 'code 5', 'one without a name keeps its number');
  t.equal(errorName(0xffff, 5, 0x10).code, '0x10:5');
});

t.test('actions in actions end somewhere, both ways', async (t) => {
  const nest = (depth: number): Action =>
    depth > 0 ? { type: 'clone', actions: [nest(depth - 1)] } : { type: 'pop_vlan' };
  const message = (depth: number): Message => ({
    type: 'packet_out',
    xid: 1,
    inPort: 1,
    actions: [nest(depth)],
    data: hex(''),
  });
  deepStrictEqual(decode(encode(message(20))), message(20));
  t.throws(() => encode(message(100)), { name: 'OpenFlowEncodeError', message: /nested/ });
  // 2,000 clones in each other, by hand.
  let inner = '0012 0008 00000000';
  for (let i = 0; i < 2_000; i++) {
    const length = (inner.replaceAll(' ', '').length / 2 + 16).toString(16).padStart(4, '0');
    inner = `ffff ${length} 00002320 002a 000000000000 ${inner}`;
  }
  t.throws(() => decode(packetOut(inner)), { name: 'OpenFlowDecodeError', message: /nested/ });
});

t.test('forwarded requests in forwarded requests end somewhere', async (t) => {
  let inner = '041d0010 00000009 0002 0000 00000005';
  for (let i = 0; i < 2_000; i++) {
    const length = (inner.replaceAll(' ', '').length / 2 + 16).toString(16).padStart(4, '0');
    inner = `0404${length} 00000000 4f4e4600 0000092e ${inner}`;
  }
  t.throws(() => decode(hex(inner)), { name: 'OpenFlowDecodeError', message: /nested/ });
});

t.test('what has no name here is kept as it came', async (t) => {
  for (const bytes of [
    hex('041e000c 00000001 01020304'),
    hex('04ff0008 00000001'),
    hex('04040014 00000001 00abcdef 00000007 01020304'),
    hex('04040010 00000001 00000000 00000000'),
    hex('04040010 00000001 00002320 00000063'),
    hex('04040010 00000001 00002320 0001001d'),
    hex('04130014 00000001 0063 0001 00000000 01020304'),
    hex('04130018 00000001 ffff 0000 00000000 00000000 00000001'),
    hex('04130018 00000001 ffff 0000 00000000 00002320 00000063'),
    packetOut('ffff0010 00abcdef 0000000100000002'),
    packetOut('00630008 01020304'),
    flowMod('00', 'ffff0010 00abcdef 0000000100000002'),
  ]) {
    const message = decode(bytes);
    t.match(
      JSON.stringify(message, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)),
      /unknown|experimenter/,
    );
    t.equal(toText(encode(message)), toText(bytes));
  }
});

t.test('values that do not fit are refused, not cut', async (t) => {
  const port = VECTORS.find(({ name }) => name === 'the end of a port')?.message;
  if (port?.type !== 'port_status') throw new Error('no such vector');
  const named = (name: string): MessageBody => ({ ...port, port: { ...port.port, name } });
  const flow = {
    type: 'flow_mod',
    command: 'add',
    cookie: 0n,
    table: 0,
    priority: 1,
    match: {},
    instructions: [],
  };
  const bad: readonly (readonly [unknown, RegExp])[] = [
    [{ ...flow, priority: 0x10000 }, /flow_mod: priority: 65536/],
    [{ ...flow, priority: 1.5 }, /priority/],
    [{ ...flow, priority: undefined }, /priority/],
    [{ ...flow, priority: '1' }, /priority/],
    [{ ...flow, table: -1 }, /table/],
    [{ ...flow, cookie: 5 }, /cookie/],
    [{ ...flow, cookie: 1n << 64n }, /cookie/],
    [{ ...flow, command: 'replace' }, /command/],
    [{ ...flow, command: 'constructor' }, /command/],
    [{ ...flow, instructions: undefined }, /instructions/],
    [{ ...flow, instructions: 'none' }, /instructions/],
    [{ ...flow, match: undefined }, /match/],
    [{ type: 'nonsense' }, /nonsense/],
    [{ type: 'toString' }, /toString/],
    [{}, /undefined/],
    [{ type: 'barrier_request', version: 1 }, /version/],
    [{ type: 'barrier_request', xid: -1 }, /barrier_request/],
    [{ type: 'echo_request', data: 'abc' }, /data/],
    [{ type: 'echo_request', data: new Uint8Array(65_528) }, /65535/],
    [{ type: 'unknown', messageType: 256, body: hex('') }, /256/],
    [{ type: 'error', errorType: 1, code: 1, experimenter: 5, data: hex('') }, /experimenter/],
    [{ type: 'error', errorType: 0xffff, code: 1, data: hex('') }, /experimenter/],
    [{ type: 'multipart_request', body: { type: 'nonsense' } }, /nonsense/],
    [{ type: 'multipart_request', body: { type: 'port_stats', port: -1 } }, /multipart_request: port/],
    [{ type: 'ct_flush', original: { source: '10.0.0.1' } }, /original: source/],
    [{ type: 'ct_flush', unknown_2: hex('00') }, /unknown_2/],
    [{ type: 'ct_flush', original: { src: '10.0.0.256' } }, /src/],
    [{ type: 'bundle_add', bundle: 1, message: { type: 'hello', elements: [] } }, /bundle/],
    [named('a name of 17 byte'), /longer than 16/],
    [named('ééééééééé'), /longer than 16/],
    [named('a\0b'), /zero byte/],
    [named('\ud800'), /stands for no byte/],
    [named('\udcc3\udca9'), /UTF-8/],
  ];
  for (const [message, words] of bad)
    t.throws(
      () => encode({ xid: 1, ...(message as MessageBody) }),
      { name: 'OpenFlowEncodeError', message: words },
      String(words),
    );
  t.doesNotThrow(() => encode({ xid: 1, type: 'echo_request', data: new Uint8Array(65_527) }), 'the control');
  t.doesNotThrow(() => encode({ xid: 1, ...named('a name of 16 by.') }), 'the control');
});

t.test('after a value that did not fit, others do', async (t) => {
  const good: Message = { type: 'echo_request', xid: 1, data: hex('01') };
  const before = toText(encode(good));
  const deep: Action = {
    type: 'clone',
    actions: [{ type: 'clone', actions: [{ type: 'group', group: -1 }] }],
  };
  for (let i = 0; i < 50; i++)
    t.throws(
      () => encode({ type: 'packet_out', xid: 1, inPort: 1, actions: [deep], data: hex('') }),
      OpenFlowEncodeError,
    );
  t.equal(toText(encode(good)), before);
});

t.test('texts keep what is not UTF-8, and end at the first zero byte', async (t) => {
  const text = (name: string): unknown => {
    const message = decode(
      sized('040c0000 00000001 00 00000000000000 00000001 00000000 000000000000 0000', name, '00'.repeat(32)),
    );
    if (message.type !== 'port_status') throw new Error('no port');
    deepStrictEqual(decode(encode(message)), message);
    return message.port.name;
  };
  t.equal(text('65746830 00000000 00000000 00000000'), 'eth0');
  t.equal(text('65746830 00414243 00000000 00000000'), 'eth0', 'what comes after the end is not looked at');
  t.equal(text('c3a9e282 acf09f98 80000000 00000000'), 'é€😀');
  t.equal(text('efbbbf61 00000000 00000000 00000000'), '\ufeffa', 'a byte order mark is a character');
  t.equal(text('61ff62c3 00000000 00000000 00000000'), 'a\udcffb\udcc3');
  t.equal(
    text('eda080c0 80f58080 80e08080 00000000'),
    '\udced\udca0\udc80\udcc0\udc80\udcf5\udc80\udc80\udc80\udce0\udc80\udc80',
  );
  t.equal(text('78'.repeat(16)), 'x'.repeat(16), 'all bytes of the field');
});

t.test('addresses are taken where Node takes them, and come back as RFC 5952 has them', async (t) => {
  const taken = (match: Match): Match | undefined => {
    const instructions: never[] = [];
    const flow = {
      type: 'flow_mod',
      command: 'add',
      cookie: 0n,
      table: 0,
      priority: 1,
      instructions,
    } as const;
    try {
      const back = decode(encode({ ...flow, xid: 1, match }));
      return back.type === 'flow_mod' ? back.match : undefined;
    } catch (error) {
      if (error instanceof OpenFlowEncodeError) return undefined;
      throw error;
    }
  };
  const ipv4 = (text: string) => taken({ eth_type: 0x0800, ipv4_src: text })?.ipv4_src;
  const ipv6 = (text: string) => taken({ eth_type: 0x86dd, ipv6_src: text })?.ipv6_src;
  const almost = fc.oneof(
    fc.string({ unit: fc.constantFrom(...'0123456789abcdef:.'), maxLength: 20 }),
    fc
      .array(fc.oneof(fc.nat(300).map(String), fc.constantFrom('', '00', '01', 'a')), { maxLength: 5 })
      .map((p) => p.join('.')),
    fc
      .array(fc.constantFrom('', '0', 'ffff', '12345', '1', 'A', '1.2.3.4'), { maxLength: 9 })
      .map((p) => p.join(':')),
    fc.ipV4(),
    fc.ipV6(),
  );
  fc.assert(
    fc.property(almost, (text) => {
      deepStrictEqual(ipv4(text) !== undefined, isIPv4(text));
      deepStrictEqual(ipv6(text) !== undefined, isIPv6(text));
      if (isIPv6(text)) deepStrictEqual(ipv6(text), new URL(`http://[${text}]/`).hostname.slice(1, -1));
    }),
    { numRuns: 5_000 },
  );
  t.equal(ipv4('010.0.0.1'), undefined, 'octal or not: nobody knows');
  t.equal(taken({ eth_src: '02:00:00:00:00:AF' })?.eth_src, '02:00:00:00:00:af');
  for (const text of ['02:00:00:00:00', '02:00:00:00:00:a', '02-00-00-00-00-af', '0g:00:00:00:00:00', ''])
    t.equal(taken({ eth_src: text }), undefined, text);
});

t.test('a hello offers a version by its bitmap, or by its header', async (t) => {
  t.equal(helloOffers(helloElements(1, 4), 4, 4), true);
  t.equal(helloOffers(helloElements(1, 5), 6, 4), false);
  t.equal(helloOffers([], 4, 4), true);
  t.equal(helloOffers([], 6, 4), true, 'all up to that in the header');
  t.equal(helloOffers([], 1, 4), false);
  t.equal(helloOffers([{ type: 'version_bitmap', bitmaps: [0, 2] }], 4, 33), true);
  t.equal(helloOffers([{ type: 'version_bitmap', bitmaps: [] }], 4, 4), false);
  const other = decode(hex('06000010 00000001 0001 0008 00000070'));
  t.strictSame(other, {
    type: 'hello',
    xid: 1,
    version: 6,
    elements: [{ type: 'version_bitmap', bitmaps: [0x70] }],
  });
  t.equal(toText(encode(other)), '0600001000000001000100080000007 0'.replaceAll(' ', ''));
});

t.test('a flush that ends Open vSwitch is known as one', async (t) => {
  const tuple = { src: 'fd00::1', dst: 'fd00::2', icmpId: 5 };
  t.throws(
    () =>
      refuseFatal({ type: 'ct_flush', protocol: 58, original: { ...tuple, icmpType: 128 } } as MessageBody),
    OpenFlowEncodeError,
  );
  t.throws(
    () => refuseFatal({ type: 'ct_flush', protocol: 58, reply: { icmpType: 0 } } as MessageBody),
    OpenFlowEncodeError,
  );
  t.doesNotThrow(() => refuseFatal({ type: 'ct_flush', protocol: 58, original: tuple } as MessageBody));
  t.doesNotThrow(() =>
    refuseFatal({ type: 'ct_flush', protocol: 1, original: { icmpType: 8 } } as MessageBody),
  );
  t.doesNotThrow(() => refuseFatal({ type: 'barrier_request' }));
});

// Framing

const stream = (): { bytes: Uint8Array; messages: string[] } => {
  const all = ALL_VECTORS.map(({ bytes }) => bytes);
  const long = encode({ type: 'echo_request', xid: 3, data: new Uint8Array(60_000).fill(7) });
  const longest = encode({ type: 'echo_request', xid: 4, data: new Uint8Array(65_527).fill(8) });
  const parts = [...all, long, longest, ...all];
  return { bytes: new Uint8Array(Buffer.concat(parts)), messages: parts.map(toText) };
};

t.test('the framer gives the same messages however the stream is cut', async (t) => {
  const { bytes, messages } = stream();
  for (const size of [1, 2, 3, 7, 8, 9, 64, 1_000, 65_536, bytes.length]) {
    const framer = new Framer();
    const got: string[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      // A chunk of its own, which is overwritten when it has been given: nothing of it may be held.
      const chunk = bytes.slice(at, at + size);
      for (const message of framer.push(chunk)) got.push(toText(message));
      chunk.fill(0xaa);
    }
    t.equal(framer.pending, 0);
    t.strictSame(got, messages, `${size} bytes at a time`);
  }
});

t.test('the framer does not copy what came in one piece, and holds less than one message', async (t) => {
  const framer = new Framer();
  const chunk = hex('0414000800000001', '0414000800000002', '0414000c');
  const [first, second] = [...framer.push(chunk)];
  t.equal(first?.buffer, chunk.buffer);
  t.equal(second?.byteOffset, chunk.byteOffset + 8);
  t.equal(framer.pending, 4);
  t.equal([...framer.push(hex('0000000300000000'))].length, 1);
  t.equal(framer.pending, 0);
});

t.test('the framer refuses what is not OpenFlow 1.3, after what came before', async (t) => {
  const push = (bytes: Uint8Array): Uint8Array[] => [...new Framer().push(bytes)];
  t.throws(() => push(hex('0402000700000001')), { code: 'OFPBRC_BAD_LEN', xid: 1 });
  t.throws(() => push(hex('0102000800000001')), { code: 'OFPBRC_BAD_VERSION' });
  t.throws(() => push(hex('0002000800000001')), { code: 'OFPBRC_BAD_VERSION' });
  t.throws(() => push(Buffer.from('GET / HTTP/1.1\r\n')), { code: 'OFPBRC_BAD_VERSION' });
  const framer = new Framer();
  t.equal([...framer.push(hex('010200'))].length, 0);
  t.throws(() => [...framer.push(hex('0800000001'))], { code: 'OFPBRC_BAD_VERSION' }, 'also in pieces');
  t.equal(push(hex('0600000800000001')).length, 1, 'a hello may be of another version');

  const got: number[] = [];
  t.throws(
    () => {
      for (const message of new Framer().push(
        hex('0414000800000001', '0414000800000002', '0102000800000003'),
      ))
        got.push(xidOf(message));
    },
    { code: 'OFPBRC_BAD_VERSION', xid: 3, data: hex('0102000800000003') },
  );
  t.strictSame(got, [1, 2], 'what came before is given');
});
