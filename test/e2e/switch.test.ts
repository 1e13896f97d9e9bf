/**
 * The switch layer against a real Open vSwitch: what goes in comes back, what is refused changes nothing and is named, ports and connections come and go.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import t from 'tap';
import {
  type Action,
  CT_STATE,
  canonicalInstructions,
  canonicalMatch,
  encode,
  type Flow,
  type FlowMod,
  type FlowStats,
  helloElements,
  type Match,
  type MessageBody,
  matchKey,
  NW_FRAG,
  OFPFF,
  OFPP,
  type PacketInMessage,
  TCP_FLAGS,
} from '../../controller-app/openflow/index.js';
import {
  BundleError,
  OpenFlowError,
  OpenFlowListener,
  type Switch,
} from '../../controller-app/switch/index.js';
import { run } from '../../shared/runtime/command.js';
import { startOpenVSwitch, waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const TABLE = 3;
const ZONE = 7;
const IP = 0x0800;
const IP6 = 0x86dd;
const ARP = 0x0806;
const [ICMP, TCP, UDP, ICMP6] = [1, 6, 17, 58];

const ovs = await startOpenVSwitch();
// A short silence is death here: the test that stops the daemon must not take long.
const listener = new OpenFlowListener({ port: 0, echoIntervalMs: 200, deadAfterMs: 1_000 });
const refused: string[] = [];
listener.on('refused', (error) => refused.push(error.message));
const { port } = await listener.listen();
const vsctl = (...args: string[]) => run('ovs-vsctl', ['--timeout=10', ...args]);

function nextSwitch(): Promise<Switch> {
  return new Promise((resolve) => listener.once('switch', resolve));
}

const connected = nextSwitch();
await vsctl(
  ...['add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', 'fail_mode=secure'],
  ...[
    'protocols=OpenFlow13',
    'other-config:datapath-id=00000000000000a1',
    'other-config:disable-in-band=true',
  ],
  ...['--', 'set-controller', 'br0', `tcp:127.0.0.1:${port}`],
);
let sw = await connected;

t.teardown(async () => {
  await listener.close();
  await ovs.close();
});

const masked = <T>(value: T, mask: T) => ({ value, mask });
/** ct_state as people write it: `+trk+est-inv`. */
function state(text: string): { value: number; mask: number } {
  let [value, mask] = [0, 0];
  for (const [, sign, name] of text.matchAll(/([+-])(\w+)/g)) {
    const bit = CT_STATE[name as keyof typeof CT_STATE];
    mask |= bit;
    if (sign === '+') value |= bit;
  }
  return { value, mask };
}
const goTo9 = { type: 'goto_table', table: 9 } as const;
const copy: Action = { type: 'output', port: OFPP.CONTROLLER, maxLen: 128 };
const commit = (value: number, mask: number): Action => ({
  type: 'ct',
  commit: true,
  zone: ZONE,
  exec: [{ type: 'set_field', field: { ct_mark: masked(value, mask) } }],
});
const apply = (...actions: Action[]) => ({ type: 'apply_actions', actions }) as const;

function add(priority: number, match: Match, instructions: Flow['instructions'], table = TABLE): FlowMod {
  return { type: 'flow_mod', command: 'add', table, priority, cookie: 0x1234n, match, instructions };
}
const clear = (table: number): FlowMod => ({
  type: 'flow_mod',
  command: 'delete',
  table,
  priority: 0,
  cookie: 0n,
  match: {},
  instructions: [],
});

/** The firewall's table, both families. */
function workingTable(): FlowMod[] {
  const opening = masked(TCP_FLAGS.syn, TCP_FLAGS.syn | TCP_FLAGS.ack | TCP_FLAGS.rst | TCP_FLAGS.fin);
  const mods: FlowMod[] = [];
  let tick = 0;
  for (const eth_type of [IP, IP6]) {
    const icmp = eth_type === IP ? ICMP : ICMP6;
    const redirect: Match = eth_type === IP ? { icmpv4_type: 5 } : { icmpv6_type: 137 };
    // Different priorities, only so that each flow has one of its own here.
    const up = 1_000 * tick++;
    const ends: Match =
      eth_type === IP
        ? { ipv4_src: '10.0.0.1', ipv4_dst: masked('10.0.0.0', '255.255.255.0') }
        : { ipv6_src: 'fd00::1', ipv6_dst: masked('fd00::', 'ffff:ffff:ffff:ffff::') };
    mods.push(
      add(up + 310, { eth_type, ip_proto: icmp, ...redirect }, []),
      add(up + 300, { eth_type, ct_state: state('+trk+inv') }, []),
      ...[TCP_FLAGS.syn, TCP_FLAGS.fin, TCP_FLAGS.rst].map((flag) =>
        add(
          up + 200 + flag,
          { eth_type, ip_proto: TCP, tcp_flags: masked(flag, flag), ct_state: state('+trk+est') },
          [apply(copy), goTo9],
        ),
      ),
      ...[UDP, icmp].map((ip_proto) =>
        add(
          up + 170 + ip_proto,
          { eth_type, ip_proto, nw_frag: 0, ct_state: state('+trk+est+rpl'), ct_mark: masked(0, 1) },
          [apply(copy, commit(1, 1)), goTo9],
        ),
      ),
      add(up + 150, { eth_type, ct_state: state('+trk+new-inv'), ct_mark: masked(2, 2) }, [goTo9]),
      add(up + 100, { eth_type, ct_state: state('+trk+est'), ct_mark: masked(0x30, 0xf0) }, [goTo9]),
      add(up + 99, { eth_type, ct_state: state('+trk+rel') }, [goTo9]),
      add(up + 95, { eth_type, nw_frag: 0, ct_state: state('+est') }, [
        apply(copy, commit(0x30, 0xf0)),
        goTo9,
      ]),
      add(
        up + 50,
        {
          eth_type,
          ip_proto: TCP,
          tcp_flags: opening,
          tcp_dst: masked(0x1000, 0xf000),
          ct_state: state('+trk+new'),
          reg0: 1,
          reg1: 5,
          ...ends,
        },
        [apply(copy, commit(2, 2)), goTo9],
      ),
      add(up + 45, { eth_type, ct_state: state('+trk+new'), nw_frag: NW_FRAG.any | NW_FRAG.later }, [
        apply({ type: 'ct', commit: true, zone: ZONE }),
        goTo9,
      ]),
      add(up + 44, { eth_type, nw_frag: masked(NW_FRAG.any, NW_FRAG.any) }, [goTo9]),
      add(
        up + 420,
        { eth_type, ip_proto: TCP, tcp_flags: masked(4, 4), tcp_src: 80, ct_state: state('+trk+new') },
        [apply(copy), goTo9],
      ),
      add(
        up + 400,
        { eth_type, ip_proto: UDP, udp_src: 53, udp_dst: 1024, ct_state: state('+trk+new-rel') },
        [apply(copy, commit(0xff01, 0xffff)), goTo9],
      ),
      add(up + 10, { eth_type, ct_state: state('-trk') }, [apply({ type: 'ct', zone: ZONE, table: 4 })]),
    );
  }
  return mods;
}

/** Steering, the guard, and the rest of what the codec knows. */
function otherRules(): FlowMod[] {
  const nd: Match = { eth_type: IP6, ip_proto: ICMP6, icmpv6_code: 0, nw_ttl: 255 };
  return [
    add(20, { in_port: 2, vlan_vid: 0x1000 | 201 }, [
      apply({ type: 'pop_vlan' }, { type: 'set_field', field: { reg0: 1 } }),
      { type: 'goto_table', table: 7 },
    ]),
    add(21, { in_port: 2, vlan_vid: 0 }, [goTo9]),
    add(22, { vlan_vid: masked(0x1000, 0x1000) }, []),
    add(23, { reg0: 1, reg2: 0xffffff00, reg15: masked(1, 0xff) }, [
      apply(
        { type: 'push_vlan', ethertype: 0x8100 },
        { type: 'set_field', field: { vlan_vid: 4298 } },
        { type: 'output', port: OFPP.IN_PORT },
        { type: 'output', port: 2 },
        { type: 'output', port: OFPP.CONTROLLER },
      ),
    ]),
    add(24, { eth_dst: masked('01:00:00:00:00:00', '01:00:00:00:00:00'), eth_src: '02:00:00:00:00:01' }, [
      apply(
        { type: 'set_field', field: { reg1: masked(0xf0, 0xff0) } },
        { type: 'set_field', field: { eth_src: '02:00:00:00:00:09' } },
        { type: 'resubmit', table: 8 },
        { type: 'resubmit', table: 8, port: 4 },
        {
          type: 'clone',
          actions: [
            { type: 'set_field', field: { reg4: 1 } },
            { type: 'output', port: 3 },
          ],
        },
        { type: 'ct_clear' },
      ),
    ]),
    add(
      25,
      { eth_type: ARP, arp_op: 1, arp_spa: '10.0.0.1', arp_sha: '02:00:00:00:00:01', arp_tpa: '10.0.0.2' },
      [{ type: 'write_actions', actions: [{ type: 'group', group: 5 }] }],
    ),
    add(26, { ...nd, icmpv6_type: 135, ipv6_nd_target: 'fd00::1', ipv6_nd_sll: '02:00:00:00:00:01' }, [
      goTo9,
    ]),
    add(27, { ...nd, icmpv6_type: 136, ipv6_nd_target: 'fe80::1', ipv6_nd_tll: '02:00:00:00:00:01' }, [
      goTo9,
    ]),
    add(33, { eth_type: IP, ct_state: CT_STATE.trk | CT_STATE.est }, [goTo9]),
    add(28, { eth_type: IP, ip_proto: ICMP, icmpv4_type: 8, icmpv4_code: 0, ip_dscp: 46 }, [goTo9]),
    add(29, { metadata: masked(0x100n, 0xff00n), tunnel_id: 5n, pkt_mark: 9 }, [
      { type: 'clear_actions' },
      { type: 'write_metadata', metadata: 0x2n, mask: 0xfn },
      goTo9,
    ]),
    add(
      30,
      {
        eth_type: IP,
        ct_state: state('+trk+est'),
        ct_zone: ZONE,
        ct_nw_proto: TCP,
        ct_nw_src: '10.0.0.1',
        ct_nw_dst: '10.0.0.2',
        ct_tp_src: 1000,
        ct_tp_dst: 80,
      },
      [
        apply({
          type: 'ct',
          commit: true,
          force: true,
          zone: { field: 'reg1', start: 0, bits: 16 },
          exec: [{ type: 'set_field', field: { ct_label: 0x0123456789abcdef0123456789abcdefn } }],
        }),
      ],
    ),
    add(31, { eth_type: IP6, ct_state: state('+trk+est'), ct_ipv6_src: 'fd00::1', ct_ipv6_dst: 'fd00::2' }, [
      goTo9,
    ]),
    {
      ...add(32, { eth_type: IP, ip_proto: TCP, tcp_flags: 0x012, tcp_src: 22 }, [
        apply({ type: 'dec_nw_ttl' }, { type: 'set_field', field: { ipv4_dst: '10.0.0.9' } }),
        goTo9,
      ]),
      idleTimeout: 600,
      hardTimeout: 700,
      flags: OFPFF.SEND_FLOW_REM,
    },
  ];
}

/** What of a flow a controller states: the switch says it in words of its own. */
function stated({ table, priority, cookie, match, instructions, idleTimeout, hardTimeout, flags }: Flow) {
  return {
    ...{ table, priority, cookie, idleTimeout, hardTimeout, flags },
    match: canonicalMatch(match),
    instructions: canonicalInstructions(instructions),
  };
}

async function flowsOf(table: number): Promise<FlowStats[]> {
  return (await sw.flowStats({ table })).sort((a, b) => a.priority - b.priority);
}

/** How many flows a table has as the switch's own tool sees it. */
async function countByTool(table: number): Promise<number> {
  const { stdout } = await run('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-flows', 'br0', `table=${table}`]);
  return stdout.split('\n').filter((line) => line.includes('cookie=')).length;
}

t.test('the handshake gives dpid, ports and fragments that keep their ports', async (t) => {
  t.equal(sw.dpid, '00000000000000a1');
  t.equal(sw.portNamed('br0')?.number, OFPP.LOCAL);
  const config = await sw.request({ type: 'get_config_request' });
  t.match(config, { type: 'get_config_reply', flags: 3, missSendLen: 128 });
  const [description] = await sw.multipart({ type: 'desc' });
  t.match(description, { hardware: 'Open vSwitch' });
});

t.test('every rule of the working table goes in by bundle and comes back equal', async (t) => {
  await sw.confirm([
    {
      type: 'group_mod',
      command: 'add',
      groupType: 'all',
      group: 5,
      buckets: [{ actions: [{ type: 'output', port: 1 }] }],
    },
  ]);
  const mods = [...workingTable(), ...otherRules()].sort((a, b) => a.priority - b.priority);
  await sw.bundle(mods);
  const flows = await flowsOf(TABLE);
  t.equal(flows.length, mods.length);
  t.equal(await countByTool(TABLE), mods.length);
  for (const [i, mod] of mods.entries()) {
    const flow = flows[i];
    t.strictSame(flow && stated(flow), stated(mod), `priority ${mod.priority}`);
    t.equal(flow && matchKey(flow.match), matchKey(mod.match));
  }
});

t.test('ovs-ofctl reads what the codec writes as what was meant', async (t) => {
  const say: [MessageBody, string | RegExp][] = [
    [{ type: 'hello', elements: helloElements(4) }, 'version bitmap: 0x04'],
    [{ type: 'set_config', flags: 3, missSendLen: 128 }, 'frags=nx-match miss_send_len=128'],
    [{ type: 'role_request', role: 'slave', generation: 3n }, /role=(slave|secondary) generation_id=3/],
    [
      { type: 'packet_out', inPort: 7, actions: [{ type: 'output', port: 2 }], data: Buffer.alloc(60) },
      'in_port=7 actions=output:2 data_len=60',
    ],
    [
      {
        ...add(1, { eth_type: IP6, ip_proto: TCP, tcp_flags: masked(2, 18), ipv6_src: 'fd00::1' }, [
          apply(copy, commit(0x30, 0xf0), { type: 'ct_clear' }, { type: 'resubmit', table: 4 }),
          goTo9,
        ]),
      },
      'ADD table:3 priority=1,tcp6,ipv6_src=fd00::1,tcp_flags=+syn-ack cookie:0x1234 actions=CONTROLLER:128,' +
        'ct(commit,zone=7,exec(set_field:0x30/0xf0->ct_mark)),ct_clear,resubmit(,4),goto_table:9',
    ],
    [{ ...clear(9), cookie: 1n, cookieMask: 0xffn }, 'DEL table:9 priority=0 cookie:0x1/0xff actions=drop'],
    [
      {
        type: 'group_mod',
        command: 'add',
        groupType: 'indirect',
        group: 8,
        buckets: [{ actions: [{ type: 'output', port: 1 }] }],
      },
      /ADD group_id=8,type=indirect,bucket=.*actions=output:1/,
    ],
    [{ type: 'multipart_request', body: { type: 'flow', table: 3, match: { reg0: 1 } } }, 'table=3 reg0=0x1'],
    [{ type: 'multipart_request', body: { type: 'port_stats', port: OFPP.ANY } }, 'port_no=ANY'],
    [
      { type: 'bundle_control', bundle: 5, control: 'commit_request', flags: 3 },
      'bundle_id=0x5 type=COMMIT_REQUEST flags=atomic ordered',
    ],
    [
      { type: 'bundle_add', bundle: 5, flags: 3, message: add(1, {}, [goTo9]) },
      'bundle_id=0x5 flags=atomic ordered',
    ],
    [{ type: 'ct_flush_zone', zone: 7 }, 'zone_id=7'],
    [
      {
        type: 'ct_flush',
        zone: 7,
        protocol: ICMP6,
        original: { src: 'fd00::1', dst: 'fd00::2', icmpId: 5 },
      },
      /zone=7 .*ct_ipv6_src=fd00::1,ct_ipv6_dst=fd00::2.*icmp_id=5/,
    ],
    [{ type: 'error', errorType: 0, code: 0, data: Buffer.from('because') }, /OFPHFC_INCOMPATIBLE/],
  ];
  const bytes = Buffer.concat(say.map(([message], i) => encode({ ...message, xid: i })));
  const { stdout, stderr } = await run('ovs-ofctl', ['ofp-parse', '-'], { input: bytes });
  t.equal(stderr, '');
  t.notMatch(stdout, /decode error|\*\*\*/);
  for (const [, words] of say) t.match(stdout, words);
});

t.test('a bundle with a bad change changes nothing and names it', async (t) => {
  const good = (priority: number) => add(priority, { reg1: priority }, [goTo9], 5);
  const strange = { class: 0x7777, field: 1, masked: false, body: new Uint8Array(4) };
  const unreadable = add(2, { unknown: [strange] }, [goTo9], 5);
  const undoable = add(2, {}, [apply({ type: 'group', group: 99 })], 5);
  for (const [bad, code] of [
    [unreadable, 'OFPBMC_BAD_FIELD'],
    [undoable, 'OFPBAC_BAD_OUT_GROUP'],
  ] as const) {
    const error = await sw.bundle([good(1), bad, good(3)]).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(error instanceof BundleError)) throw new Error(`not refused: ${String(error)}`);
    t.strictSame(
      error.failures.map(({ index, mod, error }) => [
        index,
        mod,
        error instanceof OpenFlowError && error.errorCode,
      ]),
      [[1, bad, code]],
    );
    t.match(error.message, code);
    t.equal(await countByTool(5), 0, 'nothing was done');
  }
  await sw.bundle([good(1), good(3)]);
  t.equal(await countByTool(5), 2, 'without it, all is done');
});

t.test('changes of one bundle are done in their order', async (t) => {
  const table = 6;
  await sw.bundle([add(1, { reg0: 1 }, [goTo9], table)]);
  await Promise.all([
    sw.bundle([clear(table), add(2, { reg0: 2 }, [goTo9], table)]),
    sw.bundle([add(3, { reg0: 3 }, [goTo9], table)]),
  ]);
  t.strictSame(
    (await flowsOf(table)).map(({ priority }) => priority),
    [2, 3],
  );
});

t.test('5,000 flows go in by one bundle, and come back in parts', async (t) => {
  const table = 4;
  const mods = Array.from({ length: 5_000 }, (_, i) =>
    add(100, { eth_type: IP, ip_proto: TCP, tcp_dst: i, reg1: i }, [apply(copy, commit(1, 1)), goTo9], table),
  );
  await sw.bundle(mods);
  const flows = await sw.flowStats({ table });
  t.equal(flows.length, 5_000);
  t.equal(await countByTool(table), 5_000);
  const wanted = new Set(mods.map(({ match }) => matchKey(match)));
  for (const { match } of flows) wanted.delete(matchKey(match));
  t.equal(wanted.size, 0);
  const [sum] = await sw.multipart({ type: 'aggregate', table, match: {} });
  t.equal(sum?.flowCount, 5_000);
  t.equal((await sw.flowStats({ table, match: { reg1: 77 } })).length, 1, 'a filter filters');
  await sw.bundle([clear(table)]);
  t.equal(await countByTool(table), 0);
});

t.test('errors are given to their request', async (t) => {
  const bad = {
    type: 'packet_out',
    inPort: OFPP.CONTROLLER,
    actions: [],
    data: Buffer.alloc(0),
    bufferId: 4711,
  } as const;
  await t.rejects(sw.confirm([bad]), { name: 'OpenFlowError', errorType: 'OFPET_BAD_REQUEST' });
  const error = once(sw, 'error');
  sw.send(bad);
  const [told] = await error;
  t.ok(told instanceof OpenFlowError, 'one that nobody waits for is an event');
  await sw.barrier();
});

t.test('connections are flushed by zone and by tuple', async (t) => {
  const tuple = { src: '10.0.0.1', dst: '10.0.0.2', srcPort: 1000, dstPort: 80 };
  await sw.confirm([
    { type: 'ct_flush_zone', zone: ZONE },
    { type: 'ct_flush', zone: ZONE, protocol: TCP, original: tuple },
    { type: 'ct_flush', zone: ZONE, protocol: TCP, original: { ...tuple, src: 'fd00::1', dst: 'fd00::2' } },
    {
      type: 'ct_flush',
      zone: ZONE,
      protocol: ICMP6,
      original: { src: 'fd00::1', dst: 'fd00::2', icmpId: 5 },
    },
    {
      type: 'ct_flush',
      zone: ZONE,
      protocol: ICMP,
      original: { src: '10.0.0.1', dst: '10.0.0.2', icmpId: 5, icmpType: 8, icmpCode: 0 },
    },
  ]);
  t.pass('the switch takes them');
});

t.test('ports that are added, change and go are told', async (t) => {
  const seen: string[] = [];
  sw.on('portStatus', (port, change) => seen.push(`${port.name} ${change} ${port.linkDown ? 'down' : 'up'}`));
  await run('ip', ['link', 'add', 'p1', 'type', 'veth', 'peer', 'name', 'p1x']);
  await vsctl('add-port', 'br0', 'p1', '--', 'set', 'interface', 'p1', 'ofport_request=1');
  await waitFor('p1 is added', () => sw.portNamed('p1'));
  t.equal(sw.portNamed('p1')?.number, 1);
  t.equal(sw.portNamed('p1')?.linkDown, true);
  await run('ip', ['link', 'set', 'p1', 'up']);
  await run('ip', ['link', 'set', 'p1x', 'up']);
  await waitFor('p1 has a carrier', () => sw.portNamed('p1')?.linkDown === false);
  t.match(sw.portNamed('p1')?.mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
  const stats = (await sw.multipart({ type: 'port_stats', port: 1 })).flatMap((part) => part.ports);
  t.equal(stats[0]?.port, 1);
  await vsctl('del-port', 'br0', 'p1');
  await waitFor('p1 is gone', () => sw.portNamed('p1') === undefined);
  t.match(seen.join(), /p1 added down.*p1 modified up.*p1 deleted/);
  await run('ip', ['link', 'del', 'p1']);
});

t.test('a packet-out meets the rules, comes in with its registers and connection', async (t) => {
  const packets: PacketInMessage[] = [];
  const listen = (message: PacketInMessage): void => {
    packets.push(message);
  };
  sw.on('packetIn', listen);
  // 10.0.0.1:1000 → 10.0.0.2:80, UDP, 200 bytes
  const frame = Buffer.concat([
    Buffer.from('0200000000020200000000010800', 'hex'),
    Buffer.from('450000ba00000000401166310a0000010a00000203e80050' + '00a60000', 'hex'),
    Buffer.alloc(158, 0x61),
  ]);
  const track = { table: 21, zone: ZONE };
  await sw.bundle([
    add(
      1,
      { eth_type: IP },
      [apply({ type: 'set_field', field: { reg1: 42 } }, { type: 'ct', ...track })],
      20,
    ),
    add(1, { eth_type: IP, ct_state: state('+trk+new') }, [apply(copy, commit(2, 2))], 21),
  ]);
  sw.packetOut({ inPort: OFPP.CONTROLLER, actions: [{ type: 'resubmit', table: 20 }], data: frame });
  const packet = await waitFor('the copy', () => packets[0]);
  // Open vSwitch has no buffers since 2.7 and sends whole frames, whatever maxLen says.
  t.strictSame(Buffer.from(packet.data), frame);
  t.match(packet, {
    type: 'packet_in',
    tableId: 21,
    cookie: 0x1234n,
    totalLen: frame.length,
    reason: 'action',
    match: {
      in_port: OFPP.CONTROLLER,
      reg1: 42,
      ct_zone: ZONE,
      ct_nw_src: '10.0.0.1',
      ct_nw_dst: '10.0.0.2',
      ct_nw_proto: UDP,
      ct_tp_src: 1000,
      ct_tp_dst: 80,
    },
  });
  t.equal(packet.match.unknown, undefined, 'every field has a name');
  t.strictSame(packet.match.ct_state, masked(CT_STATE.trk | CT_STATE.new, 0xff), 'of the bits it knows');
  sw.off('packetIn', listen);
});

t.test('a flow that ends is told', async (t) => {
  const removed = once(sw, 'flowRemoved');
  const watched = { ...add(9, { reg7: 7 }, [], 22), flags: OFPFF.SEND_FLOW_REM };
  await sw.bundle([watched]);
  await sw.bundle([clear(22)]);
  const [message] = await removed;
  t.match(message, { type: 'flow_removed', reason: 'delete', tableId: 22, priority: 9, match: { reg7: 7 } });
});

t.test(
  'a switch that does not speak 1.3 is refused with words that help, and one that does again is taken',
  async (t) => {
    await vsctl('set', 'bridge', 'br0', 'protocols=OpenFlow10');
    const former = sw;
    await waitFor('the refusal', () => refused.some((message) => message.includes('protocols=OpenFlow13')));
    const back = nextSwitch();
    await vsctl('set', 'bridge', 'br0', 'protocols=OpenFlow13');
    sw = await back;
    t.ok(former.closed);
    t.equal(sw.dpid, former.dpid);
  },
);

t.test('a switch that is stopped is given up; when it goes on, it comes back as a new one', async (t) => {
  const former = sw;
  const closed = once(former, 'close');
  const back = nextSwitch();
  process.kill(ovs.vswitchdPid, 'SIGSTOP');
  const unanswered = former.barrier({ timeoutMs: 60_000 });
  await t.rejects(unanswered, { name: 'SwitchError', code: 'dead' });
  const [reason] = await closed;
  t.match(reason, { code: 'dead' });
  process.kill(ovs.vswitchdPid, 'SIGCONT');
  sw = await back;
  t.not(sw, former);
  await sw.barrier();
});

t.test('a switch that is killed and started again connects again', async (t) => {
  const former = sw;
  const closed = once(former, 'close');
  const back = nextSwitch();
  await ovs.kill();
  await closed;
  t.ok(former.closed);
  await t.rejects(former.barrier(), { code: 'closed' });
  await ovs.startAgain();
  sw = await back;
  t.equal(sw.dpid, former.dpid);
  t.equal((await flowsOf(TABLE)).length, 0, 'its rules are gone');
  await sw.bundle(workingTable());
  t.equal(await countByTool(TABLE), workingTable().length);
});
