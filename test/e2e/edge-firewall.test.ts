/**
 * What packets do at an edge instance: a real container between a terminal and a server. Every packet that must not pass is looked for at the
 * far end, and is seen there when the firewall is taken away.
 */
import '../lab/enter.js';
import t from 'tap';
import { type Connection, connectionKey, type TcpState } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { verdict } from '../../shared/firewall/verdict.js';
import {
  ACK,
  type Direction,
  EdgeBench,
  ends,
  expectAll,
  FAMILIES,
  FIN,
  LEASE_MS,
  PORT,
  PSH,
  RST,
  SYN,
  tcp,
  udp,
} from '../fixtures/edge-bench.js';
import { type Frame, SERVER, TERMINAL } from '../fixtures/edge-lab.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);

const URG = 0x20;
const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    { name: 'no telnet', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: 23 },
    { name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 },
    {
      name: 'many',
      direction: 'inbound',
      action: 'accept',
      protocol: 'udp',
      localPorts: ['9000-9100', 9200],
    },
  ],
});

const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;

/** Everything that must never pass, whatever the policy; by name, so that a failure says which. */
function forbidden(direction: Direction): ReadonlyMap<string, Frame> {
  const flags = {
    ACK,
    data: PSH | ACK,
    FIN: FIN | ACK,
    'bare FIN': FIN,
    RST,
    'RST, ACK': RST | ACK,
    'SYN, ACK': SYN | ACK,
    'SYN, FIN': SYN | FIN,
  };
  const frames = new Map<string, Frame>();
  for (const family of FAMILIES) {
    for (const [name, value] of Object.entries(flags))
      frames.set(`${family} ${name}`, tcp(family, direction, value));
    const [src, dst] = ends(family, direction);
    const six = family === 'ipv6';
    frames.set(`${family} redirect`, { protocol: 'icmp', src, dst, type: six ? 137 : 5, code: 1, ttl: 255 });
    frames.set(`${family} echo reply`, { protocol: 'icmp', src, dst, type: six ? 129 : 0, id: 99 });
    frames.set(`${family} timestamp or name lookup`, { protocol: 'icmp', src, dst, type: six ? 139 : 13 });
    frames.set(`${family} GRE`, { protocol: '47', src, dst });
    frames.set(`${family} tagged`, { ...udp(family, direction), vlan: 5 });
    for (const [name, rest] of sourceRoutes(family)) {
      frames.set(`${family} ${name}`, { ...udp(family, direction), dport: 9000, ...rest });
    }
    frames.set(`${family} priority-tagged`, { ...udp(family, direction), vlan: 0 });
  }
  for (const ethertype of [0x88cc, 0x8847, 0x8864, 0x88a8, 0x9000, 0x1234]) {
    frames.set(`ethertype ${ethertype.toString(16)}`, { ethertype, payload: '0000' });
  }
  frames.set('LLC', { ethertype: 60, payload: 'aaaa03000000080045' });
  return frames;
}

const ROUTING_HEADER = 43;

/** A routing header of one address and this type, without its first byte. */
function routing(type: number): Frame {
  const rest = `02${type.toString(16).padStart(2, '0')}0100000000fd000000000000000000000000000003`;
  return { extension: { number: ROUTING_HEADER, rest } };
}

/** What makes a frame say itself which way it goes; by name. */
function sourceRoutes(family: Family): readonly (readonly [string, Frame])[] {
  if (family === 'ipv6') return [['routing header 0', routing(0)]];
  return [
    ['loose source route', { options: '8307040a00000300' }],
    ['strict source route', { options: '8907040a00000300' }],
    ['source route behind another option', { options: '018307040a000003' }],
  ];
}

const spoofed: ReadonlyMap<string, Frame> = new Map<string, Frame>([
  ['somebody else’s IPv4 source', { ...udp('ipv4', 'outbound'), src: '10.0.0.77' }],
  ['somebody else’s IPv6 source', { ...udp('ipv6', 'outbound'), src: 'fd00::77' }],
  ['link-local source', { ...udp('ipv6', 'outbound'), src: 'fe80::1' }],
  ['router advertisement', { protocol: 'icmp', src: 'fe80::1', dst: 'ff02::1', type: 134, ttl: 255 }],
  [
    'neighbour advertisement from afar',
    { protocol: 'icmp', src: TERMINAL.ipv6, dst: SERVER.ipv6, type: 136, ttl: 64 },
  ],
  ['DHCP server, IPv6', { protocol: 'udp', src: TERMINAL.ipv6, dst: SERVER.ipv6, sport: 547, dport: 546 }],
  ['DHCP server', { protocol: 'udp', src: TERMINAL.ipv4, dst: '255.255.255.255', sport: 67, dport: 68 }],
  ['closed port, IPv4', tcp('ipv4', 'outbound', SYN, { dport: 23 })],
  ['closed port, IPv6', tcp('ipv6', 'outbound', SYN, { dport: 23 })],
]);
const unsolicited: ReadonlyMap<string, Frame> = new Map<string, Frame>([
  ['SYN, IPv4', tcp('ipv4', 'inbound', SYN)],
  ['SYN, IPv6', tcp('ipv6', 'inbound', SYN)],
  ['UDP, IPv4', udp('ipv4', 'inbound')],
  ['UDP, IPv6', udp('ipv6', 'inbound')],
  ['echo request, IPv4', { protocol: 'icmp', src: SERVER.ipv4, dst: TERMINAL.ipv4, type: 8 }],
  ['echo request, IPv6', { protocol: 'icmp', src: SERVER.ipv6, dst: TERMINAL.ipv6, type: 128 }],
  ['the terminal’s own source', { ...udp('ipv4', 'inbound'), src: TERMINAL.ipv4, dport: 9000 }],
  ['DHCP client, IPv6', { protocol: 'udp', src: 'fe80::2', dst: 'ff02::1:2', sport: 546, dport: 547 }],
  ['DHCP client', { protocol: 'udp', src: SERVER.ipv4, dst: '255.255.255.255', sport: 68, dport: 67 }],
]);

await t.test('connections opened without it live on, those left out of the load are dead', async (t) => {
  await lab.direct();
  const kept: { name: string; connection: Connection }[] = [];
  const left: string[] = [];
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) kept.push(await bench.open(family, protocol));
    for (let i = 0; i < 3; i += 1) left.push((await bench.open(family, 'tcp')).name);
  }
  for (const { name } of kept) t.ok(await bench.talks(name), 'control: it works without a firewall');
  const { id } = await bench.active({ connections: kept.map(({ connection }) => connection) });
  for (const { name, connection } of kept)
    t.ok(await bench.talks(name), `${connectionKey(connection)} lives on`);
  for (const name of left) t.notOk(await bench.talks(name), 'control: one that was left out is dead');
  const { connections } = await domain.export(id);
  for (const { connection } of kept) {
    t.ok(
      connections.some((one) => connectionKey(one) === connectionKey(connection)),
      'and is exported',
    );
  }
  await domain.retire(id);
});

await t.test('what an entry of each state lets pass next', async (t) => {
  // The first packets that an instance may see of a connection that another one admitted, by the sender's direction.
  const first: Readonly<
    Record<TcpState, { readonly opener: readonly number[]; readonly other: readonly number[] }>
  > = {
    opening: { opener: [SYN], other: [SYN | ACK] },
    answered: { opener: [ACK, PSH | ACK], other: [SYN | ACK, PSH | ACK, ACK] },
    established: {
      opener: [ACK, PSH | ACK, FIN | ACK, RST | ACK],
      other: [ACK, PSH | ACK, FIN | ACK, RST | ACK],
    },
    closing: { opener: [ACK, PSH | ACK, FIN | ACK], other: [ACK, PSH | ACK, FIN | ACK] },
    closed: { opener: [ACK, FIN | ACK], other: [ACK, FIN | ACK] },
  };
  const cases: { connection: Connection; frame: Frame; fromOpener: boolean; what: string }[] = [];
  let port = 20_000;
  for (const family of FAMILIES) {
    for (const opener of ['terminal', 'remote'] as const) {
      for (const [state, { opener: fromOpener, other }] of Object.entries(first)) {
        for (const [from, flags] of [
          ...fromOpener.map((f) => [opener, f] as const),
          ...other.map((f) => [opener === 'terminal' ? 'remote' : 'terminal', f] as const),
        ]) {
          const local = port++;
          const ends = {
            local: { address: TERMINAL[family], port: local },
            remote: { address: SERVER[family], port: 4000 },
          };
          const connection = {
            protocol: 'tcp',
            opener,
            ...ends,
            state: stateOf(state),
            timeLeftSeconds: 60,
          } as const;
          const direction = from === 'terminal' ? 'outbound' : 'inbound';
          const ports = from === 'terminal' ? { sport: local, dport: 4000 } : { sport: 4000, dport: local };
          cases.push({
            connection,
            frame: tcp(family, direction, flags, ports),
            fromOpener: from === 'terminal',
            what: `${family} opened by ${opener}, ${state}: flags ${flags} from ${from}`,
          });
        }
      }
    }
  }
  const { id } = await bench.active({
    earlier: [
      policySchema.parse({ name: 'open', defaults: { outbound: 'accept', inbound: 'accept' }, rules: [] }),
    ],
    connections: cases.map(({ connection }) => connection),
  });
  for (const [fromTerminal, send] of [
    [true, bench.outbound],
    [false, bench.inbound],
  ] as const) {
    const part = cases.filter((one) => one.fromOpener === fromTerminal);
    const arrived = await send(part.map(({ frame }) => frame));
    t.same(
      part.filter((_, index) => !arrived[index]).map(({ what }) => what),
      [],
      `all of ${part.length} pass`,
    );
  }
  await domain.retire(id);
});

await t.test(
  'a SYN opens another connection where an imported one is over, if the policy lets it',
  async (t) => {
    for (const family of FAMILIES) {
      const one = (port: number, opener: 'terminal' | 'remote', state: TcpState): Connection => ({
        protocol: 'tcp',
        opener,
        local: { address: TERMINAL[family], port },
        remote: { address: SERVER[family], port: 4000 },
        state,
        timeLeftSeconds: 60,
      });
      const { id } = await bench.active({
        connections: [
          one(20_001, 'terminal', 'closed'),
          one(20_002, 'terminal', 'established'),
          one(20_003, 'terminal', 'closing'),
          one(22, 'remote', 'closed'),
        ],
        earlier: [policy],
      });
      const out = (sport: number): Frame => tcp(family, 'outbound', SYN, { sport, dport: 4000 });
      t.same(await bench.outbound([20_001, 20_002, 20_003].map(out)), [true, false, false], family);
      const inwards = tcp(family, 'inbound', SYN, { sport: 4000, dport: 22 });
      t.same(await bench.inbound([inwards]), [true], 'of the other side, too');
      const strict = policySchema.parse({
        ...policy,
        defaults: { outbound: 'drop', inbound: 'drop' },
        rules: [],
      });
      const next = await bench.active({
        policy: strict,
        earlier: [policy],
        connections: [one(20_001, 'terminal', 'closed'), one(22, 'remote', 'closed')],
      });
      t.same(await bench.outbound([out(20_001)]), [false], 'the policy is asked');
      t.same(await bench.inbound([inwards]), [false]);
      await domain.retire(next.id);
      t.ok(id.epoch < next.id.epoch);
    }
  },
);

await t.test('what was never admitted does not pass, and does when the firewall is taken away', async (t) => {
  const { id } = await bench.active();
  await expectAll(t, 'forbidden, outbound', forbidden('outbound'), bench.outbound, false);
  await expectAll(t, 'forbidden, inbound', forbidden('inbound'), bench.inbound, false);
  await expectAll(t, 'spoofed', spoofed, bench.outbound, false);
  await expectAll(t, 'unsolicited', unsolicited, bench.inbound, false);
  const both = await Promise.all([
    bench.outbound([udp('ipv4', 'outbound'), udp('ipv6', 'outbound')]),
    bench.inbound([tcp('ipv4', 'inbound', SYN, { dport: 22 }), tcp('ipv6', 'inbound', SYN, { dport: 22 })]),
  ]);
  t.same(both.flat(), [true, true, true, true], 'control: what the policy accepts passes');
  const harmless = await bench.inbound([
    { ...udp('ipv4', 'inbound'), dport: 9000, options: '01010101' },
    { ...udp('ipv6', 'inbound'), dport: 9000, ...routing(4) },
  ]);
  t.same(harmless, [true, true], 'control: with other options and routing headers, too');

  for (const family of ['iptables', 'ip6tables']) {
    await bench.inContainer(
      `/usr/sbin/${family}-nft-restore`,
      [],
      '*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n',
    );
  }
  await bench.inContainer('/usr/sbin/nft', ['delete', 'table', 'bridge', 'paguro']);
  await expectAll(t, 'control: forbidden, outbound', forbidden('outbound'), bench.outbound, true);
  await expectAll(t, 'control: forbidden, inbound', forbidden('inbound'), bench.inbound, true);
  await expectAll(t, 'control: spoofed', spoofed, bench.outbound, true);
  await expectAll(t, 'control: unsolicited', unsolicited, bench.inbound, true);
  await domain.retire(id);
});

await t.test('which flags open a TCP connection: what the reference verdict says, for all 256', async (t) => {
  const { id } = await bench.active();
  const all = Array.from({ length: 256 }, (_, flags) => flags);
  for (const [family, sends] of FAMILIES.flatMap((each) => [
    [each, 'outbound'] as const,
    [each, 'inbound'] as const,
  ])) {
    const outwards = sends === 'outbound';
    const [from, to] = outwards ? [TERMINAL, SERVER] : [SERVER, TERMINAL];
    const port = outwards ? PORT + 1 : 22;
    const arrived = await (outwards ? bench.outbound : bench.inbound)(
      all.map((flags) => tcp(family, sends, flags, { sport: 50_000 + flags, dport: port })),
    );
    const expected = all.filter((flags) => {
      const [syn, ack, fin, rst, psh, urg] = [SYN, ACK, FIN, RST, PSH, URG].map((bit) => (flags & bit) !== 0);
      const packet = {
        protocol: 'tcp' as const,
        direction: sends,
        family,
        source: { address: from[family], port: 50_000 + flags },
        destination: { address: to[family], port },
        flags: {
          ...{ syn: syn === true, ack: ack === true, fin: fin === true },
          ...{ rst: rst === true, psh: psh === true, urg: urg === true },
        },
      };
      return verdict(policy, new Map(), packet).verdict === 'accept';
    });
    t.equal(expected.length, 4, 'control: SYN with each of ECE and CWR');
    t.same(
      all.filter((flags) => arrived[flags]),
      expected,
      `${family}, ${sends}`,
    );
  }
  await domain.retire(id);
});

await t.test('ARP, neighbour discovery and DHCP pass', async (t) => {
  const { id } = await bench.active();
  const nd = (type: number, src: string, dst: string): Frame => ({
    protocol: 'icmp',
    src,
    dst,
    type,
    ttl: 255,
  });
  const outwards = [
    nd(133, 'fe80::ff:fe00:1', 'ff02::2'),
    nd(135, '::', 'ff02::1:ff00:1'),
    nd(135, TERMINAL.ipv6, SERVER.ipv6),
    nd(136, TERMINAL.ipv6, SERVER.ipv6),
    { protocol: 'udp', src: '0.0.0.0', dst: '255.255.255.255', sport: 68, dport: 67 },
    { protocol: 'udp', src: 'fe80::ff:fe00:1', dst: 'ff02::1:2', sport: 546, dport: 547 },
  ];
  const inwards = [
    nd(134, 'fe80::1', 'ff02::1'),
    nd(135, SERVER.ipv6, TERMINAL.ipv6),
    nd(136, SERVER.ipv6, TERMINAL.ipv6),
    { protocol: 'udp', src: SERVER.ipv4, dst: TERMINAL.ipv4, sport: 67, dport: 68 },
    { protocol: 'udp', src: 'fe80::1', dst: 'fe80::ff:fe00:1', sport: 547, dport: 546 },
  ];
  t.same(
    await bench.outbound(outwards),
    outwards.map(() => true),
  );
  t.same(
    await bench.inbound(inwards),
    inwards.map(() => true),
  );
  await domain.retire(id);
});

await t.test('what happens through it is exported and reported, with the true opener', async (t) => {
  const { id } = await bench.active({
    counters: [{ rule: 'default outbound', packets: 1000, bytes: 60_000 }],
  });
  const { sequence } = await domain.export(id);
  const { deltas, stop } = bench.follow(id, sequence);
  const opened: { name: string; connection: Connection }[] = [];
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const one = await bench.open(family, protocol);
      t.ok(await bench.talks(one.name));
      opened.push(one);
    }
    t.match((await bench.open(family, 'tcp', 23)).error, /timed out/, 'a closed port does not answer');
    await lab.server.ask('connect', {
      name: `in ${family}`,
      protocol: 'tcp',
      from: SERVER[family],
      to: TERMINAL[family],
      port: 22,
    });
    const echo = {
      protocol: 'icmp',
      src: TERMINAL[family],
      dst: SERVER[family],
      type: family === 'ipv4' ? 8 : 128,
      id: 4711,
    };
    t.same(await bench.outbound([echo]), [true]);
  }
  const state = await domain.export(id);
  for (const { connection } of opened) {
    const found = state.connections.find((one) => connectionKey(one) === connectionKey(connection));
    t.match(found, { ...connection, timeLeftSeconds: Number }, 'exported as it is');
    await waitFor('its delta', () =>
      deltas.some(
        ({ change }) =>
          change.kind === 'connection' &&
          connectionKey(change.connection) === connectionKey(connection) &&
          (change.connection.protocol !== 'tcp' || change.connection.state === 'established'),
      ),
    );
  }
  for (const family of FAMILIES) {
    const incoming = state.connections.find(
      (one) => one.protocol === 'tcp' && one.local.port === 22 && one.local.address === TERMINAL[family],
    );
    t.equal(incoming?.opener, 'remote');
    const echo = state.connections.find(
      (one) => one.protocol === 'icmp' && one.local.address === TERMINAL[family],
    );
    t.match(echo, { id: 4711, opener: 'terminal', replied: true });
  }
  const counter = (rule: string): number => state.counters.find((one) => one.rule === rule)?.packets ?? -1;
  t.equal(counter('default outbound'), 1006, 'imported and counted: 2 TCP, 2 UDP, 2 echoes');
  t.ok(counter('no telnet') >= 2);
  t.equal(counter('ssh'), 2);
  t.same(
    deltas.map((delta) => delta.sequence),
    deltas.map((_, index) => sequence + 1 + index),
    'numbers rise by one',
  );

  const [first] = opened;
  if (!first) throw new Error('nothing was opened');
  await lab.terminal.ask('close', { name: first.name, reset: true });
  await waitFor('closed', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' &&
        change.connection.protocol === 'tcp' &&
        change.connection.state === 'closed' &&
        connectionKey(change.connection) === connectionKey(first.connection),
    ),
  );
  await stop();
  await domain.retire(id);
});

await t.test('deltas of another instance', async (t) => {
  await lab.direct();
  const [one, two, three] = [
    await bench.open('ipv4', 'tcp'),
    await bench.open('ipv6', 'tcp'),
    await bench.open('ipv4', 'udp'),
  ];
  for (const { name } of [one, two, three]) await bench.talks(name);
  const { id, ends } = await bench.standby({ connections: [one.connection] });
  const opening = (connection: Connection): Connection =>
    connection.protocol === 'tcp' ? { ...connection, state: 'opening' } : connection;
  await domain.apply(id, [
    { sequence: 8, change: { kind: 'connection', connection: opening(two.connection) } },
    { sequence: 9, change: { kind: 'connection', connection: three.connection } },
  ]);
  await domain.apply(id, [
    { sequence: 9, change: { kind: 'connection', connection: three.connection } },
    { sequence: 10, change: { kind: 'connection', connection: two.connection } },
    { sequence: 11, change: { kind: 'ended', key: connectionKey(one.connection) } },
  ]);
  await t.rejects(
    domain.apply(id, [{ sequence: 13, change: { kind: 'ended', key: connectionKey(two.connection) } }]),
    { code: 'changes-lost' },
  );
  await domain.activate(id, LEASE_MS);
  await lab.through(ends);
  t.ok(await bench.talks(two.name), 'added, then established');
  t.ok(await bench.talks(three.name), 'added');
  t.notOk(await bench.talks(one.name), 'ended');
  await domain.retire(id);
});

await t.test('roles: lease and drain', async (t) => {
  const { id, ends } = await bench.standby();
  await lab.through(ends);
  t.same(await bench.outbound([udp('ipv4', 'outbound')]), [false], 'a standby admits nothing');
  await domain.activate(id, 150);
  const known = await bench.open('ipv4', 'tcp');
  t.ok(await bench.talks(known.name), 'an active one does');
  let dport = 45_000;
  await waitFor(
    'the lease to expire',
    async () => (await bench.outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]))[0] === false,
  );
  t.ok(await bench.talks(known.name), 'what is known goes on');
  await domain.activate(id, LEASE_MS);
  t.same(
    await bench.outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]),
    [true],
    'a renewed lease admits',
  );
  const oneWay = { ...udp('ipv4', 'outbound'), dport: dport++ };
  t.same(await bench.outbound([oneWay]), [true], 'a datagram that nobody answers');
  await domain.drain(id, 1500);
  t.same(await bench.outbound([oneWay]), [true], 'what is known and never answered goes on, too');
  t.same(
    await bench.outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]),
    [false],
    'a draining one admits nothing',
  );
  t.ok(await bench.talks(known.name), 'what is known goes on');
  await t.rejects(domain.activate(id, LEASE_MS), { code: 'refused' });
  await waitFor('the drain to end', async () => !(await bench.talks(known.name)));
  await domain.retire(id);
});

await t.test('a new policy', async (t) => {
  const { id } = await bench.active();
  t.match((await bench.open('ipv4', 'tcp', 23)).error, /timed out/);
  const known = await bench.open('ipv4', 'tcp');
  const before = await domain.export(id);
  const next = policySchema.parse({
    ...policy,
    name: 'next',
    rules: [
      { name: 'no telnet', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: [23, PORT] },
    ],
  });
  await domain.setPolicy(id, next);
  t.match((await bench.open('ipv4', 'tcp')).error, /timed out/, 'it decides');
  t.ok(await bench.talks(known.name), 'what was admitted goes on');
  const counted = (state: { counters: readonly { rule: string; packets: number }[] }): number =>
    state.counters.find(({ rule }) => rule === 'no telnet')?.packets ?? 0;
  t.ok(counted(await domain.export(id)) > counted(before) && counted(before) > 0, 'the counter goes on');
  await domain.retire(id);
});

function stateOf(text: string): TcpState {
  switch (text) {
    case 'opening':
    case 'answered':
    case 'established':
    case 'closing':
      return text;
    default:
      return 'closed';
  }
}
