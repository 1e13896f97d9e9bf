/**
 * The OpenFlow codec: against bytes that Open vSwitch 3.1 and its ovs-ofctl sent, against itself, and against nonsense.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  type Action,
  actionsCodec,
  decodeMessage,
  encodeMessage,
  errorName,
  Framer,
  type Match,
  type Message,
  matchCodec,
  matchKey,
  OFPP,
  OpenFlowDecodeError,
  OpenFlowEncodeError,
  Reader,
  Writer,
} from '../../controller-app/openflow/index.js';

t.setTimeout(60_000);

const hex = (...parts: string[]): Buffer => Buffer.from(parts.join('').replaceAll(' ', ''), 'hex');
const toText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const masked = <T>(value: T, mask: T) => ({ value, mask });
const add = { type: 'flow_mod', command: 'add', cookie: 0n, table: 0, priority: 0x8000 } as const;
const goTo = (table: number) => ({ type: 'goto_table', table }) as const;
const apply = (...actions: Action[]) => ({ type: 'apply_actions', actions }) as const;

interface Vector {
  /** What ovs-ofctl was asked for, or what happened. */
  readonly name: string;
  readonly bytes: Buffer;
  readonly message: Message;
  /** Open vSwitch wrote the same in another way: ours is checked by reading it back. */
  readonly oneWay?: true;
}

const VECTORS: readonly Vector[] = [
  {
    name: 'hello with a version bitmap',
    bytes: hex('04000010000000010001000800000010'),
    message: { type: 'hello', versions: [4] },
  },
  {
    name: 'table=3,priority=310,cookie=0x1122334455667788,icmp,icmp_type=5,actions=drop',
    bytes: hex(
      '040e004800000006112233445566778800000000000000000300000000000136ffffffffffffffffffffffff00000000',
      '0001001480000a0208008000140101800026010500000000',
    ),
    message: {
      ...add,
      table: 3,
      priority: 310,
      cookie: 0x1122334455667788n,
      match: { eth_type: 0x0800, ip_proto: 1, icmpv4_type: 5 },
      instructions: [],
    },
  },
  {
    name: 'ct_state=+trk+est,tcp6,tcp_flags=+syn,actions=controller(max_len=128),resubmit(,9)',
    bytes: hex(
      '040e0080000000060000000000000000000000000000000003000000000000c8ffffffffffffffffffffffff00000000',
      '0001002780000a0286dd8000140106ffff55084f4e4600000200020001d3080000002200000022000004002800000000',
      '00000010fffffffd0080000000000000ffff001000002320000efff809000000',
    ),
    message: {
      ...add,
      table: 3,
      priority: 200,
      match: { eth_type: 0x86dd, ip_proto: 6, tcp_flags: masked(2, 2), ct_state: masked(0x22, 0x22) },
      instructions: [
        apply({ type: 'output', port: OFPP.CONTROLLER, maxLen: 128 }, { type: 'resubmit', table: 9 }),
      ],
    },
  },
  {
    name: 'udp,nw_frag=no,ct_mark=0/1,actions=controller,ct(commit,zone=7,exec(set_field:1/1->ct_mark)),goto_table:9',
    bytes: hex(
      '040e00b0000000060000000000000000000000000000000003000000000000beffffffffffffffffffffffff00000000',
      '0001002c80000a020800000134010080001401110001d3080000002a0000002a0001d708000000000000000100000000',
      '000400480000000000000010fffffffd0080000000000000ffff00300000232000230001000000000007ff0000000000',
      'ffff001800002320000700000001d60400000000000000010001000809000000',
    ),
    oneWay: true,
    message: {
      ...add,
      table: 3,
      priority: 190,
      match: {
        eth_type: 0x0800,
        nw_frag: 0,
        ip_proto: 17,
        ct_state: masked(0x2a, 0x2a),
        ct_mark: masked(0, 1),
      },
      instructions: [
        apply(
          { type: 'output', port: OFPP.CONTROLLER, maxLen: 128 },
          {
            type: 'ct',
            commit: true,
            zone: 7,
            exec: [{ type: 'set_field', field: { ct_mark: masked(1, 1) } }],
          },
        ),
        goTo(9),
      ],
    },
  },
  {
    name: 'in_port=2,dl_vlan=201,actions=pop_vlan,set_field:1->reg0,goto_table:1',
    bytes: hex(
      '040e007000000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '00010012800000040000000280000c0210c9000000000000000400200000000000120008000000000019001000010004',
      '00000001000000000001000801000000',
    ),
    message: {
      ...add,
      match: { in_port: 2, vlan_vid: 0x10c9 },
      instructions: [apply({ type: 'pop_vlan' }, { type: 'set_field', field: { reg0: 1 } }), goTo(1)],
    },
  },
  {
    name: 'reg0=1,actions=push_vlan:0x8100,set_field:4298->vlan_vid,in_port',
    bytes: hex(
      '040e007000000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001000c000100040000000100000000000400300000000000110008810000000019001080000c0210ca000000000000',
      '00000010fffffff80000000000000000',
    ),
    message: {
      ...add,
      match: { reg0: 1 },
      instructions: [
        apply(
          { type: 'push_vlan', ethertype: 0x8100 },
          { type: 'set_field', field: { vlan_vid: 4298 } },
          { type: 'output', port: OFPP.IN_PORT },
        ),
      ],
    },
  },
  {
    name: 'ip,actions=ct(table=4,zone=7)',
    bytes: hex(
      '040e006000000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001000a80000a0208000000000000000004002000000000ffff00180000232000230000000000000007040000000000',
    ),
    message: {
      ...add,
      match: { eth_type: 0x0800 },
      instructions: [apply({ type: 'ct', zone: 7, table: 4 })],
    },
  },
  {
    name: 'ip,actions=ct(commit,force,zone=reg1[0..15],table=4,exec(set_field:5->ct_mark,set_field:6/0xff->ct_label))',
    bytes: hex(
      '040e008800000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001000a80000a0208000000000000000004004800000000ffff0040000023200023000300010204000f040000000000',
      '001900100001d6040000000500000000ffff001800002320000700070001d8100000000000000006',
    ),
    oneWay: true,
    message: {
      ...add,
      match: { eth_type: 0x0800 },
      instructions: [
        apply({
          type: 'ct',
          commit: true,
          force: true,
          zone: { field: 'reg1', start: 0, bits: 16 },
          table: 4,
          exec: [
            { type: 'set_field', field: { ct_mark: 5 } },
            { type: 'set_field', field: { ct_label: masked(6n, 0xffn) } },
          ],
        }),
      ],
    },
  },
  {
    name: 'vlan_tci=0,ip,nw_frag=later,nw_ttl=255,actions=ct_clear,load:5->reg2[3..9],move:reg0[]->reg1[],normal',
    bytes: hex(
      '040e00a800000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001001a80000a02080080000c020000000134010300013a01ff0000000000000004005800000000ffff001000002320',
      '002b000000000000ffff001800002320000700c6000104040000000000000005ffff0018000023200006002000000000',
      '000100040001020400000010fffffffa0000000000000000',
    ),
    oneWay: true,
    message: {
      ...add,
      match: { eth_type: 0x0800, vlan_vid: 0, nw_frag: 3, nw_ttl: 255 },
      instructions: [
        apply(
          { type: 'ct_clear' },
          { type: 'set_field', field: { reg2: masked(0x28, 0x3f8) } },
          {
            type: 'unknown',
            actionType: 0xffff,
            body: hex('00002320 0006 0020 0000 0000 00010004 00010204'),
          },
          { type: 'output', port: OFPP.NORMAL },
        ),
      ],
    },
  },
  {
    name: 'tcp,tcp_flags=0x12,actions=group:5,note:01.02,dec_ttl,set_queue:4',
    bytes: hex(
      '040e008000000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001001980000a0208008000140106ffff54064f4e460000120000000000000000040030000000000016000800000005',
      'ffff001000002320000801020000000000180008000000000015000800000004',
    ),
    message: {
      ...add,
      match: { eth_type: 0x0800, ip_proto: 6, tcp_flags: 0x12 },
      instructions: [
        apply(
          { type: 'group', group: 5 },
          { type: 'unknown', actionType: 0xffff, body: hex('00002320 0008 0102 0000 0000') },
          { type: 'dec_nw_ttl' },
          { type: 'set_queue', queue: 4 },
        ),
      ],
    },
  },
  {
    name: 'icmp6,icmp_type=135,icmp_code=0,nd_target=fd00::1,nd_sll=…,ipv6_src=fd00::/64,send_flow_rem,actions=write_metadata,goto_table',
    bytes: hex(
      '040e00b000000006000000000000000000000000000000000000000500068000ffffffffffffffffffffffff00010000',
      '0001005b80000a0286dd80003520fd000000000000000000000000000000ffffffffffffffff00000000000000008000',
      '14013a80003a018780003c010080003e10fd000000000000000000000000000001800040060200000000010000000000',
      '0002001800000000000000000000000500000000000000ff0001000805000000',
    ),
    oneWay: true,
    message: {
      ...add,
      idleTimeout: 5,
      hardTimeout: 6,
      flags: 1,
      match: {
        eth_type: 0x86dd,
        ipv6_src: masked('fd00::', 'ffff:ffff:ffff:ffff::'),
        ip_proto: 58,
        icmpv6_type: 135,
        icmpv6_code: 0,
        ipv6_nd_target: 'fd00::1',
        ipv6_nd_sll: '02:00:00:00:00:01',
      },
      instructions: [{ type: 'write_metadata', metadata: 5n, mask: 0xffn }, goTo(5)],
    },
  },
  {
    name: 'arp,arp_op=1,arp_spa=…,arp_sha=…,dl_dst=ff:ff:ff:ff:ff:ff,actions=write_actions(output:3)',
    bytes: hex(
      '040e007800000006000000000000000000000000000000000000000000008000ffffffffffffffffffffffff00000000',
      '0001002c80000606ffffffffffff80000a02080680002a02000180002c040a0000018000300602000000000100000000',
      '000300180000000000000010000000030000000000000000',
    ),
    message: {
      ...add,
      match: {
        eth_dst: 'ff:ff:ff:ff:ff:ff',
        eth_type: 0x0806,
        arp_op: 1,
        arp_spa: '10.0.0.1',
        arp_sha: '02:00:00:00:00:01',
      },
      instructions: [{ type: 'write_actions', actions: [{ type: 'output', port: 3 }] }],
    },
  },
  {
    name: 'del-flows table=3,cookie=0x1/0xff',
    bytes: hex(
      '040e003800000006000000000000000100000000000000ff0303000000008000ffffffffffffffffffffffff00000000',
      '0001000400000000',
    ),
    message: {
      ...add,
      command: 'delete',
      table: 3,
      cookie: 1n,
      cookieMask: 0xffn,
      match: {},
      instructions: [],
    },
  },
  {
    name: 'add-group group_id=5,type=select,bucket=weight:3,output:1,bucket=weight:1,output:2',
    bytes: hex(
      '040f005000000006000001000000000500200003ffffffffffffffff0000000000000010000000010000000000000000',
      '00200001ffffffffffffffff0000000000000010000000020000000000000000',
    ),
    message: {
      type: 'group_mod',
      command: 'add',
      groupType: 'select',
      group: 5,
      buckets: [
        { weight: 3, actions: [{ type: 'output', port: 1 }] },
        { weight: 1, actions: [{ type: 'output', port: 2 }] },
      ],
    },
  },
  {
    name: 'a flow in a bundle',
    bytes: hex(
      '04040058000000064f4e4600000008fd0000000000000003040e00400000000600000000000000000000000000000000',
      '0100000000008000ffffffffffffffffffffffff000000000001000f80000a020800800014010600',
    ),
    message: {
      type: 'bundle_add',
      bundle: 0,
      flags: 3,
      message: { ...add, table: 1, match: { eth_type: 0x0800, ip_proto: 6 }, instructions: [] },
    },
  },
  {
    name: 'opening a bundle',
    bytes: hex('04040018000000074f4e4600000008fc0000000000000003'),
    message: { type: 'bundle_control', bundle: 0, control: 'open_request', flags: 3 },
  },
  {
    name: 'ct-flush-zone 7',
    bytes: hex('0404001800000002000023200000001d0000000000000007'),
    message: { type: 'ct_flush_zone', zone: 7 },
  },
  {
    name: 'ct-flush zone=7 ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=6,ct_tp_src=1000,ct_tp_dst=80',
    bytes: hex(
      '04040068000000020000232000000020060000000000000000000048000000000000001400000000000000000000ffff',
      '0a000001000000000001001400000000000000000000ffff0a000002000000000002000803e800000003000800500000',
      '0002000800070000',
    ),
    message: {
      type: 'ct_flush',
      protocol: 6,
      zone: 7,
      original: { src: '10.0.0.1', dst: '10.0.0.2', srcPort: 1000, dstPort: 80 },
    },
  },
  {
    name: 'the switch’s features',
    bytes: hex('040600200000000200004e5bbaced14e00000000fe0000000000004f00000000'),
    message: {
      type: 'features_reply',
      datapathId: 0x4e5bbaced14en,
      buffers: 0,
      tables: 254,
      auxiliaryId: 0,
      capabilities: 0x4f,
    },
  },
  {
    name: 'its configuration',
    bytes: hex('0408000c0000000500000000'),
    message: { type: 'get_config_reply', flags: 0, missSendLen: 0 },
  },
  {
    name: 'its ports',
    bytes: hex(
      '041300d000000003000d000000000000fffffffe000000004e5bbaced14e000062723000000000000000000000000000',
      '000000010000000100000840000000000000000000000000009896800000000000000001000000002e4a3e3954cf0000',
      '703100000000000000000000000000000000000000000001000008400000000000000000000000000098968000000000',
      '00000002000000007e74893b4c9800007032000000000000000000000000000000000000000000010000084000000000',
      '00000000000000000098968000000000',
    ),
    message: {
      type: 'multipart_reply',
      body: {
        type: 'port_desc',
        ports: [
          port(OFPP.LOCAL, '4e:5b:ba:ce:d1:4e', 'br0', 1, 1, 0x840),
          port(1, '2e:4a:3e:39:54:cf', 'p1', 0, 1, 0x840),
          port(2, '7e:74:89:3b:4c:98', 'p2', 0, 1, 0x840),
        ],
      },
    },
  },
  {
    name: 'a dump of its flows',
    bytes: hex(
      '041301880000000600010000000000000048030000000002061465800136000000000000000000001122334455667788',
      '000000000000000000000000000000000001001480000a02080080001401018000260105000000000080030000000001',
      '3ac52a8000c8000000000000000000000000000000000000000000000000000000000000000000000001002780000a02',
      '86dd8000140106ffff55084f4e4600000200020001d308000000220000002200000400280000000000000010fffffffd',
      '0080000000000000ffff001000002320000efff80900000000b0030000000001339e1c8000be00000000000000000000',
      '0000000000000000000000000000000000000000000000000001002c80000a020800000134010080001401110001d308',
      '0000002a0000002a0001d708000000000000000100000000000400480000000000000010fffffffd0080000000000000',
      'ffff00300000232000230001000000000007ff0000000000ffff001800002320000700000001d6040000000000000001',
      '0001000809000000',
    ),
    oneWay: true,
    message: {
      type: 'multipart_reply',
      body: {
        type: 'flow',
        flows: [
          {
            ...stats(34_000_000),
            priority: 310,
            cookie: 0x1122334455667788n,
            match: { eth_type: 0x0800, ip_proto: 1, icmpv4_type: 5 },
            instructions: [],
          },
          {
            ...stats(20_000_000),
            priority: 200,
            match: {
              eth_type: 0x86dd,
              ip_proto: 6,
              tcp_flags: masked(2, 2),
              ct_state: masked(0x22, 0x22),
            },
            instructions: [
              apply({ type: 'output', port: OFPP.CONTROLLER, maxLen: 128 }, { type: 'resubmit', table: 9 }),
            ],
          },
          {
            ...stats(20_160_028),
            priority: 190,
            match: {
              eth_type: 0x0800,
              nw_frag: 0,
              ip_proto: 17,
              ct_state: masked(0x2a, 0x2a),
              ct_mark: masked(0, 1),
            },
            instructions: [
              apply(
                { type: 'output', port: OFPP.CONTROLLER, maxLen: 128 },
                {
                  type: 'ct',
                  commit: true,
                  zone: 7,
                  exec: [{ type: 'set_field', field: { ct_mark: masked(1, 1) } }],
                },
              ),
              goTo(9),
            ],
          },
        ],
      },
    },
  },
  {
    name: 'a packet that ct() has seen',
    bytes: hex(
      '040a009600000000ffffffff002c011500000000000012340001004d80000004fffffffd80000a020800000102040000',
      '002a0001d30800000021000000ff0001d40200070001f0040a0000010001f2040a0000020001ee01110001f80203e800',
      '01fa020050000000000002000000000202000000000108004500001e00000000401166cd0a0000010a00000203e80050',
      '000a00006162',
    ),
    message: {
      type: 'packet_in',
      bufferId: 0xffffffff,
      totalLen: 44,
      reason: 'action',
      tableId: 21,
      cookie: 0x1234n,
      match: {
        in_port: OFPP.CONTROLLER,
        eth_type: 0x0800,
        reg1: 42,
        ct_state: 0x21,
        ct_zone: 7,
        ct_nw_proto: 17,
        ct_nw_src: '10.0.0.1',
        ct_nw_dst: '10.0.0.2',
        ct_tp_src: 1000,
        ct_tp_dst: 80,
      },
      data: hex(
        '0200000000020200000000010800',
        '4500001e00000000401166cd0a0000010a00000203e80050000a00006162',
      ),
    },
    oneWay: true,
  },
  {
    name: 'the end of a flow',
    bytes: hex(
      '040b00400000000000000000000012340001021600000000000000000000000000000000000000000000000000000000',
      '0001000c00010e040000000700000000',
    ),
    message: {
      type: 'flow_removed',
      cookie: 0x1234n,
      priority: 1,
      reason: 'delete',
      tableId: 22,
      durationSec: 0,
      durationNsec: 0,
      idleTimeout: 0,
      hardTimeout: 0,
      packetCount: 0n,
      byteCount: 0n,
      match: { reg7: 7 },
    },
  },
  {
    name: 'the end of a port',
    bytes: hex(
      '040c00500000000001000000000000000000000100000000ee47be500f1a000070310000000000000000000000000000',
      '0000000100000001000008400000000000000000000000000098968000000000',
    ),
    message: { type: 'port_status', reason: 'delete', port: port(1, 'ee:47:be:50:0f:1a', 'p1', 1, 1, 0x840) },
  },
  {
    name: 'an error about a flow in a bundle',
    bytes: hex(
      '04010074000000060002000904040068000000064f4e4600000008fd0000000000000003040e00500000000600000000',
      '0000000000000000000000000100000000008000ffffffffffffffffffffffff000000000001000f80000a0208008000',
      '1401060000040010000000000016000800000063',
    ),
    message: {
      type: 'error',
      errorType: 2,
      code: 9,
      data: hex(
        '04040068000000064f4e4600000008fd0000000000000003040e005000000006000000000000000000000000000000000100000000008000',
        'ffffffffffffffffffffffff000000000001000f80000a02080080001401060000040010000000000016000800000063',
      ),
    },
  },
  {
    name: 'an error about a bundle',
    bytes: hex('0401002800000009ffff09094f4e460004040018000000094f4e4600000008fc0000000000040003'),
    message: {
      type: 'error',
      errorType: 0xffff,
      code: 2313,
      experimenter: 0x4f4e4600,
      data: hex('04040018000000094f4e4600000008fc0000000000040003'),
    },
  },
];

function port(number: number, mac: string, name: string, config: number, state: number, current: number) {
  return {
    ...{ number, mac, name, config, state, current },
    ...{ advertised: 0, supported: 0, peer: 0, currentSpeed: 10_000_000, maxSpeed: 0 },
  };
}

function stats(durationNsec: number) {
  const counters = { packetCount: 0n, byteCount: 0n };
  return { table: 3, durationSec: 0, durationNsec, cookie: 0n, ...counters };
}

/** Views onto a larger buffer are equal to copies here. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, inner: unknown) =>
      typeof inner === 'bigint' ? `${inner}n` : inner instanceof Uint8Array ? toText(inner) : inner,
    ),
  );

t.test('what Open vSwitch says is understood, and what we say is what it says', (t) => {
  for (const { name, bytes, message, oneWay } of VECTORS) {
    const decoded = decodeMessage(bytes);
    // Ages are whatever they were.
    const body = decoded.message.type === 'multipart_reply' ? decoded.message.body : undefined;
    if (body?.type === 'flow')
      for (const flow of body.flows) Object.assign(flow, { durationNsec: 0, durationSec: 0 });
    const wanted: Message =
      message.type === 'multipart_reply' && message.body.type === 'flow'
        ? {
            ...message,
            body: { type: 'flow', flows: message.body.flows.map((flow) => ({ ...flow, durationNsec: 0 })) },
          }
        : message;
    t.strictSame(plain(decoded.message), plain(wanted), name);
    const ours = encodeMessage(message, decoded.xid);
    if (!oneWay) t.equal(toText(ours), toText(bytes), `${name}: same bytes`);
    else t.strictSame(plain(decodeMessage(ours).message), plain(message), `${name}: same meaning`);
  }
  t.end();
});

t.test('lengths, padding and versions are checked', (t) => {
  const broken: [name: string, bytes: Buffer, code: string][] = [
    ['no header', hex('0400'), 'too-short'],
    ['a length that is not the message’s', hex('0402000900000001'), 'bad-length'],
    ['version 1', hex('0102000800000001'), 'bad-version'],
    ['bytes after a barrier', hex('041500090000000100'), 'bad-length'],
    ['a packet-in that ends in its header', hex('040a000c00000000ffffffff'), 'too-short'],
    [
      'a match longer than the message',
      hex('040a002000000000ffffffff002c01150000000000001234', '000100ff80000004'),
      'too-short',
    ],
    [
      'a match of 3 bytes',
      hex('040a002000000000ffffffff002c01150000000000001234', '0001000300000000'),
      'bad-length',
    ],
    [
      'a match of the old type',
      hex('040a002000000000ffffffff002c01150000000000001234', '0000000400000000'),
      'bad-value',
    ],
    [
      'an eth_type of 4 bytes',
      hex('040a002a00000000ffffffff002c01150000000000001234', '0001000c80000a0408000000', '00000000', '0000'),
      'bad-length',
    ],
    [
      'a field twice',
      hex(
        '040a003200000000ffffffff002c01150000000000001234',
        '0001001480000004000000018000000400000001',
        '00000000',
        '0000',
      ),
      'duplicate-field',
    ],
    ['a hello element of 2 bytes', hex('04000010000000010001000200000010'), 'bad-length'],
    ['flow statistics of 0 bytes', hex('04130014000000010001000000000000', '00000000'), 'bad-length'],
    ['a length in front of too little', hex('04130014000000010001000000000000', '00380000'), 'too-short'],
    ['an action of 4 bytes', packetOut('0000000400000001'), 'bad-length'],
    ['an action of 12 bytes', packetOut('0000000c0000000100000000'), 'bad-length'],
    ['an action longer than its list', packetOut('0000001800000001ffff000000000000'), 'too-short'],
    ['an output that ends early', packetOut('0000000800000001'), 'too-short'],
    ['a pop_vlan that goes on', packetOut('00120010000000000000000000000000'), 'bad-length'],
  ];
  for (const [name, bytes, code] of broken)
    t.throws(() => decodeMessage(bytes), { name: 'OpenFlowDecodeError', code }, name);
  t.doesNotThrow(
    () => decodeMessage(packetOut('00000010000000010000000000000000')),
    'the control: a sound action',
  );
  t.doesNotThrow(() => decodeMessage(hex('0100000800000001')), 'a hello of another version');
  t.end();
});

function packetOut(actions: string): Buffer {
  const list = hex(actions);
  const bytes = Buffer.concat([hex('040d000000000001ffffffff00000001', '0000000000000000'), list]);
  bytes.writeUInt16BE(bytes.length, 2);
  bytes.writeUInt16BE(list.length, 16);
  return bytes;
}

t.test('actions in actions end somewhere', (t) => {
  const nest = (depth: number): Action => ({
    type: 'ct',
    commit: true,
    exec: depth > 0 ? [nest(depth - 1)] : [{ type: 'ct_clear' }],
  });
  const message = (depth: number): Message => ({
    type: 'packet_out',
    inPort: 1,
    actions: [nest(depth)],
    data: Buffer.alloc(0),
  });
  t.strictSame(plain(decodeMessage(encodeMessage(message(3), 1)).message), plain(message(3)));
  t.throws(() => decodeMessage(encodeMessage(message(1_000), 1)), { code: 'too-deep' });
  t.end();
});

t.test('what has no name here is kept as it came', (t) => {
  for (const bytes of [
    hex('041e000c00000001 01020304'),
    hex('0404001400000001 00abcdef 00000007 01020304'),
    hex('0413001400000001 0063 0001 00000000 01020304'),
    packetOut('ffff0010 00abcdef 0000000100000002'),
    packetOut('00630008 01020304'),
  ]) {
    const { message, xid } = decodeMessage(bytes);
    t.match(JSON.stringify(plain(message)), /unknown|experimenter/);
    t.equal(toText(encodeMessage(message, xid)), toText(bytes));
  }
  const match = hex('00010020 80000004 00000001 0003aa04 01020304 ffffaa08 00abcdef 01020304');
  const read = matchCodec.read(new Reader(match));
  t.equal(read.in_port, 1);
  t.equal(read.unknown?.length, 2);
  t.end();
});

t.test('values that do not fit are refused, not cut', (t) => {
  const out = (match: object): Message => ({ ...add, match, instructions: [] });
  const bad: Message[] = [
    out({ eth_type: 0x10000 }),
    out({ ip_proto: -1 }),
    out({ in_port: 1.5 }),
    out({ vlan_vid: 0x2000 }),
    out({ ipv4_src: '10.0.0.256' }),
    out({ ipv6_src: 'fd00::1::2' }),
    out({ ipv6_src: 'fd00:1:2:3:4:5:6' }),
    out({ eth_src: '02:00:00:00:00' }),
    out({ metadata: 5 }),
    out({ nonsense: 1 }),
    out({ tcp_dst: Number.NaN }),
    { ...add, match: {}, instructions: [], priority: 0x10000 },
    { ...add, match: {}, instructions: [apply({ type: 'set_field', field: {} })] },
    { type: 'packet_out', inPort: 1, actions: [], data: Buffer.alloc(70_000) },
    // ovs-vswitchd 3.1 aborts on it.
    { type: 'ct_flush', protocol: 58, original: { src: 'fd00::1', icmpType: 128 } },
  ];
  for (const message of bad)
    t.throws(
      () => encodeMessage(message, 1),
      OpenFlowEncodeError,
      JSON.stringify(plain(message)).slice(0, 150),
    );
  t.throws(() => encodeMessage(out({ eth_type: 0x10000 }), 1), /eth_type/, 'the field is named');
  t.doesNotThrow(() => encodeMessage(out({ eth_type: 0xffff, vlan_vid: 0x1fff }), 1), 'the control');
  t.end();
});

t.test('a match has one encoding, whatever its spelling', (t) => {
  const same: [Match, Match][] = [
    [
      { tcp_dst: 80, ip_proto: 6, eth_type: 0x0800 },
      { eth_type: 0x0800, ip_proto: 6, tcp_dst: 80 },
    ],
    [{ reg0: masked(5, 0xffffffff) }, { reg0: 5 }],
    [{ tcp_flags: masked(2, 0xfff) }, { tcp_flags: 2 }],
    [{ ct_state: masked(0x21, 0xff) }, { ct_state: 0x21 }],
    [{ reg0: masked(0, 0), reg1: 1 }, { reg1: 1 }],
    [{ ipv6_src: 'FD00:0:0::0001' }, { ipv6_src: 'fd00::1' }],
    [{ ipv4_src: masked('10.0.0.1', '255.255.255.255') }, { ipv4_src: '10.0.0.1' }],
  ];
  for (const [a, b] of same) t.equal(matchKey(a), matchKey(b));
  t.not(matchKey({ reg0: 1 }), matchKey({ reg0: 2 }));
  t.not(matchKey({ reg0: 1 }), matchKey({ reg0: masked(1, 0xff) }));
  t.end();
});

t.test('errors have the names that ovs-ofctl prints', (t) => {
  t.strictSame(errorName(2, 9), { type: 'OFPET_BAD_ACTION', code: 'OFPBAC_BAD_OUT_GROUP' });
  t.strictSame(errorName(4, 9), { type: 'OFPET_BAD_MATCH', code: 'OFPBMC_BAD_PREREQ' });
  t.strictSame(errorName(5, 7), { type: 'OFPET_FLOW_MOD_FAILED', code: 'OFPFMFC_BAD_FLAGS' });
  t.equal(errorName(0xffff, 2313, 0x4f4e4600).code, 'OFPBFC_MSG_FAILED');
  t.equal(errorName(0xffff, 42, 0x2320).code, 'NXBAC_CT_DATAPATH_SUPPORT');
  t.equal(errorName(99, 5).code, 'code 5', 'one without a name keeps its number');
  t.end();
});

// Round trips of made-up values

const number = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const bytesOf = (count: number) => fc.uint8Array({ minLength: count, maxLength: count });
const macText = bytesOf(6).map((bytes) => [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(':'));
const ip4Text = bytesOf(4).map((bytes) => bytes.join('.'));
/** Canonical: what reading gives back. */
const ip6Text = bytesOf(16).map((bytes) => {
  const sparse = bytes.map((b, i) => (i % 3 === 0 ? b : 0));
  const read = matchCodec.read(new Reader(Buffer.concat([hex('0001001880003610'), sparse])));
  return typeof read.ipv6_dst === 'string' ? read.ipv6_dst : '::1';
});

/** A value, or one with a mask that is neither all nor nothing. */
const maybe = <T>(value: fc.Arbitrary<T>, mask: fc.Arbitrary<T>) =>
  fc.oneof(value, fc.record({ value, mask }, { noNullPrototype: true }));
const num = (bits: number) => maybe(number(bits), fc.integer({ min: 1, max: 2 ** bits - 2 }));
const big = maybe(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(1n, 2n ** 64n - 2n));
const mac = maybe(macText, fc.constant('ff:ff:ff:00:00:00'));
const ip4 = maybe(ip4Text, fc.constant('255.255.0.0'));
const ip6 = maybe(ip6Text, fc.constant('ffff:ffff::'));

const anyMatch: fc.Arbitrary<Match> = fc.record(
  {
    in_port: number(32),
    metadata: big,
    tunnel_id: big,
    eth_dst: mac,
    eth_src: mac,
    eth_type: number(16),
    vlan_vid: num(13),
    vlan_pcp: number(3),
    vlan_tci: num(16),
    ip_dscp: number(6),
    ip_proto: number(8),
    ipv4_src: ip4,
    ipv4_dst: ip4,
    arp_op: number(16),
    arp_spa: ip4,
    arp_tha: mac,
    ipv6_src: ip6,
    ipv6_dst: ip6,
    ipv6_flabel: num(20),
    tcp_src: num(16),
    tcp_flags: num(12),
    udp_dst: num(16),
    icmpv6_type: number(8),
    ipv6_nd_target: ip6,
    ipv6_nd_sll: mac,
    nw_frag: num(2),
    nw_ttl: number(8),
    pkt_mark: num(32),
    reg0: num(32),
    reg15: num(32),
    ct_state: num(8),
    ct_zone: number(16),
    ct_mark: num(32),
    ct_label: maybe(fc.bigInt(0n, 2n ** 128n - 1n), fc.bigInt(1n, 2n ** 128n - 2n)),
    ct_nw_src: ip4,
    ct_ipv6_dst: ip6,
    ct_tp_dst: num(16),
  },
  { requiredKeys: [], noNullPrototype: true },
);

const settable: fc.Arbitrary<Match> = fc.oneof(
  fc.record({ reg3: num(32) }, { noNullPrototype: true }),
  fc.record({ eth_src: mac }, { noNullPrototype: true }),
  fc.record({ ct_mark: num(32) }, { noNullPrototype: true }),
  fc.record({ ipv6_dst: ip6 }, { noNullPrototype: true }),
  fc.record({ metadata: big }, { noNullPrototype: true }),
);

const { anyAction } = fc.letrec<{ anyAction: Action; simple: Action }>((tie) => ({
  simple: fc.oneof<fc.Arbitrary<Action>[]>(
    fc.record({ type: fc.constant('output' as const), port: number(31) }),
    fc.record({
      type: fc.constant('output' as const),
      port: fc.constant(OFPP.CONTROLLER),
      maxLen: fc.integer({ min: 0, max: 0xfffe }),
    }),
    fc.record({ type: fc.constant('group' as const), group: number(32) }),
    fc.record({ type: fc.constant('push_vlan' as const), ethertype: number(16) }),
    fc.constant({ type: 'pop_vlan' }),
    fc.constant({ type: 'ct_clear' }),
    fc.constant({ type: 'dec_nw_ttl' }),
    fc.record({ type: fc.constant('set_nw_ttl' as const), ttl: number(8) }),
    fc.record({ type: fc.constant('set_field' as const), field: settable }),
    fc.record({ type: fc.constant('resubmit' as const), table: number(8), port: number(15) }),
    fc.record({ type: fc.constant('resubmit' as const), table: number(8) }),
    fc.record({
      type: fc.constant('unknown' as const),
      actionType: fc.integer({ min: 100, max: 0xfffe }),
      body: bytesOf(12).map((bytes) => Buffer.from(bytes)),
    }),
  ),
  anyAction: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    tie('simple'),
    fc.record({
      type: fc.constant('clone' as const),
      actions: fc.array(tie('anyAction'), { maxLength: 3 }),
    }),
    fc.record(
      {
        type: fc.constant('ct' as const),
        commit: fc.constant(true),
        force: fc.constant(true),
        zone: fc.oneof(
          fc.integer({ min: 1, max: 0xffff }),
          fc.record({
            field: fc.constant('reg1' as const),
            start: number(4),
            bits: fc.integer({ min: 1, max: 16 }),
          }),
        ),
        table: number(7),
        alg: fc.constant(21),
        exec: fc.array(tie('anyAction'), { minLength: 1, maxLength: 3 }),
      },
      { requiredKeys: ['type'] },
    ),
  ),
}));

t.test('any match and any actions survive the way to bytes and back', (t) => {
  fc.assert(
    fc.property(anyMatch, (match) => {
      const w = new Writer();
      matchCodec.write(w, match);
      const bytes = Buffer.from(w.bytes.subarray(0, w.length));
      const back = matchCodec.read(new Reader(bytes));
      return (
        bytes.length % 8 === 0 &&
        matchKey(back) === matchKey(match) &&
        JSON.stringify(sorted(plain(back))) === JSON.stringify(sorted(plain(match)))
      );
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.array(anyAction, { maxLength: 5 }), (actions) => {
      const w = new Writer();
      actionsCodec.write(w, actions);
      const back = actionsCodec.read(new Reader(Buffer.from(w.bytes.subarray(0, w.length))));
      return JSON.stringify(sorted(plain(back))) === JSON.stringify(sorted(plain(actions)));
    }),
    { numRuns: 500 },
  );
  t.end();
});

/** Keys in one order, all the way down. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

t.test('nonsense is refused with an OpenFlowDecodeError, or read; nothing else happens', (t) => {
  const tryOut = (bytes: Buffer): void => {
    try {
      decodeMessage(bytes);
    } catch (error) {
      if (!(error instanceof OpenFlowDecodeError)) throw error;
    }
  };
  // Every beginning of every vector, with a length that admits it.
  for (const { bytes } of VECTORS)
    for (let length = 0; length < bytes.length; length++) {
      const cut = Buffer.from(bytes.subarray(0, length));
      if (length >= 4) cut.writeUInt16BE(length, 2);
      tryOut(cut);
    }
  // Every vector with bytes changed.
  fc.assert(
    fc.property(
      fc.constantFrom(...VECTORS.map(({ bytes }) => bytes)),
      fc.array(fc.tuple(fc.nat(), number(8)), { minLength: 1, maxLength: 6 }),
      (bytes, changes) => {
        const changed = Buffer.from(bytes);
        for (const [at, value] of changes) changed[8 + (at % (changed.length - 8 || 1))] = value;
        tryOut(changed);
      },
    ),
    { numRuns: 5_000 },
  );
  t.pass('no other error');
  t.end();
});

t.test('the framer gives the same messages however the stream is cut', (t) => {
  const all = VECTORS.map(({ bytes }) => bytes);
  const long = encodeMessage({ type: 'echo_request', data: Buffer.alloc(60_000, 7) }, 3);
  const stream = Buffer.concat([...all, long, ...all]);
  const wanted = [...all, long, ...all].map(toText);
  const cutInto = (size: number): string[] => {
    const framer = new Framer();
    const got: string[] = [];
    for (let at = 0; at < stream.length; at += size)
      for (const message of framer.push(stream.subarray(at, at + size))) got.push(toText(message));
    t.equal(framer.pending, 0);
    return got;
  };
  for (const size of [1, 2, 3, 7, 8, 9, 64, 1_000, stream.length])
    t.strictSame(cutInto(size), wanted, `${size} bytes at a time`);
  t.end();
});

t.test('the framer does not copy what came in one piece, and holds less than one message', (t) => {
  const framer = new Framer();
  const chunk = Buffer.concat([hex('0414000800000001'), hex('0414000800000002'), hex('0414000c')]);
  const [first, second] = framer.push(chunk);
  t.equal(first?.buffer, chunk.buffer);
  t.equal(second?.byteOffset, chunk.byteOffset + 8);
  t.equal(framer.pending, 4);
  t.equal(framer.push(hex('0000000300000000')).length, 1);
  t.equal(framer.pending, 0);
  t.end();
});

t.test('the framer refuses what is not OpenFlow 1.3', (t) => {
  t.throws(() => new Framer().push(hex('0402000700000001')), { code: 'bad-length' });
  t.throws(() => new Framer().push(hex('0102000800000001')), { code: 'bad-version' });
  t.throws(() => new Framer().push(Buffer.from('GET / HTTP/1.1\r\n')), { code: 'bad-version' });
  const framer = new Framer();
  framer.push(hex('010200'));
  t.throws(() => framer.push(hex('0800000001')), { code: 'bad-version' }, 'also in pieces');
  t.equal(new Framer().push(hex('0600000800000001')).length, 1, 'a hello may be of another version');
  t.end();
});
