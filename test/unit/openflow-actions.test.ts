/**
 * Actions and instructions: against bytes of ovs-ofctl and of the specification, against themselves, against nonsense, and against what Open
 * vSwitch says of them.
 */
import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import {
  ACTION_TYPES,
  type Action,
  actionsCodec,
  type Codec,
  canonicalInstructions,
  INSTRUCTION_TYPES,
  type Instruction,
  instructionsCodec,
  instructionsKey,
  OFPP,
  OpenFlowDecodeError,
  OpenFlowEncodeError,
  Reader,
} from '../../controller-app/openflow/index.js';
import { hex, masked, toHex, write } from '../fixtures/codec-bytes.js';
import {
  actions,
  actionsByType,
  instructions,
  instructionsByType,
} from '../fixtures/openflow-action-arbitraries.js';
import {
  ACTION_VECTORS,
  INSTRUCTION_VECTORS,
  SPEC_ACTION_VECTORS,
} from '../fixtures/openflow-vectors-actions.js';
import { INSTRUCTIONS_SAID } from '../fixtures/openvswitch-answers.js';
import { assertPlain, byteArraysIn } from '../fixtures/plain-data.js';

t.setTimeout(60_000);

const VECTORS = [...ACTION_VECTORS, ...SPEC_ACTION_VECTORS];
const apply = (...list: Action[]): Instruction => ({ type: 'apply_actions', actions: list });

const readActions = (text: string) => actionsCodec.read(new Reader(hex(text)));
const readInstructions = (text: string) => instructionsCodec.read(new Reader(hex(text)));
/** A Nicira action with zeros at its end. */
const nicira = (subtype: string, body: string): string => {
  const text = `00002320 ${subtype} ${body}`.replaceAll(' ', '');
  const whole = text + '00'.repeat(-(text.length / 2 + 4) & 7);
  return `ffff${(4 + whole.length / 2).toString(16).padStart(4, '0')}${whole}`;
};

/** Keys in their order, all the way down, which deepStrictEqual does not look at. */
const keysOf = (value: unknown): unknown =>
  typeof value !== 'object' || value === null || value instanceof Uint8Array
    ? 0
    : Object.entries(value).map(([key, inner]) => [key, keysOf(inner)]);

function bothWays<T>(codec: Codec<T>, value: T, text?: string): void {
  const bytes = text === undefined ? write(codec, value) : hex(text);
  const decoded = codec.read(new Reader(bytes));
  deepStrictEqual(decoded, value, text);
  assertPlain(decoded);
  deepStrictEqual(toHex(write(codec, decoded)), toHex(bytes), text);
  deepStrictEqual(toHex(write(codec, value)), toHex(bytes), text);
  for (const held of byteArraysIn(decoded)) if (held.buffer === bytes.buffer) throw new Error('a view');
}

t.test('bytes and actions are each other’s', async () => {
  for (const [, text, value] of VECTORS) bothWays(actionsCodec, value, text);
});

t.test('bytes and instructions are each other’s', async () => {
  for (const [, text, value] of INSTRUCTION_VECTORS) bothWays(instructionsCodec, value, text);
});

t.test('every action and every instruction has a vector', async (t) => {
  const typesIn = (list: readonly Action[]): string[] =>
    list.flatMap((action) => [
      action.type,
      ...(action.type === 'clone' ? typesIn(action.actions) : []),
      ...(action.type === 'ct' ? typesIn(action.exec ?? []) : []),
    ]);
  const shown = new Set(VECTORS.flatMap(([, , list]) => typesIn(list)));
  t.strictSame(
    ACTION_TYPES.filter((type) => !shown.has(type)),
    [],
  );
  const instructionsShown = new Set<string>(
    INSTRUCTION_VECTORS.flatMap(([, , list]) => list.map(({ type }) => type)),
  );
  t.strictSame(
    INSTRUCTION_TYPES.filter((type) => !instructionsShown.has(type)),
    [],
  );
});

t.test('any actions and instructions survive the way to bytes and back', async (t) => {
  for (const [type, one] of Object.entries(actionsByType)) {
    fc.assert(
      fc.property(one as fc.Arbitrary<Action>, (action) => bothWays(actionsCodec, [action])),
      { numRuns: 60 },
    );
    t.ok(ACTION_TYPES.includes(type), type);
  }
  for (const one of Object.values(instructionsByType))
    fc.assert(
      fc.property(one as fc.Arbitrary<Instruction>, (instruction) =>
        bothWays(instructionsCodec, [instruction]),
      ),
      { numRuns: 50 },
    );
  fc.assert(
    fc.property(actions, (list) => bothWays(actionsCodec, list)),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(instructions, (list) => bothWays(instructionsCodec, list)),
    { numRuns: 300 },
  );
});

t.test('properties of controller2 keep their order', async () => {
  const turned: Action = { type: 'controller2', pause: true, userdata: hex('01'), maxLen: 5 };
  const back = actionsCodec.read(new Reader(write(actionsCodec, [turned])));
  deepStrictEqual(keysOf(back), keysOf([turned]));
});

t.test('a set_field with a mask is a reg_load2, and the three ways to set bits are told apart', async (t) => {
  const written = write(actionsCodec, [{ type: 'set_field', field: { reg0: masked(5, 0xff) } }]);
  t.strictSame(actionsCodec.read(new Reader(written)), [
    { type: 'reg_load2', field: { reg0: masked(5, 0xff) } },
  ]);
  const ways: Action[] = [
    { type: 'set_field', field: { reg0: 5 } },
    { type: 'reg_load2', field: { reg0: 5 } },
    { type: 'reg_load2', field: { reg0: masked(5, 0xffffffff) } },
    { type: 'reg_load', destination: { field: 'reg0', start: 0, bits: 32 }, value: 5n },
  ];
  t.equal(new Set(ways.map((way) => toHex(write(actionsCodec, [way])))).size, ways.length);
});

t.test('what an action must not be is the error that the protocol has for it', async (t) => {
  const ct = (exec: string): string => nicira('0023', `0001 00000000 0000 ff 000000 0000 ${exec}`);
  const learn = (spec: string): string =>
    nicira('0010', `0000 0000 8000 0000000000000000 0000 01 00 0000 0000 ${spec}`);
  const broken: [name: string, text: string, code: string][] = [
    ['4 bytes', '00000004', 'OFPBAC_BAD_LEN'],
    ['12 bytes', '0000000c 00000001 00000000', 'OFPBAC_BAD_LEN'],
    ['longer than the list', '00000018 00000001 ffff000000000000', 'OFPBAC_BAD_LEN'],
    ['an output that ends early', '00000008 00000001', 'OFPBAC_BAD_LEN'],
    ['an output that goes on', '00000018 00000001 0000 000000000000 0000000000000000', 'OFPBAC_BAD_LEN'],
    ['a pop_vlan that goes on', '00120010 00000000 0000000000000000', 'OFPBAC_BAD_LEN'],
    ['set_field with a mask', '00190010 00010108 00000005 000000ff', 'OFPBAC_BAD_SET_MASK'],
    ['set_field of a field cut short', '00190010 00010002 0005 0000 00000000', 'OFPBAC_BAD_SET_LEN'],
    ['set_field that goes on', '00190018 00010004 00000005 00000000 0000000000000000', 'OFPBAC_BAD_SET_LEN'],
    ['set_field of a field longer than it', '00190010 000100ff 00000005 00000000', 'OFPBAC_BAD_SET_LEN'],
    ['set_field of a tag of 14 bits', '00190010 80000c02 ffff 0000 00000000', 'OFPBAC_BAD_SET_ARGUMENT'],
    [
      'reg_load of bits that there are not',
      nicira('0007', '07e0 00010004 0000000000000005'),
      'OFPBAC_BAD_SET_LEN',
    ],
    ['reg_load of more than fits', nicira('0007', '0001 00010004 0000000000000005'), 'OFPBAC_BAD_ARGUMENT'],
    [
      'reg_load2 outside of its mask',
      nicira('0021', '00010108 00000005 000000f0 0000'),
      'OFPBAC_BAD_SET_ARGUMENT',
    ],
    [
      'reg_move of bits that there are not',
      nicira('0006', '0010 0018 0000 00010004 00010204'),
      'OFPBAC_BAD_SET_LEN',
    ],
    ['reg_move of nothing', nicira('0006', '0000 0000 0000 00010004 00010204'), 'OFPBAC_BAD_SET_LEN'],
    ['stack_push of nothing', nicira('001b', '0000 00010004 0000 000000000000'), 'OFPBAC_BAD_SET_LEN'],
    [
      'ct with flags that nobody knows',
      nicira('0023', '0004 00000000 0000 ff 000000 0000'),
      'OFPBAC_BAD_ARGUMENT',
    ],
    ['ct with half an action', ct('00000008 00000001'), 'OFPBAC_BAD_LEN'],
    [
      'a zone of bits that there are not',
      nicira('0023', '0000 00010004 03ff ff 000000 0000'),
      'OFPBAC_BAD_SET_LEN',
    ],
    ['nat both ways', nicira('0024', '0000 0003 0000'), 'OFPBAC_BAD_ARGUMENT'],
    ['nat with flags that nobody knows', nicira('0024', '0000 0021 0000'), 'OFPBAC_BAD_ARGUMENT'],
    ['nat with ranges that nobody knows', nicira('0024', '0000 0001 0040'), 'OFPBAC_BAD_ARGUMENT'],
    ['nat without its address', nicira('0024', '0000 0001 0001'), 'OFPBAC_BAD_LEN'],
    ['nat that goes on', nicira('0024', '0000 0001 0000 0000000000000000'), 'OFPBAC_BAD_LEN'],
    [
      'nat to a last address alone',
      nicira('0024', '0000 0001 0002 0a000001 00000000'),
      'OFPBAC_BAD_ARGUMENT',
    ],
    ['a learn of a reserved kind', learn('1810 00010004 0000 0000'), 'OFPBAC_BAD_ARGUMENT'],
    [
      'a learn of a value that does not fit',
      learn('2004 ffff 00010004 0000 0000 0000 0000'),
      'OFPBAC_BAD_ARGUMENT',
    ],
    ['a learn that ends in a specification', learn('0010 00010004 0000'), 'OFPBAC_BAD_LEN'],
    ['a learn with zeros to spare', learn('0000 0000 0000 0000'), 'OFPBAC_BAD_LEN'],
    ['a learn of bits that there are not', learn('2820 00000000 00010004 0001 0000'), 'OFPBAC_BAD_SET_LEN'],
    [
      'a bundle of what is no port',
      nicira('000c', '0000 0000 0000 00010004 0001 0000 00000000 00000000 0001 000000000000'),
      'OFPBAC_BAD_ARGUMENT',
    ],
    [
      'a bundle of more ports than there are',
      nicira('000c', '0000 0000 0000 00000002 ffff 0000 00000000 00000000 0001 000000000000'),
      'OFPBAC_BAD_LEN',
    ],
    [
      'a bundle with a destination',
      nicira('000c', '0000 0000 0000 00000002 0000 0001 00010004 00000000'),
      'OFPBAC_BAD_ARGUMENT',
    ],
    ['more ids than there are', nicira('0015', 'ffff 00000000'), 'OFPBAC_BAD_LEN'],
    ['a property of 2 bytes', nicira('0025', '000000000000 0000 0002 0005 0000'), 'OFPBAC_BAD_LEN'],
    ['a property of encap of 2 bytes', nicira('002e', '0000 0001894f 0005 07 02 00000000'), 'OFPBAC_BAD_LEN'],
    [
      'data longer than their property',
      nicira('002e', '0000 0001894f 0004 02 08 1000 0a 08'),
      'OFPBAC_BAD_LEN',
    ],
    ['an experimenter that ends', 'ffff0004', 'OFPBAC_BAD_LEN'],
  ];
  for (const [name, text, code] of broken)
    t.throws(() => readActions(text), { name: 'OpenFlowDecodeError', code }, name);
  const sound: string[] = [
    '00000010 00000001 0000 000000000000',
    '00190010 00010004 00000005 00000000',
    nicira('0007', '0002 00010004 0000000000000005'),
    nicira('0006', '0008 0018 0000 00010004 00010204'),
    ct('00000010 00000001 0000 000000000000'),
    learn('2010 ffff 00010004 0000 0000 0000 0000'),
    nicira('000c', '0000 0000 0000 00000002 0001 0000 00000000 00000000 0001 000000000000'),
    nicira('0025', '000000000000 0000 0008 0005 0000'),
  ];
  for (const text of sound) t.doesNotThrow(() => readActions(text), `the control: ${text}`);
});

t.test('what an instruction must not be is the error that the protocol has for it', async (t) => {
  const broken: [name: string, text: string, code: string][] = [
    ['half a header', '0001', 'OFPBIC_BAD_LEN'],
    ['4 bytes', '00010004', 'OFPBIC_BAD_LEN'],
    ['12 bytes', '0001000c 09000000 00000000', 'OFPBIC_BAD_LEN'],
    ['longer than the message', '00010010 09000000', 'OFPBIC_BAD_LEN'],
    ['a goto_table that goes on', '00010010 09000000 0000000000000000', 'OFPBIC_BAD_LEN'],
    ['write_metadata that ends early', '00020008 00000000', 'OFPBIC_BAD_LEN'],
    ['two of a type', '00010008 09000000 00010008 09000000', 'OFPBIC_DUP_INST'],
    ['an action of no bytes in it', '00040010 00000000 0000000000000000', 'OFPBAC_BAD_LEN'],
    ['an action longer than it', '00040010 00000000 0000001000000001', 'OFPBAC_BAD_LEN'],
  ];
  for (const [name, text, code] of broken)
    t.throws(() => readInstructions(text), { name: 'OpenFlowDecodeError', code }, name);
  t.throws(() => write(instructionsCodec, [apply(), apply()]), { message: /apply_actions twice/ });
  t.equal(readInstructions('00630008 01020304 00630008 01020304').length, 2, 'unknown ones may repeat');
});

t.test('actions in actions end somewhere, both ways', async (t) => {
  const nest = (depth: number): Action => ({
    type: 'clone',
    actions: depth > 1 ? [nest(depth - 1)] : [{ type: 'ct', commit: true, exec: [{ type: 'ct_clear' }] }],
  });
  bothWays(actionsCodec, [nest(31)]);
  t.throws(() => write(actionsCodec, [nest(32)]), { name: 'OpenFlowEncodeError', message: /deep/ });
  let bytes = hex('');
  for (let depth = 0; depth < 1_000; depth++)
    bytes = hex(
      `ffff${(bytes.length + 16).toString(16).padStart(4, '0')}00002320002a000000000000${toHex(bytes)}`,
    );
  t.throws(() => actionsCodec.read(new Reader(bytes)), { code: 'OFPBAC_TOO_MANY' });
});

t.test('values that do not fit are refused, not cut', async (t) => {
  const bits = (start: number, count: number) => ({ field: 'reg0', start, bits: count });
  const bad: [action: object, what: RegExp][] = [
    [{ type: 'nonsense' }, /nonsense/],
    [{}, /undefined/],
    [{ type: 'output', port: -1 }, /output/],
    [{ type: 'output' }, /output/],
    [{ type: 'set_field', field: {} }, /0 fields/],
    [{ type: 'set_field', field: { reg0: 1, reg1: 1 } }, /2 fields/],
    [{ type: 'set_field', field: { nonsense: 1 } }, /nonsense/],
    [{ type: 'set_field', field: { vlan_vid: 0x2000 } }, /vlan_vid/],
    [{ type: 'set_field' }, /set_field/],
    [{ type: 'reg_load', destination: bits(0, 4), value: 16n }, /16 does not fit 4 bits/],
    [{ type: 'reg_load', destination: bits(0, 33), value: 0n }, /33 bits/],
    [{ type: 'reg_load', destination: { field: 'xxreg0', start: 0, bits: 65 }, value: 0n }, /65 bits/],
    [{ type: 'reg_load', destination: { field: 'nsh_c1', start: 0, bits: 4 }, value: 0n }, /no room/],
    [{ type: 'reg_load', destination: { field: 'nonsense', start: 0, bits: 4 }, value: 0n }, /nonsense/],
    [{ type: 'reg_move', source: bits(0, 4), destination: bits(0, 5) }, /4 bits to 5/],
    [{ type: 'reg_move', source: bits(30, 4), destination: bits(0, 4) }, /reg0/],
    [{ type: 'stack_push', bits: bits(0, 0) }, /0 bits/],
    [{ type: 'check_pkt_larger', length: 1, field: 'reg0', bit: 32 }, /reg0/],
    [{ type: 'resubmit', table: 1, port: 0xff00 }, /port 65280/],
    [{ type: 'resubmit', table: 256 }, /256/],
    [{ type: 'note', data: hex('01') }, /note/],
    [{ type: 'ct', zone: 65_536 }, /65536/],
    [{ type: 'ct', zone: bits(0, 33) }, /33/],
    [{ type: 'nat', source: true, destination: true }, /at once/],
    [{ type: 'nat', source: true, ipv4Max: '10.0.0.1' }, /last address alone/],
    [{ type: 'nat', source: true, ipv4Min: '10.0.0.1', ipv6Min: 'fd00::1' }, /IPv4 and IPv6/],
    [
      {
        type: 'multipath',
        links: 0,
        fields: 0,
        basis: 0,
        algorithm: 0,
        argument: 0,
        destination: bits(0, 4),
      },
      /links/,
    ],
    [{ type: 'bundle_load', algorithm: 'hrw', fields: 'eth_src', basis: 0, members: [1] }, /bundle_load/],
    [
      {
        type: 'learn',
        priority: 1,
        cookie: 0n,
        table: 1,
        specs: [{ type: 'load', bits: 4, source: 16n, destination: bits(0, 4) }],
      },
      /16 does not fit/,
    ],
    [
      { type: 'learn', priority: 1, cookie: 0n, table: 1, specs: [{ type: 'load', bits: 4, source: 1n }] },
      /destination/,
    ],
    [
      {
        type: 'learn',
        priority: 1,
        cookie: 0n,
        table: 1,
        specs: [{ type: 'nonsense', bits: 4, source: 1n }],
      },
      /nonsense/,
    ],
    [{ type: 'encap', headerSize: 0, packetType: 0, properties: [{ type: 'nonsense' }] }, /nonsense/],
    [
      {
        type: 'encap',
        headerSize: 0,
        packetType: 0,
        properties: [{ type: 'nsh_tlv', tlvClass: 0, tlvType: 0, data: new Uint8Array(249) }],
      },
      /256|264/,
    ],
    [{ type: 'controller2', nonsense: 1 }, /nonsense/],
    [{ type: 'experimenter', experimenter: 1, data: hex('01') }, /multiple of 8/],
    [{ type: 'unknown', actionType: 99, body: hex('0102') }, /multiple of 8/],
    [{ type: 'clone', actions: { length: 1 } }, /clone/],
  ];
  for (const [action, what] of bad)
    t.throws(
      () => write(actionsCodec, [action as Action]),
      { name: 'OpenFlowEncodeError', message: what },
      String(what),
    );
  t.throws(
    () => write(instructionsCodec, [{ type: 'nonsense' } as unknown as Instruction]),
    OpenFlowEncodeError,
  );
  t.throws(() => write(instructionsCodec, [{ type: 'goto_table', table: 256 }]), { message: /goto_table/ });
});

t.test('instructions have one key, whatever their spelling', async (t) => {
  const load = (start: number, bits: number, value: bigint): Action => ({
    type: 'reg_load',
    destination: { field: 'reg0', start, bits },
    value,
  });
  const out: Action = { type: 'output', port: 1 };
  const same: [Instruction[], Instruction[]][] = [
    [
      [apply({ type: 'set_field', field: { reg0: masked(0x50a, 0xf0f) } })],
      [apply(load(0, 4, 10n), load(8, 4, 5n))],
    ],
    [[apply(load(0, 16, 1n), load(16, 16, 2n))], [apply({ type: 'set_field', field: { reg0: 0x20001 } })]],
    [[apply(load(0, 8, 1n), load(4, 8, 0xffn))], [apply(load(0, 12, 0xff1n))]],
    [[apply()], []],
    [
      [{ type: 'goto_table', table: 1 }, apply(out)],
      [apply(out), { type: 'goto_table', table: 1 }],
    ],
    [
      [apply({ type: 'clone', actions: [{ type: 'set_field', field: { reg0: masked(1, 1) } }] })],
      [apply({ type: 'clone', actions: [load(0, 1, 1n)] })],
    ],
    [
      [{ type: 'write_metadata', metadata: 7n, mask: 4n }],
      [{ type: 'write_metadata', metadata: 4n, mask: 4n }],
    ],
    [[apply({ type: 'output', port: 1, maxLen: 5 })], [apply(out)]],
  ];
  for (const [a, b] of same) t.equal(instructionsKey(a), instructionsKey(b));
  const long = Array.from({ length: 2_700 }, (_, i): Action => {
    const field = i % 2 === 0 ? 'xxreg0' : 'xxreg1';
    return { type: 'reg_load', destination: { field, start: 3, bits: 5 }, value: BigInt(i % 32) };
  });
  t.not(
    instructionsKey([apply(...long)]),
    instructionsKey([apply(...long.slice(1))]),
    'also of what is longer in one form than a message',
  );
  const others: [Instruction[], Instruction[]][] = [
    [[], [apply(out)]],
    [[apply(out)], [{ type: 'write_actions', actions: [out] }]],
    [[apply(load(0, 4, 1n))], [apply(load(0, 4, 2n))]],
    [[apply(load(0, 4, 1n))], [apply(load(0, 5, 1n))]],
    [[apply(load(0, 4, 1n), out)], [apply(out, load(0, 4, 1n))]],
    [[apply(load(0, 4, 1n), out, load(4, 4, 1n))], [apply(load(0, 8, 0x11n), out)]],
    [
      [apply({ type: 'output', port: OFPP.CONTROLLER, maxLen: 5 })],
      [apply({ type: 'output', port: OFPP.CONTROLLER })],
    ],
    [
      [{ type: 'write_metadata', metadata: 4n, mask: 4n }],
      [{ type: 'write_metadata', metadata: 4n, mask: 5n }],
    ],
    [[apply({ type: 'ct', commit: true })], [apply({ type: 'ct', commit: true, force: true })]],
  ];
  for (const [a, b] of others) t.not(instructionsKey(a), instructionsKey(b), 'the control');
  fc.assert(
    fc.property(instructions, (list) => {
      const once = canonicalInstructions(list);
      deepStrictEqual(canonicalInstructions(once), once);
      deepStrictEqual(instructionsKey(once), instructionsKey(list));
    }),
    { numRuns: 300 },
  );
});

t.test('what Open vSwitch says it has is what it was told, and nothing else', async (t) => {
  const keys = new Map<string, string>();
  for (const [told, said] of INSTRUCTIONS_SAID) {
    t.equal(instructionsKey(readInstructions(said)), instructionsKey(told), said);
    const before = keys.get(said);
    if (before !== undefined) t.equal(before, instructionsKey(told));
    keys.set(said, instructionsKey(told));
  }
  t.ok(keys.size < INSTRUCTIONS_SAID.length, 'it says some things in one way that it was told in several');
});

t.test('nonsense is refused with an OpenFlowDecodeError, or read and written again', async () => {
  /** What is not looked at comes back as zeros. */
  const same = (ours: Uint8Array, theirs: Uint8Array): boolean =>
    ours.length === theirs.length && ours.every((byte, i) => byte === theirs[i] || byte === 0);
  const tryOut = (bytes: Uint8Array): void => {
    let value: readonly Instruction[];
    try {
      value = instructionsCodec.read(new Reader(bytes));
    } catch (error) {
      if (error instanceof OpenFlowDecodeError) return;
      throw error;
    }
    const ours = write(instructionsCodec, value);
    if (!same(ours, bytes)) throw new Error(`${toHex(bytes)} became ${toHex(ours)}`);
    deepStrictEqual(instructionsCodec.read(new Reader(ours)), value);
    instructionsKey(value);
  };
  const seeds = [
    ...VECTORS.map(([, , list]) => write(instructionsCodec, [apply(...list)])),
    ...INSTRUCTION_VECTORS.map(([, text]) => hex(text)),
  ];
  for (const bytes of seeds) for (let end = 0; end < bytes.length; end++) tryOut(bytes.subarray(0, end));
  const change = fc.tuple(fc.nat(), fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0xff)));
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(change, { minLength: 1, maxLength: 4 }),
      (seed, changes) => {
        const bytes = Uint8Array.from(seed);
        // Behind the instruction's own header.
        for (const [at, byte] of changes) bytes[Math.min(bytes.length - 1, 8 + (at % bytes.length))] = byte;
        tryOut(bytes);
      },
    ),
    { numRuns: 5_000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), tryOut), { numRuns: 2_000 });
});
