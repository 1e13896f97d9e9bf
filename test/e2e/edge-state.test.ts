/**
 * The state that an edge instance takes over and gives away: it proves its connections or is refused whole; policies and addresses change under
 * live connections.
 */
import '../lab/enter.js';
import t from 'tap';
import { type Connection, connectionKey, type TcpConnection } from '../../shared/firewall/connection.js';
import { MAX_RULES, type Policy, policySchema } from '../../shared/firewall/policy.js';
import { applyDeltas } from '../../shared/firewall/reduce.js';
import { MAX_CONNECTIONS, type Snapshot } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { run } from '../../shared/runtime/command.js';
import { EdgeBench, FAMILIES, NOTHING, PORT, SYN, tcp, udp } from '../fixtures/edge-bench.js';
import { alice, SERVER, TERMINAL } from '../fixtures/edge-lab.js';

t.setTimeout(180_000);

const rule = (name: string, remotePorts: number, action = 'drop') => ({
  ...{ name, direction: 'outbound', action, protocol: 'tcp', remotePorts },
});
const policyOf = (name: string, ...rules: readonly unknown[]): Policy =>
  policySchema.parse({ name, defaults: { outbound: 'accept', inbound: 'drop' }, rules });
const policy = policyOf('test', rule('no telnet', 23));
const noWeb = policyOf('no web', rule('no telnet', 23), rule('no web', PORT));
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;

/** Second addresses of the terminal's host, which alice may have or not. */
const SECOND = { ipv4: '10.0.0.11', ipv6: 'fd00::11' } as const;
for (const [address, length] of [
  [SECOND.ipv4, 24],
  [SECOND.ipv6, 64],
] as const) {
  await run('ip', [
    '-n',
    'h1',
    'addr',
    'add',
    `${address}/${length}`,
    'dev',
    'eth0',
    ...(length === 64 ? ['nodad'] : []),
  ]);
}
const both: Terminal = { ...alice, ipv4: [TERMINAL.ipv4, SECOND.ipv4], ipv6: [TERMINAL.ipv6, SECOND.ipv6] };
const second: Terminal = { ...alice, ipv4: [SECOND.ipv4], ipv6: [SECOND.ipv6] };

const web = (port: number, change: Partial<TcpConnection> = {}): Connection => ({
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: TERMINAL.ipv4, port },
  remote: { address: SERVER.ipv4, port: PORT },
  state: 'established',
  timeLeftSeconds: 300,
  ...change,
});

await t.test('a state that does not prove itself is refused whole', async (t) => {
  const good = web(30_000);
  const bad: Readonly<Record<string, Partial<Snapshot>>> = {
    'a connection that no policy allowed': { connections: [good, web(30_001, { opener: 'remote' })] },
    'one to a closed port': {
      connections: [good, web(30_001, { remote: { address: SERVER.ipv4, port: 23 } })],
    },
    'one of another terminal': {
      connections: [good, web(30_001, { local: { address: '10.0.0.77', port: 1 } })],
    },
    'one that is there twice': { connections: [good, good] },
    'more than there may be': {
      connections: Array.from({ length: 1_000_000 }, () => good),
    },
    'an option for an address': {
      connections: [good, web(30_001, { remote: { address: '10.0.0.2 -j ACCEPT', port: PORT } })],
    },
    'a line for a name': {
      policy: {
        ...policy,
        rules: [
          {
            ...rule('x"\n-A FORWARD -j ACCEPT', 1),
            direction: 'outbound',
            action: 'drop',
            protocol: 'tcp',
            remotePorts: [[1, 1]],
          },
        ],
      },
    },
    'a line for a counter': { counters: [{ rule: 'no telnet', packets: Number.NaN, bytes: 0 }] },
  };
  for (const [what, change] of Object.entries(bad)) {
    await t.rejects(bench.standby(change), { code: 'invalid' }, what);
    t.same(await bench.untilNothingRemains(), NOTHING, 'and nothing is made');
  }
  t.ok(MAX_CONNECTIONS < 1_000_000);
  const { id } = await bench.standby({ connections: [good] });
  t.equal((await domain.export(id)).connections.length, 1, 'control: the good one alone is taken over');

  const apply = (...connections: readonly Connection[]): Promise<void> =>
    domain.apply(
      id,
      connections.map((connection, index) => ({
        sequence: 8 + index,
        change: { kind: 'connection', connection },
      })),
    );
  await t.rejects(apply(web(30_002), web(30_003, { opener: 'remote' })), { code: 'invalid' });
  t.equal((await domain.export(id)).connections.length, 1, 'of changes, too, none is taken over');
  await apply(web(30_002));
  t.equal((await domain.export(id)).connections.length, 2, 'control');
  await domain.retire(id);
});

await t.test('a policy that was replaced goes with the connections that it admitted', async (t) => {
  const { id } = await bench.active();
  const opened = await Promise.all(FAMILIES.map((family) => bench.open(family, 'tcp')));
  await domain.setPolicy(id, noWeb);
  const state = await domain.export(id);
  t.same(state.earlier, [policy], 'the export names it');
  const next = await bench.active({ ...state, sequence: 7 });
  for (const { name, connection } of opened)
    t.ok(await bench.talks(name), `${connectionKey(connection)} lives on`);
  t.match((await bench.open('ipv4', 'tcp')).error, /timed out/, 'the new policy decides');
  await t.rejects(
    bench.standby({ ...state, earlier: [], sequence: 7 }),
    { code: 'invalid', message: /no policy of alice ever allowed it/ },
    'control: without it the connections are not believed',
  );
  await domain.retire(next.id);
});

await t.test('changes are told in the order in which they prove themselves', async (t) => {
  const { id } = await bench.standby({ policy: noWeb });
  const state = await domain.export(id);
  const { deltas, stop } = bench.follow(id, state.sequence);
  await domain.apply(id, [
    { sequence: 8, change: { kind: 'policy', policy } },
    { sequence: 9, change: { kind: 'connection', connection: web(30_010) } },
    { sequence: 10, change: { kind: 'policy', policy: noWeb } },
    { sequence: 11, change: { kind: 'terminal', terminal: second } },
  ]);
  const after = await domain.export(id);
  t.same(after.connections, [], 'the connection has ended with its address');
  t.same(
    deltas.map(({ change }) => change.kind),
    ['policy', 'connection', 'policy', 'terminal'],
  );
  const reduced = applyDeltas(state, deltas);
  t.same([reduced.terminal, reduced.policy, reduced.connections], [after.terminal, after.policy, []]);
  await stop();
  await domain.retire(id);
});

await t.test('addresses change while connections live', async (t) => {
  const { id } = await bench.active();
  const from = async (address: string, name: string): Promise<string | undefined> => {
    const to = address.includes(':') ? SERVER.ipv6 : SERVER.ipv4;
    const request = { name, protocol: 'tcp', from: address, to, port: PORT, timeout: 1 };
    return (await lab.terminal.ask('connect', request)).error;
  };
  for (const family of FAMILIES) {
    t.equal(await from(TERMINAL[family], `old ${family}`), undefined);
    t.match(await from(SECOND[family], 'early'), /timed out/, 'control: not hers yet');
  }
  const { sequence } = await domain.export(id);
  const { deltas, stop } = bench.follow(id, sequence);
  await domain.setTerminal(id, both);
  await domain.setTerminal(id, both);
  for (const family of FAMILIES) {
    t.ok(await bench.talks(`old ${family}`), 'what is open goes on');
    t.equal(await from(SECOND[family], `new ${family}`), undefined, 'the new address opens connections');
    t.equal(await from(TERMINAL[family], `kept ${family}`), undefined, 'and so does the old one');
  }
  await domain.setTerminal(id, second);
  for (const family of FAMILIES) {
    t.notOk(await bench.talks(`old ${family}`), 'an address that goes takes its connections with it');
    t.match(await from(TERMINAL[family], 'late'), /timed out/, 'and opens none');
    t.ok(await bench.talks(`new ${family}`), 'those of the other live on');
    t.same(
      await bench.outbound([udp(family, 'outbound', { dport: 44_001 })]),
      [false],
      'it is a foreign source now',
    );
    t.same(await bench.inbound([tcp(family, 'inbound', SYN, { dst: SECOND[family], dport: 22 })]), [false]);
  }
  const state = await domain.export(id);
  t.same(state.terminal, second);
  t.same(
    [...new Set(state.connections.map(({ local }) => local.address))].sort(),
    [SECOND.ipv4, SECOND.ipv6],
    'the export has none of the old ones',
  );
  const { stdout } = await bench.inContainer('/usr/sbin/conntrack', ['-L']);
  t.notMatch(stdout, new RegExp(`src=${TERMINAL.ipv4} `), 'and the kernel neither');
  t.same(
    deltas.flatMap(({ change }) => (change.kind === 'terminal' ? [change.terminal] : [])),
    [both, second],
    'each change is told once',
  );
  await domain.setTerminal(id, alice);
  for (const family of FAMILIES) {
    t.notOk(await bench.talks(`kept ${family}`), 'an address that comes back has no past');
    t.equal(await from(TERMINAL[family], `again ${family}`), undefined, 'but a future');
  }
  await t.rejects(domain.setTerminal(id, { ...alice, mac: '02:00:00:00:00:99' }), { code: 'invalid' });
  await stop();
  await domain.drain(id, 60_000);
  await domain.setTerminal(id, both);
  t.match(await from(SECOND.ipv4, 'drained'), /timed out/, 'a closed gate stays closed for a new address');
  await domain.retire(id);
});

await t.test(`${MAX_RULES} rules are in force, count, and change`, async (t) => {
  const last = { ...rule('last', 2000), action: 'reject' };
  const many = (name: string): Policy =>
    policyOf(
      name,
      ...Array.from({ length: MAX_RULES - 1 }, (_, index) => rule(`rule ${index}`, 10_000 + index)),
      last,
    );
  const started = performance.now();
  const { id } = await bench.active({ policy: many('many') });
  const ready = performance.now();
  t.same(
    await bench.outbound([
      tcp('ipv4', 'outbound', SYN, { dport: 10_000 }),
      tcp('ipv6', 'outbound', SYN, { dport: 10_000 + MAX_RULES - 2 }),
      tcp('ipv4', 'outbound', SYN, { dport: 2000 }),
      tcp('ipv6', 'outbound', SYN, { dport: 9999 }),
    ]),
    [false, false, false, true],
    'the first, the last ones, and what none names',
  );
  const counted = (await domain.export(id)).counters.filter(({ packets }) => packets > 0);
  t.same(
    counted.map(({ rule: name, packets }) => [name, packets]),
    [
      ['rule 0', 1],
      [`rule ${MAX_RULES - 2}`, 1],
      ['last', 1],
      ['default outbound', 1],
    ],
  );
  const setting = performance.now();
  await domain.setPolicy(id, many('many more'));
  t.comment(
    `prepared in ${Math.round(ready - started)} ms, replaced in ${Math.round(performance.now() - setting)} ms`,
  );
  t.equal((await domain.export(id)).counters.find(({ rule: name }) => name === 'last')?.packets, 1);
  const full = many('too many');
  const tooMany = {
    ...full,
    rules: full.rules.flatMap((each, index) =>
      index === 0 ? [each, { ...each, name: 'one more' }] : [each],
    ),
  };
  await t.rejects(
    domain.setPolicy(id, tooMany),
    { code: 'invalid', message: /at most 2000 rules: join some/ },
    'one more is refused with what to do',
  );
  t.same(
    await bench.outbound([tcp('ipv4', 'outbound', SYN, { dport: 10_001 })]),
    [false],
    'the policy in force stays',
  );
  await domain.retire(id);
});
