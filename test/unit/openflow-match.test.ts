/**
 * Match fields: against bytes of ovs-ofctl and of the specification, against themselves, against nonsense, and against what Open vSwitch says of them.
 */
import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import {
  canonicalMatch,
  decode,
  encode,
  FIELD_NAMES,
  type FieldName,
  fieldNamed,
  type Match,
  matchCodec,
  matchKey,
  OpenFlowDecodeError,
  OpenFlowEncodeError,
  oxmsCodec,
  Reader,
} from '../../controller-app/openflow/index.js';
import { hex, masked, toHex, write } from '../fixtures/codec-bytes.js';
import { longMatch, maskedValue, match, plainValue } from '../fixtures/openflow-match-arbitraries.js';
import { MATCH_VECTORS, SPEC_MATCH_VECTORS } from '../fixtures/openflow-vectors-match.js';
import { MATCHES_SAID } from '../fixtures/openvswitch-answers.js';
import { assertPlain, byteArraysIn } from '../fixtures/plain-data.js';

t.setTimeout(60_000);

const VECTORS = [...MATCH_VECTORS, ...SPEC_MATCH_VECTORS];

const read = (text: string): Match => oxmsCodec.read(new Reader(hex(text)));
/** Names of the fields in their order, which deepStrictEqual does not look at. */
const order = (value: Match): string[] => Object.keys(value).filter((name) => name !== 'unknown');

t.test('bytes and value are each other’s', async () => {
  for (const [name, text, value] of VECTORS) {
    const bytes = hex(text);
    const decoded = oxmsCodec.read(new Reader(bytes));
    deepStrictEqual(decoded, value, name);
    deepStrictEqual(order(decoded), order(value), name);
    assertPlain(decoded);
    deepStrictEqual(toHex(write(oxmsCodec, value)), toHex(bytes), name);
    for (const held of byteArraysIn(decoded)) if (held.buffer === bytes.buffer) throw new Error('a view');
  }
});

t.test('every field has a vector', async (t) => {
  const shown = new Set(VECTORS.flatMap(([, , value]) => Object.keys(value)));
  /** The others are like these. */
  const alike = /^(reg\d+|xreg\d|xxreg\d|tun_metadata\d+)$/;
  t.strictSame(
    FIELD_NAMES.filter((name) => !shown.has(name) && !alike.test(name)),
    [],
  );
});

t.test('the fields of the specification have its numbers, sizes and masks (table 12)', async (t) => {
  // Name, number, bits, whether it can be masked.
  const table = `in_port 0 32 no, in_phy_port 1 32 no, metadata 2 64 yes, eth_dst 3 48 yes, eth_src 4 48 yes, eth_type 5 16 no,
    vlan_vid 6 13 yes, vlan_pcp 7 3 no, ip_dscp 8 6 no, ip_ecn 9 2 no, ip_proto 10 8 no, ipv4_src 11 32 yes, ipv4_dst 12 32 yes,
    tcp_src 13 16 no, tcp_dst 14 16 no, udp_src 15 16 no, udp_dst 16 16 no, sctp_src 17 16 no, sctp_dst 18 16 no,
    icmpv4_type 19 8 no, icmpv4_code 20 8 no, arp_op 21 16 no, arp_spa 22 32 yes, arp_tpa 23 32 yes, arp_sha 24 48 yes,
    arp_tha 25 48 yes, ipv6_src 26 128 yes, ipv6_dst 27 128 yes, ipv6_flabel 28 20 yes, icmpv6_type 29 8 no, icmpv6_code 30 8 no,
    ipv6_nd_target 31 128 no, ipv6_nd_sll 32 48 no, ipv6_nd_tll 33 48 no, mpls_label 34 20 no, mpls_tc 35 3 no, mpls_bos 36 1 no,
    pbb_isid 37 24 yes, tunnel_id 38 64 yes, ipv6_exthdr 39 9 yes`;
  const rows = table.split(',').map((row) => row.trim().split(' '));
  t.equal(rows.length, 40);
  /** Open vSwitch masks these as well. */
  const wider = /^(tcp|udp|sctp)_(src|dst)$|^ipv6_nd_/;
  for (const [name = '', number, bits, maskable] of rows) {
    const field = fieldNamed(name);
    t.match(field, { class: 0x8000, field: Number(number), kind: { bits: Number(bits) } }, name);
    if (!wider.test(name)) t.equal(field?.exact !== true, maskable === 'yes', name);
  }
});

t.test('any match survives the way to bytes and back, in its order', async () => {
  const same = (value: Match): void => {
    const bytes = write(matchCodec, value);
    const back = matchCodec.read(new Reader(bytes));
    deepStrictEqual(back, value);
    deepStrictEqual(order(back), order(value));
    assertPlain(back);
    deepStrictEqual(bytes.length % 8, 0);
    deepStrictEqual(toHex(write(matchCodec, back)), toHex(bytes));
  };
  fc.assert(fc.property(match, same), { numRuns: 1_000 });
  fc.assert(fc.property(longMatch, same), { numRuns: 50 });
});

t.test('what a field needs is written before it, and must be there', async (t) => {
  const wanted: Match = { eth_type: 0x86dd, ip_proto: 58, icmpv6_type: 135, ipv6_nd_target: 'fd00::1' };
  const turned: Match = { ipv6_nd_target: 'fd00::1', icmpv6_type: 135, ip_proto: 58, eth_type: 0x86dd };
  t.equal(toHex(write(oxmsCodec, turned)), toHex(write(oxmsCodec, wanted)));
  t.strictSame(
    order(
      oxmsCodec.read(
        new Reader(write(oxmsCodec, { reg0: 1, tcp_dst: 80, ip_proto: 6, reg1: 2, eth_type: 0x800 })),
      ),
    ),
    ['reg0', 'eth_type', 'ip_proto', 'tcp_dst', 'reg1'],
    'and nothing else is moved',
  );
  const lacking: Match[] = [
    { tcp_dst: 80 },
    { eth_type: 0x0800, tcp_dst: 80 },
    { eth_type: 0x0800, ip_proto: 17, tcp_dst: 80 },
    { ip_proto: 6, tcp_dst: 80 },
    { eth_type: 0x0806, ip_proto: 6 },
    { eth_type: 0x86dd, ipv4_src: '10.0.0.1' },
    { eth_type: 0x86dd, ip_proto: 58, icmpv6_type: 136, ipv6_nd_sll: '02:00:00:00:00:01' },
    { vlan_pcp: 3 },
    { vlan_vid: 0, vlan_pcp: 3 },
    { ct_nw_proto: 6 },
    { ct_state: masked(0x20, 0x20), ct_nw_proto: 6 },
    { ct_state: masked(0x10, 0x10), ct_nw_proto: 6 },
    { nsh_spi: 1 },
    { mpls_label: 1 },
    { eth_type: 0x88e8, pbb_isid: 1 },
  ];
  for (const value of lacking)
    t.throws(
      () => write(oxmsCodec, value),
      { name: 'OpenFlowEncodeError', message: /needs/ },
      JSON.stringify(value),
    );
  const sound: Match[] = [
    { eth_type: masked(0x0800, 0xffff), ip_proto: 6, tcp_dst: 80 },
    { packet_type: 0x10800, ipv4_src: '10.0.0.1' },
    { vlan_vid: masked(0x1000, 0x1000), vlan_pcp: 3 },
    { ct_state: masked(0x20, 0x30), ct_nw_proto: 6 },
  ];
  for (const value of sound)
    t.doesNotThrow(() => write(oxmsCodec, value), `the control: ${JSON.stringify(value)}`);
});

t.test('what a match must not be is the error that the protocol has for it', async (t) => {
  const broken: [name: string, text: string, code: string][] = [
    ['a header that ends', '8000', 'OFPBMC_BAD_LEN'],
    ['a field longer than the match', '80000004 0000', 'OFPBMC_BAD_LEN'],
    ['an eth_type of 4 bytes', '80000a04 08000000', 'OFPBMC_BAD_LEN'],
    ['a masked field with one half', '00010104 00000001', 'OFPBMC_BAD_LEN'],
    ['an option of 125 bytes', `0001507d ${'00'.repeat(125)}`, 'OFPBMC_BAD_LEN'],
    ['a masked option of 3 bytes', '00015103 000000', 'OFPBMC_BAD_LEN'],
    ['an experimenter that ends', 'ffff0202 4f4e', 'OFPBMC_BAD_LEN'],
    ['a field twice', '80000004 00000001 80000004 00000001', 'OFPBMC_DUP_FIELD'],
    ['a field by both of its numbers', '80000806 020000000001 00000406 020000000001', 'OFPBMC_DUP_FIELD'],
    ['a value with bits outside of its mask', '00010108 00000003 00000001', 'OFPBMC_BAD_WILDCARDS'],
    [
      'an address with bits outside of its mask',
      '80000a02 0800 80001708 0a000001 ffffff00',
      'OFPBMC_BAD_WILDCARDS',
    ],
    ['a priority of 8', '80000c02 1005 80000e01 08', 'OFPBMC_BAD_VALUE'],
    ['a tag of 14 bits', '80000c02 2005', 'OFPBMC_BAD_VALUE'],
    ['a label of 21 bits', '80000a02 8847 80004404 00100000', 'OFPBMC_BAD_VALUE'],
    ['a part of a port', '80000108 00000001 0000ffff', 'OFPBMC_BAD_MASK'],
    ['a part of a protocol', '80000a02 0800 80001502 06 0f', 'OFPBMC_BAD_MASK'],
    ['a protocol before the ethertype', '80001401 06 80000a02 0800', 'OFPBMC_BAD_PREREQ'],
    ['a port of TCP in UDP', '80000a02 0800 80001401 11 80001a02 0050', 'OFPBMC_BAD_PREREQ'],
    ['an IPv4 address in IPv6', '80000a02 86dd 80001604 0a000001', 'OFPBMC_BAD_PREREQ'],
    ['a priority without a tag', '80000c02 0000 80000e01 03', 'OFPBMC_BAD_PREREQ'],
    [
      'a connection’s address without a connection',
      '0001d308 00000020 00000020 0001f004 0a000001',
      'OFPBMC_BAD_PREREQ',
    ],
  ];
  for (const [name, text, code] of broken)
    t.throws(() => read(text), { name: 'OpenFlowDecodeError', code, errorTypeName: 'OFPET_BAD_MATCH' }, name);
  const whole = (text: string) => () => matchCodec.read(new Reader(hex(text)));
  t.throws(whole('0000000400000000'), { code: 'OFPBMC_BAD_TYPE' }, 'a match of OpenFlow 1.1');
  t.throws(whole('0001000300000000'), { code: 'OFPBMC_BAD_LEN' }, 'shorter than its header');
  t.throws(whole('000100ff80000004'), { code: 'OFPBMC_BAD_LEN' }, 'longer than the message');
  const control = (text: string) => t.doesNotThrow(() => read(text), `the control: ${text}`);
  control('80000004 00000001');
  control('00010108 00000001 00000003');
  control('80000108 00000001 ffffffff');
  control('80000108 00000000 00000000');
  control('80000a02 0800 80001401 06 80001a02 0050');
  control('0001d308 00000020 00000030 0001f004 0a000001');
});

t.test('what a switch says of packets and rules need not say what a rule must', async (t) => {
  const fields =
    '00010029 80001c02 0050 80000a02 0800 80000108 00000001 0000ffff 0001f004 0a000001 80000e01 03 00000000000000';
  const packetIn = hex(`040a0000 00000000 ffffffff 0000 01 05 0000000000000000 ${fields} 0000`);
  const flowMod = hex(`040e0000 00000000 ${'00'.repeat(40)} ${fields}`);
  for (const bytes of [packetIn, flowMod]) bytes[3] = bytes.length;
  const told = decode(packetIn);
  t.match(told, { match: { tcp_dst: 80, eth_type: 0x0800, ct_nw_src: '10.0.0.1', vlan_pcp: 3 } });
  t.equal(toHex(encode(told)), toHex(packetIn), 'nor in its order');
  t.throws(() => decode(flowMod), { code: 'OFPBMC_BAD_PREREQ' }, 'the control: the same in a rule');
});

t.test('values that do not fit are refused, not cut', async (t) => {
  const bad: [value: object, what: RegExp][] = [
    [{ eth_type: 0x10000 }, /eth_type/],
    [{ vlan_vid: 0x2000 }, /vlan_vid: more than the 13 bits/],
    [{ in_port: 1.5 }, /in_port/],
    [{ in_port: -1 }, /in_port/],
    [{ in_port: 2 ** 32 }, /in_port/],
    [{ in_port: Number.NaN }, /in_port/],
    [{ in_port: '1' }, /in_port/],
    [{ in_port: null }, /in_port/],
    [{ in_port: masked(1, 0xff) }, /in_port: .*as a whole/],
    [{ metadata: 5 }, /metadata: .*bigint/],
    [{ metadata: 1n << 64n }, /metadata/],
    [{ xxreg0: -1n }, /xxreg0/],
    [{ xxreg0: 1n << 128n }, /xxreg0/],
    [{ eth_src: '02:00:00:00:00' }, /eth_src/],
    [{ eth_type: 0x0800, ipv4_src: '10.0.0.256' }, /ipv4_src/],
    [{ eth_type: 0x0800, ipv4_src: masked('10.0.0.1', '255.255.255.0') }, /outside of its mask/],
    [{ eth_type: 0x86dd, ipv6_src: 'fd00::1::2' }, /ipv6_src/],
    [{ reg0: masked(2, 1) }, /reg0: 2 has bits outside of its mask 1/],
    [{ reg0: { mask: 1 } }, /reg0/],
    [{ tun_metadata0: '123' }, /tun_metadata0/],
    [{ tun_metadata0: '00'.repeat(125) }, /tun_metadata0/],
    [{ tun_metadata0: 12 }, /tun_metadata0/],
    [{ tun_metadata0: masked('12', 'ffff') }, /differ in length/],
    [{ nonsense: 1 }, /nonsense/],
    [{ constructor: 1 }, /constructor/],
    [{ eth_src: '02:00:00:00:00:01', eth_src_nxm: '02:00:00:00:00:01' }, /same field/],
    [{ unknown: 5 }, /unknown/],
    [{ unknown: [{ class: 0xffff, field: 1, masked: false, body: hex('') }] }, /experimenter/],
    [{ unknown: [{ class: 1, field: 1, experimenter: 1, masked: false, body: hex('') }] }, /experimenter/],
    [{ unknown: [{ class: 1, field: 128, masked: false, body: hex('') }] }, /7 bits/],
    [{ unknown: [{ class: 1, field: 1, masked: false, body: new Uint8Array(256) }] }, /256 bytes/],
  ];
  for (const [value, what] of bad) {
    t.throws(
      () => write(oxmsCodec, value as Match),
      { name: 'OpenFlowEncodeError', message: what },
      String(what),
    );
    t.throws(() => matchKey(value as Match), OpenFlowEncodeError, `no key either: ${what}`);
  }
});

t.test('a match has one key, whatever its spelling', async (t) => {
  const same: [Match, Match][] = [
    [
      { tcp_dst: 80, ip_proto: 6, eth_type: 0x0800 },
      { eth_type: 0x0800, ip_proto: 6, tcp_dst: 80 },
    ],
    [{ reg0: masked(5, 0xffffffff) }, { reg0: 5 }],
    [{ reg0: masked(0, 0), reg1: 1 }, { reg1: 1 }],
    [
      { eth_type: 0x86dd, ipv6_src: 'FD00:0:0::0001' },
      { eth_type: 0x86dd, ipv6_src: 'fd00::1' },
    ],
    [{ eth_src_nxm: '02:00:00:00:00:AB' }, { eth_src: '02:00:00:00:00:ab' }],
    [{ xxreg0: 0x1_00000002_00000003_00000004n }, { reg3: 4, reg2: 3, reg1: 2, reg0: 1 }],
    [{ xreg1: masked(5n, 0xffn) }, { reg3: masked(5, 0xff) }],
    [{ vlan_tci: 0x30c9 }, { vlan_vid: 0x10c9, vlan_pcp: 1 }],
    [{ vlan_tci: 0 }, { vlan_vid: masked(0, 0x1fff) }],
    [{ packet_type: 0, in_port: 1 }, { in_port: 1 }],
    [{ in_port_nxm: 0xfffe }, { in_port: 0xfffffffe }],
    [
      { reg0: 1, unknown: [{ class: 2, field: 1, masked: false, body: hex('01'), before: 'reg0' }] },
      { unknown: [{ class: 2, field: 1, masked: false, body: hex('01') }], reg0: 1 },
    ],
  ];
  for (const [a, b] of same) t.equal(matchKey(a), matchKey(b), `${order(a)}, ${order(b)}`);
  const others: [Match, Match][] = [
    [{}, { reg0: 0 }],
    [{ reg0: 1 }, { reg0: 2 }],
    [{ reg0: 1 }, { reg1: 1 }],
    [{ reg0: 1 }, { reg0: masked(1, 0xff) }],
    [{ reg0: masked(1, 1) }, { reg0: masked(1, 3) }],
    [{ xreg0: 1n }, { reg1: 1 }],
    [{ vlan_vid: 0 }, {}],
    [{ vlan_tci: 0x30c9 }, { vlan_vid: 0x10c9 }],
    [{ tun_metadata0: '0f0f' }, { tun_metadata0: masked('0f', '0f') }],
    [{ tun_metadata0: '00' }, { tun_metadata0: '0000' }],
    [{ tun_metadata0: masked('00', '00') }, {}],
    [{ tun_metadata0: masked('', '') }, { tun_metadata0: '' }],
    [{}, { unknown: [{ class: 2, field: 1, masked: false, body: hex('') }] }],
  ];
  for (const [a, b] of others) t.not(matchKey(a), matchKey(b), `the control: ${order(a)}, ${order(b)}`);
});

t.test('what Open vSwitch says it has is what it was told, and nothing else', async (t) => {
  const keys = new Map<string, string>();
  /** Ethernet, which it says or does not say. */
  const ethernet = /^8000580400000000/;
  for (const [told, saying] of MATCHES_SAID) {
    const said = saying.replace(ethernet, '');
    t.equal(matchKey(read(saying)), matchKey(told), saying);
    t.equal(matchKey(canonicalMatch(told)), matchKey(told), 'and so is its one spelling');
    const before = keys.get(said);
    if (before !== undefined) t.equal(before, matchKey(told));
    keys.set(said, matchKey(told));
  }
  t.equal(new Set(keys.values()).size, keys.size, 'the control: what it says otherwise is something else');
});

t.test('the key does not depend on order or on masks that say nothing', async () => {
  fc.assert(
    fc.property(match, (value) => {
      const turned = Object.fromEntries(Object.entries(value).reverse()) as Match;
      deepStrictEqual(matchKey(turned), matchKey(value));
      const { unknown, ...named } = canonicalMatch(value);
      deepStrictEqual(matchKey(canonicalMatch(named)), matchKey(named));
      deepStrictEqual(canonicalMatch(named), named);
    }),
    { numRuns: 500 },
  );
  const anyField = fc.constantFrom(...FIELD_NAMES.filter((name) => fieldNamed(name)?.needs === undefined));
  fc.assert(
    fc.property(
      anyField.chain((name) =>
        fc.tuple(fc.constant(name), plainValue(name), maskedValue(name, fieldNamed(name)?.exact)),
      ),
      ([name, plain, withMask]: [FieldName, unknown, unknown]) => {
        for (const value of [plain, withMask]) {
          const one = { [name]: value } as Match;
          deepStrictEqual(matchKey(oxmsCodec.read(new Reader(write(oxmsCodec, one)))), matchKey(one));
        }
      },
    ),
    { numRuns: 500 },
  );
});

t.test('nonsense is refused with an OpenFlowDecodeError, or read and written again', async () => {
  const tryOut = (bytes: Uint8Array): void => {
    let value: Match;
    try {
      value = oxmsCodec.read(new Reader(bytes));
    } catch (error) {
      if (error instanceof OpenFlowDecodeError) return;
      throw error;
    }
    deepStrictEqual(toHex(write(oxmsCodec, value)), toHex(bytes));
    matchKey(value);
  };
  const seeds = VECTORS.map(([, text]) => hex(text));
  for (const bytes of seeds) for (let end = 0; end < bytes.length; end++) tryOut(bytes.subarray(0, end));
  const change = fc.tuple(fc.nat(), fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0xff)));
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(change, { minLength: 1, maxLength: 4 }),
      (seed, changes) => {
        const bytes = Uint8Array.from(seed);
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        tryOut(bytes);
      },
    ),
    { numRuns: 5_000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), tryOut), { numRuns: 2_000 });
});

t.test('a message full of fields is read in one go', async (t) => {
  const most = hex('7777fe00'.repeat(16_000));
  const value = oxmsCodec.read(new Reader(most));
  t.equal(value.unknown?.length, 16_000);
  t.equal(toHex(write(oxmsCodec, value)), toHex(most));
});
