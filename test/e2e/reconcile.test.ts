/**
 * What a real Open vSwitch is sent when it comes back, seen on the wire; and what becomes of its rules' counters and age, as its own tool tells them.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import t from 'tap';
import { OUR_COOKIES } from '../../controller-app/core/cookies.js';
import { Core } from '../../controller-app/core/host.js';
import type { Plugin, PluginHost, Rule } from '../../controller-app/core/plugin.js';
import {
  CT_STATE,
  type FlowMod,
  type FlowRemovedMessage,
  OFPP,
  TCP_FLAGS,
} from '../../controller-app/openflow/index.js';
import { OpenFlowListener } from '../../controller-app/switch/index.js';
import { dpid } from '../../shared/domain/domain.js';
import { run } from '../../shared/runtime/command.js';
import { createLog } from '../../shared/runtime/log.js';
import { SwitchRelay } from '../fixtures/switch-relay.js';
import { startOpenVSwitch, waitFor } from '../lab/index.js';

t.setTimeout(180_000);

const BRIDGE = 'br0';
const DPID = dpid(0xb1);
const [IP, IP6] = [0x0800, 0x86dd];
const [TCP, UDP, ICMP6] = [6, 17, 58];

class TestPlugin implements Plugin {
  readonly name = 'test';
  readonly tables = [
    { name: 'first', stage: 'classify' },
    { name: 'second', stage: 'firewall' },
    { name: 'third', stage: 'egress' },
  ] as const;
  readonly removed: FlowRemovedMessage[] = [];
  host: PluginHost | undefined;

  start(host: PluginHost): void {
    this.host = host;
  }

  flowRemoved(_: unknown, message: FlowRemovedMessage): void {
    this.removed.push(message);
  }
}

const ovs = await startOpenVSwitch();
const plugin = new TestPlugin();
const log = createLog('reconcile', process.env.PAGURO_LOG ?? 'silent');
const core = new Core([plugin], log);
await core.start();
const listener = new OpenFlowListener({ port: 0, echoIntervalMs: 300, deadAfterMs: 60_000, probeMs: 500 });
const relay = await SwitchRelay.start(await listener.listen());
let adopted = 0;
listener.on('switch', (sw) =>
  core.adopt(sw).then(
    () => adopted++,
    () => {},
  ),
);
const vsctl = (...args: string[]) => run('ovs-vsctl', ['--timeout=10', ...args]);
const ofctl = (...args: string[]) => run('ovs-ofctl', ['-O', 'OpenFlow13', ...args]);

t.teardown(async () => {
  await core.close();
  relay.close();
  await listener.close();
  await ovs.close();
});

/** Does something after which the switch connects again, and waits until its pipeline is in place. */
async function andBack(what: () => unknown): Promise<void> {
  const before = adopted;
  relay.forget();
  await what();
  await waitFor('the switch to be ready again', () => adopted > before, { timeoutMs: 30_000 });
}

/** What the controller said that changes something. */
const mods = (): FlowMod[] =>
  relay.all((message) =>
    message.type === 'bundle_add' && message.message.type === 'flow_mod'
      ? message.message
      : message.type === 'flow_mod'
        ? message
        : undefined,
  );
const bundles = (): number =>
  relay.all((message) =>
    message.type === 'bundle_control' && message.control === 'commit_request' ? 1 : undefined,
  ).length;
const priorities = (of: readonly FlowMod[]) => of.map(({ command, priority }) => `${command} ${priority}`);

interface Dumped {
  readonly packets: number;
  readonly seconds: number;
  readonly cookie: string;
}

/** The rules of a table as ovs-ofctl tells them, by priority. */
async function dump(table: number): Promise<Map<number, Dumped>> {
  const { stdout } = await ofctl('dump-flows', BRIDGE, `table=${table}`);
  const rules = new Map<number, Dumped>();
  for (const line of stdout.split('\n')) {
    const part = (name: string): string => new RegExp(`${name}=([^, ]+)`).exec(line)?.[1] ?? '';
    if (line.includes('priority='))
      rules.set(Number(part('priority')), {
        packets: Number(part('n_packets')),
        seconds: Number.parseFloat(part('duration')),
        cookie: part('cookie'),
      });
  }
  return rules;
}

const masked = <T>(value: T, mask: T) => ({ value, mask });
const goTo = (table: number) => ({ type: 'goto_table', table }) as const;
const apply = (...actions: Extract<Rule['instructions'][number], { type: 'apply_actions' }>['actions']) =>
  ({ type: 'apply_actions', actions }) as const;

/** Both families, and everything that a switch spells in its own way. */
function rules(): Rule[] {
  const est = masked(CT_STATE.trk | CT_STATE.est, CT_STATE.trk | CT_STATE.est);
  const both = [
    { eth_type: IP, ipv4_src: '10.0.0.1', ipv4_dst: masked('10.0.0.0', '255.255.255.0') },
    { eth_type: IP6, ipv6_src: 'FD00::1', ipv6_dst: masked('fd00::', 'ffff:ffff:ffff:ffff::') },
  ];
  const perFamily = both.flatMap((ends, i): Rule[] => {
    const at = 100 * (i + 1);
    return [
      { table: 'first', priority: at, match: ends, instructions: [goTo(1)] },
      { table: 'first', priority: at + 1, match: { ...ends, ip_proto: UDP, udp_dst: 53 }, instructions: [] },
      {
        table: 'first',
        priority: at + 2,
        cookie: 0x12345678,
        match: {
          ...{ reg0: 1, reg1: masked(5, 0xff), ct_state: est, ip_proto: TCP },
          ...{
            tcp_flags: masked(TCP_FLAGS.syn, TCP_FLAGS.syn | TCP_FLAGS.ack),
            tcp_dst: masked(0x1000, 0xf000),
          },
          ...ends,
        },
        // Listed in another order than a switch tells them.
        instructions: [
          goTo(2),
          apply(
            { type: 'output', port: OFPP.CONTROLLER, maxLen: 128 },
            { type: 'set_field', field: { reg4: masked(0xf0, 0xff0) } },
            { type: 'set_field', field: { eth_dst: '02:00:00:00:00:AB' } },
            {
              type: 'ct',
              commit: true,
              zone: 7,
              exec: [{ type: 'set_field', field: { ct_mark: masked(0x30, 0xf0) } }],
            },
          ),
        ],
      },
      {
        table: 'second',
        priority: at,
        match: {
          eth_type: ends.eth_type,
          ct_state: masked(CT_STATE.trk, CT_STATE.trk),
          ct_mark: masked(2, 2),
        },
        instructions: [
          apply({ type: 'ct', zone: 9, table: 2 }, { type: 'resubmit', table: 2 }, { type: 'ct_clear' }),
          { type: 'write_metadata', metadata: 5n, mask: 0xffn },
        ],
      },
    ];
  });
  return [
    ...perFamily,
    { table: 'first', priority: 0, match: {}, instructions: [goTo(1)] },
    {
      table: 'first',
      priority: 300,
      match: {
        eth_type: IP6,
        ip_proto: ICMP6,
        icmpv6_type: 135,
        ipv6_nd_sll: '02:00:00:00:00:01',
        nw_ttl: 255,
      },
      instructions: [],
    },
    {
      table: 'third',
      priority: 10,
      match: {
        in_port: 3,
        vlan_vid: masked(0x1000, 0x1000),
        eth_dst: masked('01:00:00:00:00:00', '01:00:00:00:00:00'),
      },
      instructions: [
        apply(
          { type: 'pop_vlan' },
          { type: 'push_vlan', ethertype: 0x8100 },
          { type: 'set_field', field: { vlan_vid: 4298 } },
          { type: 'output', port: OFPP.IN_PORT },
        ),
      ],
    },
  ];
}

const host = (): PluginHost => {
  if (!plugin.host) throw new Error('not started');
  return plugin.host;
};

t.before(async () => {
  await host().setRules(DPID, 'base', rules());
  await vsctl(
    ...['add-br', BRIDGE, '--', 'set', 'bridge', BRIDGE, 'datapath_type=netdev', 'fail_mode=secure'],
    ...[
      'protocols=OpenFlow13',
      'other-config:datapath-id=00000000000000b1',
      'other-config:disable-in-band=true',
    ],
    ...['--', 'set-controller', BRIDGE, `tcp:127.0.0.1:${relay.port}`],
  );
  await waitFor('the switch', () => adopted === 1);
  // Said together with the controller itself, Open vSwitch does not heed it.
  await vsctl('set', 'controller', BRIDGE, 'max_backoff=1000', 'inactivity_probe=5000');
});

/** A frame of each family that meets rules of the first table: 100 + 200. */
function sendFrames(): void {
  const sw = host().switch(DPID);
  const udp = '03e8005000080000';
  const frames = [
    `020000000002020000000001${'0800'}4500001c0000000040110000${'0a000001'}${'0a000002'}${udp}`,
    `020000000002020000000001${'86dd'}6000000000081140${'fd000000000000000000000000000001'}${'fd000000000000000000000000000002'}${udp}`,
  ];
  for (const frame of frames)
    sw?.packetOut({
      inPort: OFPP.CONTROLLER,
      actions: [{ type: 'output', port: OFPP.TABLE }],
      data: Buffer.from(frame, 'hex'),
    });
}

async function packetsOf(table: number, priority: number): Promise<number> {
  return (await dump(table)).get(priority)?.packets ?? -1;
}

t.test('a new switch gets everything in one bundle', async (t) => {
  t.equal(bundles(), 1);
  t.equal(mods().length, rules().length);
  t.ok(mods().every(({ command }) => command === 'add'));
  t.equal((await dump(0)).size, rules().filter(({ table }) => table === 'first').length);
});

t.test('one whose connection was cut gets nothing: its rules count on and grow old', async (t) => {
  sendFrames();
  await waitFor(
    'the packets to be counted',
    async () => (await packetsOf(0, 100)) === 1 && (await packetsOf(0, 200)) === 1,
  );
  const before = await dump(0);
  for (let i = 0; i < 3; i++) await andBack(() => relay.cut());
  t.equal(bundles(), 0, 'no bundle');
  t.same(mods(), [], 'no change of any other kind');
  t.ok(
    relay.said.some(({ type }) => type === 'multipart_request'),
    'it was asked',
  );
  sendFrames();
  await waitFor(
    'more packets to be counted',
    async () => (await packetsOf(0, 100)) === 2 && (await packetsOf(0, 200)) === 2,
  );
  const after = await dump(0);
  t.same([...after.keys()].sort(), [...before.keys()].sort());
  for (const [priority, { seconds }] of before)
    t.ok((after.get(priority)?.seconds ?? 0) > seconds, `rule ${priority} is older`);
});

t.test(
  'what somebody changed behind the controller’s back is mended, and nothing else is touched',
  async (t) => {
    await run('ovs-ofctl', [
      '-O',
      'OpenFlow13',
      'add-flow',
      BRIDGE,
      'cookie=0xdead,table=0,priority=777,tcp,tcp_dst=1,actions=drop',
    ]);
    const cookie = (await dump(0)).get(100)?.cookie ?? '';
    t.match(cookie, /^0x50470001/);
    const before = await dump(0);
    await andBack(async () => {
      await ofctl(
        '--strict',
        'del-flows',
        BRIDGE,
        'table=0,priority=300,icmp6,icmp_type=135,nd_sll=02:00:00:00:00:01,nw_ttl=255',
      );
      await ofctl(
        'add-flow',
        BRIDGE,
        `cookie=${cookie},table=0,priority=101,udp,nw_src=10.0.0.1,nw_dst=10.0.0.0/24,tp_dst=53,actions=goto_table:2`,
      );
      await ofctl('add-flow', BRIDGE, `cookie=${cookie},table=1,priority=778,actions=drop`);
      await ofctl('add-flow', BRIDGE, 'cookie=0xdead,table=1,priority=779,actions=drop');
      t.equal((await dump(0)).has(300), false, 'it is gone indeed');
      relay.cut();
    });
    t.equal(bundles(), 1);
    t.same(priorities(mods()), ['delete_strict 778', 'add 101', 'add 300']);
    const [first, second] = [await dump(0), await dump(1)];
    t.equal(second.has(778), false);
    t.equal(second.get(779)?.cookie, '0xdead', 'another controller’s stay');
    t.equal(first.get(777)?.cookie, '0xdead');
    for (const [priority, { seconds, packets }] of before) {
      const now = first.get(priority);
      if (priority === 101 || priority === 300) t.ok((now?.seconds ?? 99) < seconds, `${priority} is new`);
      else t.ok(now && now.seconds > seconds && now.packets === packets, `${priority} is what it was`);
    }
    await andBack(() => relay.cut());
    t.same(mods(), [], 'and then all is as it should be');
  },
);

t.test('between connections a change is computed without asking', async (t) => {
  relay.forget();
  const [one, ...others] = rules();
  if (!one) throw new Error('no rules');
  await host().setRules(DPID, 'base', [...others, { ...one, instructions: [] }]);
  t.same(priorities(mods()), [`add ${one.priority}`]);
  await host().setRules(DPID, 'base', others);
  await host().setRules(DPID, 'base', [...others, one]);
  t.same(priorities(mods()), ['add 100', 'delete_strict 100', 'add 100']);
  t.notOk(relay.said.some(({ type }) => type === 'multipart_request'));
  await andBack(() => relay.cut());
  t.same(mods(), [], 'the switch has what the controller believed');
});

t.test('what was stated while it was away comes with its return', async (t) => {
  await andBack(async () => {
    relay.cut();
    await waitFor('it is away', () => host().switch(DPID) === undefined);
    await host().setRules(DPID, 'late', [
      { table: 'third', priority: 50, match: { eth_type: IP6 }, instructions: [] },
    ]);
  });
  t.same(priorities(mods()), ['add 50']);
  await host().setRules(DPID, 'late', []);
});

t.test('a rule whose time is over is told, and comes not back', async (t) => {
  const before = plugin.removed.length;
  await host().setRules(DPID, 'timed', [
    { table: 'third', priority: 60, match: { eth_type: IP }, instructions: [], hardTimeout: 1 },
    { table: 'third', priority: 61, match: { eth_type: IP6 }, instructions: [], hardTimeout: 600 },
  ]);
  await waitFor('its end', () => plugin.removed.length > before);
  t.match(plugin.removed.at(-1), { priority: 60, reason: 'hard_timeout' });
  const kept = (await dump(2)).get(61)?.seconds ?? 0;
  await andBack(() => relay.cut());
  t.same(mods(), []);
  t.equal((await dump(2)).has(60), false);
  t.ok(((await dump(2)).get(61)?.seconds ?? 0) > kept, 'the other one’s time goes on');
  await host().setRules(DPID, 'timed', []);
});

t.test(
  'a connection that has gone dead without a word is replaced when the switch dials again',
  async (t) => {
    await vsctl('set', 'controller', BRIDGE, 'inactivity_probe=1000');
    const former = host().switch(DPID);
    await andBack(() => relay.freeze());
    t.ok(former?.closed);
    t.same(mods(), []);
    await vsctl('set', 'controller', BRIDGE, 'inactivity_probe=5000');
  },
);

t.test('20,000 rules: sent once, compared on return, mended where it is needed', async (t) => {
  const many = Array.from({ length: 10_000 }, (_, i): Rule[] =>
    [
      { eth_type: IP, ipv4_src: `10.${i >> 8}.${i & 255}.1` },
      { eth_type: IP6, ipv6_src: `fd00::${i.toString(16)}` },
    ].map((end) => ({
      table: 'second',
      priority: 1_000,
      match: { ...end, ip_proto: TCP, reg1: 5, ct_state: masked(CT_STATE.trk, CT_STATE.trk) },
      instructions: [
        apply({
          type: 'ct',
          commit: true,
          zone: 7,
          exec: [{ type: 'set_field', field: { ct_mark: masked(2, 2) } }],
        }),
        goTo(2),
      ],
    })),
  ).flat();
  const clock = (): number => performance.now();
  const marks = [clock()];
  const heap = process.memoryUsage().heapUsed;
  await host().setRules(DPID, 'many', many);
  marks.push(clock());
  t.equal(
    Number(/flow_count=(\d+)/.exec((await ofctl('dump-aggregate', BRIDGE, 'table=1')).stdout)?.[1]) >= 20_000,
    true,
  );
  await andBack(() => relay.cut());
  marks.push(clock());
  t.same(mods().length, 0);
  await andBack(async () => {
    await ofctl('del-flows', BRIDGE, 'table=1,tcp,nw_src=10.1.0.0/16');
    relay.cut();
  });
  t.equal(mods().length, 256, 'those of 10.1.0.0/16');
  await andBack(async () => {
    await ofctl('del-flows', BRIDGE, `cookie=0x${OUR_COOKIES.cookie.toString(16)}/0xffff000000000000`);
    relay.cut();
  });
  marks.push(clock());
  t.equal(mods().length, many.length + rules().length, 'all of them');
  await host().setRules(DPID, 'many', []);
  marks.push(clock());
  const ms = marks.slice(1).map((mark, i) => Math.round(mark - (marks[i] ?? 0)));
  t.comment(
    `ms: state, compare, mend twice, remove: ${ms.join(', ')}; heap +${(process.memoryUsage().heapUsed - heap) >> 20} MiB`,
  );
});

t.test('a switch that was killed has lost its rules and gets them all', async (t) => {
  await andBack(async () => {
    await ovs.kill();
    await waitFor('it is gone', () => host().switch(DPID) === undefined);
    await ovs.startAgain();
  });
  t.equal(bundles(), 1);
  t.equal(mods().length, rules().length);
  t.equal((await dump(0)).get(100)?.packets, 0);
});

t.test('what it cannot have is not put in by halves: it is hung up and keeps what it has', async (t) => {
  const impossible: Rule = {
    table: 'third',
    priority: 70,
    match: {},
    instructions: [apply({ type: 'group', group: 99 })],
  };
  await t.rejects(host().setRules(DPID, 'bad', [impossible]), {
    code: 'bundle-failed',
    message: /BAD_OUT_GROUP/,
  });
  t.equal((await dump(2)).has(70), false);
  relay.cut();
  await waitFor('it is away', () => host().switch(DPID) === undefined);
  await host().setRules(DPID, 'bad', [
    impossible,
    { table: 'third', priority: 71, match: {}, instructions: [] },
  ]);
  const refusals = once(listener, 'switch');
  await refusals;
  await waitFor('it is refused again and again', () => relay.connections > 3, { timeoutMs: 30_000 });
  t.same([(await dump(2)).has(70), (await dump(2)).has(71)], [false, false]);
  t.equal((await dump(0)).size, rules().filter(({ table }) => table === 'first').length, 'what it had');
  await andBack(() => host().setRules(DPID, 'bad', []));
});
