/**
 * What packets do at an edge instance: a real container between a terminal and a server. Every packet that must not pass is looked for at the
 * far end, and is seen there when the firewall is taken away.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import t, { type Test } from 'tap';
import { VethWiring } from '../../edge-agent/wiring/veth/veth-wiring.js';
import { DomainError, type Ends, type InstanceId } from '../../shared/domain/domain.js';
import { type Connection, connectionKey, type TcpState } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { type Delta, epoch, type Snapshot } from '../../shared/firewall/state.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { verdict } from '../../shared/firewall/verdict.js';
import { CommandError, run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { alice, arrivals, BRIDGE, type Frame, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(240_000);

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const LEASE_MS = 60_000;
/** Well above a lease of a second, and well below the seconds of the usual one. */
const KERNEL_GATE_MS = 6000;
const PORT = 80;
const [FIN, SYN, RST, PSH, ACK] = [0x01, 0x02, 0x04, 0x08, 0x10];
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

const lab = await startEdgeLab();
const folder = await mkdtemp(join(tmpdir(), 'paguro-edge-'));
t.teardown(async () => {
  await lab.close();
  await rm(folder, { recursive: true });
});
const { domain } = lab;
const docker = new Docker({ socketPath: lab.dockerSocket });
const terminal = { host: lab.terminal, mac: TERMINAL.mac };
const server = { host: lab.server, mac: SERVER.mac };
const outbound = (frames: readonly Frame[]) => arrivals(terminal, server, frames);
const inbound = (frames: readonly Frame[]) => arrivals(server, terminal, frames);
await lab.direct();
for (const address of [SERVER.ipv4, SERVER.ipv6]) await lab.server.ask('serve', { address, port: PORT });
for (const address of [TERMINAL.ipv4, TERMINAL.ipv6]) await lab.terminal.ask('serve', { address, port: 22 });

let lastEpoch = 0;
let lastName = 0;

/** A new instance that is active, with traffic through it. */
async function active(change: Partial<Snapshot> = {}): Promise<{ id: InstanceId; ends: Ends }> {
  const prepared = await standby(change);
  await domain.activate(prepared.id, LEASE_MS);
  await lab.through(prepared.ends);
  return prepared;
}

async function standby(change: Partial<Snapshot> = {}): Promise<{ id: InstanceId; ends: Ends }> {
  const id = { terminal: alice.name, epoch: epoch(++lastEpoch) };
  const snapshot = {
    terminal: alice,
    epoch: epoch(1),
    sequence: 7,
    policy,
    earlier: [],
    connections: [],
    counters: [],
    ...change,
  };
  return { id, ends: await domain.prepare(snapshot, id.epoch) };
}

/** Opens a connection from the terminal; returns what it is in a state, and its name. */
async function open(
  family: Family,
  protocol: 'tcp' | 'udp',
  port = PORT,
): Promise<{ name: string; connection: Connection; error: string | undefined }> {
  const name = `connection ${++lastName}`;
  const request = { name, protocol, from: TERMINAL[family], to: SERVER[family], port };
  const { port: localPort = 0, error } = await lab.terminal.ask('connect', request);
  const ends = {
    local: { address: TERMINAL[family], port: localPort },
    remote: { address: SERVER[family], port },
  };
  const common = { opener: 'terminal', ...ends, timeLeftSeconds: 300 } as const;
  const connection: Connection =
    protocol === 'tcp'
      ? { protocol, state: 'established', ...common }
      : { protocol, replied: true, ...common };
  return { name, connection, error };
}

/** Whether the other end answers. */
async function talks(name: string): Promise<boolean> {
  return (await lab.terminal.ask('talk', { name, text: `hello from ${name}`, timeout: 1 })).error === '';
}

function tcp(
  family: Family,
  direction: 'outbound' | 'inbound',
  flags: number,
  ports: { sport?: number; dport?: number } = {},
): Frame {
  const [src, dst] =
    direction === 'outbound' ? [TERMINAL[family], SERVER[family]] : [SERVER[family], TERMINAL[family]];
  return { protocol: 'tcp', src, dst, sport: 41_000, dport: 42_000, flags, ...ports };
}

/** Everything that must never pass, whatever the policy; by name, so that a failure says which. */
function forbidden(direction: 'outbound' | 'inbound'): ReadonlyMap<string, Frame> {
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
    const [src, dst] =
      direction === 'outbound' ? [TERMINAL[family], SERVER[family]] : [SERVER[family], TERMINAL[family]];
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

function udp(family: Family, direction: 'outbound' | 'inbound'): Frame {
  const [src, dst] =
    direction === 'outbound' ? [TERMINAL[family], SERVER[family]] : [SERVER[family], TERMINAL[family]];
  return { protocol: 'udp', src, dst, sport: 43_000, dport: 44_000 };
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

async function expectAll(
  t: Test,
  what: string,
  frames: ReadonlyMap<string, Frame>,
  send: (frames: readonly Frame[]) => Promise<readonly boolean[]>,
  expected: boolean,
): Promise<void> {
  const arrived = await send([...frames.values()]);
  const wrong = [...frames.keys()].filter((_, index) => arrived[index] !== expected);
  t.same(wrong, [], `${what}: ${expected ? 'all arrive' : 'none passes'} (${frames.size})`);
}

/** Runs a program in the namespaces of the only container. */
async function inContainer(file: string, args: readonly string[], input = ''): Promise<void> {
  const [container] = await docker.listContainers();
  const { State } = await docker.getContainer(container?.Id ?? '').inspect();
  await run('nsenter', ['--target', `${State.Pid}`, '--net', '--mount', '--', file, ...args], { input });
}

await t.test('connections opened without it live on, those left out of the load are dead', async (t) => {
  await lab.direct();
  const kept: { name: string; connection: Connection }[] = [];
  const left: string[] = [];
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) kept.push(await open(family, protocol));
    for (let i = 0; i < 3; i += 1) left.push((await open(family, 'tcp')).name);
  }
  for (const { name } of kept) t.ok(await talks(name), 'control: it works without a firewall');
  const { id } = await active({ connections: kept.map(({ connection }) => connection) });
  for (const { name, connection } of kept) t.ok(await talks(name), `${connectionKey(connection)} lives on`);
  for (const name of left) t.notOk(await talks(name), 'control: one that was left out is dead');
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
  const { id } = await active({
    earlier: [
      policySchema.parse({ name: 'open', defaults: { outbound: 'accept', inbound: 'accept' }, rules: [] }),
    ],
    connections: cases.map(({ connection }) => connection),
  });
  for (const [fromTerminal, send] of [
    [true, outbound],
    [false, inbound],
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

await t.test('what was never admitted does not pass, and does when the firewall is taken away', async (t) => {
  const { id } = await active();
  await expectAll(t, 'forbidden, outbound', forbidden('outbound'), outbound, false);
  await expectAll(t, 'forbidden, inbound', forbidden('inbound'), inbound, false);
  await expectAll(t, 'spoofed', spoofed, outbound, false);
  await expectAll(t, 'unsolicited', unsolicited, inbound, false);
  const both = await Promise.all([
    outbound([udp('ipv4', 'outbound'), udp('ipv6', 'outbound')]),
    inbound([tcp('ipv4', 'inbound', SYN, { dport: 22 }), tcp('ipv6', 'inbound', SYN, { dport: 22 })]),
  ]);
  t.same(both.flat(), [true, true, true, true], 'control: what the policy accepts passes');
  const harmless = await inbound([
    { ...udp('ipv4', 'inbound'), dport: 9000, options: '01010101' },
    { ...udp('ipv6', 'inbound'), dport: 9000, ...routing(4) },
  ]);
  t.same(harmless, [true, true], 'control: with other options and routing headers, too');

  for (const family of ['iptables', 'ip6tables']) {
    await inContainer(
      `/usr/sbin/${family}-nft-restore`,
      [],
      '*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n',
    );
  }
  await inContainer('/usr/sbin/nft', ['delete', 'table', 'bridge', 'paguro']);
  await expectAll(t, 'control: forbidden, outbound', forbidden('outbound'), outbound, true);
  await expectAll(t, 'control: forbidden, inbound', forbidden('inbound'), inbound, true);
  await expectAll(t, 'control: spoofed', spoofed, outbound, true);
  await expectAll(t, 'control: unsolicited', unsolicited, inbound, true);
  await domain.retire(id);
});

await t.test('which flags open a TCP connection: what the reference verdict says, for all 256', async (t) => {
  const { id } = await active();
  const all = Array.from({ length: 256 }, (_, flags) => flags);
  for (const [family, sends] of FAMILIES.flatMap((each) => [
    [each, 'outbound'] as const,
    [each, 'inbound'] as const,
  ])) {
    const outwards = sends === 'outbound';
    const [from, to] = outwards ? [TERMINAL, SERVER] : [SERVER, TERMINAL];
    const port = outwards ? PORT + 1 : 22;
    const arrived = await (outwards ? outbound : inbound)(
      all.map((flags) => tcp(family, sends, flags, { sport: 50_000 + flags, dport: port })),
    );
    const expected = all.filter((flags) => {
      const [syn, ack, fin, rst] = [SYN, ACK, FIN, RST].map((bit) => (flags & bit) !== 0);
      const packet = {
        protocol: 'tcp' as const,
        direction: sends,
        family,
        source: { address: from[family], port: 50_000 + flags },
        destination: { address: to[family], port },
        flags: { syn: syn === true, ack: ack === true, fin: fin === true, rst: rst === true },
      };
      return verdict(policy, new Map(), packet).verdict === 'accept';
    });
    t.equal(expected.length, 16, 'control: SYN with each of URG, PSH, ECE and CWR');
    t.same(
      all.filter((flags) => arrived[flags]),
      expected,
      `${family}, ${sends}`,
    );
  }
  await domain.retire(id);
});

await t.test('ARP, neighbour discovery and DHCP pass', async (t) => {
  const { id } = await active();
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
    await outbound(outwards),
    outwards.map(() => true),
  );
  t.same(
    await inbound(inwards),
    inwards.map(() => true),
  );
  await domain.retire(id);
});

await t.test('what happens through it is exported and reported, with the true opener', async (t) => {
  const { id } = await active({ counters: [{ rule: 'default outbound', packets: 1000, bytes: 60_000 }] });
  const { sequence } = await domain.export(id);
  const abort = new AbortController();
  const deltas: Delta[] = [];
  const reading = (async () => {
    for await (const batch of domain.changes(id, sequence, abort.signal)) deltas.push(...batch);
  })();
  const opened: { name: string; connection: Connection }[] = [];
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const one = await open(family, protocol);
      t.ok(await talks(one.name));
      opened.push(one);
    }
    t.match((await open(family, 'tcp', 23)).error, /timed out/, 'a closed port does not answer');
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
    t.same(await outbound([echo]), [true]);
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
  abort.abort();
  await reading;
  await domain.retire(id);
});

await t.test('deltas of another instance', async (t) => {
  await lab.direct();
  const [one, two, three] = [await open('ipv4', 'tcp'), await open('ipv6', 'tcp'), await open('ipv4', 'udp')];
  for (const { name } of [one, two, three]) await talks(name);
  const { id, ends } = await standby({ connections: [one.connection] });
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
  t.ok(await talks(two.name), 'added, then established');
  t.ok(await talks(three.name), 'added');
  t.notOk(await talks(one.name), 'ended');
  await domain.retire(id);
});

await t.test('roles: lease and drain', async (t) => {
  const { id, ends } = await standby();
  await lab.through(ends);
  t.same(await outbound([udp('ipv4', 'outbound')]), [false], 'a standby admits nothing');
  await domain.activate(id, 150);
  const known = await open('ipv4', 'tcp');
  t.ok(await talks(known.name), 'an active one does');
  let dport = 45_000;
  await waitFor(
    'the lease to expire',
    async () => (await outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]))[0] === false,
  );
  t.ok(await talks(known.name), 'what is known goes on');
  await domain.activate(id, LEASE_MS);
  t.same(await outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]), [true], 'a renewed lease admits');
  const oneWay = { ...udp('ipv4', 'outbound'), dport: dport++ };
  t.same(await outbound([oneWay]), [true], 'a datagram that nobody answers');
  await domain.drain(id, 1500);
  t.same(await outbound([oneWay]), [true], 'what is known and never answered goes on, too');
  t.same(
    await outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]),
    [false],
    'a draining one admits nothing',
  );
  t.ok(await talks(known.name), 'what is known goes on');
  await t.rejects(domain.activate(id, LEASE_MS), { code: 'refused' });
  await waitFor('the drain to end', async () => !(await talks(known.name)));
  await domain.retire(id);
});

await t.test('without an agent the kernel itself ends the lease', async (t) => {
  const short = await lab.startDomain('edge-2');
  const id = { terminal: alice.name, epoch: epoch(1) };
  const ends = await short.prepare(snapshotOf(1), id.epoch);
  await short.activate(id, 1000);
  await lab.through(ends);
  let dport = 46_000;
  const admits = async (): Promise<boolean> =>
    (await outbound([{ ...udp('ipv6', 'outbound'), dport: dport++ }]))[0] === true;
  t.ok(await admits());
  await waitFor('the agent to close the gate', async () => !(await admits()));
  // What a lost agent leaves behind: an open gate that nobody closes.
  const [container] = await docker.listContainers();
  const { State } = await docker.getContainer(container?.Id ?? '').inspect();
  for (const [name, address] of [
    ['paguro4', TERMINAL.ipv4],
    ['paguro6', TERMINAL.ipv6],
  ]) {
    await writeFile(`/proc/${State.Pid}/net/xt_recent/${name}`, `+${address}\n`);
  }
  t.ok(await admits(), 'control: it is open again');
  await waitFor('the gate to close', async () => !(await admits()), { timeoutMs: KERNEL_GATE_MS });
  t.pass('it closes');
  await short.close();
});

await t.test('the gate follows the lease, and the usual activation starts no process', async (t) => {
  const ran: string[] = [];
  const since = (): readonly string[] => ran.splice(0).map((file) => file.split('/').at(-1) ?? '');
  const watched = await lab.startDomain('edge-4', {
    runtime: lab.watchedRuntime('edge-4', (file) => ran.push(file)),
  });
  const prepare = async (value: number): Promise<InstanceId> => {
    await watched.prepare(
      { ...snapshotOf(value), counters: [{ rule: 'default outbound', packets: 1000, bytes: 60_000 }] },
      epoch(value),
    );
    return { terminal: alice.name, epoch: epoch(value) };
  };
  const first = await prepare(1);
  t.ok(since().includes('iptables-nft-restore'), 'control: programs are seen');
  await watched.activate(first, 10_000);
  await watched.activate(first, 10_000);
  t.same(since(), [], 'the usual lease');
  t.same(await gateSeconds(), ['11']);
  await watched.activate(first, 3000);
  t.same(since().filter((file) => file.endsWith('restore')).length, 2, 'another lease: once in each family');
  t.same(await gateSeconds(), ['4']);
  const [counter] = (await watched.export(first)).counters.filter(({ rule }) => rule === 'default outbound');
  t.match(counter, { packets: 1000, bytes: 60_000 }, 'what was counted stays');
  since();
  await watched.activate(first, 3000);
  t.same(since(), [], 'which is the usual one from then on');
  const second = await prepare(2);
  since();
  await watched.activate(second, 3000);
  t.same(since(), [], 'for later instances, too');
  t.same(await gateSeconds(), ['4']);
  await watched.activate(second, 10 * LEASE_MS);
  t.same(await gateSeconds(), ['61'], 'a lease that is too long is cut');
  await watched.close();
});

await t.test('Docker goes away and comes back', async (t) => {
  const socketPath = join(folder, 'docker.sock');
  let proxy = await proxyTo(lab.dockerSocket, socketPath);
  const other = await lab.startDomain('edge-5', { runtime: lab.runtime('edge-5', { socketPath }) });
  const id = { terminal: alice.name, epoch: epoch(1) };
  await other.prepare(snapshotOf(1), id.epoch);
  await other.activate(id, LEASE_MS);
  await proxy.close();
  const sentence = /^Docker does not answer on .*docker\.sock: start it/;
  await t.rejects(other.retire(id), { code: 'not-ready', message: sentence });
  await t.rejects(
    other.activate(id, LEASE_MS),
    { code: 'no-instance' },
    'half removed, it is not used again',
  );
  await t.rejects(other.prepare(snapshotOf(1), epoch(1)), { code: 'not-ready', message: sentence });
  await t.rejects(other.prepare(snapshotOf(1), epoch(2)), { code: 'not-ready', message: sentence });
  t.match(await other.health(), { ok: false, problem: sentence, instances: [id] });
  const early = await lab.startDomain('edge-6', { runtime: lab.runtime('edge-6', { socketPath }) });
  await t.rejects(early.prepare(snapshotOf(1), epoch(1)), { code: 'not-ready', message: sentence });
  t.match(await remains(), { containers: 1 }, 'control: there is something to remove');

  proxy = await proxyTo(lab.dockerSocket, socketPath);
  await other.retire(id);
  t.same(await remains(), { containers: 0, ports: [], links: [] }, 'the call that failed, repeated');
  await early.prepare(snapshotOf(1), epoch(1));
  t.match(await early.health(), { ok: true });
  await early.close();
  await other.close();
  await proxy.close();
});

await t.test('what the agent could not remove when it started goes before its first instance', async (t) => {
  const socketPath = join(folder, 'late.sock');
  const earlier = await lab.startDomain('edge-6');
  await earlier.prepare(snapshotOf(1), epoch(1));
  const later = await lab.startDomain('edge-6', { runtime: lab.runtime('edge-6', { socketPath }) });
  t.match(await remains(), { containers: 1 }, 'control: Docker was not to be reached');
  const proxy = await proxyTo(lab.dockerSocket, socketPath);
  await later.prepare(snapshotOf(1), epoch(1));
  t.match(await remains(), { containers: 1 }, 'the new one');
  await later.close();
  t.same(await remains(), { containers: 0, ports: [], links: [] });
  await earlier.close();
  await proxy.close();
});

await t.test('a bridge that is not there, or not ready', async (t) => {
  const wiring = (bridge: string): VethWiring => new VethWiring({ agent: 'edge-7', bridge, log: silentLog });
  await t.rejects(wiring('s8').check(), { code: 'not-ready', message: /no bridge s8: .*ovs-vsctl list-br/ });
  // A datapath type that ovs-vswitchd does not know: the bridge stays a row of the database.
  await run('ovs-vsctl', ['--no-wait', 'add-br', 's8', '--', 'set', 'bridge', 's8', 'datapath_type=unknown']);
  const pending = { code: 'not-ready', message: /s8 has no datapath yet: .*ovs-vsctl list-br/ };
  await t.rejects(wiring('s8').check(), pending);
  await t.rejects(wiring('s8').create(), pending);
  await run('ovs-vsctl', ['--no-wait', 'del-br', 's8']);
  t.match(await wiring(BRIDGE).check(), /^[0-9a-f]{16}$/, 'control');
});

await t.test('a new policy', async (t) => {
  const { id } = await active();
  t.match((await open('ipv4', 'tcp', 23)).error, /timed out/);
  const known = await open('ipv4', 'tcp');
  const before = await domain.export(id);
  const next = policySchema.parse({
    ...policy,
    name: 'next',
    rules: [
      { name: 'no telnet', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: [23, PORT] },
    ],
  });
  await domain.setPolicy(id, next);
  t.match((await open('ipv4', 'tcp')).error, /timed out/, 'it decides');
  t.ok(await talks(known.name), 'what was admitted goes on');
  const counted = (state: { counters: readonly { rule: string; packets: number }[] }): number =>
    state.counters.find(({ rule }) => rule === 'no telnet')?.packets ?? 0;
  t.ok(counted(await domain.export(id)) > counted(before) && counted(before) > 0, 'the counter goes on');
  await domain.retire(id);
});

await t.test('lost events are found again by comparing', async (t) => {
  const { id } = await active();
  const { sequence } = await domain.export(id);
  const abort = new AbortController();
  const deltas: Delta[] = [];
  const reading = (async () => {
    for await (const batch of domain.changes(id, sequence, abort.signal)) deltas.push(...batch);
  })();
  const pid = await eventReader();
  process.kill(pid, 'SIGSTOP');
  const one = await open('ipv6', 'tcp');
  t.equal(deltas.length, 0, 'control: nobody reads the events');
  process.kill(pid, 'SIGKILL');
  await waitFor('its delta', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' && connectionKey(change.connection) === connectionKey(one.connection),
    ),
  );
  const two = await open('ipv4', 'tcp');
  await waitFor('events are read again', () =>
    deltas.some(
      ({ change }) =>
        change.kind === 'connection' && connectionKey(change.connection) === connectionKey(two.connection),
    ),
  );
  abort.abort();
  await reading;
  await domain.retire(id);
});

await t.test(
  'nothing is left: after retirement, after a failure, after another life of the agent',
  async (t) => {
    const empty = { containers: 0, ports: [], links: [] };
    t.same(await remains(), empty, 'every instance so far was retired');
    const { id } = await standby();
    const there = await remains();
    t.match(there, { containers: 1 }, 'control: an instance is seen');
    t.equal(there.ports.length + there.links.length, 4, 'control: its ends are seen');
    await domain.retire(id);
    t.same(await remains(), empty);

    const broken = { local: { address: '10.9.9.9', port: 1 }, remote: { address: '10.9.9.8', port: 1 } };
    const refused = {
      protocol: 'tcp',
      opener: 'terminal',
      ...broken,
      state: 'established',
      timeLeftSeconds: 0,
    } as const;
    const twice = [
      refused,
      { ...refused, opener: 'remote', local: broken.remote, remote: broken.local } as const,
    ];
    await t.rejects(
      standby({ connections: [...twice, { ...refused, local: { address: '10.9.9.9', port: 70_000 } }] }),
      { code: 'invalid' },
    );
    t.same(await remains(), empty);

    const withoutImage = await lab.startDomain('edge-2', {
      runtime: lab.runtime('edge-2', { cacheDirectory: '/nonexistent', image: 'paguro/firewall:none' }),
    });
    await t.rejects(withoutImage.prepare(snapshotOf(1), epoch(1)), {
      code: 'not-ready',
      message: /npm run setup/,
    });
    t.match(await withoutImage.health(), { ok: false, problem: /npm run setup/ });
    const withoutDocker = await lab.startDomain('edge-2', {
      runtime: lab.runtime('edge-2', { socketPath: '/nonexistent.sock' }),
    });
    await t.rejects(withoutDocker.prepare(snapshotOf(1), epoch(1)), {
      code: 'not-ready',
      message: /Docker does not answer/,
    });
    t.same(await remains(), empty, 'failures are undone');

    const earlier = await lab.startDomain('edge-2');
    await earlier.prepare(snapshotOf(1), epoch(1));
    const other = await standby();
    t.match(await remains(), { containers: 2 });
    const later = await lab.startDomain('edge-2');
    t.match(await remains(), { containers: 1 }, 'only its own');
    await domain.retire(other.id);
    t.same(await remains(), empty);
    await later.close();
    await earlier.close();
  },
);

await t.test('a container that ends by itself is noticed', async (t) => {
  const { id } = await active();
  const [container] = await docker.listContainers();
  await docker.getContainer(container?.Id ?? '').kill();
  await waitFor('the domain notices', async () => !(await domain.health()).ok);
  await t.rejects(domain.export(id), { code: 'no-instance', message: /retire it/ });
  await domain.retire(id);
  t.match(await domain.health(), { ok: true });
  t.same(await remains(), { containers: 0, ports: [], links: [] });
});

await t.test('rules that iptables refuses', async (t) => {
  const hooks = lab.rewritingRuntime('edge-3', (input) =>
    input.replace('COMMIT', '-A FORWARD -j no-such-chain\nCOMMIT'),
  );
  const refusing = await lab.startDomain('edge-3', { runtime: hooks });
  const error = await refusing.prepare(snapshotOf(1), epoch(1)).catch((error: unknown) => error);
  t.ok(error instanceof DomainError && error.code === 'refused', 'the call fails');
  t.match(error, { message: /iptables-nft-restore refused .*no-such-chain/ }, 'with iptables’ own words');
  t.same(await remains(), { containers: 0, ports: [], links: [] });
  await refusing.close();
});

function snapshotOf(value: number): Snapshot {
  return {
    terminal: alice,
    epoch: epoch(value),
    sequence: 0,
    policy,
    earlier: [],
    connections: [],
    counters: [],
  };
}

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

/** The seconds after which the rules in the youngest container hold the gate for closed. */
async function gateSeconds(): Promise<readonly string[]> {
  const [container] = await docker.listContainers();
  const { State } = await docker.getContainer(container?.Id ?? '').inspect();
  const saved = await Promise.all(
    ['iptables', 'ip6tables'].map((family) =>
      run('nsenter', ['--target', `${State.Pid}`, '--net', '--mount', '--', `/usr/sbin/${family}-nft-save`]),
    ),
  );
  const text = saved.map(({ stdout }) => stdout).join('');
  return [...new Set([...text.matchAll(/--seconds (\d+)/g)].map(([, seconds = '']) => seconds))];
}

/** A Unix socket that leads to another one, until it is closed. */
async function proxyTo(target: string, path: string): Promise<{ close(): Promise<void> }> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => open.delete(socket));
    }
    client.pipe(upstream).pipe(client);
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

/** The process that reads conntrack's events. */
async function eventReader(): Promise<number> {
  const { stdout } = await run('pgrep', ['-f', '^/usr/sbin/conntrack -E']);
  const pid = Number(stdout.trim().split('\n')[0]);
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
  if (!command.startsWith('/usr/sbin/conntrack')) throw new Error('no reader of events');
  return pid;
}

async function remains(): Promise<{
  containers: number;
  ports: readonly string[];
  links: readonly string[];
}> {
  const containers = (await docker.listContainers({ all: true })).length;
  const { stdout: ports } = await run('ovs-vsctl', ['list-ports', BRIDGE]);
  const { stdout: links } = await run('ip', ['-brief', 'link']).catch((error: unknown) => {
    throw error instanceof CommandError ? error : new Error(String(error));
  });
  const ours = (text: string): readonly string[] => text.split('\n').filter((line) => line.startsWith('pg'));
  return { containers, ports: ours(ports), links: ours(links) };
}
