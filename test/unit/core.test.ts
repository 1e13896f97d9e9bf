/**
 * The plugin host's bookkeeping: what goes to a switch when a plugin changes its mind, and whose rules are whose.
 */
import t from 'tap';
import { Core } from '../../controller-app/core/host.js';
import { InstanceNumbers, MAX_INSTANCE_NUMBER } from '../../controller-app/core/instance-numbers.js';
import type { Plugin, PluginHost } from '../../controller-app/core/plugin.js';
import { cookieClass, flowKey, RuleSet, readCookie, toFlow } from '../../controller-app/core/rule-set.js';
import { type Flow, type Match, matchCodec, Reader, Writer } from '../../controller-app/openflow/index.js';
import { epoch } from '../../shared/firewall/state.js';
import { silentLog } from '../../shared/runtime/log.js';

const flow = (port: number, table = 0): Flow =>
  toFlow(
    { table: 'x', priority: 10, match: { in_port: port }, instructions: [{ type: 'goto_table', table: 5 }] },
    1,
    table,
  );

t.test('a change of a group sends only the difference, removals first', async (t) => {
  const rules = new RuleSet();
  const first = rules.plan(new Map([['a', [flow(1), flow(2)]]]));
  t.same(
    first.mods.map((mod) => [mod.command, mod.match.in_port]),
    [
      ['add', 1],
      ['add', 2],
    ],
  );
  first.commit();
  const second = rules.plan(new Map([['a', [flow(2), flow(3)]]]));
  t.same(
    second.mods.map((mod) => [mod.command, mod.match.in_port]),
    [
      ['delete_strict', 1],
      ['add', 3],
    ],
  );
  second.commit();
  t.same(rules.plan(new Map([['a', [flow(3), flow(2)]]])).mods, [], 'the same rules again: nothing to send');
});

t.test('a plan that is not committed changes nothing', async (t) => {
  const rules = new RuleSet();
  rules.plan(new Map([['a', [flow(1)]]]));
  t.equal(rules.size, 0);
});

t.test('a rule may move between groups in one change, and may not be in two', async (t) => {
  const rules = new RuleSet();
  rules.plan(new Map([['a', [flow(1)]]])).commit();
  t.throws(() => rules.plan(new Map([['b', [flow(1)]]])), /a and b state the same rule/);
  const moved = rules.plan(
    new Map([
      ['a', []],
      ['b', [flow(1)]],
    ]),
  );
  t.same(moved.mods, [], 'the switch has it already');
  moved.commit();
  t.equal(rules.size, 1);
});

t.test('a reconciliation removes strangers and states everything of ours again', async (t) => {
  const rules = new RuleSet();
  rules.plan(new Map([['a', [flow(1)]]])).commit();
  t.same(
    rules.reconcile([flow(1), flow(9)]).map((mod) => [mod.command, mod.match.in_port]),
    [
      ['delete_strict', 9],
      ['add', 1],
    ],
  );
});

t.test('the order of fields in a match makes no other rule', async (t) => {
  t.equal(
    flowKey({ table: 1, priority: 2, match: { in_port: 1, eth_type: 0x800 } }),
    flowKey({ table: 1, priority: 2, match: { eth_type: 0x800, in_port: 1 } }),
  );
  t.not(flowKey({ table: 1, priority: 2, match: {} }), flowKey({ table: 1, priority: 3, match: {} }));
});

t.test(
  'a rule that comes back from a switch is the rule that was sent, however its match was spelled',
  async (t) => {
    const key = (match: Match): string => flowKey({ table: 1, priority: 2, match });
    const sent: Match[] = [
      { in_port: 3, eth_src: '02:00:00:00:00:AB', eth_type: 0x86dd, ipv6_src: 'FD00:0::1' },
      {
        eth_type: 0x800,
        ipv4_dst: { value: '10.0.0.2', mask: '255.255.255.255' },
        reg0: { value: 0, mask: 0 },
      },
      {
        ct_state: { value: 0x21, mask: 0xff },
        eth_type: 0x800,
        tcp_flags: { value: 2, mask: 0x12 },
        ip_proto: 6,
      },
      { metadata: { value: 1n, mask: 0xffffn }, vlan_vid: { value: 0x1000, mask: 0x1000 } },
    ];
    for (const match of sent) {
      const writer = new Writer();
      matchCodec.write(writer, match);
      const back = matchCodec.read(new Reader(Buffer.from(writer.bytes.subarray(0, writer.length))));
      t.equal(
        key(back),
        key(match),
        JSON.stringify(back, (_, value) => (typeof value === 'bigint' ? `${value}n` : value)),
      );
    }
    t.not(key({ reg0: 1 }), key({ reg0: { value: 1, mask: 0xff } }), 'a mask that says something counts');
  },
);

t.test('a cookie tells the plugin and its own bits; other controllers have none of ours', async (t) => {
  t.same(readCookie(cookieClass(3).cookie | 0x12345678n), { plugin: 3, own: 0x12345678 });
  t.equal(readCookie(0n), undefined);
  t.equal(readCookie(0xdeadbeefn << 32n), undefined);
});

t.test('instance numbers are never shared, and come back late', async (t) => {
  const numbers = new InstanceNumbers();
  const id = (value: number) => ({ terminal: 'a', epoch: epoch(value) });
  const one = numbers.of(id(1));
  t.equal(numbers.of(id(1)), one, 'the same instance, the same number');
  numbers.release(id(1));
  t.not(numbers.of(id(2)), one, 'a released number is not the next one');
  for (let value = 3; value <= MAX_INSTANCE_NUMBER + 1; value += 1) numbers.of(id(value));
  t.throws(() => numbers.of(id(5000)), /retire some/);
  numbers.release(id(2));
  t.ok(numbers.of(id(5000)) <= MAX_INSTANCE_NUMBER);
});

t.test('tables are numbered by stage, then by the order of the plugins', async (t) => {
  let host: PluginHost | undefined;
  const plugin = (name: string, ...tables: [string, Plugin['tables'][number]['stage']][]): Plugin => ({
    name,
    tables: tables.map(([table, stage]) => ({ name: table, stage })),
    start: (given) => {
      if (name === 'a') host = given;
    },
  });
  const core = new Core(
    [
      plugin('a', ['out', 'egress'], ['in', 'classify']),
      plugin('mine', ['mine', 'network']),
      plugin('b', ['b', 'network']),
    ],
    silentLog,
  );
  t.same(core.tableNames(), ['in', 'mine', 'b', 'out']);
  await core.start();
  t.equal(host?.entry('firewall'), 1, 'a stage without tables is entered at the next one');
  t.equal(host?.after('in'), 1);
  t.throws(() => host?.after('out'), /last table/);
  t.throws(() => host?.table('nowhere'), /there are in, mine, b, out/);
  await t.rejects(
    async () => host?.setRules('0000000000000001' as never, 'g', [{ ...flow(1), table: 'mine' } as never]),
    /no table mine/,
  );
  t.throws(() => new Core([plugin('a'), plugin('a')], silentLog), /same name/);
  t.throws(
    () => new Core([plugin('a', ['x', 'egress']), plugin('b', ['x', 'egress'])], silentLog),
    /table x/,
  );
});
