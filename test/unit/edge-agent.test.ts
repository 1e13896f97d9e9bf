/**
 * The pure parts of the edge agent: rules as text, the mirror of the connection table and the log of changes.
 */
import { once } from 'node:events';
import fc from 'fast-check';
import t from 'tap';
import { ConnectionMirror } from '../../edge-agent/domain/connection-mirror.js';
import { parseCounters } from '../../edge-agent/iptables/counters.js';
import { gateSeconds } from '../../edge-agent/iptables/gate.js';
import { renderStop, renderTables } from '../../edge-agent/iptables/render.js';
import { lockName } from '../../edge-agent/name-lock.js';
import { imageHash, PACKAGES } from '../../edge-agent/runtime/docker/recipe.js';
import { parseStanzas } from '../../scripts/image.js';
import { ChangeLog } from '../../shared/domain/change-log.js';
import { DomainError } from '../../shared/domain/domain.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { policySchema } from '../../shared/firewall/policy.js';
import type { Change, Delta } from '../../shared/firewall/state.js';

const terminal = { name: 'alice', mac: '02:00:00:00:00:01', ipv4: ['10.0.0.1'], ipv6: ['fd00::1'] };
const policy = policySchema.parse({
  name: 'golden',
  defaults: { outbound: 'accept', inbound: 'reject' },
  rules: [
    {
      name: 'no mail',
      direction: 'outbound',
      action: 'reject',
      protocol: 'tcp',
      remotePorts: [25, '465-587'],
    },
    { name: 'no telnet', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: 23 },
    { name: 'lan', direction: 'inbound', action: 'accept', remote: '10.0.0.0/8' },
    {
      name: 'ssh',
      direction: 'inbound',
      action: 'accept',
      protocol: 'tcp',
      remote: 'fd00::/8',
      localPorts: 22,
    },
    { name: 'ping', direction: 'inbound', action: 'accept', protocol: 'icmp', family: 'ipv6', icmpType: 128 },
    { name: 'any ping', direction: 'outbound', action: 'accept', protocol: 'icmp' },
  ],
});
const counters = [
  { rule: 'no mail', packets: 3, bytes: 180 },
  { rule: 'ssh', packets: 4, bytes: 320 },
  { rule: 'default inbound', packets: 5, bytes: 400 },
];

const tcp = (change: Partial<Extract<Connection, { protocol: 'tcp' }>> = {}): Connection => ({
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port: 40_000 },
  remote: { address: '10.0.0.2', port: 80 },
  state: 'established',
  timeLeftSeconds: 100,
  ...change,
});

const IPV4 = `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A FORWARD -m mark --mark 1 -j ACCEPT
COMMIT
*mangle
:PREROUTING DROP [0:0]
:paguro-from-terminal - [0:0]
:paguro-from-network - [0:0]
:paguro-nd-source - [0:0]
:paguro-known - [0:0]
:paguro-admit - [0:0]
:paguro-accept - [0:0]
:paguro-reject - [0:0]
:paguro-pass - [0:0]
:paguro-outbound - [0:0]
:paguro-inbound - [0:0]
-A PREROUTING -p icmp --icmp-type 5 -j DROP
-A PREROUTING -p tcp --tcp-flags ACK,PSH PSH -j DROP
-A PREROUTING -p tcp --tcp-flags ACK,URG URG -j DROP
-A PREROUTING -p tcp -m multiport --ports 0 -j DROP
-A PREROUTING -p udp -m multiport --ports 0 -j DROP
-A PREROUTING -m physdev --physdev-in ter -g paguro-from-terminal
-A PREROUTING -m physdev --physdev-in net -g paguro-from-network
-A paguro-from-terminal -s 0.0.0.0 -p udp --sport 68 --dport 67 -g paguro-pass
-A paguro-from-terminal -s 10.0.0.1 -p udp --sport 68 --dport 67 -g paguro-pass
-A paguro-from-terminal -p udp --sport 67 --dport 68 -j DROP
-A paguro-from-terminal -s 10.0.0.1 -g paguro-known
-A paguro-from-terminal -j DROP
-A paguro-from-network -s 10.0.0.1 -j DROP
-A paguro-from-network -p udp --sport 67 --dport 68 -g paguro-pass
-A paguro-from-network -p udp --sport 68 --dport 67 -j DROP
-A paguro-from-network -g paguro-known
-A paguro-known -m conntrack --ctstate INVALID -j DROP
-A paguro-known -p tcp --syn -m conntrack --ctstate ESTABLISHED --ctstatus ASSURED -m connmark --mark 2/2 -g paguro-admit
-A paguro-known -p tcp --syn -m conntrack --ctstate ESTABLISHED --ctstatus ASSURED -j DROP
-A paguro-known -p tcp --tcp-flags RST RST -j CONNMARK --set-xmark 2/2
-A paguro-known -m conntrack --ctstate RELATED,ESTABLISHED -g paguro-pass
-A paguro-known -m connmark --mark 1/1 -g paguro-pass
-A paguro-known -j paguro-admit
-A paguro-admit -p tcp --syn -m conntrack --ctstate NEW,ESTABLISHED -m physdev --physdev-in ter -m recent --name paguro4 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p tcp --syn -m conntrack --ctstate NEW,ESTABLISHED -m physdev --physdev-in net -m recent --name paguro4 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -p udp -m conntrack --ctstate NEW -m physdev --physdev-in ter -m recent --name paguro4 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p udp -m conntrack --ctstate NEW -m physdev --physdev-in net -m recent --name paguro4 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -p icmp --icmp-type 8/0 -m conntrack --ctstate NEW -m physdev --physdev-in ter -m recent --name paguro4 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p icmp --icmp-type 8/0 -m conntrack --ctstate NEW -m physdev --physdev-in net -m recent --name paguro4 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -j DROP
[3:180] -A paguro-outbound -p tcp -m multiport --dports 25,465:587 -m comment --comment "no mail" -g paguro-reject
[0:0] -A paguro-outbound -p tcp -m multiport --dports 23 -m comment --comment "no telnet" -j DROP
[0:0] -A paguro-inbound -s 10.0.0.0/8 -m comment --comment "lan" -g paguro-accept
[0:0] -A paguro-outbound -p icmp -m comment --comment "any ping" -g paguro-accept
[0:0] -A paguro-outbound -m comment --comment "default outbound" -g paguro-accept
[5:400] -A paguro-inbound -m comment --comment "default inbound" -g paguro-reject
-A paguro-accept -j CONNMARK --set-mark 1
-A paguro-accept -g paguro-pass
-A paguro-reject -m physdev --physdev-in ter -j MARK --set-mark 2
-A paguro-reject -m physdev --physdev-in net -j MARK --set-mark 3
-A paguro-reject -j ACCEPT
-A paguro-pass -j MARK --set-mark 1
-A paguro-pass -j ACCEPT
COMMIT
`;

const IPV6 = `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A FORWARD -m mark --mark 1 -j ACCEPT
COMMIT
*mangle
:PREROUTING DROP [0:0]
:paguro-from-terminal - [0:0]
:paguro-from-network - [0:0]
:paguro-nd-source - [0:0]
:paguro-known - [0:0]
:paguro-admit - [0:0]
:paguro-accept - [0:0]
:paguro-reject - [0:0]
:paguro-pass - [0:0]
:paguro-outbound - [0:0]
:paguro-inbound - [0:0]
-A PREROUTING -p icmpv6 --icmpv6-type 137 -j DROP
-A PREROUTING -p tcp --tcp-flags ACK,PSH PSH -j DROP
-A PREROUTING -p tcp --tcp-flags ACK,URG URG -j DROP
-A PREROUTING -p tcp -m multiport --ports 0 -j DROP
-A PREROUTING -p udp -m multiport --ports 0 -j DROP
-A PREROUTING -m physdev --physdev-in ter -g paguro-from-terminal
-A PREROUTING -m physdev --physdev-in net -g paguro-from-network
-A paguro-from-terminal -p icmpv6 --icmpv6-type 133 -m hl --hl-eq 255 -g paguro-nd-source
-A paguro-from-terminal -p icmpv6 --icmpv6-type 135 -m hl --hl-eq 255 -g paguro-nd-source
-A paguro-from-terminal -p icmpv6 --icmpv6-type 136 -m hl --hl-eq 255 -g paguro-nd-source
-A paguro-from-terminal -s fe80::/10 -p udp --sport 546 --dport 547 -g paguro-pass
-A paguro-from-terminal -s fd00::1 -p udp --sport 546 --dport 547 -g paguro-pass
-A paguro-from-terminal -p udp --sport 547 --dport 546 -j DROP
-A paguro-from-terminal -s fd00::1 -g paguro-known
-A paguro-from-terminal -j DROP
-A paguro-nd-source -s :: -g paguro-pass
-A paguro-nd-source -s fe80::/10 -g paguro-pass
-A paguro-nd-source -s fd00::1 -g paguro-pass
-A paguro-nd-source -j DROP
-A paguro-from-network -s fd00::1 -j DROP
-A paguro-from-network -p icmpv6 --icmpv6-type 134 -m hl --hl-eq 255 -g paguro-pass
-A paguro-from-network -p icmpv6 --icmpv6-type 135 -m hl --hl-eq 255 -g paguro-pass
-A paguro-from-network -p icmpv6 --icmpv6-type 136 -m hl --hl-eq 255 -g paguro-pass
-A paguro-from-network -p udp --sport 547 --dport 546 -g paguro-pass
-A paguro-from-network -p udp --sport 546 --dport 547 -j DROP
-A paguro-from-network -g paguro-known
-A paguro-known -m conntrack --ctstate INVALID -j DROP
-A paguro-known -p tcp --syn -m conntrack --ctstate ESTABLISHED --ctstatus ASSURED -m connmark --mark 2/2 -g paguro-admit
-A paguro-known -p tcp --syn -m conntrack --ctstate ESTABLISHED --ctstatus ASSURED -j DROP
-A paguro-known -p tcp --tcp-flags RST RST -j CONNMARK --set-xmark 2/2
-A paguro-known -m conntrack --ctstate RELATED,ESTABLISHED -g paguro-pass
-A paguro-known -m connmark --mark 1/1 -g paguro-pass
-A paguro-known -j paguro-admit
-A paguro-admit -p tcp --syn -m conntrack --ctstate NEW,ESTABLISHED -m physdev --physdev-in ter -m recent --name paguro6 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p tcp --syn -m conntrack --ctstate NEW,ESTABLISHED -m physdev --physdev-in net -m recent --name paguro6 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -p udp -m conntrack --ctstate NEW -m physdev --physdev-in ter -m recent --name paguro6 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p udp -m conntrack --ctstate NEW -m physdev --physdev-in net -m recent --name paguro6 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -p icmpv6 --icmpv6-type 128/0 -m conntrack --ctstate NEW -m physdev --physdev-in ter -m recent --name paguro6 --rcheck --seconds 61 --rsource -g paguro-outbound
-A paguro-admit -p icmpv6 --icmpv6-type 128/0 -m conntrack --ctstate NEW -m physdev --physdev-in net -m recent --name paguro6 --rcheck --seconds 61 --rdest -g paguro-inbound
-A paguro-admit -j DROP
[0:0] -A paguro-outbound -p tcp -m multiport --dports 25,465:587 -m comment --comment "no mail" -g paguro-reject
[0:0] -A paguro-outbound -p tcp -m multiport --dports 23 -m comment --comment "no telnet" -j DROP
[4:320] -A paguro-inbound -s fd00::/8 -p tcp -m multiport --dports 22 -m comment --comment "ssh" -g paguro-accept
[0:0] -A paguro-inbound -p icmpv6 --icmpv6-type 128 -m comment --comment "ping" -g paguro-accept
[0:0] -A paguro-outbound -p icmpv6 -m comment --comment "any ping" -g paguro-accept
[0:0] -A paguro-outbound -m comment --comment "default outbound" -g paguro-accept
[0:0] -A paguro-inbound -m comment --comment "default inbound" -g paguro-reject
-A paguro-accept -j CONNMARK --set-mark 1
-A paguro-accept -g paguro-pass
-A paguro-reject -m physdev --physdev-in ter -j MARK --set-mark 2
-A paguro-reject -m physdev --physdev-in net -j MARK --set-mark 3
-A paguro-reject -j ACCEPT
-A paguro-pass -j MARK --set-mark 1
-A paguro-pass -j ACCEPT
COMMIT
`;

t.test('rules for iptables-restore', async (t) => {
  t.equal(renderTables({ terminal, policy, counters, gateSeconds: 61 }, 'ipv4'), IPV4);
  t.equal(renderTables({ terminal, policy, counters, gateSeconds: 61 }, 'ipv6'), IPV6);
  t.equal(renderStop(), '*mangle\n-F PREROUTING\nCOMMIT\n');
});

t.test('the gate outlives the lease by at most two seconds, and never ends before it', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 86_400_000 }), (leaseMs) => {
      const over = gateSeconds(leaseMs) * 1000 - leaseMs;
      return over >= 1000 && over < 2000;
    }),
  );
  t.equal(gateSeconds(10_000), 11);
});

t.test('a name is locked once, until it is given back', async (t) => {
  const name = `unit-${process.pid}`;
  const lock = await lockName(name);
  const other = await lockName(`${name}-b`);
  await t.rejects(lockName(name), {
    code: 'name-taken',
    message: /runs already .*ss -xlp src @paguro-agent/,
  });
  await other.close();
  await t.rejects(lockName(name), { code: 'name-taken' }, 'another name says nothing of this one');
  await lock.close();
  await lock.close();
  await (await lockName(name)).close();
});

t.test('more ports than one match holds make more lines, one of which begins with the counter', async (t) => {
  const ports = Array.from({ length: 20 }, (_, index) => index * 10 + 1);
  const ranges = Array.from({ length: 8 }, (_, index): [number, number] => [index * 100, index * 100 + 9]);
  const many = policySchema.parse({
    ...policy,
    rules: [
      {
        name: 'many',
        direction: 'outbound',
        action: 'accept',
        protocol: 'udp',
        remotePorts: ports,
        localPorts: ranges,
      },
    ],
  });
  const text = renderTables(
    { terminal, policy: many, counters: [{ rule: 'many', packets: 9, bytes: 90 }], gateSeconds: 61 },
    'ipv4',
  );
  const lines = text.split('\n').filter((line) => line.includes('"many"'));
  t.equal(lines.length, 4, 'two groups of remote ports with two of local ones');
  t.equal(lines.filter((line) => line.startsWith('[9:90]')).length, 1);
  for (const line of lines) {
    for (const [, list = ''] of line.matchAll(/--[sd]ports (\S+)/g)) {
      t.ok(list.split(/[,:]/).length <= 15, 'at most 15 ports in a match');
    }
  }
  const all = new Set(lines.flatMap((line) => /--dports (\S+)/.exec(line)?.[1]?.split(',') ?? []));
  t.equal(all.size, ports.length, 'every port is there');
});

t.test('what is no value never becomes an option, even if no schema has seen it', async (t) => {
  const base = { terminal, policy, counters: [], gateSeconds: 61 };
  const [first] = policy.rules;
  if (!first) throw new Error('the policy has rules');
  const ruled = (change: Partial<typeof first>) => ({
    ...base,
    policy: { ...policy, rules: [{ ...first, ...change }] },
  });
  const hostile: Readonly<Record<string, Parameters<typeof renderTables>[0]>> = {
    'an address': { ...base, terminal: { ...terminal, ipv4: ['10.0.0.1 -j ACCEPT'] } },
    'an address that is an option': { ...base, terminal: { ...terminal, ipv4: ['-j'] } },
    'a line break': ruled({ remote: '10.0.0.0/8\n-A FORWARD' }),
    'a quotation mark': ruled({ name: 'x" -j ACCEPT' }),
    'a backslash': ruled({ name: 'x\\' }),
    'no number': ruled({ remotePorts: [[Number.NaN, 1]] }),
    'a negative number': { ...base, gateSeconds: -1 },
    'a huge number': { ...base, counters: [{ rule: first.name, packets: 1e30, bytes: 0 }] },
  };
  for (const [what, ruleset] of Object.entries(hostile))
    t.throws(() => renderTables(ruleset, 'ipv4'), { code: 'invalid' }, what);
  t.doesNotThrow(() => renderTables(base, 'ipv4'), 'control');
});

t.test('counters as iptables-save prints them', async (t) => {
  const saved = [
    '*filter\n[7:420] -A paguro-outbound -p tcp -m multiport --dports 25 -m comment --comment "no mail" -j DROP\n[1:60] -A paguro-outbound -m comment --comment "default outbound" -g paguro-accept\n',
    '[2:120] -A paguro-outbound -p tcp -m comment --comment "no mail" -j DROP\n[5:5] -A paguro-inbound -p tcp -m comment --comment ssh -g paguro-accept\n[9:9] -A elsewhere -m comment --comment ssh -j DROP\n[3:3] -A paguro-inbound -m comment --comment unknown -j DROP\n',
  ];
  t.same(parseCounters(saved, policy), [
    { rule: 'no mail', packets: 9, bytes: 540 },
    { rule: 'no telnet', packets: 0, bytes: 0 },
    { rule: 'lan', packets: 0, bytes: 0 },
    { rule: 'ssh', packets: 5, bytes: 5 },
    { rule: 'ping', packets: 0, bytes: 0 },
    { rule: 'any ping', packets: 0, bytes: 0 },
    { rule: 'default outbound', packets: 1, bytes: 60 },
    { rule: 'default inbound', packets: 0, bytes: 0 },
  ]);
});

t.test('the mirror', async (t) => {
  type Event = Parameters<ConnectionMirror['observe']>[0];
  const event = (kind: Event['event'], connection: Connection, saysState = true): Event => ({
    event: kind,
    connection,
    saysState,
  });
  const mirrorOf = (...connections: readonly Connection[]): ConnectionMirror => {
    const mirror = new ConnectionMirror();
    for (const connection of connections) mirror.observe(event('new', connection));
    return mirror;
  };
  /** Of what a mirror holds, the digest as it is computed anew. */
  const digestOf = (...connections: readonly Connection[]) => {
    const { count, value } = new ConnectionsDigest(connections);
    return { connections: count, digest: value };
  };
  const told = (connection: Connection): Change => ({ kind: 'connection', connection });
  const key = connectionKey(tcp());
  const local = { address: '10.0.0.1', port: 40_001 };
  const other = tcp({ local });

  await t.test('reports what changes, and nothing else', async (t) => {
    const mirror = mirrorOf(tcp());
    t.equal(mirror.observe(event('update', tcp({ timeLeftSeconds: 5 }))), undefined, 'time passes');
    t.same(mirror.observe(event('update', tcp({ state: 'closing' }))), told(tcp({ state: 'closing' })));
    t.same(mirror.digest, digestOf(tcp({ state: 'closing' })));
    t.same(mirror.observe(event('destroy', tcp())), { kind: 'ended', key });
    t.equal(mirror.observe(event('destroy', tcp())), undefined, 'ended once');
    t.same(mirror.digest, digestOf());
  });
  await t.test('an event that does not say the state turns nothing back', async (t) => {
    const mirror = mirrorOf(tcp({ state: 'closing' }));
    t.equal(mirror.observe(event('update', tcp({ state: 'established' }), false)), undefined);
    t.same(
      mirror.observe(event('update', tcp({ state: 'established' }))),
      told(tcp({ state: 'established' })),
      'control: one that says it is the truth',
    );
    const opening = mirrorOf(tcp({ state: 'opening' }));
    t.same(
      opening.observe(event('update', tcp({ state: 'answered' }), false)),
      told(tcp({ state: 'answered' })),
    );
  });
  await t.test(
    'plans what changes of another instance mean for the table, and changes nothing',
    async (t) => {
      const mirror = mirrorOf(tcp());
      const changes: Change[] = [
        told(tcp({ state: 'closing' })),
        told(tcp({ local, state: 'opening' })),
        told(other),
        { kind: 'ended', key: 'tcp 10.0.0.1 1 10.0.0.2 2' },
      ];
      const plan = { ended: [], added: [other], updated: [tcp({ state: 'closing' })] };
      t.same(mirror.plan(changes, false), plan);
      t.same(mirror.plan(changes, false), plan, 'a repetition finds everything still to be done');
      t.same(mirror.plan([{ kind: 'ended', key }], false), { ended: [tcp()], added: [], updated: [] });
      t.same(mirror.plan([{ kind: 'ended', key }, told(tcp())], false), {
        ended: [],
        added: [],
        updated: [],
      });
      t.same(mirror.plan([told(other), { kind: 'ended', key: connectionKey(other) }], false), {
        ended: [],
        added: [],
        updated: [],
      });
      t.same(mirror.digest, digestOf(tcp()));
    },
  );
  await t.test('no entry goes back: it is replaced, but not where packets have shown more', async (t) => {
    const back = tcp({ state: 'answered' });
    const none = { ended: [], added: [], updated: [] };
    t.same(mirrorOf(tcp()).plan([told(back)], true), none);
    t.same(mirrorOf(tcp()).plan([told(back)], false), { ended: [tcp()], added: [back], updated: [] });
    t.same(mirrorOf(tcp({ state: 'opening' })).plan([told(back)], true), { ...none, updated: [back] });
    const turned = tcp({ opener: 'remote' });
    t.same(mirrorOf(tcp()).plan([told(turned)], false), { ended: [tcp()], added: [turned], updated: [] });
  });
  await t.test('forgets an address', async (t) => {
    const mirror = mirrorOf(tcp(), tcp({ local: { address: '10.0.0.9', port: 1 } }));
    mirror.forget('10.0.0.9');
    t.same(mirror.digest, digestOf(tcp()));
    t.same(mirror.replace([tcp()]), []);
  });
  await t.test('after a whole dump says what differed', async (t) => {
    const mirror = mirrorOf(tcp());
    t.same(mirror.replace([other]), [{ kind: 'ended', key }, told(other)]);
    t.same(mirror.replace([other]), []);
    t.same(mirror.digest, digestOf(other));
  });
  await t.test('what events say while a dump is made is later than the dump', async (t) => {
    const closing = tcp({ local, state: 'closing' });
    const third = tcp({ local: { address: '10.0.0.1', port: 40_002 } });
    const mirror = mirrorOf(tcp(), other);
    mirror.beginDump();
    mirror.observe(event('destroy', tcp()));
    mirror.observe(event('update', closing));
    mirror.observe(event('new', third));
    t.same(mirror.replace([tcp(), other]), []);
    t.same(mirror.digest, digestOf(closing, third));
    t.equal(mirror.replace([tcp(), other]).length, 3, 'control: later the dump is the truth again');
  });
  await t.test('its digest is that of what it holds, whatever happens', async () => {
    const states = ['opening', 'answered', 'established', 'closing', 'closed'] as const;
    const one = fc
      .record({ port: fc.integer({ min: 1, max: 4 }), state: fc.constantFrom(...states) })
      .map(({ port, state }) => tcp({ local: { address: '10.0.0.1', port }, state }));
    const events = fc
      .tuple(fc.constantFrom('new' as const, 'update' as const, 'destroy' as const), one, fc.boolean())
      .map(([kind, connection, says]) => ({ event: event(kind, connection, says) }));
    const dumps = fc.uniqueArray(one, { selector: connectionKey, maxLength: 4 }).map((dump) => ({ dump }));
    fc.assert(
      fc.property(fc.array(fc.oneof(events, dumps), { maxLength: 20 }), (acts) => {
        const mirror = new ConnectionMirror();
        const held = new Map<string, Connection>();
        for (const act of acts) {
          for (const change of 'dump' in act ? mirror.replace(act.dump) : [mirror.observe(act.event)]) {
            if (change?.kind === 'ended') held.delete(change.key);
            if (change?.kind === 'connection') held.set(connectionKey(change.connection), change.connection);
          }
        }
        return JSON.stringify(mirror.digest) === JSON.stringify(digestOf(...held.values()));
      }),
    );
  });
});

t.test('the log of changes', async (t) => {
  const change = (port: number): Change => ({ kind: 'ended', key: `tcp 10.0.0.1 ${port} 10.0.0.2 80` });
  const read = async (log: ChangeLog, from: number, count: number): Promise<readonly Delta[]> => {
    const all: Delta[] = [];
    for await (const batch of log.follow(from, new AbortController().signal)) {
      all.push(...batch);
      if (all.length >= count) break;
    }
    return all;
  };
  await t.test('numbers and keeps the last', async (t) => {
    const log = new ChangeLog(0, 4);
    log.append([1, 2, 3, 4, 5, 6].map(change));
    t.same(
      (await read(log, 2, 4)).map(({ sequence }) => sequence),
      [3, 4, 5, 6],
    );
    t.same(await read(log, 5, 1), [{ sequence: 6, change: change(6) }]);
    await t.rejects(read(log, 1, 1), { code: 'changes-lost' });
    await t.rejects(read(log, 7, 1), { code: 'changes-lost' }, 'a number that was never given');
  });
  await t.test('says how long ago each was, when it is asked to', async (t) => {
    let now = 100;
    const log = new ChangeLog(0, 4, () => now);
    log.append([change(1)]);
    now += 30;
    log.append([change(2)]);
    now += 1;
    t.match(await read(log, 0, 2), [
      { sequence: 1, ageMs: 31 },
      { sequence: 2, ageMs: 1 },
    ]);
  });
  await t.test('tells those who follow that they miss changes, and goes on', async (t) => {
    const log = new ChangeLog();
    const following = read(log, 0, 100);
    log.append([change(1)]);
    log.interrupt(new DomainError('changes-lost', 'take a new snapshot'));
    await t.rejects(following, { code: 'changes-lost' });
    const again = read(log, 0, 2);
    log.append([change(2)]);
    t.equal((await again).length, 2, 'and may be followed again');
  });
  await t.test('wakes who waits, and ends', async (t) => {
    const log = new ChangeLog();
    const waiting = read(log, 0, 2);
    log.append([change(1)]);
    log.append([change(2)]);
    t.equal((await waiting).length, 2);
    const untilEnd = read(log, 0, 100);
    log.end();
    log.end();
    t.equal((await untilEnd).length, 2, 'what there was comes before the end');
    const abort = new AbortController();
    const aborted = once(abort.signal, 'abort');
    const follower = new ChangeLog().follow(0, abort.signal);
    const next = follower.next();
    abort.abort();
    await aborted;
    t.match(await next, { done: true });
  });
});

t.test('the image’s recipe', async (t) => {
  const versions = Object.fromEntries(PACKAGES.map(({ name }) => [name, '1']));
  t.match(imageHash(versions, 'x64'), /^[0-9a-f]{16}$/);
  t.equal(
    imageHash(versions, 'x64'),
    imageHash(Object.fromEntries(Object.entries(versions).reverse()), 'x64'),
    'in any order',
  );
  t.not(imageHash(versions, 'x64'), imageHash({ ...versions, iptables: '2' }, 'x64'));
  t.not(imageHash(versions, 'x64'), imageHash(versions, 'arm64'));
  t.same(
    parseStanzas('Package: a\nVersion: 1:2-3\nArchitecture: amd64\nSHA256: ff\n\nPackage: b\nVersion: 1\n'),
    [{ name: 'a', version: '1:2-3', architecture: 'amd64', sha256: 'ff' }],
  );
});
