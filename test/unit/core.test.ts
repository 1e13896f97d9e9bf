/**
 * The plugin host's bookkeeping: what goes to a switch when a plugin changes its mind, and whose rules are whose.
 */
import { once } from 'node:events';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { cookieClass, readCookie } from '../../controller-app/core/cookies.js';
import { flowContent, flowKey } from '../../controller-app/core/flow-identity.js';
import { Core } from '../../controller-app/core/host.js';
import { InstanceNumbers, MAX_INSTANCE_NUMBER } from '../../controller-app/core/instance-numbers.js';
import type { Plugin, PluginHost, Rule } from '../../controller-app/core/plugin.js';
import { toFlow } from '../../controller-app/core/rule-set.js';
import { SwitchRules } from '../../controller-app/core/switch-rules.js';
import { LearningSwitch } from '../../controller-app/forwarding/learning-switch.js';
import {
  type Flow,
  type FlowMod,
  type FlowRemovedMessage,
  type Match,
  matchCodec,
  OFPFF,
  Reader,
  Writer,
} from '../../controller-app/openflow/index.js';
import type { ListenerOptions } from '../../controller-app/switch/index.js';
import { epoch } from '../../shared/firewall/state.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { listening, packetIn, wirePort } from '../fixtures/fake-switch.js';
import { type RuleConnection, RuleStore } from '../fixtures/rule-store.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(60_000);

const flow = (port: number, table = 0): Flow =>
  toFlow(
    { table: 'x', priority: 10, match: { in_port: port }, instructions: [{ type: 'goto_table', table: 5 }] },
    1,
    table,
  );

const groups = (entries: Readonly<Record<string, readonly Flow[]>>): Map<string, readonly Flow[]> =>
  new Map(Object.entries(entries));
const sent = (mods: readonly FlowMod[] | undefined) => mods?.map((mod) => [mod.command, mod.match.in_port]);
/** Whatever waits in promises is done. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A switch that has been brought to what is stated. */
async function inService(stated: Readonly<Record<string, readonly Flow[]>> = {}) {
  const rules = new SwitchRules();
  const store = new RuleStore();
  await rules.change('p', groups(stated));
  const connection = store.connect();
  connection.onClose = (reason) => rules.disconnect(connection, reason);
  await rules.connect(connection);
  const { length } = store.bundles;
  return { rules, store, connection, bundles: () => store.bundles.slice(length) };
}

/** What was stated is on its way: what is stated now goes after it. */
const begun = (): Promise<void> => Promise.resolve();

t.test('a change of a group sends only the difference, removals first, and asks nothing', async (t) => {
  const { rules, store, bundles } = await inService();
  await rules.change('p', groups({ a: [flow(1), flow(2)] }));
  await rules.change('p', groups({ a: [flow(2), flow(3)] }));
  await rules.change('p', groups({ a: [flow(3), flow(2)] }));
  t.same(bundles().map(sent), [
    [
      ['add', 1],
      ['add', 2],
    ],
    [
      ['delete_strict', 1],
      ['add', 3],
    ],
  ]);
  t.equal(store.dumps, 1, 'only when it connected');
});

t.test('a rule may move between groups in one change, and may not be in two', async (t) => {
  const { rules, bundles } = await inService({ a: [flow(1)] });
  await t.rejects(rules.change('p', groups({ b: [flow(1)] })), /a and b state the same rule/);
  await t.rejects(rules.change('p', groups({ c: [flow(2), flow(2)] })), /c and c state the same rule/);
  await rules.change('p', groups({ a: [], b: [flow(1)] }));
  t.same(bundles(), [], 'the switch has it already');
  t.equal(rules.size, 1);
});

t.test('a rule that cannot be sent fails its change, and nothing is remembered of it', async (t) => {
  const rules = new SwitchRules();
  const bad = { ...flow(1), match: { ipv4_src: 'nowhere' } };
  await t.rejects(rules.change('p', groups({ a: [flow(2), bad] })), { name: 'OpenFlowEncodeError' });
  t.equal(rules.size, 0);
});

t.test('a refused change changes nothing, there or here', async (t) => {
  const { rules, store } = await inService({ a: [flow(1)] });
  store.fates.push('refused');
  await t.rejects(rules.change('p', groups({ a: [flow(2)] })), { code: 'bundle-failed' });
  t.same([...store.flows.values()], [flow(1)]);
  t.equal(store.dumps, 1, 'what it has is still known');
  await rules.change('p', groups({ a: [flow(1), flow(3)] }));
  t.same(sent(store.bundles.at(-1)), [['add', 3]]);
});

t.test('changes that come while a bundle is under way go together after it', async (t) => {
  const { rules, store, bundles } = await inService();
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const order: number[] = [];
  const change = (port: number): Promise<unknown> =>
    rules.change('p', groups({ [`g${port % 3}`]: [flow(port)] })).then(() => order.push(port));
  const first = change(1);
  await begun();
  const changes = [first, ...[2, 3, 4].map(change)];
  t.equal(rules.waiting('p'), 4);
  await settled();
  open();
  await Promise.all(changes);
  t.same(bundles().map(sent), [
    [['add', 1]],
    [
      ['delete_strict', 1],
      ['add', 2],
      ['add', 3],
      ['add', 4],
    ].sort((a, b) => Number(b[0] === 'delete_strict') - Number(a[0] === 'delete_strict')),
  ]);
  t.same(order, [1, 2, 3, 4]);
  t.equal(rules.waiting('p'), 0);
});

t.test('what is stated in one go is one bundle', async (t) => {
  const { rules, bundles } = await inService();
  await Promise.all([1, 2].map((port) => rules.change('p', groups({ [`g${port}`]: [flow(port)] }))));
  t.same(bundles().map(sent), [
    [
      ['add', 1],
      ['add', 2],
    ],
  ]);
});

t.test('one bad change among several fails alone', async (t) => {
  const { rules, store } = await inService();
  store.refuses = ({ match }) => match.in_port === 3;
  const changes = [1, 2, 3, 4, 5].map((port) => rules.change('p', groups({ [`g${port}`]: [flow(port)] })));
  const outcomes = await Promise.allSettled(changes);
  t.same(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
  );
  t.same([...store.flows.values()].map(({ match }) => match.in_port).sort(), [1, 2, 4, 5]);
  t.equal(store.dumps, 1);
});

t.test('a plugin that states faster than the switch takes it is stopped, and others are not', async (t) => {
  const { rules, store } = await inService();
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const outcomes: Promise<unknown>[] = [];
  for (let i = 0; i < 5_000; i++)
    outcomes.push(
      rules.change('hasty', groups({ [`g${i}`]: [flow(i)] })).then(
        () => 'done',
        (error) => error.code,
      ),
    );
  const other = rules.change('other', groups({ other: [flow(9_999)] }));
  open();
  await other;
  const results = await Promise.all(outcomes);
  t.equal(results.filter((result) => result === 'done').length, 4_096);
  t.equal(results.filter((result) => result === 'busy').length, 5_000 - 4_096);
  t.ok(store.bundles.length < 5, 'in few bundles');
});

t.test('there is a limit to the rules of one switch', async (t) => {
  const rules = new SwitchRules(3);
  const store = new RuleStore();
  for (let port = 0; port < 4; port++) store.put(flow(port));
  const connection = store.connect();
  await t.rejects(rules.connect(connection), {
    code: 'too-many-rules',
    message: /del-flows .*cookie=0x5047/,
  });
  t.ok(connection.closed);
  store.flows.delete(flowKey(flow(3)));
  await rules.connect(store.connect());
  await rules.change('p', groups({ a: [flow(1), flow(2), flow(3)] }));
  await t.rejects(rules.change('p', groups({ b: [flow(4)] })), { code: 'too-many-rules' });
  await rules.change('p', groups({ a: [flow(1)], b: [flow(4)] }));
  t.equal(store.flows.size, 2);
});

t.test('a reconciliation sends the difference and leaves alone what is right', async (t) => {
  const { rules, store, connection } = await inService({ a: [flow(1), flow(2), flow(3), flow(4)] });
  const before = [...store.flows.values()];
  connection.close();
  const foreign = { ...flow(2), cookie: 0xdeadbeefn, table: 7 };
  store.put(foreign);
  store.flows.delete(flowKey(flow(1)));
  store.put({ ...flow(2), instructions: [] });
  store.put({ ...flow(3), cookie: flow(3).cookie | 5n });
  store.put(flow(9));
  await rules.change('p', groups({ b: [flow(5)] }));
  const result = await rules.connect(store.connect());
  t.same(result, { stated: 5, unchanged: 1, added: 2, changed: 2, removed: 1 });
  t.same(sent(store.bundles.at(-1)), [
    ['delete_strict', 9],
    ['add', 2],
    ['add', 3],
    ['add', 1],
    ['add', 5],
  ]);
  t.equal(store.flows.get(flowKey(flow(4))), before[3], 'not even touched');
  t.equal(store.flows.get(flowKey(foreign)), foreign, 'another controller’s');
  const { length } = store.bundles;
  const again = store.connect();
  rules.disconnect(again, new Error('not this one'));
  t.same(await rules.connect(again), { stated: 5, unchanged: 5, added: 0, changed: 0, removed: 0 });
  t.equal(store.bundles.length, length, 'and then there is nothing to send');
});

t.test(
  'what an earlier controller left is offered once: what is stated in answer stays, the rest goes',
  async (t) => {
    const store = new RuleStore();
    for (const port of [1, 2, 3]) store.put(flow(port));
    const untouched = store.flows.get(flowKey(flow(2)));
    const rules = new SwitchRules();
    await rules.change('p', groups({ a: [flow(1)] }));
    const offered: (readonly Flow[])[] = [];
    const offer = (flows: readonly Flow[]): void => {
      offered.push(flows);
      void rules.change('p', groups({ b: [flow(2), flow(4)] }));
    };
    const first = store.connect();
    const connected = rules.connect(first, offer);
    const late = rules.change('p', groups({ c: [flow(5)] }));
    t.same(await connected, { stated: 3, unchanged: 2, added: 1, changed: 0, removed: 1 });
    t.same(
      offered.map((flows) => flows.map(({ match }) => match.in_port)),
      [[2, 3]],
      'nothing that somebody states',
    );
    t.equal(store.flows.get(flowKey(flow(2))), untouched, 'the very rule that was there');
    await late;
    t.same(store.bundles.map(sent), [
      [
        ['delete_strict', 3],
        ['add', 4],
      ],
      [['add', 5]],
    ]);
    // Once it has been brought to what is stated, what is a stranger's is known to be that.
    rules.disconnect(first, new Error('gone'));
    await rules.change('p', groups({ b: [] }));
    await rules.connect(store.connect(), offer);
    t.equal(offered.length, 1);
    t.same([...store.flows.values()].map(({ match }) => match.in_port).sort(), [1, 5]);
  },
);

t.test('very many rules leave by one message, and none that stays goes with them', async (t) => {
  const tagged = (count: number, own: bigint, from = 0): Flow[] =>
    Array.from({ length: count }, (_, index) => {
      const each = flow(from + index);
      return { ...each, cookie: (each.cookie ?? 0n) | own };
    });
  const { cookie, cookieMask } = cookieClass(1);
  const sweep = { table: 0, cookie: cookie | 0x20000n, cookieMask: cookieMask | 0xffff0000n };
  const all = { mine: tagged(300, 0x20001n), others: tagged(10, 0x30000n, 1_000) };
  const leave = async (also: Readonly<Record<string, readonly Flow[]>> = {}) => {
    const { rules, store, bundles } = await inService({ ...all, ...also });
    await rules.change('p', groups({ mine: [] }), [sweep]);
    return { rules, store, mods: bundles().flat() };
  };
  const swept = await leave();
  t.match(swept.mods, [{ command: 'delete', table: 0, match: {} }]);
  t.equal(swept.mods.length, 1);
  t.equal(swept.store.flows.size, 10);
  await swept.rules.change('p', groups({ mine: tagged(3, 0x20001n) }));
  t.equal(swept.store.flows.size, 13, 'what the switch has is known');

  for (const [what, also] of [
    ['a rule that stays has these bits as well', { same: tagged(1, 0x20007n, 2_000) }],
    ['few of them are there', { mine: tagged(255, 0x20001n) }],
  ] as const) {
    const { store, mods } = await leave(also);
    t.ok(
      mods.every(({ command }) => command === 'delete_strict'),
      `one by one: ${what}`,
    );
    t.equal(store.flows.size, 'same' in also ? 11 : 10);
  }

  const { rules, store, bundles } = await inService(all);
  await Promise.all([
    rules.change('p', groups({ first: [flow(5_000)] })),
    rules.change('p', groups({ mine: [] }), [sweep]),
    rules.change('p', groups({ again: tagged(2, 0x20001n) })),
  ]);
  t.notOk(
    bundles()
      .flat()
      .some(({ command }) => command === 'delete'),
    'rules that come in the same bundle, or move in it, stay',
  );
  t.equal(store.flows.size, 13);
});

t.test('what was stated before the switch came is in its first bundle; what comes later waits', async (t) => {
  const rules = new SwitchRules();
  const store = new RuleStore();
  store.put(flow(1));
  await rules.change('p', groups({ a: [flow(1)] }));
  void rules.change('p', groups({ b: [flow(2)] }));
  const connected = rules.connect(store.connect());
  const later = rules.change('p', groups({ c: [flow(3)] }));
  await connected;
  t.same(store.bundles.map(sent), [[['add', 2]]]);
  await later;
  t.same(store.bundles.map(sent), [[['add', 2]], [['add', 3]]]);
});

t.test('what waits for a bundle when the switch goes is in the first one when it is back', async (t) => {
  const { rules, store, connection, bundles } = await inService({ a: [flow(1)] });
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const under = rules.change('p', groups({ a: [flow(2)] }));
  await begun();
  const waits = rules.change('p', groups({ b: [flow(3)] }));
  await settled();
  connection.close();
  store.flows.clear();
  const back = rules.connect(store.connect());
  open();
  await t.rejects(under, { code: 'closed' });
  await Promise.all([waits, back]);
  t.same(bundles().map(sent), [
    [
      ['add', 1],
      ['add', 3],
    ],
  ]);
});

t.test('many rules are looked at in portions: others have their turns', async (t) => {
  const { rules, store } = await inService();
  let turns = 0;
  let done = false;
  const others = (async () => {
    for (; !done; turns++) await settled();
  })();
  await rules.change('p', groups({ a: Array.from({ length: 5_000 }, (_, port) => flow(port)) }));
  done = true;
  await others;
  t.ok(turns > 10, `${turns} turns`);
  t.equal(store.flows.size, 5_000);
});

t.test('when nobody knows what became of a bundle, the switch is asked', async (t) => {
  for (const fate of ['lost', 'done, and lost'] as const) {
    const { rules, store, connection } = await inService({ a: [flow(1)] });
    store.fates.push(fate);
    const change = rules.change('p', groups({ a: [flow(2)] }));
    await begun();
    const next = rules.change('p', groups({ b: [flow(3)] }));
    await t.rejects(change, { code: 'timeout' });
    await next;
    t.equal(store.dumps, 2, fate);
    t.same(
      [...store.flows.values()].map(({ match }) => match.in_port).sort(),
      [1, 3],
      `${fate}: it failed, so it is undone`,
    );
    t.notOk(connection.closed);
  }
});

t.test(
  'a switch that cannot be brought to what it should have is hung up, and keeps what it had',
  async (t) => {
    for (const fate of ['refused', 'lost'] as const) {
      const rules = new SwitchRules();
      const store = new RuleStore();
      store.put(flow(9));
      await rules.change('p', groups({ a: [flow(1)] }));
      store.fates.push(fate);
      const connection = store.connect();
      await t.rejects(rules.connect(connection), { code: fate === 'refused' ? 'bundle-failed' : 'timeout' });
      t.ok(connection.closed);
      t.same([...store.flows.values()], [flow(9)]);
      await rules.change('p', groups({ b: [flow(2)] }));
      await rules.connect(store.connect());
      t.same(
        [...store.flows.values()].map(({ match }) => match.in_port).sort(),
        [1, 2],
        'the next time it works',
      );
    }
  },
);

t.test('a switch that goes in the middle of it all fails what waits for it, and comes back', async (t) => {
  const { rules, store, connection } = await inService({ a: [flow(1)] });
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const under = rules.change('p', groups({ a: [flow(2)] }));
  await begun();
  const waits = rules.change('p', groups({ b: [flow(3)] }));
  await settled();
  connection.close();
  const arriving = store.connect();
  const arrived = rules.connect(arriving);
  arriving.close();
  rules.disconnect(arriving, new Error('gone again'));
  await t.rejects(arrived, /gone again/);
  open();
  await t.rejects(under, { code: 'closed' });
  await waits;
  const last = store.connect();
  t.match(await rules.connect(last), { stated: 2, unchanged: 1, added: 1 });
  t.same([...store.flows.values()].map(({ match }) => match.in_port).sort(), [1, 3]);
});

t.test('a rule whose time was over is stated no more', async (t) => {
  const timed = (port: number) =>
    toFlow({ table: 'x', priority: 10, match: { in_port: port }, instructions: [], idleTimeout: 60 }, 1, 0);
  t.equal(timed(1).flags, OFPFF.SEND_FLOW_REM, 'the switch is to tell');
  t.equal(flow(1).flags, undefined, 'of others it is not');
  const { rules, store, connection, bundles } = await inService({
    a: [timed(1), timed(2), timed(3), flow(4)],
  });
  const removed = (port: number, reason: FlowRemovedMessage['reason']): FlowRemovedMessage => ({
    ...{ type: 'flow_removed', priority: 10, reason, tableId: 0, cookie: timed(port).cookie },
    ...{ durationSec: 60, durationNsec: 0, idleTimeout: 60, hardTimeout: 0, packetCount: 0n, byteCount: 0n },
    match: { in_port: port },
  });
  for (const [port, reason] of [
    [1, 'idle_timeout'],
    [2, 'delete'],
    [4, 'hard_timeout'],
  ] as const) {
    store.flows.delete(flowKey(flow(port)));
    rules.removed(removed(port, reason));
  }
  t.equal(rules.size, 3, 'the first is gone; who has no time-out can’t have been over');
  await rules.change('p', groups({ a: [timed(2), timed(3), flow(4)] }));
  t.same(
    bundles().map(sent),
    [[['add', 4]]],
    'somebody’s removal was not noticed; the cache says what it was told',
  );
  await rules.change('p', groups({ a: [timed(1), timed(2), timed(3), flow(4)] }));
  t.same(sent(store.bundles.at(-1)), [['add', 1]], 'stated again, it begins again');

  connection.close();
  store.flows.delete(flowKey(timed(1)));
  store.flows.delete(flowKey(timed(3)));
  store.flows.delete(flowKey(flow(4)));
  await rules.change('p', groups({ a: [timed(1), timed(2), flow(4)], b: [timed(3), timed(5)] }));
  t.match(await rules.connect(store.connect()), { stated: 5, added: 5 }, 'stated since: they begin');
  const again = store.connect();
  await rules.connect(again);
  store.flows.clear();
  again.close();
  t.match(await rules.connect(store.connect()), { stated: 1, added: 1 }, 'not stated since: they have ended');
});

t.test('whatever happens between them, a switch that comes back gets exactly what is stated', async () => {
  const port = fc.nat(11);
  const step = fc.oneof(
    fc.record({
      act: fc.constant('state' as const),
      group: fc.constantFrom('a', 'b', 'c'),
      ports: fc.uniqueArray(port),
      cookie: fc.nat(1),
    }),
    fc.record({
      act: fc.constantFrom('connect', 'cut', 'remove', 'add', 'alter', 'lose', 'half', 'refuse', 'wait'),
      port,
    }),
  );
  const isOurs = ({ cookie }: Flow): boolean => readCookie(cookie) !== undefined;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const rules = new SwitchRules();
      const store = new RuleStore();
      const model = new Map<string, readonly Flow[]>();
      const foreign = { ...flow(0, 99), cookie: 1n };
      store.put(foreign);
      let connection: RuleConnection | undefined;
      const connect = async (): Promise<void> => {
        connection?.close();
        const next = store.connect();
        next.onClose = (reason) => rules.disconnect(next, reason);
        connection = next;
        await rules.connect(next).catch(() => {});
      };
      const offset = { a: 0, b: 100, c: 200 };
      const pending: Promise<void>[] = [];
      for (const one of steps) {
        if (one.act === 'state') {
          const { group, cookie } = one;
          const flows = one.ports.map((n) => ({
            ...flow(n + offset[group]),
            cookie: flow(0).cookie | BigInt(cookie),
          }));
          pending.push(
            rules.change('p', groups({ [group]: flows })).then(
              () => void model.set(group, flows),
              () => {},
            ),
          );
        } else if (one.act === 'connect') await connect();
        else if (one.act === 'cut') connection?.close();
        else if (one.act === 'remove') store.flows.delete(flowKey(flow(one.port)));
        else if (one.act === 'add') store.put(flow(one.port + 500));
        else if (one.act === 'alter') store.put({ ...flow(one.port + 100), instructions: [] });
        else if (one.act === 'lose') store.fates.push('lost');
        else if (one.act === 'half') store.fates.push('done, and lost');
        else if (one.act === 'refuse') store.fates.push('refused');
        else await settled();
      }
      await Promise.all(pending);
      store.fates.length = 0;
      const before = new Map(store.flows);
      const { length } = store.bundles;
      await connect();
      const wanted = new Map([...model.values()].flat().map((each) => [flowKey(each), each]));
      const there = [...store.flows.values()].filter(isOurs);
      if (there.length !== wanted.size) throw new Error(`${there.length} rules, not ${wanted.size}`);
      const touched = new Set(store.bundles.slice(length).flat().map(flowKey));
      for (const each of there) {
        const key = flowKey(each);
        const one = wanted.get(key);
        if (!one || flowContent(one) !== flowContent(each)) throw new Error('not what is stated');
        const was = before.get(key);
        if ((was !== undefined && flowContent(was) === flowContent(one)) === touched.has(key))
          throw new Error('touched without need');
      }
      if (store.flows.get(flowKey(foreign)) !== foreign) throw new Error('another’s rule was touched');
    }),
    { numRuns: 500 },
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

t.test('rules are the same when only their spelling differs', async (t) => {
  const content = (instructions: Flow['instructions'], more: Partial<Flow> = {}) =>
    flowContent({ ...flow(1), instructions, ...more });
  const mac = (value: string) =>
    ({ type: 'apply_actions', actions: [{ type: 'set_field', field: { eth_dst: value } }] }) as const;
  const goOn = { type: 'goto_table', table: 5 } as const;
  t.equal(content([goOn, mac('02:00:00:00:00:AB')]), content([mac('02:00:00:00:00:ab'), goOn]));
  t.equal(content([goOn]), content([goOn], { idleTimeout: 0, hardTimeout: 0, flags: OFPFF.CHECK_OVERLAP }));
  const others: Partial<Flow>[] = [
    { cookie: 1n },
    { idleTimeout: 1 },
    { hardTimeout: 1 },
    { flags: OFPFF.SEND_FLOW_REM },
    { instructions: [] },
    { instructions: [{ ...goOn, table: 6 }] },
    { instructions: [goOn, mac('02:00:00:00:00:ac')] },
  ];
  const all = [{}, ...others].map((more) => content([goOn], more));
  t.equal(new Set(all).size, all.length, 'and others are others');
});

t.test('a cookie tells the plugin and its own bits; other controllers have none of ours', async (t) => {
  t.same(readCookie(cookieClass(3).cookie | 0x12345678n), { plugin: 3, own: 0x12345678 });
  t.equal(readCookie(0n), undefined);
  t.equal(readCookie(0xdeadbeefn << 32n), undefined);
});

t.test('instance numbers are never shared, and come back late', async (t) => {
  const clock = new ManualClock();
  const numbers = new InstanceNumbers(clock);
  const id = (value: number) => ({ terminal: 'a', epoch: epoch(value) });
  const one = numbers.of(id(1), 'domain');
  t.equal(numbers.of(id(1), 'steering'), one, 'the same instance, the same number');
  numbers.release(id(1), 'steering');
  numbers.release(id(1), 'steering');
  t.equal(numbers.known(id(1)), one, 'the domain still holds it');
  numbers.release(id(1), 'domain');
  t.equal(numbers.known(id(1)), undefined);
  t.not(numbers.of(id(2), 'domain'), one, 'a released number is not the next one');
  for (let value = 3; value <= MAX_INSTANCE_NUMBER; value += 1) numbers.of(id(value), 'domain');
  t.throws(() => numbers.of(id(5000), 'domain'), /retire some/, 'the released one rests');
  clock.advance(10_000);
  t.equal(numbers.of(id(5000), 'domain'), one, 'until nothing of its instance can be under way');
  t.throws(() => numbers.of(id(5001), 'domain'), /retire some/);
});

t.test('instances that were there before have the numbers that they had', async (t) => {
  const id = (value: number) => ({ terminal: 'a', epoch: epoch(value) });
  const after = new InstanceNumbers();
  for (const value of [1, 3]) after.restore(id(value), value, 'steering');
  after.restore(id(3), 3, 'domain');
  t.equal(after.of(id(1), 'domain'), 1);
  t.equal(after.of(id(3), 'steering'), 3);
  t.equal(after.of(id(4), 'domain'), 4, 'those that were free come last');
  t.throws(() => after.restore(id(5), 1, 'domain'), /contradicts/, 'one number for two instances');
  t.throws(() => after.restore(id(1), 9, 'domain'), /contradicts/, 'two numbers for one instance');
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

/** The controller's core behind a real listener, with one plugin that states so many rules for every switch. */
async function coreOf(t: Test, plugin: Partial<Plugin>, options: ListenerOptions = {}) {
  let host: PluginHost | undefined;
  const core = new Core(
    [
      {
        name: 'p',
        tables: [{ name: 'x', stage: 'classify' }],
        start: (given) => {
          host = given;
        },
        ...plugin,
      },
    ],
    silentLog,
  );
  await core.start();
  t.teardown(() => core.close());
  if (!host) throw new Error('not started');
  const ear = await listening(t, options);
  const failed: Error[] = [];
  ear.listener.on('switch', (sw) => void core.adopt(sw).catch((error: Error) => failed.push(error)));
  return { ...ear, core, host, failed };
}

const rule = (port: number, cookie = 0): Rule => ({
  ...{ table: 'x', priority: 10, match: { in_port: port }, instructions: [] },
  cookie,
});

t.test('50 switches at once get their rules; when they all come back at once, nothing is sent', async (t) => {
  const count = 200;
  const { core, host, join, failed } = await coreOf(t, {
    switchUp: (sw) => {
      const rules = Array.from({ length: count }, (_, port) => rule(port));
      host.setRules(sw.dpid, 'all', rules).catch((error: Error) => failed.push(error));
    },
  });
  const stores = Array.from({ length: 50 }, () => new RuleStore());
  for (let round = 0; round < 3; round++) {
    const joined = await Promise.all(
      stores.map(async (store, i) => {
        const serving = await join(BigInt(i + 1), (peer) => store.serve(peer));
        return serving;
      }),
    );
    await waitFor('all switches to be ready', () => core.switches().length === stores.length);
    for (const store of stores) t.equal(store.flows.size, count);
    const closed = joined.map(({ sw }) => once(sw, 'close'));
    for (const { peer } of joined) peer.socket.destroy();
    await Promise.all(closed);
    t.equal(core.switches().length, 0);
  }
  t.same(failed, []);
  for (const store of stores) t.equal(store.bundles.length, 1, 'one bundle, the first time');
});

t.test('a plugin is shown what an earlier one of its name left in its tables, and no other', async (t) => {
  const shown: Rule[] = [];
  const { core, host, join } = await coreOf(t, {
    found: (sw, rules) => {
      shown.push(...rules);
      void host.setRules(sw.dpid, 'again', rules);
      throw new Error('and it may fail after that');
    },
  });
  const store = new RuleStore();
  const mine = toFlow(rule(1, 7), 1, 0);
  store.put(mine);
  store.put({ ...toFlow(rule(2), 1, 0), table: 3 });
  store.put(toFlow(rule(3), 2, 0));
  const foreign = { ...toFlow(rule(4), 1, 0), cookie: 99n };
  store.put(foreign);
  await join(1n, (peer) => store.serve(peer));
  await waitFor('the switch', () => core.switches().length === 1);
  t.same(shown, [rule(1, 7)], 'not that of another plugin, nor one in no table of its own');
  t.same([...store.flows.values()], [mine, foreign]);
});

t.test('a learning switch goes on with what it had learned before a restart', async (t) => {
  const store = new RuleStore();
  const ear = await listening(t);
  const cores: Core[] = [];
  ear.listener.on('switch', (sw) => void cores.at(-1)?.adopt(sw));
  /** A controller's life, until its switch is ready. */
  const life = async (): Promise<Awaited<ReturnType<typeof ear.join>>> => {
    const exit: Plugin = {
      name: 'exit',
      tables: [
        { name: 'in', stage: 'network' },
        { name: 'out', stage: 'egress' },
      ],
      start: () => {},
    };
    const core = new Core([new LearningSwitch(), exit], silentLog);
    await core.start();
    cores.push(core);
    const joined = await ear.join(1n, (peer) => store.serve(peer));
    await waitFor('the switch', () => core.switches().length === 1);
    return joined;
  };
  const first = await life();
  const { cookie } = cookieClass(1);
  first.peer.say({ ...packetIn(1), cookie, match: { in_port: 1 }, data: Buffer.alloc(64, 2) });
  await waitFor('the host is learned', () => store.flows.size === 4);
  const before = new Map(store.flows);
  first.peer.socket.destroy();
  await cores[0]?.close();
  const second = await life();
  t.equal(store.bundles.length, 2, 'nothing was sent');
  t.same(store.flows, before);
  second.peer.say({ type: 'port_status', reason: 'delete', port: wirePort(1) });
  await waitFor('the host is forgotten with its port', () => store.flows.size === 2);
  await cores[1]?.close();
});

t.test('a plugin that is behind with its rules gets no packets until it has caught up', async (t) => {
  let packets = 0;
  const { core, host, join, failed } = await coreOf(t, {
    // A rule for every packet, as a switch that learns has.
    packetIn: ({ switch: sw }) => {
      packets++;
      host
        .setRules(sw.dpid, `packet ${packets}`, [rule(packets)])
        .catch((error: Error) => failed.push(error));
    },
  });
  const store = new RuleStore();
  const { peer } = await join(1n, (peer) => store.serve(peer));
  await waitFor('the switch', () => core.switches().length === 1);
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const said = 5_000;
  const { cookie } = cookieClass(1);
  for (let i = 0; i < said; i++) peer.say({ ...packetIn(1), cookie });
  await peer.understood();
  t.ok(packets >= 1_024 && packets < 1_100, `${packets} packets were taken`);
  open();
  await waitFor('its rules', () => store.flows.size === packets);
  peer.say({ ...packetIn(1), cookie });
  await peer.understood();
  t.ok(packets > 1_024, 'then it gets them again');
  t.same(failed, []);
});

t.test(
  'a plugin that fails on an event harms nobody; one that fails on a new switch has it hung up',
  async (t) => {
    const calls: string[] = [];
    let fails = false;
    const { core, join, failed } = await coreOf(t, {
      switchUp: () => {
        calls.push('up');
        if (fails) throw new Error('can’t say what it needs');
      },
      switchDown: () => {
        calls.push('down');
        throw new Error('down');
      },
      packetIn: () => {
        calls.push('packet');
        throw new Error('packet');
      },
      portChange: () => {
        calls.push('port');
        throw new Error('port');
      },
      flowRemoved: () => {
        calls.push('removed');
        throw new Error('removed');
      },
    });
    const { peer, sw } = await join(1n, (peer) => new RuleStore().serve(peer));
    await waitFor('the switch', () => core.switches().length === 1);
    const { cookie } = cookieClass(1);
    peer.say({ ...packetIn(1), cookie });
    peer.say({ type: 'port_status', reason: 'add', port: wirePort(2) });
    peer.say({
      ...{ type: 'flow_removed', cookie, priority: 3, reason: 'delete', tableId: 2, match: {} },
      ...{ durationSec: 1, durationNsec: 2, idleTimeout: 3, hardTimeout: 4, packetCount: 5n, byteCount: 6n },
    });
    await peer.understood();
    t.same(calls, ['up', 'packet', 'port', 'removed']);
    t.notOk(sw.closed);
    sw.close();
    t.same(calls.splice(0).at(-1), 'down');
    fails = true;
    const again = await join(1n, (peer) => new RuleStore().serve(peer));
    await again.peer.closed;
    t.match(failed, [{ message: /can’t say what it needs/ }]);
    t.same(calls, ['up', 'down']);
  },
);
