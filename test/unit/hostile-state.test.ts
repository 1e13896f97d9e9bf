/**
 * States that mean harm: an agent that speaks of other terminals, epochs, addresses and policies than it was given; texts that are meant to become options
 * of iptables-restore or messages for the kernel's connection table. Each is refused whole, with a reason, and nothing of it is applied.
 */
import fc from 'fast-check';
import { pack } from 'msgpackr';
import t, { type Test } from 'tap';
import { Trust } from '../../controller-app/domains/remote/trust.js';
import type { Coordinator } from '../../controller-app/handover/coordinator.js';
import { entryOf, tupleOf } from '../../edge-agent/conntrack/connection.js';
import { writeDeletion, writeEntry } from '../../edge-agent/conntrack/entry.js';
import { ConnectionMirror } from '../../edge-agent/domain/connection-mirror.js';
import { renderTables } from '../../edge-agent/iptables/render.js';
import { agentCodec } from '../../shared/channel/codec.js';
import { encodeConnections } from '../../shared/channel/connections-codec.js';
import { ChannelError } from '../../shared/channel/errors.js';
import type { ControllerMessage } from '../../shared/channel/messages.js';
import { type Domain, DomainError, dpid, type InstanceId } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { type Policy, policySchema } from '../../shared/firewall/policy.js';
import {
  type Change,
  type Delta,
  epoch,
  type FirewallState,
  type RuleCounter,
} from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { anyConnection, realisticTable } from '../fixtures/connection-tables.js';
import { attributeTree } from '../fixtures/conntrack-messages.js';
import { policyArbitrary } from '../fixtures/firewall-arbitraries.js';
import { quietCoordinator } from '../fixtures/quiet-coordinator.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { alice, bob, connectedPair, examplePolicy } from '../fixtures/reference-environment.js';

t.setTimeout(60_000);

const id: InstanceId = { terminal: 'alice', epoch: epoch(2) };
const connection: Connection = {
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port: 40_000 },
  remote: { address: '192.0.2.7', port: 443 },
  state: 'established',
  timeLeftSeconds: 300,
};
const foreign: Connection = { ...connection, local: { address: '10.0.0.11', port: 40_000 } };
const state: FirewallState = {
  terminal: alice,
  epoch: epoch(2),
  sequence: 41,
  policy: examplePolicy,
  earlier: [],
  connections: [connection],
  counters: [],
};
const open: Policy = policySchema.parse({
  name: 'open',
  defaults: { outbound: 'accept', inbound: 'accept' },
  rules: [],
});
const snapshot: FirewallState = { ...state, epoch: epoch(1) };
const delta = (sequence: number, change: Change): Delta => ({ sequence, change });

/** What an agent may export instead of the truth, and what is said of it. */
const LIES: Readonly<Record<string, readonly [FirewallState, RegExp]>> = {
  "another terminal's state": [{ ...state, terminal: bob, connections: [] }, /it is the state of bob/],
  'the state of another epoch': [{ ...state, epoch: epoch(3) }, /it is the state of epoch 3/],
  'the state of an older epoch': [{ ...state, epoch: epoch(1) }, /it is the state of epoch 1/],
  'another MAC address': [{ ...state, terminal: { ...alice, mac: bob.mac } }, /another terminal/],
  "another terminal's address": [
    { ...state, terminal: { ...alice, ipv4: [...alice.ipv4, ...bob.ipv4] } },
    /10\.0\.0\.11 is no address that alice was given/,
  ],
  "another terminal's connection": [
    { ...state, connections: [connection, foreign] },
    /tcp 10\.0\.0\.11 40000 192\.0\.2\.7 443 is no connection of alice/,
  ],
  'a policy that nobody put in force': [
    { ...state, policy: open },
    /a policy "open" that it was never given/,
  ],
  'an earlier policy that never was': [
    { ...state, earlier: [open] },
    /a policy "open" that it was never given/,
  ],
};

/** An agent's domain that exports what it is told to, behind the channel. */
async function liar(t: Test) {
  const domain = new ReferenceDomain('edge-1');
  const { remote, close } = await connectedPair(domain);
  t.teardown(close);
  await remote.prepare(snapshot, id.epoch);
  await remote.activate(id, 60_000);
  return { domain, remote };
}

t.test('an export that cannot be the instance’s is refused whole', async (t) => {
  const { domain, remote } = await liar(t);
  t.same((await remote.export(id)).connections, [connection], 'control: the truth is taken');
  const honest = domain.export.bind(domain);
  for (const [what, [lie, says]] of Object.entries(LIES)) {
    domain.export = async () => lie;
    await t.rejects(remote.export(id), { name: 'DomainError', code: 'invalid', message: says }, what);
  }
  domain.export = honest;
  t.equal((await remote.export(id)).sequence, 41, 'the link and the instance live on');
  domain.export = async () => ({ ...state, sequence: 40 });
  await t.rejects(remote.export(id), {
    code: 'invalid',
    message: /as of change 40, and change 41 has been seen/,
  });
});

const coordinatorOf = (domains: readonly Domain[]): Coordinator =>
  quietCoordinator(domains, { drainMs: 10, firstEpoch: 2, reclaim: (found) => found });

t.test('a handover from an agent that lies is undone, and nothing reaches the other domain', async (t) => {
  for (const [what, [lie, says]] of Object.entries(LIES)) {
    const agent = new ReferenceDomain('edge-1');
    const { remote, close } = await connectedPair(agent);
    const target = new ReferenceDomain('sdn-1');
    const coordinator = coordinatorOf([remote, target]);
    await coordinator.place('alice', 'edge-1');
    agent.export = async () => lie;
    const report = await coordinator.handover('alice', { to: 'sdn-1', cause: 'demand' }).report;
    t.match(report, { outcome: 'undone', error: says, connections: 0 }, what);
    t.same((await target.health()).instances, [], 'nothing was built from it');
    t.equal(coordinator.record('alice').active?.domain.name, 'edge-1');
    await coordinator.close();
    await close();
  }
});

t.test('changes without end keep no handover from its end', async (t) => {
  const agent = new ReferenceDomain('edge-1');
  const { remote, close } = await connectedPair(agent);
  const coordinator = coordinatorOf([remote, new ReferenceDomain('sdn-1')]);
  let sent = 0;
  agent.changes = async function* (_id, fromSequence, signal) {
    for (let sequence = fromSequence + 1; !signal.aborted; sequence++) {
      sent++;
      const timeLeftSeconds = sent % 1_000;
      yield [delta(sequence, { kind: 'connection', connection: { ...connection, timeLeftSeconds } })];
    }
  };
  const { export: exported } = agent;
  agent.export = async (instance) => ({ ...(await exported.call(agent, instance)), sequence: 10 ** 12 });
  await coordinator.place('alice', 'edge-1');
  const report = await coordinator.handover('alice', { to: 'sdn-1', cause: 'demand' }).report;
  t.equal(report.outcome, 'done');
  t.ok(sent > 0, `control: ${sent} changes were sent`);
  t.same((await agent.health()).instances, []);
  await coordinator.close();
  await close();
});

t.test('changes that cannot be the instance’s are refused, all of their batch', async (t) => {
  const good = delta(42, { kind: 'connection', connection });
  const lies: Readonly<Record<string, readonly [readonly Delta[], string, RegExp]>> = {
    "another terminal's connection": [
      [good, delta(43, { kind: 'connection', connection: foreign })],
      'invalid',
      /is no connection of alice/,
    ],
    'another terminal': [
      [good, delta(43, { kind: 'terminal', terminal: bob })],
      'invalid',
      /another terminal/,
    ],
    'an address that was not given': [
      [good, delta(43, { kind: 'terminal', terminal: { ...alice, ipv4: bob.ipv4 } })],
      'invalid',
      /no address that alice was given/,
    ],
    'a policy that nobody put in force': [
      [good, delta(43, { kind: 'policy', policy: open })],
      'invalid',
      /never given/,
    ],
    'numbers that go backwards': [
      [good, delta(41, good.change)],
      'invalid',
      /change 41 came after change 42/,
    ],
    'a number twice': [[good, good], 'invalid', /change 42 came after change 42/],
    'numbers from before': [[delta(7, good.change)], 'invalid', /change 7 came after change 41/],
    'a gap': [[good, delta(44, good.change)], 'changes-lost', /change 43 is missing: 44 came/],
  };
  for (const [what, [deltas, code, says]] of Object.entries(lies)) {
    const { domain, remote } = await liar(t);
    domain.changes = async function* () {
      yield deltas;
      await new Promise(() => {});
    };
    const taken: Delta[] = [];
    const reading = (async () => {
      for await (const batch of remote.changes(id, 41, new AbortController().signal)) taken.push(...batch);
    })();
    await t.rejects(reading, { name: 'DomainError', code, message: says }, what);
    t.same(taken, [], `${what}: nothing of the batch is handed on`);
  }
  const { domain, remote } = await liar(t);
  domain.changes = async function* () {
    yield [good, delta(43, { kind: 'ended', key: 'udp 10.0.0.1 1 192.0.2.7 2' })];
  };
  const taken: Delta[] = [];
  for await (const batch of remote.changes(id, 41, new AbortController().signal)) taken.push(...batch);
  t.equal(taken.length, 2, 'control: the truth is handed on');
  domain.export = async () => ({ ...state, sequence: 42 });
  await t.rejects(remote.export(id), { message: /as of change 42, and change 43 has been seen/ });
});

t.test('what the controller gave since may be spoken of', async (t) => {
  const { remote } = await liar(t);
  const moved = { ...alice, ipv4: ['10.0.0.77'] };
  const later = policySchema.parse({ ...open, name: 'later' });
  await remote.setTerminal(id, moved);
  await remote.setPolicy(id, open);
  await remote.apply(id, [delta(42, { kind: 'policy', policy: later })]);
  const exported = await remote.export(id);
  t.same(exported.terminal, moved);
  t.equal(exported.policy.name, 'later');
  t.same(
    exported.earlier.map(({ name }) => name),
    ['open', 'example'],
  );
  await remote.retire(id);
});

t.test(
  'an agent of before a restart of the controller is believed its addresses, but not another MAC address',
  async (t) => {
    const trust = new Trust({ name: 'edge-1', terminal: (name) => (name === 'alice' ? alice : undefined) });
    t.same(trust.exported(id, { ...state, policy: open }).policy, open);
    t.throws(() => trust.exported(id, { ...state, terminal: { ...alice, mac: bob.mac } }), {
      code: 'invalid',
    });
    t.throws(() => trust.exported(id, { ...state, connections: [foreign] }), { code: 'invalid' });
    trust.setTerminal(id, alice);
    t.same(trust.exported(id, { ...state, policy: open }).policy, open, 'also after it was told something');
    trust.prepared(id, snapshot);
    t.throws(
      () => trust.exported(id, { ...state, policy: open }),
      { code: 'invalid' },
      'control: once it was told',
    );
    const reordered: Policy = {
      rules: examplePolicy.rules,
      defaults: { inbound: examplePolicy.defaults.inbound, outbound: examplePolicy.defaults.outbound },
      name: examplePolicy.name,
    };
    t.equal(
      trust.exported(id, { ...state, policy: reordered }).sequence,
      41,
      'the order of keys says nothing',
    );
  },
);

t.test('ends that an agent cannot have, and epochs that nobody gave, are refused', async (t) => {
  const { domain, remote } = await liar(t);
  const ends = { kind: 'ports', dpid: dpid(2), terminalSide: 'a', networkSide: 'b' } as const;
  for (const [lie, says] of [
    [{ ...ends, dpid: dpid(1) }, /at switch 0000000000000001, which it does not serve/],
    [{ ...ends, networkSide: 'a' }, /both its ends are port a/],
    [{ kind: 'pipeline', dpid: dpid(2), instance: 7 } as const, /no place of an agent/],
  ] as const) {
    domain.prepare = async () => lie;
    await t.rejects(remote.prepare(snapshot, epoch(3)), { code: 'invalid', message: says });
  }
  domain.prepare = async () => ends;
  t.same(await remote.prepare(snapshot, epoch(3)), ends, 'control');
  domain.health = async () => ({
    ok: true,
    instances: [{ ...id, epoch: epoch(2 ** 32 - 1), role: 'active' }],
  });
  await t.rejects(remote.health(), {
    code: 'invalid',
    message: /no controller has ever given such an epoch/,
  });
  domain.health = async () => ({ ok: true, instances: [{ ...id, role: 'active' }] });
  t.ok((await remote.health()).ok, 'control');
});

/** Texts that would be more than a text in a restore file, on a command line, in a log or on a terminal. */
const TEXTS: readonly string[] = [
  ...[
    '-j ACCEPT',
    '--jump',
    '-A FORWARD -j ACCEPT',
    '-F',
    '-X',
    '-P FORWARD ACCEPT',
    ':FORWARD ACCEPT [0:0]',
    '*filter',
    'COMMIT',
  ],
  ...[
    'a\nCOMMIT',
    'a\r\nCOMMIT',
    'a\n-A FORWARD -j ACCEPT',
    '\n',
    'a\u2028b',
    'a\u2029b',
    'a\u0085b',
    'a\x0bb',
    'a\x0cb',
    '\0',
    'a\0b',
  ],
  ...[
    '" -j ACCEPT',
    '" -j ACCEPT "',
    "' -j ACCEPT",
    '\\',
    'a\\',
    'a"b',
    'a`id`',
    '$(id)',
    ';id',
    '|id',
    '&id',
    '>x',
    '#x',
  ],
  ...[
    '10.0.0.1\n',
    '10.0.0.1 -j ACCEPT',
    '10.0.0.1,0.0.0.0/0',
    '0/0',
    '10.0.0.1/0.0.0.0',
    '!10.0.0.1',
    '10.0.0.1/8\n',
    '010.0.0.1',
  ],
  ...[
    'fd00::1 -j',
    'fd00::1%eth0',
    '::ffff:10.0.0.1/',
    'fd00::/8 ',
    '[fd00::1]',
    '0x0a000001',
    '167772161',
    '10.1',
    'localhost',
  ],
  ...[
    '02:00:00:00:00:01 ',
    '02:00:00:00:00:01\n',
    '02-00-00-00-00-01',
    '../../etc',
    'alice/..',
    '.',
    'ALICE',
    'alice\n',
    '-alice',
  ],
  ...['\u202ealice', '\ud800', '\ufeffalice', 'x'.repeat(64), 'x'.repeat(10_000), ''],
];

type Json = string | number | boolean | null | Uint8Array | { [key: string]: Json } | Json[];

/** Every text of a message, with a function that says the message with another text there. */
function textsOf(value: Json, path: readonly string[] = []): { path: string; by(text: string): Json }[] {
  if (typeof value === 'string') return [{ path: path.join('.'), by: (text) => text }];
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    textsOf(inner, [...path, key]).map((place) => ({
      path: place.path,
      by: (text: string): Json =>
        Array.isArray(value) ? value.with(Number(key), place.by(text)) : { ...value, [key]: place.by(text) },
    })),
  );
}

const instance = { terminal: 'alice', epoch: 2 };
const richPolicy = policySchema.parse({
  name: 'rich',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    {
      name: 'a',
      direction: 'outbound',
      action: 'drop',
      protocol: 'tcp',
      remote: '10.0.0.0/8',
      remotePorts: [25, [1, 2]],
    },
    { name: 'b', direction: 'inbound', action: 'accept', family: 'ipv6', protocol: 'icmp', icmpType: 128 },
  ],
});
const wire = JSON.parse(
  JSON.stringify({
    ...snapshot,
    policy: richPolicy,
    earlier: [examplePolicy],
    counters: [{ rule: 'a', packets: 1, bytes: 2 }],
  }),
);
const MESSAGES: Readonly<Record<string, Json>> = {
  prepare: {
    type: 'prepare',
    id: 1,
    epoch: 2,
    snapshot: { ...wire, connections: encodeConnections([connection], alice) },
  },
  'set-policy': { type: 'set-policy', id: 1, instance, policy: JSON.parse(JSON.stringify(richPolicy)) },
  'set-terminal': { type: 'set-terminal', id: 1, instance, terminal: JSON.parse(JSON.stringify(alice)) },
  delta: {
    type: 'delta',
    id: 1,
    instance,
    deltas: [
      { sequence: 1, change: { kind: 'connection', connection: JSON.parse(JSON.stringify(connection)) } },
      { sequence: 2, change: { kind: 'ended', key: 'tcp 10.0.0.1 40000 192.0.2.7 443' } },
    ],
  },
};
/** Lines of a restore file as they may be: nothing else is a line. */
const RESTORE_LINE =
  /^(\*(filter|mangle)|COMMIT|:[A-Za-z-]+ (DROP|-) \[0:0\]|(\[\d+:\d+\] )?-A [A-Za-z-]+( !?[A-Za-z0-9:/.,_%-]+)*( --comment "[A-Za-z0-9 ._-]+" -[gj] [A-Za-z-]+)?)$/;
/** A message for the connection table by its length and the types of its attributes: an entry, or what is deleted of one. */
const MESSAGE = /^(whole 1,2,3,(4,)?7,8|whole 1)$/;

function restoreLines(
  terminal: Terminal,
  policy: Policy,
  counters: readonly RuleCounter[] = [],
): readonly string[] {
  return (['ipv4', 'ipv6'] as const).flatMap((family) =>
    renderTables({ terminal, policy, counters, gateSeconds: 30 }, family).split('\n').slice(0, -1),
  );
}

function messagesFor(connections: readonly Connection[]): readonly string[] {
  const messages = connections.flatMap((one) => [
    writeEntry(entryOf(one, 60), true),
    writeEntry(entryOf(one, 60), false),
    writeDeletion(tupleOf(one)),
  ]);
  return messages.map((message) => {
    const isWhole = message.readUInt32LE(0) === message.length;
    return `${isWhole ? 'whole' : 'torn'} ${Object.keys(attributeTree(message)).join(',')}`;
  });
}

/** The lines that come of a message, and those among them that are none. */
function linesOf(message: ControllerMessage): {
  readonly all: readonly string[];
  readonly wrong: readonly string[];
} {
  const restore: string[] = [];
  const batch: string[] = [];
  const named = ({ name, mac }: Terminal): string => `-A ${name} ${mac}`;
  switch (message.type) {
    case 'prepare': {
      const { terminal, policy, counters, connections } = message.snapshot;
      restore.push(named(terminal), ...restoreLines(terminal, policy, counters));
      batch.push(...messagesFor(connections));
      break;
    }
    case 'set-policy':
      restore.push(...restoreLines(alice, message.policy));
      break;
    case 'set-terminal':
      restore.push(named(message.terminal), ...restoreLines(message.terminal, richPolicy));
      break;
    case 'delta':
      for (const { change } of message.deltas)
        if (change.kind === 'connection') batch.push(...messagesFor([change.connection]));
      break;
  }
  const wrong = [
    ...restore.filter((line) => !RESTORE_LINE.test(line)),
    ...batch.filter((line) => !MESSAGE.test(line)),
  ];
  return { all: [...restore, ...batch], wrong };
}

t.test('no text of a message becomes an option or a line', async (t) => {
  let refused = 0;
  let taken = 0;
  for (const [what, message] of Object.entries(MESSAGES)) {
    const usual = linesOf(agentCodec.decode(pack(message)));
    t.same(usual.wrong, [], `control: ${what} as it is`);
    for (const { path, by } of textsOf(message)) {
      for (const text of TEXTS) {
        let lines: ReturnType<typeof linesOf>;
        try {
          lines = linesOf(agentCodec.decode(pack(by(text))));
          taken++;
        } catch (error) {
          if (!(error instanceof ChannelError)) throw error;
          refused++;
          continue;
        }
        // The text may be another word of the same meaning, such as an address: then there are other rules, and as many.
        if (lines.wrong.length > 0)
          t.fail(`${what}: ${path} may be ${JSON.stringify(text)}: ${lines.wrong.join('; ')}`);
      }
    }
  }
  t.ok(refused > 1_000 && taken > 10, `${refused} refused, ${taken} taken`);
});

t.test('whatever policy passes, its restore file has the lines of its rules and no others', async (t) => {
  const anyName = fc.oneof(
    fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$/),
    fc.tuple(fc.string(), fc.constantFrom(...TEXTS), fc.string()).map((parts) => parts.join('')),
    fc.string({ unit: 'binary', maxLength: 70 }),
  );
  const policies = fc.oneof(policyArbitrary, anyName.map(policyNamed));
  const counters = fc.array(
    fc.record({ rule: fc.constantFrom('a', ...TEXTS), packets: fc.maxSafeNat(), bytes: fc.maxSafeNat() }),
    { maxLength: 3 },
  );
  fc.assert(
    fc.property(policies, counters, (policy, counted) => {
      const wrong = policy && restoreLines(alice, policy, counted).find((line) => !RESTORE_LINE.test(line));
      if (wrong !== undefined) throw new Error(`the line ${JSON.stringify(wrong)}`);
    }),
    { numRuns: 300 },
  );
  const [rule] = richPolicy.rules;
  if (!rule) return t.fail('a rule');
  for (const name of ['a" -j ACCEPT -m comment --comment "b', 'a\n-A FORWARD -j ACCEPT']) {
    const policy: Policy = { ...richPolicy, rules: [{ ...rule, name }] };
    t.throws(
      () => restoreLines(alice, policy),
      { code: 'invalid' },
      'nor does a name that no schema has seen',
    );
    t.notMatch(`[0:0] -A paguro-inbound -m comment --comment "${name}" -j DROP`, RESTORE_LINE, 'control');
  }
});

function policyNamed(name: string): Policy | undefined {
  const rules = [{ name, direction: 'inbound', action: 'drop' }];
  return policySchema.safeParse({ ...open, rules }).data;
}

t.test('the connection table gets messages for each connection that passes, and no others', async (t) => {
  fc.assert(
    fc.property(fc.array(anyConnection(alice), { maxLength: 20 }), (connections) => {
      const lines = messagesFor(connections);
      return lines.length === connections.length * 3 && lines.every((line) => MESSAGE.test(line));
    }),
  );
  const bad: Connection = { ...connection, remote: { address: '192.0.2.7\n-F', port: 443 } };
  t.throws(() => messagesFor([bad]), { code: 'invalid' }, 'nor does an address that no schema has seen');
  t.notMatch('whole 1,2,3,7,8,18', MESSAGE, 'control');
});

t.test('the end of a connection that nobody knows is no command, whatever its key is', async (t) => {
  const known = realisticTable(alice, 10, 3);
  const mirror = new ConnectionMirror();
  mirror.replace(known);
  for (const key of TEXTS.filter((text) => text !== ''))
    t.same(mirror.plan([{ kind: 'ended', key: key.slice(0, 200) }], false), {
      added: [],
      updated: [],
      ended: [],
    });
});

t.test('a refusal is of the domain, not of the program', async () => {
  const trust = new Trust({ name: 'edge-1' });
  trust.prepared(id, snapshot);
  const changes = fc.array(
    fc.record({
      sequence: fc.oneof(fc.integer({ min: 40, max: 45 }), fc.maxSafeNat()),
      change: fc.oneof(
        anyConnection(bob).map((each): Change => ({ kind: 'connection', connection: each })),
        anyConnection(alice).map((each): Change => ({ kind: 'connection', connection: each })),
        fc.constantFrom<Change>(
          { kind: 'policy', policy: open },
          { kind: 'policy', policy: examplePolicy },
          { kind: 'terminal', terminal: bob },
          { kind: 'terminal', terminal: alice },
          { kind: 'ended', key: 'x' },
        ),
      ),
    }),
    { maxLength: 5 },
  );
  fc.assert(
    fc.property(changes, (deltas) => {
      try {
        const taken = trust.changed(id, deltas, 41);
        return taken.every(
          ({ sequence, change }, index) =>
            sequence === 42 + index &&
            (change.kind !== 'connection' ||
              [...alice.ipv4, ...alice.ipv6].includes(change.connection.local.address)),
        );
      } catch (error) {
        return error instanceof DomainError && (error.code === 'invalid' || error.code === 'changes-lost');
      }
    }),
    { numRuns: 500 },
  );
});
