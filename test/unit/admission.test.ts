/**
 * What a state says of itself is checked: each connection is the terminal's, and one that a policy of its allowed to be opened.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  connectionCheck,
  isAllowed,
  judgeOf,
  problemOfChanges,
  problemOfState,
} from '../../shared/firewall/admission.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { connectionOf } from '../../shared/firewall/packet.js';
import { MAX_RULES, type Policy, policySchema } from '../../shared/firewall/policy.js';
import { PolicyHistory } from '../../shared/firewall/policy-history.js';
import { applyDeltas } from '../../shared/firewall/reduce.js';
import { rejectionOf } from '../../shared/firewall/reject.js';
import {
  epoch,
  type FirewallState,
  firewallStateSchema,
  MAX_CONNECTIONS,
  MAX_EARLIER_POLICIES,
} from '../../shared/firewall/state.js';
import { verdict } from '../../shared/firewall/verdict.js';
import { packetArbitrary, policyArbitrary } from '../fixtures/firewall-arbitraries.js';

const alice = {
  name: 'alice',
  mac: '02:00:00:00:00:01',
  ipv4: ['10.0.0.1'],
  ipv6: ['fd00::1', 'fd00::aa'],
};
const policyOf = (change: Partial<Policy> = {}): Policy =>
  policySchema.parse({
    name: 'p',
    defaults: { outbound: 'accept', inbound: 'drop' },
    rules: [],
    ...change,
  });
const open = policyOf();
const noWeb = policyOf({
  name: 'no web',
  rules: [
    { name: 'no web', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: [[80, 80]] },
  ],
});

function tcp(change: { opener?: 'terminal' | 'remote'; from?: string; port?: number } = {}): Connection {
  const { opener = 'terminal', from = '10.0.0.1', port = 80 } = change;
  const remote = from.includes(':') ? 'fd00::2' : '10.0.0.2';
  return {
    protocol: 'tcp',
    opener,
    local: { address: from, port: 40_000 },
    remote: { address: remote, port },
    state: 'established',
    timeLeftSeconds: 100,
  };
}

const stateOf = (change: Partial<FirewallState> = {}): FirewallState => ({
  terminal: alice,
  epoch: epoch(1),
  sequence: 5,
  policy: open,
  earlier: [],
  connections: [],
  counters: [],
  ...change,
});

t.test(
  'a connection is allowed exactly when the reference verdict accepts the packet that opens it',
  async (t) => {
    type Allowed = (policy: Policy, connection: Connection) => boolean;
    const agrees = (allowed: Allowed) =>
      fc.property(policyArbitrary, packetArbitrary, (policy, packet) => {
        if (packet.protocol === 'other') return true;
        const connection = connectionOf(packet, packet.direction);
        const { reason, verdict: action } = verdict(policy, new Map(), packet);
        if (connection === undefined || (reason !== 'rule' && reason !== 'default')) return true;
        return allowed(policy, connection) === (action === 'accept');
      });
    const result = fc.check(
      agrees((policy, connection) => isAllowed(judgeOf(policy), connection)),
      { numRuns: 5000 },
    );
    t.notOk(result.failed, fc.defaultReportMessage(result) ?? 'agree');
    const backwards: Allowed = (policy, connection) =>
      isAllowed(judgeOf({ ...policy, rules: policy.rules.toReversed() }), connection);
    t.ok(fc.check(agrees(backwards), { numRuns: 5000, endOnFailure: true }).failed, 'rules backwards do not');
  },
);

t.test('a state with a connection that is not as it should be has a problem, and says which', async (t) => {
  t.equal(problemOfState(stateOf({ connections: [tcp(), tcp({ from: 'fd00::aa' })] })), undefined, 'control');
  t.match(problemOfState(stateOf({ connections: [tcp(), tcp()] })), /twice/);
  t.match(problemOfState(stateOf({ connections: [tcp({ from: '10.0.0.9' })] })), /no address of alice/);
  t.match(
    problemOfState(stateOf({ connections: [tcp({ opener: 'remote' })] })),
    /opened by the remote.*ever allowed/,
  );
  t.match(problemOfState(stateOf({ policy: noWeb, connections: [tcp()] })), /ever allowed/);
  t.equal(problemOfState(stateOf({ policy: noWeb, earlier: [open], connections: [tcp()] })), undefined);
  const check = connectionCheck(alice, [noWeb, open]);
  t.equal(check(tcp({ port: 80 })), undefined);
});

t.test('the bounds of a state hold', async (t) => {
  const rule = (index: number) => ({
    name: `r${index}`,
    direction: 'inbound' as const,
    action: 'drop' as const,
  });
  const rules = Array.from({ length: MAX_RULES }, (_, index) => rule(index));
  t.ok(policySchema.safeParse({ ...open, rules }).success);
  const tooMany = policySchema.safeParse({ ...open, rules: [...rules, rule(MAX_RULES)] });
  t.match(tooMany.error?.issues[0]?.message, /at most 2000 rules/);
  const connections = Array.from({ length: MAX_CONNECTIONS + 1 }, () => tcp());
  t.notOk(firewallStateSchema.safeParse(stateOf({ connections })).success, 'too many connections');
  const earlier = Array.from({ length: MAX_EARLIER_POLICIES + 1 }, () => open);
  t.notOk(firewallStateSchema.safeParse(stateOf({ earlier })).success, 'too many earlier policies');
});

t.test('a batch of changes is judged as a whole, with what it changes itself', async (t) => {
  const judged = (...changes: Parameters<typeof problemOfChanges>[2]) =>
    problemOfChanges(alice, [noWeb], changes);
  t.equal(judged({ kind: 'connection', connection: tcp({ port: 443 }) }), undefined);
  t.match(judged({ kind: 'connection', connection: tcp() }), /ever allowed/);
  t.equal(judged({ kind: 'policy', policy: open }, { kind: 'connection', connection: tcp() }), undefined);
  t.equal(
    judged(
      { kind: 'policy', policy: noWeb },
      { kind: 'policy', policy: open },
      { kind: 'connection', connection: tcp() },
    ),
    undefined,
  );
  const connection = tcp({ from: '10.0.0.7', port: 443 });
  t.match(judged({ kind: 'connection', connection }), /no address/);
  const moved = { ...alice, ipv4: ['10.0.0.7'] };
  t.equal(judged({ kind: 'terminal', terminal: moved }, { kind: 'connection', connection }), undefined);
  t.match(judged({ kind: 'terminal', terminal: { ...alice, name: 'bob' } }), /another terminal/);
  t.match(judged({ kind: 'terminal', terminal: { ...alice, mac: '02:00:00:00:00:09' } }), /another terminal/);
  t.equal(judged({ kind: 'ended', key: 'whatever' }), undefined);
});

t.test('policies are kept as long as a connection, or a copy under way, may need them', async (t) => {
  const history = new PolicyHistory(open, [], 0);
  const [web, other] = [tcp(), tcp({ port: 443 })];
  history.replace(noWeb, 1_000);
  t.same(
    history.forExport([other], 2_000),
    { earlier: [open], connections: [other] },
    'replaced just now: kept',
  );
  t.same(
    history.forExport([web, other], 100_000),
    { earlier: [open], connections: [web, other] },
    'needed: kept',
  );
  t.same(
    history.forExport([other], 100_000),
    { earlier: [], connections: [other] },
    'needed by nothing: forgotten',
  );
  t.same(
    history.forExport([web, other], 100_000),
    { earlier: [], connections: [other] },
    'then it proves nothing',
  );

  for (let i = 0; i < MAX_EARLIER_POLICIES + 5; i++) history.replace(policyOf({ name: `p${i}` }), 200_000);
  t.equal(history.earlier.length, MAX_EARLIER_POLICIES);
  t.equal(history.earlier[0]?.name, `p${MAX_EARLIER_POLICIES + 3}`, 'the last replaced is first');
  history.replace(policyOf({ name: `p${MAX_EARLIER_POLICIES + 4}` }), 200_000);
  t.equal(history.earlier.length, MAX_EARLIER_POLICIES, 'the same policy again replaces nothing');
});

t.test('a policy history takes up what another copy of its firewall tells, and stays in force', async (t) => {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => policyOf({ name }));
  if (!a || !b || !c) throw new Error('three policies');
  const history = new PolicyHistory(a, [b], 0);
  history.remember([c, a, b], 1_000);
  t.equal(history.policy, a);
  t.same(
    history.earlier.map(({ name }) => name),
    ['c', 'b'],
    'each once, and not the one in force',
  );
  history.replace(c, 2_000);
  t.same(
    history.earlier.map(({ name }) => name),
    ['a', 'b'],
  );
});

t.test('what an export says is never refused', async (t) => {
  const steps = fc.array(fc.tuple(policyArbitrary, fc.nat(200_000)), { maxLength: 6 });
  const packets = fc.array(packetArbitrary, { maxLength: 20 });
  const holds = (keepAll: boolean) =>
    fc.property(policyArbitrary, steps, packets, (first, changes, opening) => {
      const history = new PolicyHistory(first, [], 0);
      const connections = new Map<string, Connection>();
      let now = 0;
      for (const [policy, after] of changes) {
        for (const packet of opening) {
          const { admits } = verdict(history.policy, connections, packet);
          if (admits) connections.set(JSON.stringify([admits.protocol, admits.local, admits.remote]), admits);
        }
        now += after;
        history.replace(policy, now);
      }
      const all = [...connections.values()];
      const { earlier, connections: told } = history.forExport(all, now);
      if (told.length !== all.length) return false;
      const local = all.map(({ local: { address } }) => address);
      const terminal = {
        ...alice,
        ipv4: local.filter((address) => !address.includes(':')),
        ipv6: local.filter((address) => address.includes(':')),
      };
      const problem = problemOfState(
        stateOf({ terminal, policy: history.policy, earlier: keepAll ? earlier : [], connections: told }),
      );
      return problem === undefined || problem.includes('twice');
    });
  const result = fc.check(holds(true), { numRuns: 500 });
  t.notOk(result.failed, fc.defaultReportMessage(result) ?? 'holds');
  t.ok(
    fc.check(holds(false), { numRuns: 500, endOnFailure: true }).failed,
    'control: without the earlier policies it is',
  );
});

t.test('a state takes over other policies and other addresses', async (t) => {
  const state = stateOf({ connections: [tcp(), tcp({ from: 'fd00::1' })] });
  const stricter = applyDeltas(state, [{ sequence: 6, change: { kind: 'policy', policy: noWeb } }]);
  t.same(stricter.earlier, [open]);
  t.equal(problemOfState(stricter), undefined, 'its connections still prove themselves');
  const moved = applyDeltas(stricter, [
    { sequence: 7, change: { kind: 'terminal', terminal: { ...alice, ipv4: ['10.0.0.7'] } } },
  ]);
  t.same(moved.terminal.ipv4, ['10.0.0.7']);
  t.same(moved.connections, [tcp({ from: 'fd00::1' })], 'connections of an address that is gone are over');
});

t.test('every opening packet that is rejected has one answer', async (t) => {
  t.same(rejectionOf('tcp', 'ipv4'), { kind: 'tcp-reset' });
  t.same(rejectionOf('udp', 'ipv4'), { kind: 'icmp-error', type: 3, code: 3 });
  t.same(rejectionOf('udp', 'ipv6'), { kind: 'icmp-error', type: 1, code: 4 });
  t.same(rejectionOf('icmp', 'ipv6'), { kind: 'icmp-error', type: 1, code: 1 });
});
