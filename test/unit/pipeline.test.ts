/**
 * Firewall state to flow rules: what the rules decide is what the reference verdict decides.
 */
import fc from 'fast-check';
import t from 'tap';
import { flowKey } from '../../controller-app/core/flow-identity.js';
import { MAX_INSTANCE_NUMBER } from '../../controller-app/core/instance-numbers.js';
import type { Rule } from '../../controller-app/core/rule.js';
import { CT_STATE, type Match, TCP_FLAGS } from '../../controller-app/openflow/index.js';
import {
  adoptionRules,
  DEFAULT_INBOUND,
  DEFAULT_OUTBOUND,
  type FirewallInstance,
  firewallRules,
  guardRules,
  MARK,
  MAX_POLICY_RULES,
  meterMods,
  meterOf,
  PolicyTooLargeError,
  packCookie,
  policyRules,
  unpackCookie,
  unpackLearning,
  useCookies,
} from '../../controller-app/pipeline/index.js';
import { prefixMatch } from '../../controller-app/pipeline/policy-rules.js';
import { portMasks, portMatches } from '../../controller-app/pipeline/port-masks.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { ICMP_TYPES, type Packet, type TcpPacket, type UdpPacket } from '../../shared/firewall/packet.js';
import { MAX_RULES, type Policy, policySchema } from '../../shared/firewall/policy.js';
import { familyOf, linkLocalOf } from '../../shared/firewall/terminal.js';
import { verdict } from '../../shared/firewall/verdict.js';
import { bytesOf } from '../fixtures/frames.js';

const policy = policySchema.parse({
  name: 'p',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    { name: 'no mail', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: [25, 465] },
    { name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 },
  ],
});
const terminal = { name: 'alice', mac: '02:00:00:00:00:01', ipv4: ['10.0.0.1'], ipv6: ['fd00::1'] };
const instance: FirewallInstance = {
  number: 7,
  terminal,
  policy,
  generation: 3,
  role: 'active',
  admits: true,
  adoption: [],
  tables: { firewallCt: 4, admit: 5, deliver: 6 },
};

const allRules = (one: FirewallInstance): Rule[] => [...firewallRules(one), ...policyRules(one)];

t.test('a range of ports becomes masks that hold exactly its ports', async (t) => {
  const held = (port: number, pairs: readonly { value: number; mask: number }[]): number =>
    pairs.filter(({ value, mask }) => (port & mask) === value).length;
  const port = fc.integer({ min: 0, max: 65_535 });
  fc.assert(
    fc.property(port, port, port, (a, b, probe) => {
      const [first, last] = a < b ? [a, b] : [b, a];
      const pairs = portMasks([first, last]);
      const at = (one: number): boolean => held(one, pairs) === (one >= first && one <= last ? 1 : 0);
      return (
        pairs.length <= 30 &&
        [probe, first, last, first - 1, last + 1].every((one) => one < 0 || one > 65_535 || at(one))
      );
    }),
    { numRuns: 2000 },
  );
  t.same(portMasks([0, 65_535]), [{ value: 0, mask: 0 }]);
  t.same(
    portMatches([
      [5000, 5001],
      [5001, 5003],
    ]),
    [{ value: 5000, mask: 0xfffc }],
    'ranges that overlap are one',
  );
});

t.test('a cookie tells kind, instance and policy rule', async (t) => {
  const kind = fc.constantFrom('opening', 'state', 'announce', 'refused', 'rejected', 'adopted' as const);
  const number = fc.integer({ min: 1, max: MAX_INSTANCE_NUMBER });
  const rule = fc.constantFrom(0, 1, MAX_RULES - 1, DEFAULT_OUTBOUND, DEFAULT_INBOUND);
  t.ok(DEFAULT_OUTBOUND >= MAX_RULES, 'no rule has the number of a default');
  fc.assert(
    fc.property(kind, number, rule, (kind, number, policyRule) => {
      const cookie = packCookie({ kind, instance: number, policyRule });
      t.same(unpackCookie(cookie), { kind, instance: number, policyRule });
      return cookie >= 0 && cookie < 2 ** 32;
    }),
  );
  t.equal(unpackCookie(0xf000_0000), undefined);
});

/** What conntrack tells of a packet that may open a connection: its own ends, of an echo its type and code. */
function original(packet: Packet, ct: number): Record<string, number | string> {
  if (!(ct & CT_STATE.new) || packet.protocol === 'other') return {};
  const prefix = packet.family === 'ipv4' ? 'ct_nw' : 'ct_ipv6';
  const [ct_tp_src, ct_tp_dst] =
    packet.protocol === 'icmp' ? [packet.type, packet.code] : [packet.source.port, packet.destination.port];
  const icmp = packet.family === 'ipv4' ? 1 : 58;
  return {
    ct_nw_proto: { tcp: 6, udp: 17, icmp }[packet.protocol],
    [`${prefix}_src`]: packet.source.address,
    [`${prefix}_dst`]: packet.destination.address,
    ct_tp_src,
    ct_tp_dst,
  };
}

/** The fields of a packet as a switch extracts them, with what conntrack says of it. */
function fields(packet: Packet, ct: number): Record<string, number | string> {
  const common: Record<string, number | string> = {
    reg0: packet.direction === 'outbound' ? 1 : 2,
    reg1: 7,
    eth_type: packet.family === 'ipv4' ? 0x0800 : 0x86dd,
    ct_state: ct | CT_STATE.trk,
    ct_mark: 0,
    pkt_mark: 0,
    nw_frag: 0,
    [`${packet.family}_src`]: packet.source.address,
    [`${packet.family}_dst`]: packet.destination.address,
    ...original(packet, ct),
  };
  switch (packet.protocol) {
    case 'tcp': {
      const flags = (['syn', 'ack', 'fin', 'rst'] as const).reduce(
        (bits, name) => bits | (packet.flags[name] ? TCP_FLAGS[name] : 0),
        0,
      );
      return {
        ...common,
        ip_proto: 6,
        tcp_src: packet.source.port,
        tcp_dst: packet.destination.port,
        tcp_flags: flags,
      };
    }
    case 'udp':
      return { ...common, ip_proto: 17, udp_src: packet.source.port, udp_dst: packet.destination.port };
    case 'icmp':
      return packet.family === 'ipv4'
        ? { ...common, ip_proto: 1, icmpv4_type: packet.type, icmpv4_code: packet.code }
        : { ...common, ip_proto: 58, icmpv6_type: packet.type, icmpv6_code: packet.code };
    case 'other':
      return { ...common, ip_proto: packet.number };
  }
}

function matches(match: Match, packet: Readonly<Record<string, number | string>>): boolean {
  return Object.entries(match).every(([name, wanted]) => {
    const actual = packet[name];
    if (actual === undefined) return false;
    const { value, mask } =
      typeof wanted === 'object' && 'mask' in wanted ? wanted : { value: wanted, mask: undefined };
    if (typeof actual === 'number')
      return (actual & Number(mask ?? 0xffff_ffff)) >>> 0 === Number(value) >>> 0;
    if (mask === undefined) return actual === value;
    const [a, m, v] = [actual, String(mask), String(value)].map((text) => bytesOf.ip(text));
    return a?.every((byte, index) => (byte & (m?.[index] ?? 0)) === v?.[index]) ?? false;
  });
}

/** The rule of a table that a packet meets; two at the same priority must not both match. */
function meets(
  rules: readonly Rule[],
  table: string,
  packet: Readonly<Record<string, number | string>>,
): Rule | undefined {
  const candidates = rules
    .filter((rule) => rule.table === table && matches(rule.match, packet))
    .sort((a, b) => b.priority - a.priority);
  const [first, second] = candidates;
  if (first && second && first.priority === second.priority) {
    throw new Error(`two rules at ${first.priority}: ${JSON.stringify([first.match, second.match])}`);
  }
  return first;
}

const addresses = {
  ipv4: fc.constantFrom('10.0.0.2', '10.1.2.3', '192.0.2.7'),
  ipv6: fc.constantFrom('fd00::2', 'fd00:1::9', '2001:db8::7'),
};
const somePort = fc.constantFrom(0, 1, 22, 25, 53, 443, 5000, 5003, 5004, 65_535);
const anyPacket: fc.Arbitrary<Packet> = fc
  .record({
    direction: fc.constantFrom('outbound' as const, 'inbound' as const),
    family: fc.constantFrom('ipv4' as const, 'ipv6' as const),
    remote4: addresses.ipv4,
    remote6: addresses.ipv6,
    ports: fc.tuple(somePort, somePort),
    kind: fc.constantFrom('tcp', 'udp', 'icmp', 'other'),
    flags: fc.record({ syn: fc.boolean(), ack: fc.boolean(), fin: fc.boolean(), rst: fc.boolean() }),
    type: fc.constantFrom(0, 3, 5, 8, 13, 128, 129, 137),
  })
  .map(({ direction, family, remote4, remote6, ports, kind, flags, type }): Packet => {
    const local = { address: family === 'ipv4' ? '10.0.0.1' : 'fd00::1', port: ports[0] };
    const remote = { address: family === 'ipv4' ? remote4 : remote6, port: ports[1] };
    const [source, destination] = direction === 'outbound' ? [local, remote] : [remote, local];
    const base = { direction, family, source, destination };
    if (kind === 'tcp') return { ...base, protocol: 'tcp', flags };
    if (kind === 'udp') return { ...base, protocol: 'udp' };
    if (kind === 'other') return { ...base, protocol: 'other', number: 47 };
    return { ...base, protocol: 'icmp', type, code: 0, id: 1 };
  });

const anyRule = fc
  .record({
    direction: fc.constantFrom('outbound', 'inbound'),
    action: fc.constantFrom('accept', 'accept', 'drop', 'reject'),
    family: fc.option(fc.constantFrom('ipv4', 'ipv6'), { nil: undefined }),
    protocol: fc.option(fc.constantFrom('tcp', 'udp', 'icmp'), { nil: undefined }),
    remote: fc.option(
      fc.constantFrom('10.0.0.0/8', '10.0.0.77/24', '192.0.2.7', 'fd00::/16', 'fd00::2', '::/0'),
      {
        nil: undefined,
      },
    ),
    remotePorts: fc.option(fc.constantFrom(443, '5000-5003', [22, '53-443']), { nil: undefined }),
    localPorts: fc.option(fc.constantFrom(22, '0-65535', '1-5003'), { nil: undefined }),
    icmpType: fc.option(fc.constantFrom(8, 128, 13), { nil: undefined }),
  })
  .map((rule) => Object.fromEntries(Object.entries(rule).filter(([, value]) => value !== undefined)));
const anyPolicy: fc.Arbitrary<Policy> = fc
  .record({
    rules: fc.array(anyRule, { maxLength: 6 }),
    outbound: fc.constantFrom('accept', 'accept', 'drop', 'reject'),
    inbound: fc.constantFrom('accept', 'accept', 'drop', 'reject'),
  })
  .map(({ rules, outbound, inbound }) =>
    policySchema.safeParse({
      name: 'any',
      defaults: { outbound, inbound },
      rules: rules.map((rule, index) => ({ name: `rule ${index}`, ...rule })),
    }),
  )
  .filter((parsed) => parsed.success)
  .map((parsed) => parsed.data as Policy);

/** Does what meets this rule pass? The policy's accepted packets go to `admit`, all others that pass to `deliver`. */
function goesOn(rule: Rule | undefined): boolean {
  return rule?.instructions.some(({ type }) => type === 'goto_table') ?? false;
}

t.test('a packet of no known connection meets what the reference verdict says', async (t) => {
  let accepted = 0;
  fc.assert(
    fc.property(anyPolicy, anyPacket, (policy, packet) => {
      const rules = allRules({ ...instance, policy });
      const expected = verdict(policy, new Map(), packet);
      const icmp = packet.protocol === 'icmp' ? ICMP_TYPES[packet.family] : undefined;
      // What conntrack finds invalid in a packet of nothing it knows: an echo reply, an error, an unknown ICMP type, port 0.
      const toPort0 = (packet.protocol === 'tcp' || packet.protocol === 'udp') && usesPort0(packet);
      const valid = !toPort0 && (packet.protocol !== 'icmp' || packet.type === icmp?.echoRequest);
      const toConntrack = meets(rules, 'firewall', { ...fields(packet, 0), nw_ttl: 64 });
      const decided =
        toConntrack && toConntrack.instructions.length > 0
          ? meets(rules, 'firewall-ct', fields(packet, valid ? CT_STATE.new : CT_STATE.inv))
          : undefined;
      const passes = goesOn(decided);
      if (passes) accepted++;
      const answered = decided?.instructions.some(({ type }) => type === 'meter') ?? false;
      if (answered !== (expected.verdict === 'reject')) return false;
      const cookie = unpackCookie(decided?.cookie ?? 0);
      if (expected.reason === 'rule' || expected.reason === 'default') {
        const names = [...policy.rules.map(({ name }) => name)];
        const by =
          cookie && cookie.policyRule < DEFAULT_OUTBOUND
            ? names[cookie.policyRule]
            : `default ${packet.direction}`;
        if (by !== expected.by) return false;
      }
      return passes === (expected.verdict === 'accept');
    }),
    { numRuns: 3000 },
  );
  t.ok(accepted > 100, 'control: many of the packets were accepted');
});

function usesPort0({ source, destination }: TcpPacket | UdpPacket): boolean {
  return source.port === 0 || destination.port === 0;
}

t.test('a prefix has no bits beside its mask: a switch would refuse it', async (t) => {
  t.same(prefixMatch('ipv4', '10.0.0.77', 24), { value: '10.0.0.0', mask: '255.255.255.0' });
  t.same(prefixMatch('ipv4', '10.255.0.77', 9), { value: '10.128.0.0', mask: '255.128.0.0' });
  t.same(prefixMatch('ipv6', 'fd00:1:2::9', 33), { value: 'fd00:1::', mask: 'ffff:ffff:8000::' });
  t.same(prefixMatch('ipv6', '2001:db8::7', 128).value, '2001:db8::7');
});

t.test('known connections pass whatever the policy says; state changes are copied', async (t) => {
  const rules = allRules({
    ...instance,
    policy: { ...policy, defaults: { outbound: 'drop', inbound: 'drop' } },
  });
  const packet = (flags: object): Packet => ({
    direction: 'inbound',
    family: 'ipv4',
    protocol: 'tcp',
    source: { address: '10.0.0.2', port: 443 },
    destination: { address: '10.0.0.1', port: 40_000 },
    flags,
  });
  const gen = (3 << 4) | MARK.replied;
  const kind = (flags: object, mark: number, ct = CT_STATE.est | CT_STATE.rpl): string | undefined =>
    unpackCookie(meets(rules, 'firewall-ct', { ...fields(packet(flags), ct), ct_mark: mark })?.cookie ?? 0)
      ?.kind;
  t.equal(kind({ ack: true }, gen), 'none');
  t.equal(kind({ ack: true, fin: true }, gen), 'state');
  t.equal(kind({ rst: true }, gen), 'state');
  t.equal(kind({ syn: true, ack: true }, gen), 'state');
  t.equal(kind({ ack: true }, MARK.replied | (2 << 4)), 'announce', 'of another generation');
  t.equal(kind({ ack: true }, 3 << 4, CT_STATE.est), 'handshake', 'the first ACK of the opener');
  t.equal(kind({ ack: true }, MARK.adopted | (3 << 4)), 'reply', 'the first packet back of an adopted one');
});

t.test('what a switch has cached for another policy is not met any more', async (t) => {
  const syn = fields(
    {
      direction: 'outbound',
      family: 'ipv4',
      protocol: 'udp',
      source: { address: '10.0.0.1', port: 40_000 },
      destination: { address: '10.0.0.2', port: 443 },
    },
    CT_STATE.new,
  );
  const tracked = (of: FirewallInstance): unknown[] => {
    const rule = meets(allRules(of), 'firewall', syn);
    return [rule?.match.pkt_mark, rule?.instructions];
  };
  const { policy } = instance;
  const renamed = { ...policy, name: `${policy.name}, once more` };
  t.same(tracked(instance), tracked({ ...instance, policy: structuredClone(policy) }), 'control: the same');
  t.same(tracked(instance), tracked({ ...instance, generation: 3 }), 'nor does a generation change it');
  for (const other of [
    { ...instance, policy: renamed },
    { ...instance, admits: false },
    { ...instance, role: 'draining' as const },
  ]) {
    const [before, after] = [tracked(instance), tracked(other)];
    t.notSame(
      before[0],
      after[0],
      'the rule looks at another bit, so that what leads to conntrack is removed',
    );
    t.notSame(before[1], after[1], 'and behind it what the switch keeps of a packet is other');
  }
});

t.test('without a lease nothing new is admitted; draining it is handed on', async (t) => {
  const syn = fields(
    {
      direction: 'outbound',
      family: 'ipv4',
      protocol: 'tcp',
      source: { address: '10.0.0.1', port: 40_000 },
      destination: { address: '10.0.0.2', port: 443 },
      flags: { syn: true },
    },
    CT_STATE.new,
  );
  t.ok(meets(allRules(instance), 'firewall-ct', syn), 'control');
  t.equal(meets(allRules({ ...instance, admits: false }), 'firewall-ct', syn), undefined);
  const draining = allRules({ ...instance, role: 'draining' });
  for (const packet of [syn, { ...syn, ct_state: CT_STATE.inv | CT_STATE.trk }]) {
    t.match(meets(draining, 'firewall-ct', packet)?.instructions, [
      { type: 'apply_actions', actions: [{ type: 'set_field', field: { reg4: 1 } }] },
      { type: 'goto_table', table: 6 },
    ]);
  }
  t.equal(
    meets(allRules(instance), 'firewall-ct', { ...syn, ct_state: CT_STATE.inv | CT_STATE.trk })?.instructions
      .length,
    0,
  );
});

t.test('activation changes no rule', async (t) => {
  t.same(allRules({ ...instance, role: 'standby' }), allRules(instance));
});

const connection: Connection = {
  protocol: 'tcp',
  opener: 'remote',
  local: { address: '10.0.0.1', port: 22 },
  remote: { address: '10.0.0.2', port: 50_000 },
  state: 'established',
  timeLeftSeconds: 60,
};

t.test(
  'adoption opens for the packets of the connection, in both directions, and for no other',
  async (t) => {
    const rules = [...allRules(instance), ...adoptionRules({ ...instance, adoption: [connection] })];
    const packet = (direction: 'outbound' | 'inbound', port = 50_000): Packet => {
      const remote = { address: '10.0.0.2', port };
      const [source, destination] =
        direction === 'outbound' ? [connection.local, remote] : [remote, connection.local];
      return {
        direction,
        family: 'ipv4',
        protocol: 'tcp',
        source,
        destination,
        flags: { ack: true },
      } as Packet;
    };
    for (const direction of ['outbound', 'inbound'] as const) {
      const adopted = meets(rules, 'firewall-ct', fields(packet(direction), CT_STATE.new));
      t.equal(unpackCookie(adopted?.cookie ?? 0)?.kind, 'adopted');
      // The same in every generation: these rules stay as they are when the instance comes to another.
      const mark = MARK.announced | MARK.openedByRemote | MARK.adopted;
      t.match(adopted?.instructions[0], {
        actions: [
          { type: 'output' },
          { type: 'ct', commit: true, zone: 7, exec: [{ field: { ct_mark: { value: mark } } }] },
        ],
      });
      t.ok(
        meets(rules, 'firewall-ct', fields(packet(direction), CT_STATE.inv))?.instructions.length,
        'invalid passes',
      );
      t.notOk(
        meets(rules, 'firewall-ct', fields(packet(direction, 50_001), CT_STATE.new))?.instructions.length,
      );
      t.notOk(
        meets(rules, 'firewall-ct', fields(packet(direction, 50_001), CT_STATE.inv))?.instructions.length,
      );
    }
    const reset: Packet = { ...packet('inbound'), flags: { rst: true } } as Packet;
    const rule = meets(rules, 'firewall-ct', fields(reset, CT_STATE.new));
    t.equal(unpackCookie(rule?.cookie ?? 0)?.kind, 'adopted-reset');
    t.notMatch(rule?.instructions, [{ actions: [{}, { type: 'ct' }] }], 'a reset is not committed');
  },
);

t.test('no two rules of an instance are the same to a switch', async (t) => {
  const echo = {
    protocol: 'icmp',
    opener: 'terminal',
    local: { address: 'fd00::1' },
    remote: { address: 'fd00::2' },
    replied: true,
    timeLeftSeconds: 30,
  } as const;
  const adoption: Connection[] = [connection, { ...echo, id: 1 }, { ...echo, id: 2 }];
  const rules = [...allRules(instance), ...adoptionRules({ ...instance, adoption })];
  const keys = rules.map(
    (rule) => `${rule.table} ${flowKey({ table: 0, priority: rule.priority, match: rule.match })}`,
  );
  t.equal(new Set(keys).size, keys.length);
  t.equal(
    adoptionRules({ ...instance, adoption }).length,
    6 + 3,
    'two echoes between the same hosts share their rules',
  );
});

t.test('a policy that would need too many rules is refused with what to do', async (t) => {
  const ragged = Array.from({ length: 32 }, (_, index): [number, number] => [
    index * 2000 + 1,
    index * 2000 + 1998,
  ]);
  const rule = {
    direction: 'outbound',
    action: 'accept',
    protocol: 'udp',
    remotePorts: ragged,
    localPorts: ragged,
  } as const;
  const large: Policy = { ...policy, rules: [{ name: 'ragged', ...rule }] };
  t.throws(() => allRules({ ...instance, policy: large }), PolicyTooLargeError);
  try {
    allRules({ ...instance, policy: large });
  } catch (error) {
    t.match(String(error), new RegExp(`at most ${MAX_POLICY_RULES} fit: use fewer`));
  }
});

t.test('two thousand rules keep their order', async (t) => {
  const rules = Array.from({ length: MAX_RULES }, (_, index) => ({
    name: `r${index}`,
    direction: 'outbound' as const,
    action: index % 2 ? ('accept' as const) : ('drop' as const),
    protocol: 'tcp' as const,
    remotePorts: [[index, MAX_RULES]] as const,
  }));
  const made = allRules({ ...instance, policy: { ...policy, rules } }).filter(
    (rule) => rule.table === 'firewall-ct',
  );
  const priorities = made.flatMap((rule) => {
    const cookie = unpackCookie(rule.cookie ?? 0);
    return cookie?.kind === 'opening' || cookie?.kind === 'refused' ? [rule.priority] : [];
  });
  t.equal(Math.max(...priorities), 20_000);
  t.equal(Math.min(...priorities), 18_000);
  t.ok(made.every(({ priority }) => priority < 18_000 || priority > 20_000 || priorities.includes(priority)));
});

t.test(
  "only the terminal's own addresses reach conntrack, and the network never sends from them",
  async (t) => {
    const rules = allRules(instance);
    const linkLocal = linkLocalOf(terminal.mac);
    const reach = (direction: 'outbound' | 'inbound', source: string, destination: string): boolean => {
      const family = familyOf(source);
      const ends = { source: { address: source, port: 1 }, destination: { address: destination, port: 2 } };
      const packet: Packet = { direction, family, protocol: 'udp', ...ends };
      const rule = meets(rules, 'firewall', { ...fields(packet, 0), nw_ttl: 64 });
      return (rule?.instructions.length ?? 0) > 0;
    };
    for (const [own, remote, ...others] of [
      ['10.0.0.1', '10.0.0.2', '10.0.0.99', '10.0.0.255', '255.255.255.255', '224.0.0.251'],
      ['fd00::1', 'fd00::2', 'fd00::99', 'ff02::fb', linkLocal],
    ] as const) {
      t.ok(reach('outbound', own, remote), 'control');
      t.ok(reach('inbound', remote, own), 'control');
      t.notOk(reach('inbound', own, remote), 'its own direction, from the network');
      t.notOk(reach('inbound', own, own));
      for (const other of others) {
        t.notOk(reach('inbound', remote, other), `to ${other}`);
        t.notOk(reach('outbound', other, remote), `from ${other}`);
      }
    }
    const advertisement = (ipv6_src: string): boolean =>
      (meets(rules, 'firewall', {
        ...{ reg0: 2, reg1: 7, eth_type: 0x86dd, ip_proto: 58, icmpv6_type: 136, icmpv6_code: 0 },
        ...{ nw_ttl: 255, nw_frag: 0, ipv6_src, ipv6_dst: 'fd00::1' },
      })?.instructions.length ?? 0) > 0;
    t.ok(advertisement('fd00::2'), 'control: neighbour discovery');
    t.notOk(advertisement('fd00::1'));
    t.notOk(advertisement(linkLocal));
    const arp = (arp_spa: string): boolean =>
      (meets(rules, 'firewall', { reg0: 2, reg1: 7, eth_type: 0x0806, arp_spa })?.instructions.length ?? 0) >
      0;
    t.ok(arp('10.0.0.2'), 'control: ARP');
    t.notOk(arp('10.0.0.1'), 'who claims its address');
  },
);

t.test('all pieces of a packet meet rules that do the same', async (t) => {
  const adopted: Connection = {
    protocol: 'udp',
    opener: 'remote',
    local: { address: 'fd00::1', port: 5000 },
    remote: { address: 'fd00::2', port: 6000 },
    replied: true,
    timeLeftSeconds: 60,
  };
  const rules = [...allRules(instance), ...adoptionRules({ ...instance, adoption: [adopted] })];
  const packet = (port: number): Packet => ({
    direction: 'outbound',
    family: 'ipv6',
    protocol: 'udp',
    source: { address: 'fd00::1', port },
    destination: { address: 'fd00::2', port: 6000 },
  });
  const NEW = CT_STATE.new;
  for (const [name, port, ct, mark] of [
    ['opening', 5001, NEW, 0],
    ['one-way', 5001, NEW, MARK.announced | (3 << 4)],
    ['one-way, of another generation', 5001, NEW, MARK.announced],
    ['the first reply', 5001, CT_STATE.est | CT_STATE.rpl, 3 << 4],
    ['known', 5001, CT_STATE.est, 3 << 4],
    ['of another generation', 5001, CT_STATE.est, 2 << 4],
    ['adopted', 5000, NEW, 0],
  ] as const) {
    const first: Record<string, number | string> = {
      ...fields(packet(port), ct),
      ...{ ct_mark: mark, ct_nw_proto: 17, nw_frag: 1 },
    };
    const { udp_src, udp_dst, ...headers } = first;
    t.ok(udp_src && udp_dst, 'control: the first piece has ports');
    // What Open vSwitch makes of a later IPv6 fragment.
    const later = { ...headers, ip_proto: 44, nw_frag: 3 };
    for (const piece of [first, later]) {
      t.match(meets(rules, 'firewall', piece)?.instructions, [{ actions: [{}, { type: 'ct' }] }], name);
    }
    const commits = [first, later].map((piece) => {
      const decided = meets(rules, 'firewall-ct', piece)?.instructions ?? [];
      const admitted = decided.some((one) => one.type === 'goto_table' && one.table === 5);
      t.equal(admitted, name === 'opening');
      const { instructions = [] } = (admitted && meets(rules, 'admit', piece)) || { instructions: decided };
      t.match(instructions.at(-1), { type: 'goto_table', table: 6 }, name);
      return instructions.flatMap((one) =>
        one.type === 'apply_actions' ? one.actions.filter(({ type }) => type === 'ct') : [],
      );
    });
    t.same(commits[0], commits[1], name);
  }
  for (const [name, hidden] of Object.entries({
    udp: { ip_proto: 17, udp_src: 0, udp_dst: 0 },
    tcp: { ip_proto: 6, tcp_src: 0, tcp_dst: 0, tcp_flags: 0 },
    icmp: { ip_proto: 58, icmpv6_type: 0, icmpv6_code: 0 },
  })) {
    const first = { ...fields(packet(5001), NEW), ...hidden, nw_frag: 1 };
    t.equal(meets(rules, 'firewall', first)?.instructions.length, 0, `${name} behind the first piece`);
  }
});

t.test('an adopted echo has the code of an echo', async (t) => {
  for (const [family, local, remote, type] of [
    ['ipv4', '10.0.0.1', '10.0.0.2', 8],
    ['ipv6', 'fd00::1', 'fd00::2', 128],
  ] as const) {
    const ends = { local: { address: local }, remote: { address: remote } };
    const adoption: Connection[] = [
      { protocol: 'icmp', opener: 'terminal', ...ends, id: 1, replied: true, timeLeftSeconds: 30 },
    ];
    const closed = { ...policy, defaults: { outbound: 'drop', inbound: 'drop' } } as const;
    const model = { ...instance, policy: closed, adoption };
    const rules = [...allRules(model), ...adoptionRules(model)];
    const passes = (code: number, ct: number): boolean => {
      const [source, destination] = [
        { address: local, port: 0 },
        { address: remote, port: 0 },
      ];
      const packet: Packet = {
        ...{ direction: 'outbound', family, protocol: 'icmp', source, destination, type, code, id: 2 },
      } as Packet;
      return (meets(rules, 'firewall-ct', fields(packet, ct))?.instructions.length ?? 0) > 0;
    };
    for (const ct of [CT_STATE.new, CT_STATE.inv]) {
      t.ok(passes(0, ct), `control: ${family}`);
      t.notOk(passes(1, ct), family);
    }
  }
});

t.test('the link-local address serves neighbour discovery and DHCPv6 only', async (t) => {
  const linkLocal = linkLocalOf(terminal.mac);
  const rules = guardRules(terminal, 5, 2);
  const passes = (more: Readonly<Record<string, number | string>>): boolean =>
    (meets(rules, 'guard', {
      ...{ in_port: 5, eth_src: terminal.mac, eth_dst: '02:00:00:00:00:02', vlan_vid: 0, eth_type: 0x86dd },
      ...{ nw_frag: 0, ipv6_src: linkLocal, ...more },
    })?.instructions.length ?? 0) > 0;
  const nd = { ip_proto: 58, icmpv6_code: 0, nw_ttl: 255, ipv6_nd_sll: '00:00:00:00:00:00' };
  t.ok(passes({ ...nd, icmpv6_type: 133 }));
  t.ok(passes({ ...nd, icmpv6_type: 135, ipv6_nd_target: 'fd00::2' }));
  t.ok(passes({ ip_proto: 17, udp_src: 546, udp_dst: 547 }));
  t.notOk(passes({ ip_proto: 17, udp_src: 546, udp_dst: 53 }));
  t.notOk(passes({ ip_proto: 17, udp_src: 5000, udp_dst: 547 }));
  t.notOk(passes({ ip_proto: 6, tcp_src: 5000, tcp_dst: 80 }));
  t.notOk(passes({ ...nd, icmpv6_type: 143 }), 'multicast listener reports');
  t.notOk(passes({ ...nd, icmpv6_type: 128 }), 'echo');
  t.ok(passes({ ip_proto: 6, tcp_src: 5000, tcp_dst: 80, ipv6_src: 'fd00::1' }), 'control: its own address');
});

t.test("the guard names the terminal's own addresses and no other", async (t) => {
  const own = new Set(['10.0.0.1', 'fd00::1', linkLocalOf(terminal.mac), '0.0.0.0', '::']);
  const rules = guardRules(terminal, 5, 2);
  for (const { match, instructions } of rules) {
    t.equal(match.in_port, 5);
    if (instructions.length === 0) continue;
    t.equal(match.eth_src, terminal.mac);
    t.equal(match.vlan_vid, 0);
    for (const name of ['ipv4_src', 'ipv6_src', 'arp_spa'] as const) {
      const value = match[name];
      if (value !== undefined) t.ok(typeof value === 'string' && own.has(value) && familyOf(value));
    }
    t.ok(match.ipv4_src ?? match.ipv6_src ?? match.arp_spa, 'every rule that lets pass names a source');
  }
});

t.test('what the policy accepts is committed with its opener and generation, and only that', async (t) => {
  const rules = allRules(instance);
  for (const [reg0, bits] of [
    [1, 0],
    [2, MARK.openedByRemote],
  ] as const) {
    t.match(meets(rules, 'admit', { reg0, reg1: 7, eth_type: 0x86dd })?.instructions, [
      {
        actions: [
          {
            type: 'ct',
            commit: true,
            zone: 7,
            exec: [{ field: { ct_mark: { value: MARK.announced | bits | (3 << 4) } } }],
          },
        ],
      },
      { type: 'goto_table', table: 6 },
    ]);
  }
  t.equal(
    meets(rules, 'admit', { reg0: 1, reg1: 8, eth_type: 0x0800 }),
    undefined,
    "another instance's packets are not",
  );
  for (const change of [{ admits: false }, { role: 'draining' }] as const)
    t.notOk(allRules({ ...instance, ...change }).some(({ table }) => table === 'admit'));
});

t.test('the rules of a policy are the same in every generation', async (t) => {
  t.same(policyRules({ ...instance, generation: 9 }), policyRules(instance));
  t.notSame(firewallRules({ ...instance, generation: 9 }), firewallRules(instance), 'control');
});

t.test('what is rejected goes to the controller alone, through a meter', async (t) => {
  const rejecting = policySchema.parse({
    ...policy,
    defaults: { outbound: 'reject', inbound: 'reject' },
    rules: [],
  });
  const rules = policyRules({ ...instance, policy: rejecting });
  const rejected = rules.filter(({ cookie = 0 }) => unpackCookie(cookie)?.kind === 'rejected');
  t.equal(rejected.length, 12, 'two directions, two families, three protocols');
  for (const { instructions } of rejected) {
    t.match(instructions, [
      { type: 'meter', meter: meterOf(7) },
      { actions: [{ type: 'output', port: 0xfffffffd }] },
    ]);
    t.equal(instructions.length, 2);
  }
  const [first] = meterMods('add');
  t.match(first, { type: 'meter_mod', command: 'add', bands: [{ type: 'drop' }] });
});

t.test('what a terminal may learn: its guard tells the controller, and lets nothing more pass', async (t) => {
  const learning = {
    ...{ index: 900, dhcp: true, prefixes: ['fd00::/64'], tentative: ['fd00::7'] },
    slots: new Map([['fd00::1', 31]]),
  };
  const rules = guardRules(terminal, 5, 2, learning);
  const before = guardRules(terminal, 5, 2);
  const met = (of: readonly Rule[], more: Readonly<Record<string, number | string>>) => {
    const rule = meets(of, 'guard', {
      ...{
        in_port: 5,
        eth_src: terminal.mac,
        eth_dst: '33:33:ff:00:00:09',
        vlan_vid: 0,
        nw_frag: 0,
        ...more,
      },
    });
    const passes = rule?.instructions.some(({ type }) => type === 'goto_table') ?? false;
    return { passes, ...unpackLearning(rule?.cookie ?? 0) };
  };
  const probe = (target: string) => ({
    ...{ eth_type: 0x86dd, ip_proto: 58, icmpv6_type: 135, icmpv6_code: 0, nw_ttl: 255 },
    ...{ ipv6_src: '::', ipv6_nd_target: target, ipv6_nd_sll: '00:00:00:00:00:00' },
  });
  const data = (source: string) => ({
    ...{ eth_type: 0x86dd, ipv6_src: source, ip_proto: 6, tcp_src: 5000, tcp_dst: 80 },
  });
  t.same(met(rules, probe('fd00::9')), { passes: false, reason: 'probe', terminal: 900, slot: 0 });
  t.same(met(before, probe('fd00::9')), { passes: false }, 'control: unless it may learn');
  t.same(met(rules, probe('fd01::9')), { passes: false }, 'not within the prefix');
  t.same(met(rules, probe('::')), { passes: false }, 'without a target that can be read');
  t.same(met(rules, probe('fd00::7')), { passes: true }, 'one that is under way is repeated');
  t.same(met(rules, data('fd00::7')), { passes: false, reason: 'early', terminal: 900, slot: 0 });
  t.same(met(rules, data('fd00::9')), { passes: false });
  t.same(met(rules, data('fd00::1')), { passes: true, reason: 'use', terminal: 900, slot: 31 });
  for (const type of [133, 135, 136])
    t.same(met(rules, { ...probe('fd00::9'), icmpv6_type: type, ipv6_src: 'fd00::7' }), { passes: false });

  const dhcp = (source: string) => ({
    ...{ eth_type: 0x0800, ipv4_src: source, ip_proto: 17, udp_src: 68, udp_dst: 67 },
  });
  for (const source of ['0.0.0.0', '10.0.0.1'])
    t.same(met(rules, dhcp(source)), { passes: true, reason: 'dhcp-client', terminal: 900, slot: 0 });
  t.same(met(rules, dhcp('10.0.0.2')), { passes: false });
  t.same(met(before, dhcp('0.0.0.0')), { passes: true }, 'control: told to nobody');
  t.same(unpackLearning(useCookies(900).value), { reason: 'use', terminal: 900, slot: 0 });
});
