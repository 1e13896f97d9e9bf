/**
 * Rules that a switch is sent ahead of time: they have no effect until they are stated, and stating them means the same as if they had not been sent.
 */
import fc from 'fast-check';
import t from 'tap';
import { flowContent, flowKey } from '../../controller-app/core/flow-identity.js';
import { toFlow } from '../../controller-app/core/rule-set.js';
import type { StagedChange } from '../../controller-app/core/staged-change.js';
import { SwitchRules } from '../../controller-app/core/switch-rules.js';
import { type Flow, type FlowMod, OFPFF } from '../../controller-app/openflow/index.js';
import { BundleError } from '../../controller-app/switch/index.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { connected, type FakeSwitch, refusal } from '../fixtures/fake-switch.js';
import { RuleStore } from '../fixtures/rule-store.js';

t.setTimeout(60_000);

const flow = (port: number, priority = 10): Flow =>
  toFlow(
    { table: 'x', priority, match: { in_port: port }, instructions: [{ type: 'goto_table', table: 5 }] },
    1,
    0,
  );
/** The same rule to a switch, with other instructions. */
const other = (port: number): Flow => ({ ...flow(port), instructions: [{ type: 'goto_table', table: 6 }] });
const groups = (entries: Readonly<Record<string, readonly Flow[]>>): Map<string, readonly Flow[]> =>
  new Map(Object.entries(entries));
const sent = (mods: readonly FlowMod[] | undefined) => mods?.map((mod) => [mod.command, mod.match.in_port]);

async function inService(stated: Readonly<Record<string, readonly Flow[]>> = {}) {
  const rules = new SwitchRules();
  const store = new RuleStore();
  await rules.change('p', groups(stated));
  const connect = async () => {
    const connection = store.connect();
    connection.onClose = (reason) => rules.disconnect(connection, reason);
    await rules.connect(connection);
    return connection;
  };
  const connection = await connect();
  const { length } = store.bundles;
  /** Of rules in the switch: their ports, and where they lead. */
  const has = (): unknown[] =>
    [...store.flows.values()]
      .map(({ match, instructions: [to] }) => [
        match.in_port,
        to?.type === 'goto_table' ? to.table : undefined,
      ])
      .toSorted(([a], [b]) => Number(a) - Number(b));
  return { rules, store, connection, connect, has, bundles: () => store.bundles.slice(length) };
}

t.test('what was staged has no effect until it is stated; then it is one message', async (t) => {
  const { rules, store, has, bundles } = await inService({ a: [flow(1), flow(2)] });
  const staged = await rules.stage('p', groups({ a: [other(2), flow(3)] }));
  t.same(has(), [
    [1, 5],
    [2, 5],
  ]);
  t.equal(rules.size, 2, 'nor is it stated here');
  t.equal(store.staged.size, 1);
  await staged.state();
  t.same(store.counts, { staged: 1, committed: 1, discarded: 0 });
  t.same(bundles().map(sent), [
    [
      ['delete_strict', 1],
      ['add', 2],
      ['add', 3],
    ],
  ]);
  t.same(has(), [
    [2, 6],
    [3, 5],
  ]);
  await rules.change('p', groups({ a: [other(2)] }));
  t.same(sent(bundles().at(-1)), [['delete_strict', 3]], 'what the switch has is known');
  t.equal(store.dumps, 1, 'and was not asked for');
});

t.test('control: without staging the same change is a bundle of its own', async (t) => {
  const { rules, store, has } = await inService({ a: [flow(1), flow(2)] });
  await rules.change('p', groups({ a: [other(2), flow(3)] }));
  t.same(store.counts, { staged: 0, committed: 0, discarded: 0 });
  t.same(has(), [
    [2, 6],
    [3, 5],
  ]);
});

/** What comes between, and whether what was staged is still what the change needs. */
const BETWEEN: readonly {
  readonly what: string;
  readonly used: boolean;
  readonly after: readonly (readonly [number, number])[];
  happen(all: Awaited<ReturnType<typeof inService>>): unknown;
}[] = [
  {
    what: 'another group changes',
    used: true,
    after: [
      [2, 6],
      [3, 5],
      [9, 5],
    ],
    happen: ({ rules }) => rules.change('p', groups({ b: [flow(9)] })),
  },
  {
    what: 'its group changes',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ rules }) => rules.change('p', groups({ a: [flow(1), flow(2), flow(4)] })),
  },
  {
    what: 'its group changes there and back',
    used: true,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: async ({ rules }) => {
      await rules.change('p', groups({ a: [flow(7)] }));
      await rules.change('p', groups({ a: [flow(1), flow(2)] }));
    },
  },
  {
    what: 'one of its rules is there by now',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ rules }) => rules.change('p', groups({ a: [flow(1), flow(2), flow(3)] })),
  },
  {
    what: 'the switch connects again',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ connection, connect }) => {
      connection.close();
      return connect();
    },
  },
  {
    what: 'the switch connects again, and has lost a rule',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ connection, connect, store }) => {
      connection.close();
      store.flows.delete(flowKey(flow(1)));
      return connect();
    },
  },
  {
    what: 'it has waited for too long',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ store }) => store.staged.clear(),
  },
  {
    what: 'the switch refuses it when it is stated',
    used: false,
    after: [
      [2, 6],
      [3, 5],
    ],
    happen: ({ store }) => store.fates.push('refused'),
  },
];

for (const { what, used, after, happen } of BETWEEN)
  t.test(`${what}: it is ${used ? 'one message all the same' : 'a change as any other'}`, async (t) => {
    const all = await inService({ a: [flow(1), flow(2)] });
    const { rules, store, has, bundles } = all;
    const staged = await rules.stage('p', groups({ a: [other(2), flow(3)] }));
    await happen(all);
    await staged.state();
    t.same(has(), after);
    const { committed } = store.counts;
    t.equal(committed, used || what.includes('refuses') ? 1 : 0);
    t.equal(store.staged.size, 0, 'nothing of it is left in the switch');
    const { length } = bundles();
    await rules.change('p', groups({ a: [other(2), flow(3)] }));
    t.equal(bundles().length, length, 'it is stated here, too');
  });

t.test('refused for good, it fails as any other, and has changed nothing', async (t) => {
  const { rules, store, has } = await inService({ a: [flow(1)] });
  const staged = await rules.stage('p', groups({ a: [flow(3)] }));
  store.refuses = ({ match }) => match.in_port === 3;
  await t.rejects(staged.state(), { code: 'bundle-failed' });
  t.same(has(), [[1, 5]]);
  t.equal(store.dumps, 1);
  await rules.change('p', groups({ a: [flow(2)] }));
  t.same(has(), [[2, 5]]);
});

t.test('when nobody knows what became of it, the switch is asked', async (t) => {
  for (const fate of ['lost', 'done, and lost'] as const) {
    const { rules, store, has } = await inService({ a: [flow(1)] });
    const staged = await rules.stage('p', groups({ a: [flow(2)] }));
    store.fates.push(fate);
    await t.rejects(staged.state(), { code: 'timeout' });
    await rules.change('p', groups({ a: [flow(2), flow(3)] }));
    t.equal(store.dumps, 2);
    t.same(
      has(),
      [
        [2, 5],
        [3, 5],
      ],
      fate,
    );
  }
});

t.test('it keeps its place among the changes that wait, and goes as it was sent', async (t) => {
  const { rules, store, bundles } = await inService();
  const staged = await rules.stage('p', groups({ c: [flow(3)] }));
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const change = (port: number): Promise<void> => rules.change('p', groups({ [`g${port}`]: [flow(port)] }));
  const first = change(1);
  await Promise.resolve();
  const all = [first, change(2), change(20), staged.state(), change(4), change(40)];
  t.equal(rules.waiting('p'), 6);
  open();
  await Promise.all(all);
  t.same(
    bundles().map((mods) => mods.map(({ match }) => match.in_port)),
    [[1], [2, 20], [3], [4, 40]],
  );
  t.equal(store.counts.committed, 1);
});

t.test('what is discarded leaves nothing in the switch', async (t) => {
  const { rules, store, has } = await inService({ a: [flow(1)] });
  const staged = await rules.stage('p', groups({ a: [flow(2)] }));
  staged.discard();
  staged.discard();
  t.same([store.staged.size, store.counts.discarded], [0, 1]);
  t.same(has(), [[1, 5]]);
});

t.test('what cannot be staged is stated all the same', async (t) => {
  const { rules, store, connection, connect, has } = await inService({ a: [flow(1)] });
  const none = await rules.stage('p', groups({ a: [flow(1)] }));
  const ending = { ...flow(2), hardTimeout: 5, flags: OFPFF.SEND_FLOW_REM };
  const withTime = await rules.stage('p', groups({ b: [ending] }));
  const bad = await rules.stage('p', groups({ c: [{ ...flow(3), match: { ipv4_src: 'nowhere' } }] }));
  const twice = await rules.stage('p', groups({ d: [flow(1)] }));
  t.equal(store.counts.staged, 0);
  await none.state();
  await withTime.state();
  await t.rejects(bad.state(), { name: 'OpenFlowEncodeError' });
  await t.rejects(twice.state(), /a and d state the same rule/);
  connection.close();
  const away = await rules.stage('p', groups({ e: [flow(4)] }));
  await away.state();
  t.same(has().length, 2, 'remembered');
  await connect();
  t.same(
    has().map((one) => Array.isArray(one) && one[0]),
    [1, 2, 4],
    'and sent when it comes',
  );
});

t.test('whatever happens between them, a switch has what is stated, staged or not', async () => {
  const step = fc.oneof(
    fc.record({
      act: fc.constantFrom('change' as const, 'stage' as const),
      group: fc.constantFrom('a', 'b'),
      ports: fc.uniqueArray(fc.nat(6)),
      cookie: fc.nat(1),
    }),
    fc.record({
      act: fc.constantFrom('state', 'discard', 'expire', 'reconnect', 'lose', 'half', 'refuse', 'wait'),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const all = await inService();
      const { rules, store } = all;
      let { connection } = all;
      const model = new Map<string, readonly Flow[]>();
      const pending: Promise<void>[] = [];
      const staged: { group: string; flows: Flow[]; change: StagedChange }[] = [];
      const note = (group: string, flows: readonly Flow[], done: Promise<void>): void =>
        void pending.push(
          done.then(
            () => void model.set(group, flows),
            () => {},
          ),
        );
      for (const one of steps) {
        if (one.act === 'change' || one.act === 'stage') {
          const { group, cookie } = one;
          const flows = one.ports.map((n) => {
            const each = flow(n + (group === 'a' ? 0 : 100));
            return { ...each, cookie: (each.cookie ?? 0n) | BigInt(cookie) };
          });
          if (one.act === 'change') note(group, flows, rules.change('p', groups({ [group]: flows })));
          else staged.push({ group, flows, change: await rules.stage('p', groups({ [group]: flows })) });
        } else if (one.act === 'state') {
          const next = staged.shift();
          if (next) note(next.group, next.flows, next.change.state());
        } else if (one.act === 'discard') staged.pop()?.change.discard();
        else if (one.act === 'expire') store.staged.clear();
        else if (one.act === 'reconnect') {
          connection.close();
          connection = await all.connect().catch(() => connection);
        } else if (one.act === 'lose') store.fates.push('lost');
        else if (one.act === 'half') store.fates.push('done, and lost');
        else if (one.act === 'refuse') store.fates.push('refused');
        else await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(pending);
      store.fates.length = 0;
      connection.close();
      await all.connect();
      for (const { change } of staged) change.discard();
      if (store.staged.size > 0) throw new Error('something is left in the switch');
      const wanted = [...model.values()].flat();
      if (wanted.length !== store.flows.size) throw new Error(`${store.flows.size}, not ${wanted.length}`);
      for (const each of wanted) {
        const there = store.flows.get(flowKey(each));
        if (!there || flowContent(there) !== flowContent(each)) throw new Error('not what is stated');
      }
    }),
    { numRuns: 500 },
  );
});

const mod = (priority: number): FlowMod => ({ ...flow(1, priority), type: 'flow_mod', command: 'add' });

/** Answers the next message about a bundle as a switch that has done it. */
async function confirm(peer: FakeSwitch, control: string): Promise<number> {
  const { message, xid } = await peer.hear('bundle_control');
  if (message.control !== control) throw new Error(`${message.control}, not ${control}`);
  const replies = {
    open_request: 'open_reply',
    close_request: 'close_reply',
    commit_request: 'commit_reply',
    discard_request: 'discard_reply',
  } as const;
  if (!(message.control in replies)) throw new Error(`${message.control} is no request`);
  peer.say({ ...message, control: replies[message.control as keyof typeof replies] }, xid);
  return message.bundle;
}

async function stagedOn(peer: FakeSwitch, staging: Promise<unknown>, count: number): Promise<number[]> {
  await confirm(peer, 'open_request');
  const xids: number[] = [];
  for (let i = 0; i < count; i++) xids.push((await peer.hear('bundle_add')).xid);
  await confirm(peer, 'close_request');
  await staging;
  return xids;
}

t.test('on the wire: read, then committed by one message, whatever bundles went meanwhile', async (t) => {
  const { sw, peer } = await connected(t);
  const staging = sw.stage([mod(1), mod(2)]);
  await stagedOn(peer, staging, 2);
  const bundle = await staging;
  t.ok(bundle.usable);
  const plain = sw.bundle([mod(3)]);
  const number = await confirm(peer, 'open_request');
  await peer.hear('bundle_add');
  await confirm(peer, 'close_request');
  const committed = bundle.commit(1_000);
  t.notOk(bundle.usable, 'only once');
  t.throws(() => bundle.commit(1_000), /committed or discarded/);
  bundle.discard();
  t.not(await confirm(peer, 'commit_request'), number, 'at once: it waits for no other');
  t.equal(await confirm(peer, 'commit_request'), number);
  await Promise.all([plain, committed]);
  await peer.understood();
  t.same(peer.unheard, [], 'and nothing else was said');
});

t.test('on the wire: what the switch refuses at the commit is named', async (t) => {
  const { sw, peer } = await connected(t);
  const staging = sw.stage([mod(1), mod(2)]);
  const [, second] = await stagedOn(peer, staging, 2);
  const committed = (await staging).commit(1_000);
  committed.catch(() => {});
  const { xid } = await peer.hear('bundle_control');
  peer.say(refusal(5, 1), second);
  peer.say(refusal(0xffff, 2309, 0x4f4e4600), xid);
  const error = await committed.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof BundleError)) throw new Error('not refused');
  t.match(error.failures, [{ index: 1, error: { errorCode: 'OFPFMFC_TABLE_FULL' } }]);
  t.equal(sw.listenerCount('error'), 0);
});

t.test('on the wire: what it cannot read is named at once, and discarded', async (t) => {
  const { sw, peer } = await connected(t);
  const staging = sw.stage([mod(1), mod(2)]);
  staging.catch(() => {});
  await confirm(peer, 'open_request');
  await peer.hear('bundle_add');
  peer.say(refusal(4, 9), (await peer.hear('bundle_add')).xid);
  await confirm(peer, 'close_request');
  await confirm(peer, 'discard_request');
  await t.rejects(staging, { code: 'bundle-failed', failures: [{ index: 1 }] });
});

t.test('on the wire: it is discarded when it has waited for too long', async (t) => {
  const clock = new ManualClock();
  const { sw, peer } = await connected(t, { clock, stagedMs: 100, echoIntervalMs: 1e6, deadAfterMs: 1e6 });
  const staging = sw.stage([mod(1)]);
  await stagedOn(peer, staging, 1);
  const bundle = await staging;
  clock.advance(99);
  t.ok(bundle.usable);
  clock.advance(1);
  t.notOk(bundle.usable);
  await confirm(peer, 'discard_request');
  bundle.discard();
  await peer.understood();
  t.same(peer.unheard, [], 'once');
});

t.test('on the wire: it goes with its connection, and so many are too many', async (t) => {
  const { sw, peer } = await connected(t, { maxBundles: 1 });
  const staging = sw.stage([mod(1)]);
  await t.rejects(sw.stage([mod(2)]), { code: 'backpressure' });
  await stagedOn(peer, staging, 1);
  const bundle = await staging;
  bundle.discard();
  await confirm(peer, 'discard_request');
  const again = sw.stage([mod(3)]);
  await stagedOn(peer, again, 1);
  const last = await again;
  sw.close();
  t.notOk(last.usable);
  last.discard();
  await t.rejects(sw.stage([mod(4)]), { code: 'closed' });
});
