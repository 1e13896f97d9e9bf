/**
 * The SDN domain on a real Open vSwitch: it is a domain like any other, and its rules do with real packets what they are meant to.
 * What must not pass is always seen to arrive first when nothing filters.
 */
import '../lab/enter.js';
import t from 'tap';
import { parsePacket } from '../../controller-app/packet/index.js';
import { type Kind, unpackCookie } from '../../controller-app/pipeline/index.js';
import { domainConformance } from '../../shared/domain/conformance.js';
import type { Ends, InstanceId } from '../../shared/domain/domain.js';
import {
  type Connection,
  connectionKey,
  type Opener,
  type Protocol,
} from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { epoch, type FirewallState } from '../../shared/firewall/state.js';
import type { Family } from '../../shared/firewall/terminal.js';
import {
  arp,
  bytesOf,
  type Ethernet,
  echo,
  fragment,
  fragments,
  icmpv6,
  ip,
  neighbor,
  padding,
  TCP,
  tcp,
  udp,
} from '../fixtures/frames.js';
import { alice, bob, type Host, OTHER, SERVER, startSdnLab, TERMINAL } from '../fixtures/sdn-lab.js';
import { waitFor } from '../lab/index.js';

const GENERATION_MS = 500;
const SETTLE_MS = 200;
/** A packet that has not come after this is not coming: a hundred times what it takes through the slow path. */
const GONE_MS = 250;
const LEASE_MS = 600_000;
const DRAIN_MS = 600_000;
const FAMILIES = ['ipv4', 'ipv6'] as const;

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    { name: 'no 81', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: 81 },
    { name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 },
  ],
});

const lab = await startSdnLab({ generationMs: GENERATION_MS, settleMs: SETTLE_MS, tickMs: 50 });
const { domain, steering, terminal, server, other } = lab;
t.teardown(() => lab.close());

let nextEpoch = 1000;
let nextPort = 20_000;

interface Placed {
  readonly id: InstanceId;
  readonly ends: Ends;
}

/** An active instance with these connections, and everything led through it. */
async function place(
  connections: readonly Connection[] = [],
  change: Partial<FirewallState> = {},
): Promise<Placed> {
  const id = { terminal: alice.name, epoch: epoch(nextEpoch++) };
  const state = {
    terminal: alice,
    epoch: epoch(1),
    sequence: 0,
    policy,
    earlier: [],
    connections,
    counters: [],
    ...change,
  };
  const ends = await domain.prepare(state, id.epoch);
  await domain.activate(id, LEASE_MS);
  await lead(ends);
  return { id, ends };
}

async function lead(ends: Ends): Promise<void> {
  await steering.lead(ends.kind === 'pipeline' ? ends.instance : undefined);
}

async function known(id: InstanceId, key: string): Promise<Connection | undefined> {
  return (await domain.export(id)).connections.find((one) => connectionKey(one) === key);
}

/** What the copies of packets with this TCP or UDP port were sent for. */
function copiesOf(port: number): Kind[] {
  return steering.copies.flatMap(({ cookie, message }) => {
    const transport = parsePacket(message.data)?.transport;
    const kind = unpackCookie(cookie)?.kind;
    return kind && transport && 'src' in transport && (transport.src === port || transport.dst === port)
      ? [kind]
      : [];
  });
}

interface Shot {
  readonly from: Host;
  readonly to: Host;
  readonly frame: Ethernet;
  /** Hexadecimal bytes that only this frame has. */
  readonly marker: string;
}

function shot(
  from: Host,
  to: Host,
  packet: { ethertype: number; packet: Buffer },
  change: Partial<Ethernet> = {},
): Shot {
  const payload = packet.packet.toString('hex');
  const frame = { dmac: to.at.mac, smac: from.at.mac, ethertype: packet.ethertype, payload, ...change };
  return { from, to, frame, marker: payload };
}

/** Sends and says whether it came out. */
async function arrives(one: Shot): Promise<boolean> {
  return (await arriving([one])) === 1;
}

/**
 * Sends frames of one host to another, and says how many came out. Behind them goes one that any instance lets pass and that no frame
 * overtakes, so that it need not be waited for what does not come. Where nothing passes at all, `GONE_MS` is the end.
 */
async function arriving(shots: readonly Shot[]): Promise<number> {
  const [first] = shots;
  if (!first) return 0;
  const { from, to } = first;
  const counts = (): Promise<number[]> => Promise.all(shots.map(({ marker }) => to.seen(marker)));
  const before = await counts();
  for (const { frame } of shots) await from.send(frame);
  const number = nextPort++;
  const nobody = `10.9.${number >> 8}.${number & 0xff}`;
  const question = {
    ethertype: 0x0806,
    packet: arp(1, from.at.mac, from.at.ipv4, '00:00:00:00:00:00', nobody),
  };
  const last = shot(from, to, question);
  await from.send(last.frame);
  await waitFor('the last frame', async () => (await to.seen(last.marker)) > 0, {
    timeoutMs: GONE_MS,
    intervalMs: 2,
  }).catch(() => {});
  const after = await counts();
  return after.filter((count, index) => count > (before[index] ?? 0)).length;
}

/** Ends of a new connection between terminal and server. */
function fresh(protocol: Protocol, family: Family, opener: 'terminal' | 'remote' = 'terminal'): Connection {
  const local = { address: TERMINAL[family], port: nextPort++ };
  const remote = { address: SERVER[family], port: 443 };
  if (protocol === 'icmp') {
    const id = nextPort++;
    return {
      protocol,
      opener,
      local: { address: local.address },
      remote: { address: remote.address },
      id,
      replied: true,
      timeLeftSeconds: 30,
    };
  }
  return protocol === 'tcp'
    ? { protocol, opener, local, remote, state: 'established', timeLeftSeconds: 3600 }
    : { protocol, opener, local, remote, replied: true, timeLeftSeconds: 120 };
}

function toClosedPort(): Connection {
  const one = fresh('tcp', 'ipv4');
  return one.protocol === 'tcp' ? { ...one, remote: { ...one.remote, port: 81 } } : one;
}

interface Segment {
  readonly flags?: number;
  readonly seq?: number;
  readonly ack?: number;
  readonly data?: string;
}

/** A packet of the connection from this side; each has a text of its own. */
function packetOf(connection: Connection, sender: 'terminal' | 'remote', segment: Segment = {}): Shot {
  const { local, remote } = connection;
  const [from, to] = sender === 'terminal' ? [terminal, server] : [server, terminal];
  const [source, destination] = sender === 'terminal' ? [local, remote] : [remote, local];
  const data = Buffer.from(segment.data ?? `packet ${nextPort++}`);
  const build = (): { protocol: number; body: Buffer } => {
    if (connection.protocol === 'icmp') {
      const kind = sender === connection.opener ? 'request' : 'reply';
      const protocol = local.address.includes(':') ? 58 : 1;
      return { protocol, body: echo(source.address, destination.address, kind, connection.id, data) };
    }
    const [sport, dport] =
      sender === 'terminal'
        ? [connection.local.port, connection.remote.port]
        : [connection.remote.port, connection.local.port];
    if (connection.protocol === 'udp') {
      return { protocol: 17, body: udp(source.address, destination.address, sport, dport, data) };
    }
    const { flags = TCP.ack | TCP.psh, ...numbers } = segment;
    return {
      protocol: 6,
      body: tcp(source.address, destination.address, sport, dport, flags, { ...numbers, data }),
    };
  };
  const { protocol, body } = build();
  return shot(from, to, ip(source.address, destination.address, protocol, body));
}

await domainConformance(t, {
  name: 'the SDN domain',
  create: async () => {
    /** Steering as the coordinator would have it: nothing leads to a standby. */
    const through = async (id: InstanceId): Promise<void> => {
      const { instances } = await domain.health();
      const role = instances.find((one) => one.terminal === id.terminal && one.epoch === id.epoch)?.role;
      await steering.lead(role === 'active' || role === 'draining' ? lab.numbers.of(id) : undefined);
    };
    return {
      domain,
      terminal: alice,
      otherTerminal: bob,
      policy,
      wire: {
        allowed: () => fresh(nextPort % 2 ? 'tcp' : 'udp', nextPort % 3 ? 'ipv4' : 'ipv6'),
        forbidden: toClosedPort,
        admit: async (id, connection) => {
          await through(id);
          if (connection.protocol !== 'tcp') return arrives(packetOf(connection, 'terminal'));
          const open = { flags: TCP.syn, seq: 1000, data: '' };
          if (!(await arrives(packetOf(connection, 'terminal', open)))) return false;
          const answer = { flags: TCP.syn | TCP.ack, seq: 5000, ack: 1001, data: '' };
          const end = { flags: TCP.ack, seq: 1001, ack: 5001, data: '' };
          return (
            (await arrives(packetOf(connection, 'remote', answer))) &&
            arrives(packetOf(connection, 'terminal', end))
          );
        },
        carries: async (id, connection) => {
          await through(id);
          return connection.protocol === 'tcp'
            ? arrives(packetOf(connection, 'terminal', { seq: 1001, ack: 5001 }))
            : arrives(packetOf(connection, 'remote'));
        },
      },
      close: async () => {},
    };
  },
});

/** The end of a test: nothing of the instance is left. */
async function retired({ id, ends }: Placed): Promise<void> {
  await steering.lead(undefined);
  await domain.retire(id);
  t.same(await lab.tracked(ends), [], 'no connection is left in the switch');
}

/** Control: the frame is one that the network carries when nothing filters. */
async function arrivesDirectly(one: Shot): Promise<boolean> {
  await steering.lead('direct');
  return arrives(one);
}

t.test('connections that the terminal opens pass, and the controller knows their state', async (t) => {
  await steering.lead('direct');
  for (const family of FAMILIES) await server.ask('serve', { address: SERVER[family], port: 80 });
  const placed = await place();
  for (const family of FAMILIES) {
    const name = `tcp ${family}`;
    const { port = 0 } = await terminal.ask('connect', {
      name,
      protocol: 'tcp',
      from: TERMINAL[family],
      to: SERVER[family],
      port: 80,
    });
    t.same(await terminal.ask('talk', { name, text: 'hello' }), { error: '' }, `${name}: both sides talk`);
    const key = `tcp ${TERMINAL[family]} ${port} ${SERVER[family]} 80`;
    const state = async (): Promise<string | undefined> => {
      const found = await known(placed.id, key);
      return found?.protocol === 'tcp' ? `${found.opener} ${found.state}` : undefined;
    };
    t.ok(await waitFor('established', async () => (await state()) === 'terminal established'), name);
    // Packets of one batch are looked up before any of them is committed: the end of the handshake may be told twice.
    const copies = (): string =>
      [...new Set(copiesOf(port)), ...copiesOf(port).filter((kind) => kind === 'state')].join(' ');
    t.match(
      copies(),
      /^opening state handshake( announce)? state$/,
      'SYN, SYN-ACK and the end of the handshake were copied',
    );
    await terminal.ask('close', { name });
    t.ok(
      await waitFor('closed', async () => (await state()) === 'terminal closed'),
      `${name}: FIN on both sides`,
    );
    t.match(copies(), /^opening state handshake( announce)? state state state$/, 'and two FINs');

    for (const protocol of ['udp', 'icmp'] as const) {
      const connection = { ...fresh(protocol, family), replied: false };
      t.ok(await arrives(packetOf(connection, 'terminal')), `${protocol} ${family} passes`);
      t.ok(await arrives(packetOf(connection, 'terminal')), 'also before there is a reply');
      t.ok(await arrives(packetOf(connection, 'remote')), 'the reply passes');
      const found = await waitFor('replied', async () => {
        const one = await known(placed.id, connectionKey(connection));
        return one && one.protocol !== 'tcp' && one.replied && one;
      });
      t.equal(found.opener, 'terminal');
    }
  }
  t.notOk(
    await arrives(packetOf(toClosedPort(), 'terminal', { flags: TCP.syn })),
    'a port that the policy closes',
  );
  const { counters } = await domain.export(placed.id);
  const packets = (rule: string): number => counters.find((one) => one.rule === rule)?.packets ?? -1;
  t.equal(packets('default outbound'), 6, 'each opening packet is counted once, by the rule that decided');
  t.equal(packets('no 81'), 1);
  await retired(placed);
});

t.test('what nobody opened does not pass, in both directions', async (t) => {
  const flags = {
    SYN: TCP.syn,
    ACK: TCP.ack,
    data: TCP.ack | TCP.psh,
    FIN: TCP.fin | TCP.ack,
    RST: TCP.rst,
    'SYN-ACK': TCP.syn | TCP.ack,
  };
  const shots: (readonly [string, Shot])[] = [];
  for (const family of FAMILIES) {
    for (const sender of ['terminal', 'remote'] as const) {
      for (const [name, bits] of Object.entries(flags)) {
        // From the terminal a SYN is what the policy accepts.
        if (name === 'SYN' && sender === 'terminal') continue;
        shots.push([
          `${name} from the ${sender}, ${family}`,
          packetOf(fresh('tcp', family), sender, { flags: bits }),
        ]);
      }
    }
    shots.push([`UDP from outside, ${family}`, packetOf(fresh('udp', family), 'remote')]);
    shots.push([`echo request from outside, ${family}`, packetOf(fresh('icmp', family, 'remote'), 'remote')]);
    shots.push([`echo reply nobody asked for, ${family}`, packetOf(fresh('icmp', family), 'remote')]);
  }
  const [v4, v6] = [SERVER.ipv4, SERVER.ipv6];
  shots.push([
    'ICMP redirect',
    shot(server, terminal, ip(v4, TERMINAL.ipv4, 1, Buffer.from('0501f9fe0a00000300000000', 'hex'))),
  ]);
  shots.push([
    'ICMPv6 redirect',
    shot(
      server,
      terminal,
      ip(v6, TERMINAL.ipv6, 58, icmpv6(v6, TERMINAL.ipv6, 137, Buffer.alloc(36)), { ttl: 255 }),
    ),
  ]);
  shots.push(['GRE', shot(server, terminal, ip(v4, TERMINAL.ipv4, 47, Buffer.from('gre')))]);
  for (const [name, one] of shots) t.ok(await arrivesDirectly(one), `control: ${name}`);
  const placed = await place();
  for (const [name, one] of shots) t.notOk(await arrives(one), name);
  t.same((await domain.export(placed.id)).connections, [], 'and nothing of it is known');
  await retired(placed);
});

t.test('the guard stops what pretends to be another', async (t) => {
  const { mac, ipv4, ipv6 } = TERMINAL;
  const own = 'fe80::ff:fe00:1';
  const data = Buffer.from('guard');
  const any = '33:33:00:00:00:01';
  const nd = (src: string, dst: string, type: 135 | 136, target: string, option?: string, ttl = 255) =>
    ip(src, dst, 58, neighbor(src, dst, type, target, option), { ttl });
  const twoOptions = Buffer.concat([
    Buffer.alloc(4),
    bytesOf.ip(SERVER.ipv6),
    ...[mac, OTHER.mac].map((one) => Buffer.concat([Buffer.from([1, 1]), bytesOf.mac(one)])),
  ]);
  const arpOf = (op: number, sha: string, spa: string) => ({
    ethertype: 0x0806,
    packet: arp(op, sha, spa, '00:00:00:00:00:00', SERVER.ipv4),
  });
  const to = (packet: { ethertype: number; packet: Buffer }, change: Partial<Ethernet> = {}): Shot =>
    shot(terminal, server, packet, change);
  const udpFrom = (src: string, dst: string, sport = 5000, dport = 6000) =>
    ip(src, dst, 17, udp(src, dst, sport, dport, data));

  /** The receiving kernel takes the tag off before the capture sees the frame. */
  const tagged = (tag: number): Shot => {
    const { packet } = udpFrom(ipv4, SERVER.ipv4, 5000, nextPort++);
    const head = Buffer.from([tag >> 8, tag & 0xff, 0x08, 0x00]);
    return {
      ...to({ ethertype: 0x8100, packet: Buffer.concat([head, packet]) }),
      marker: packet.toString('hex'),
    };
  };
  const forbidden: Record<string, Shot> = {
    'a wrong MAC': to(udpFrom(ipv4, SERVER.ipv4), { smac: OTHER.mac }),
    'a wrong IPv4 address': to(udpFrom(OTHER.ipv4, SERVER.ipv4)),
    'a wrong IPv6 address': to(udpFrom(OTHER.ipv6, SERVER.ipv6)),
    'an ARP reply for another': to(arpOf(2, mac, OTHER.ipv4)),
    'an ARP request in the name of another': to(arpOf(1, mac, OTHER.ipv4)),
    'an ARP reply with another MAC inside': to(arpOf(2, OTHER.mac, ipv4)),
    'an advertisement of another address': to(nd(ipv6, SERVER.ipv6, 136, OTHER.ipv6, mac)),
    'an advertisement with another MAC inside': to(nd(ipv6, SERVER.ipv6, 136, ipv6, OTHER.mac)),
    'an advertisement from another address': to(nd(OTHER.ipv6, SERVER.ipv6, 136, ipv6, mac)),
    'a solicitation with another MAC inside': to(nd(ipv6, SERVER.ipv6, 135, SERVER.ipv6, OTHER.mac)),
    'a solicitation with two MACs inside': to(
      ip(ipv6, SERVER.ipv6, 58, icmpv6(ipv6, SERVER.ipv6, 135, twoOptions), { ttl: 255 }),
    ),
    'a solicitation from another address': to(nd(OTHER.ipv6, SERVER.ipv6, 135, SERVER.ipv6, mac)),
    'a probe for an address of another': to(nd('::', 'ff02::1:ff00:3', 135, OTHER.ipv6)),
    'a solicitation that a router has passed on': to(nd(ipv6, SERVER.ipv6, 135, SERVER.ipv6, mac, 254)),
    'a router advertisement': to(
      ip(own, 'ff02::1', 58, icmpv6(own, 'ff02::1', 134, Buffer.alloc(12)), { ttl: 255 }),
    ),
    'an ICMPv6 redirect': to(
      ip(own, SERVER.ipv6, 58, icmpv6(own, SERVER.ipv6, 137, Buffer.alloc(36)), { ttl: 255 }),
    ),
    'an ICMP redirect': to(ip(ipv4, SERVER.ipv4, 1, Buffer.from('0501f9fe0a00000300000000', 'hex'))),
    "a DHCP server's reply": to(udpFrom(ipv4, '255.255.255.255', 67, 68), { dmac: 'ff:ff:ff:ff:ff:ff' }),
    "a DHCPv6 server's reply": to(udpFrom(own, SERVER.ipv6, 547, 546)),
    'TCP from the link-local address': to(ip(own, SERVER.ipv6, 6, tcp(own, SERVER.ipv6, 5000, 80, TCP.syn))),
    'UDP from the link-local address': to(udpFrom(own, SERVER.ipv6)),
    'a multicast listener report': to(
      ip(own, 'ff02::16', 58, icmpv6(own, 'ff02::16', 143, Buffer.alloc(24)), { ttl: 1 }),
    ),
    'an unknown ethertype': to({ ethertype: 0x88b5, packet: Buffer.from('unknown ethertype') }),
    'a VLAN tag': tagged(0x0005),
    'a priority tag': tagged(0x2000),
    LLDP: to({ ethertype: 0x88cc, packet: Buffer.from('lldp') }, { dmac: '01:80:c2:00:00:0e' }),
  };
  const allowed: Record<string, Shot> = {
    'an ARP request': to(arpOf(1, mac, ipv4)),
    'an ARP reply': to(arpOf(2, mac, ipv4)),
    'an ARP probe': to(arpOf(1, mac, '0.0.0.0')),
    'an advertisement': to(nd(ipv6, SERVER.ipv6, 136, ipv6, mac)),
    'an advertisement without the option': to(nd(ipv6, SERVER.ipv6, 136, ipv6)),
    'an advertisement from the link-local address': to(nd(own, SERVER.ipv6, 136, own, mac)),
    'a solicitation': to(nd(ipv6, SERVER.ipv6, 135, SERVER.ipv6, mac)),
    'a solicitation without the option': to(nd(ipv6, SERVER.ipv6, 135, SERVER.ipv6)),
    'a probe for its own address': to(nd('::', 'ff02::1:ff00:1', 135, ipv6)),
    'a router solicitation': to(
      ip(own, 'ff02::2', 58, icmpv6(own, 'ff02::2', 133, Buffer.alloc(4)), { ttl: 255 }),
      { dmac: any },
    ),
    'a DHCP request': to(udpFrom('0.0.0.0', '255.255.255.255', 68, 67), { dmac: 'ff:ff:ff:ff:ff:ff' }),
    'a DHCPv6 request': to(udpFrom(own, 'ff02::1:2', 546, 547), { dmac: '33:33:00:01:00:02' }),
  };
  for (const [name, one] of Object.entries(forbidden)) {
    // Bridges never forward these, not even without a guard.
    if (name !== 'LLDP') t.ok(await arrivesDirectly(one), `control: ${name}`);
  }
  const placed = await place();
  for (const [name, one] of Object.entries(forbidden)) t.notOk(await arrives(one), name);
  for (const [name, one] of Object.entries(allowed)) t.ok(await arrives(one), `${name} passes`);
  await retired(placed);
});

t.test(
  'an imported connection lives on, whichever of its packets comes first',
  { timeout: 120_000 },
  async (t) => {
    type Step = readonly [sender: 'terminal' | 'remote', segment: Segment];
    const data = (sender: 'terminal' | 'remote', seq: number, ack: number): Step => [sender, { seq, ack }];
    const orders: Readonly<Record<string, readonly Step[]>> = {
      'the terminal speaks first': [
        data('terminal', 1001, 5001),
        data('remote', 5001, 1010),
        data('terminal', 1010, 5010),
      ],
      'the server speaks first': [
        data('remote', 5001, 1001),
        data('terminal', 1001, 5010),
        data('remote', 5010, 1010),
      ],
      'the terminal only acknowledges': [
        data('remote', 5001, 1001),
        ['terminal', { flags: TCP.ack, seq: 1001, ack: 5010, data: '' }],
        data('remote', 5010, 1001),
      ],
      'a SYN-ACK comes first': [
        ['remote', { flags: TCP.syn | TCP.ack, seq: 5000, ack: 1001, data: '' }],
        ['terminal', { flags: TCP.ack, seq: 1001, ack: 5001, data: '' }],
        data('remote', 5001, 1001),
      ],
      'a FIN comes first': [
        ['remote', { flags: TCP.fin | TCP.ack, seq: 5001, ack: 1001, data: '' }],
        ['terminal', { flags: TCP.fin | TCP.ack, seq: 1001, ack: 5002, data: '' }],
        ['remote', { flags: TCP.ack, seq: 5002, ack: 1002, data: '' }],
      ],
      'a RST comes first': [['remote', { flags: TCP.rst | TCP.ack, seq: 5001, ack: 1001, data: '' }]],
    };
    for (const family of FAMILIES) {
      for (const opener of ['terminal', 'remote'] as const) {
        for (const [name, steps] of Object.entries(orders)) {
          const connection = fresh('tcp', family, opener);
          const key = connectionKey(connection);
          const label = `${name}, ${family}, opened by the ${opener}`;
          const placed = await place([connection]);
          for (const [sender, segment] of steps)
            t.ok(await arrives(packetOf(connection, sender, segment)), label);
          const found = await waitFor('known', () => known(placed.id, key));
          t.equal(found.opener, opener, `${label}: the opener is who it was`);
          const closed = name.startsWith('a FIN') || name.startsWith('a RST');
          if (closed) {
            await waitFor('closed', async () => {
              const one = await known(placed.id, key);
              return one?.protocol === 'tcp' && one.state === 'closed';
            });
          }
          const rules = async (): Promise<number> =>
            (await lab.dump('firewall-ct')).filter((line) => /priority=300[0-9]0,/.test(line)).length;
          await waitFor('the adoption rules are gone', async () => (await rules()) === 0);
          if (name.startsWith('a RST')) {
            // A datapath flow outlives its rule until the next revalidation.
            const late = { flags: TCP.syn | TCP.ack, seq: 5002, ack: 1001 };
            await waitFor(`${label}: nothing opens it again`, async () => {
              return !(await arrives(packetOf(connection, 'remote', late)));
            });
          } else if (!closed) {
            t.ok(
              await arrives(packetOf(connection, 'terminal', { seq: 1020, ack: 5020 })),
              `${label}: without them too`,
            );
            t.ok(
              await arrives(packetOf(connection, 'remote', { seq: 5020, ack: 1030 })),
              `${label}: in both directions`,
            );
          }
          await retired(placed);
          // Control: the very same packets, of a connection that was not imported.
          const control = await place();
          for (const [sender, segment] of steps) {
            t.notOk(await arrives(packetOf(connection, sender, segment)), `control: ${label}`);
          }
          await retired(control);
        }
        for (const protocol of ['udp', 'icmp'] as const) {
          for (const first of ['terminal', 'remote'] as const) {
            const second: Opener = first === 'terminal' ? 'remote' : 'terminal';
            const connection = fresh(protocol, family, opener);
            const label = `${protocol} ${family} opened by the ${opener}, the ${first} first`;
            const placed = await place([connection]);
            for (const sender of [first, second, first, second])
              t.ok(await arrives(packetOf(connection, sender)), label);
            t.equal(
              (await waitFor('known', () => known(placed.id, connectionKey(connection)))).opener,
              opener,
            );
            await retired(placed);
          }
        }
      }
    }
  },
);

t.test(
  'real connections opened elsewhere live on when they are imported, and are dead when not',
  async (t) => {
    const open = async (name: string, family: Family, protocol: 'tcp' | 'udp'): Promise<Connection> => {
      const ends = { from: TERMINAL[family], to: SERVER[family] };
      const { port = 0 } = await terminal.ask('connect', { name, protocol, ...ends, port: 80 });
      t.same(await terminal.ask('talk', { name, text: 'opened elsewhere' }), { error: '' });
      const connection = fresh(protocol, family);
      if (connection.protocol === 'icmp') throw new Error('not an echo');
      const local = { address: TERMINAL[family], port };
      return { ...connection, local, remote: { address: SERVER[family], port: 80 } };
    };
    // More than any window: what conntrack takes for out of the window must not be lost.
    const large = 'x'.repeat(500_000);
    for (const family of FAMILIES) {
      for (const isImported of [true, false]) {
        await steering.lead('direct');
        const name = `${family} ${isImported ? 'imported' : 'left out'}`;
        const connection = await open(name, family, 'tcp');
        const placed = await place(isImported ? [connection] : []);
        const { error } = await terminal.ask('talk', { name, text: large, timeout: isImported ? 20 : 1 });
        if (isImported) t.equal(error, '', `${name}: every byte arrives, in order`);
        else t.match(error, /timed out/, `${name}: dead`);
        const key = connectionKey(connection);
        t.equal((await known(placed.id, key)) !== undefined, isImported);
        await terminal.ask('close', { name });
        if (isImported) {
          await waitFor('closed', async () => {
            const one = await known(placed.id, key);
            return one?.protocol === 'tcp' && one.state === 'closed';
          });
        }
        await retired(placed);
      }
    }
  },
);

t.test('adoption ends: with the time the connection had left, and only after activation', async (t) => {
  const connection = { ...fresh('udp', 'ipv4', 'remote'), timeLeftSeconds: 1 };
  const id = { terminal: alice.name, epoch: epoch(nextEpoch++) };
  const state = {
    terminal: alice,
    epoch: epoch(1),
    sequence: 0,
    policy,
    earlier: [],
    connections: [connection],
    counters: [],
  };
  const ends = await domain.prepare(state, id.epoch);
  await domain.activate(id, LEASE_MS);
  await lead(ends);
  await waitFor('it is forgotten', async () => (await domain.export(id)).connections.length === 0);
  await waitFor(
    'its rules are gone',
    async () => !(await lab.dump('firewall-ct')).some((line) => line.includes('priority=30000')),
  );
  t.notOk(await arrives(packetOf(connection, 'remote')));
  await retired({ id, ends });
});

t.test('a draining instance hands on what it does not know', async (t) => {
  for (const family of FAMILIES) {
    const placed = await place();
    const mine = { ...fresh('udp', family), replied: false };
    t.ok(await arrives(packetOf(mine, 'terminal')));
    await domain.drain(placed.id, DRAIN_MS);
    // Confirmed is not yet in effect: the switch may use what it has cached.
    await steering.inEffect();
    t.ok(await arrives(packetOf(mine, 'remote')), `${family}: what it knows passes`);
    const strange: readonly (readonly [string, Shot])[] = [
      ['a new datagram', packetOf(fresh('udp', family), 'terminal')],
      ['a SYN', packetOf(fresh('tcp', family), 'terminal', { flags: TCP.syn, data: '' })],
      ['a SYN-ACK', packetOf(fresh('tcp', family), 'remote', { flags: TCP.syn | TCP.ack, data: '' })],
      ['an echo reply', packetOf(fresh('icmp', family), 'remote')],
    ];
    for (const [name, one] of strange) {
      t.notOk(await arrives(one), `${family}: ${name} does not pass`);
      await waitFor(`${family}: ${name} is handed on`, async () => (await other.seen(one.marker)) > 0);
    }
    await retired(placed);
  }
  const brief = await place();
  const mine = { ...fresh('udp', 'ipv4'), replied: false };
  t.ok(await arrives(packetOf(mine, 'terminal')));
  await domain.drain(brief.id, 1);
  await waitFor('the drain is over', async () => !(await arrives(packetOf(mine, 'remote'))));
  await retired(brief);
});

t.test('live connections announce themselves once a generation', async (t) => {
  const placed = await place();
  const live = { ...fresh('udp', 'ipv4'), replied: false };
  t.ok(await arrives(packetOf(live, 'terminal')));
  t.ok(await arrives(packetOf(live, 'remote')));
  const port = live.protocol === 'udp' ? live.local.port : 0;
  const announcements = (): number => copiesOf(port).filter((kind) => kind === 'announce').length;
  const generation = async (): Promise<string | undefined> =>
    (await lab.dump('firewall-ct'))
      .map((line) => /ct_mark=(0x\w+|0)\/0xf0/.exec(line)?.[1])
      .find((mark) => mark);
  for (let round = 1; round <= 2; round++) {
    const [before, seen] = [await generation(), announcements()];
    // The announcement of the generation before may still be under way.
    await waitFor('an announcement in another generation', async () => {
      await arrives(packetOf(live, 'terminal'));
      return announcements() > seen && (await generation()) !== before;
    });
    t.not(await generation(), before);
  }
  // Twenty packets in one generation: at most one copy. When a new one begins meanwhile, once more.
  await waitFor('twenty packets within one generation', async () => {
    const [before, seen] = [await generation(), announcements()];
    await arriving(Array.from({ length: 20 }, () => packetOf(live, 'terminal')));
    if ((await generation()) !== before) return false;
    t.ok(announcements() - seen <= 1, `${announcements() - seen} copies of 20 packets`);
    return true;
  });
  t.ok(await known(placed.id, connectionKey(live)));
  await retired(placed);
});

t.test("only the terminal's own addresses have connections, and nobody else sends from them", async (t) => {
  const linkLocal = 'fe80::ff:fe00:1';
  const fromNetwork = (packet: { ethertype: number; packet: Buffer }): Shot => shot(server, terminal, packet);
  const ssh = (src: string, dst: string): Shot =>
    fromNetwork(ip(src, dst, 6, tcp(src, dst, nextPort++, 22, TCP.syn)));
  const advertised = (src: string): Shot =>
    fromNetwork(
      ip(src, TERMINAL.ipv6, 58, neighbor(src, TERMINAL.ipv6, 136, SERVER.ipv6, SERVER.mac), { ttl: 255 }),
    );
  const claimed = (spa: string): Shot =>
    fromNetwork({ ethertype: 0x0806, packet: arp(2, SERVER.mac, spa, TERMINAL.mac, TERMINAL.ipv4) });
  const live = FAMILIES.map((family) => ({ ...fresh('udp', family), replied: false }));
  const forbidden: (readonly [string, Shot])[] = [
    ...live.map((one): [string, Shot] => {
      const { frame, marker } = packetOf(one, 'terminal');
      const back = { ...frame, dmac: TERMINAL.mac, smac: SERVER.mac };
      return [`${one.local.address}: its own direction`, { from: server, to: terminal, frame: back, marker }];
    }),
    ['from its address to its address, IPv4', ssh(TERMINAL.ipv4, TERMINAL.ipv4)],
    ['from its address to its address, IPv6', ssh(TERMINAL.ipv6, TERMINAL.ipv6)],
    ['from its link-local address', ssh(linkLocal, TERMINAL.ipv6)],
    ['to another IPv4 address', ssh(SERVER.ipv4, '10.0.0.99')],
    ['to a broadcast address', ssh(SERVER.ipv4, '10.0.0.255')],
    ['to a multicast address, IPv4', ssh(SERVER.ipv4, '224.0.0.251')],
    ['to another IPv6 address', ssh(SERVER.ipv6, 'fd00::99')],
    ['to its link-local address', ssh(SERVER.ipv6, linkLocal)],
    ['to a multicast address, IPv6', ssh(SERVER.ipv6, 'ff02::fb')],
    ['an advertisement from its address', advertised(TERMINAL.ipv6)],
    ['an advertisement from its link-local address', advertised(linkLocal)],
    ['an ARP reply that claims its address', claimed(TERMINAL.ipv4)],
  ];
  const allowed: (readonly [string, Shot])[] = [
    ['to its IPv4 address', ssh(SERVER.ipv4, TERMINAL.ipv4)],
    ['to its IPv6 address', ssh(SERVER.ipv6, TERMINAL.ipv6)],
    ['an advertisement', advertised(SERVER.ipv6)],
    ['an ARP reply', claimed(SERVER.ipv4)],
    ...live.map((one): [string, Shot] => [`${one.local.address}: the reply`, packetOf(one, 'remote')]),
  ];
  for (const [name, one] of forbidden) t.ok(await arrivesDirectly(one), `control: ${name}`);
  const placed = await place();
  for (const one of live) t.ok(await arrives(packetOf(one, 'terminal')), 'a live connection');
  for (const [name, one] of forbidden) t.notOk(await arrives(one), name);
  for (const [name, one] of allowed) t.ok(await arrives(one), `${name} passes`);
  await retired(placed);
});

t.test('an adopted echo admits echoes only', async (t) => {
  for (const family of FAMILIES) {
    const connection = fresh('icmp', family);
    const { local, remote } = connection;
    const odd = (): Shot => {
      const { packet } =
        family === 'ipv6'
          ? ip(
              local.address,
              remote.address,
              58,
              icmpv6(local.address, remote.address, 128, Buffer.from(`odd ${nextPort++}`), 1),
            )
          : ip(
              local.address,
              remote.address,
              1,
              Buffer.from(`0801f7fe0001${(nextPort++).toString(16).padStart(4, '0')}`, 'hex'),
            );
      return shot(terminal, server, { ethertype: family === 'ipv6' ? 0x86dd : 0x0800, packet });
    };
    t.ok(await arrivesDirectly(odd()), `control: ${family}`);
    const placed = await place([connection]);
    t.notOk(await arrives(odd()), `${family}: code 1`);
    t.ok(await arrives(packetOf(connection, 'terminal')));
    t.notOk(await arrives(odd()), `${family}: code 1, once it is tracked`);
    t.ok(await arrives(packetOf(connection, 'remote')));
    await retired(placed);
  }
});

const closed = policySchema.parse({
  name: 'closed',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    { name: 'no 7001', direction: 'outbound', action: 'drop', protocol: 'udp', remotePorts: [7001] },
    { name: 'no 81', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: [81] },
  ],
});

t.test('fragments of what the policy admits pass, others do not', async (t) => {
  for (const family of FAMILIES) {
    const icmp = family === 'ipv4' ? 1 : 58;
    const pieces = (protocol: number, body: Buffer, from: Host, to: Host, size = 1400): Shot[] =>
      fragments(from.at[family], to.at[family], protocol, body, { id: nextPort++, size }).map((piece) =>
        shot(from, to, piece),
      );
    const data = (): Buffer => Buffer.alloc(2000, `fragment ${nextPort++} `);
    const datagram = (dport: number, sport: number, from: Host, to: Host): Shot[] =>
      pieces(17, udp(from.at[family], to.at[family], sport, dport, data()), from, to);
    const echoed = (from: Host, to: Host, kind: 'request' | 'reply'): Shot[] =>
      pieces(icmp, echo(from.at[family], to.at[family], kind, 77, data()), from, to);
    const syn = tcp(TERMINAL[family], SERVER[family], nextPort++, 81, TCP.syn, { data: data() });
    const forbidden: Record<string, Shot[]> = {
      'a port that the policy closes': datagram(7001, nextPort++, terminal, server),
      'the same, last piece first': datagram(7001, nextPort++, terminal, server).reverse(),
      'a SYN to such a port': pieces(6, syn, terminal, server),
      'a SYN to such a port, in tiny pieces': pieces(6, syn.subarray(0, 40), terminal, server, 8),
      'from outside': datagram(7000, nextPort++, server, terminal),
      'a later piece alone': datagram(7000, nextPort++, server, terminal).slice(1),
      'an echo reply nobody asked for': echoed(server, terminal, 'reply'),
    };
    // Both first pieces of one datagram.
    const id = nextPort++;
    forbidden['two first pieces'] = [7000, 7001].flatMap((dport) => {
      const body = udp(TERMINAL[family], SERVER[family], 6999, dport, data());
      return fragments(TERMINAL[family], SERVER[family], 17, body, { id })
        .slice(0, dport === 7000 ? 1 : 2)
        .map((piece) => shot(terminal, server, piece));
    });
    if (family === 'ipv6') Object.assign(forbidden, hiddenPieces());
    await steering.lead('direct');
    for (const [name, shots] of Object.entries(forbidden))
      t.equal(await arriving(shots), shots.length, `control: ${name}, ${family}`);

    const placed = await place([], { policy: closed });
    const sport = nextPort++;
    const one = `${family}: an opening datagram in two pieces`;
    t.equal(await arriving(datagram(7000, sport, terminal, server)), 2, one);
    t.equal(await arriving(datagram(sport, 7000, server, terminal)), 2, 'the reply in two pieces');
    t.equal(await arriving(datagram(7000, sport, terminal, server)), 2, 'and once more');
    t.equal(await arriving(datagram(sport, 7000, server, terminal)), 2, 'and back');
    t.equal(await arriving(echoed(terminal, server, 'request')), 2, 'a large ping');
    t.equal(await arriving(echoed(server, terminal, 'reply')), 2, 'its reply');
    await waitFor('the echo is known as replied', async () => {
      const found = await known(placed.id, `icmp ${TERMINAL[family]} ${SERVER[family]} 77`);
      return found?.protocol === 'icmp' && found.replied;
    }).catch(() => t.fail('the echo is not known as replied'));
    for (const [name, shots] of Object.entries(forbidden)) {
      if (name.startsWith('an echo reply')) continue;
      t.equal(await arriving(shots), 0, `${name}, ${family}`);
    }
    await retired(placed);
    const unasked = await place([], { policy: closed });
    t.equal(await arriving(echoed(server, terminal, 'reply')), 0, 'an echo reply nobody asked for');
    await retired(unasked);
  }
});

/** What only shows in the second piece: the first is full of options. */
function hiddenPieces(): Record<string, Shot[]> {
  const [own, remote] = [TERMINAL.ipv6, SERVER.ipv6];
  const hide = (from: Host, to: Host, protocol: number, body: Buffer, ttl = 64): Shot[] => {
    const [src, dst] = [from.at.ipv6, to.at.ipv6];
    const whole = Buffer.concat([padding(protocol, 1280), body]);
    return fragments(src, dst, 60, whole, { id: nextPort++, size: 1280, ttl }).map((piece) =>
      shot(from, to, piece),
    );
  };
  const data = Buffer.alloc(100, `hidden ${nextPort++} `);
  const nd = (src: string, dst: string, type: number): Buffer =>
    icmpv6(src, dst, type, Buffer.alloc(36, type));
  return {
    'a hidden datagram to a closed port': hide(terminal, server, 17, udp(own, remote, 5000, 7001, data)),
    'a hidden SYN to a closed port': hide(terminal, server, 6, tcp(own, remote, 5000, 81, TCP.syn, { data })),
    'a hidden SYN from outside': hide(server, terminal, 6, tcp(remote, own, 5000, 22, TCP.syn, { data })),
    "a hidden DHCPv6 server's reply": hide(terminal, server, 17, udp(own, remote, 547, 546, data)),
    'a hidden router advertisement': hide(terminal, server, 58, nd(own, remote, 134), 255),
    'a hidden solicitation': hide(terminal, server, 58, nd(own, remote, 135), 255),
    'a hidden advertisement': hide(terminal, server, 58, nd(own, remote, 136), 255),
    'a hidden redirect': hide(server, terminal, 58, nd(remote, own, 137), 255),
    'a later piece of ICMPv6 alone': [
      shot(
        terminal,
        server,
        fragment(own, remote, 58, data.subarray(4), { id: nextPort++, offset: 1280, more: false }),
      ),
    ],
  };
}

t.test('datagrams larger than a packet pass in both directions, also when they are adopted', async (t) => {
  await steering.lead('direct');
  const large = 'y'.repeat(4000);
  for (const family of FAMILIES) {
    await server.ask('serve', { address: SERVER[family], port: 90 });
    for (const isImported of [false, true]) {
      const name = `${family} ${isImported ? 'adopted' : 'opened here'}`;
      const ends = { from: TERMINAL[family], to: SERVER[family] };
      await steering.lead('direct');
      const before = isImported ? undefined : await place();
      const { port = 0 } = await terminal.ask('connect', { name, protocol: 'udp', ...ends, port: 90 });
      t.same(
        await terminal.ask('talk', { name, text: large }),
        { error: '' },
        `${name}: 4,000 bytes and back`,
      );
      const connection = fresh('udp', family, 'terminal');
      if (connection.protocol !== 'udp') throw new Error('not a datagram');
      const local = { address: TERMINAL[family], port };
      const imported = { ...connection, local, remote: { address: SERVER[family], port: 90 } };
      // Both defaults are closed: nothing but adoption lets it pass.
      const shut = { ...closed, defaults: { outbound: 'drop', inbound: 'drop' } } as const;
      const placed = before ?? (await place([imported], { policy: shut }));
      if (isImported) {
        const { error } = await terminal.ask('talk', { name, text: large });
        t.equal(error, '', `${name}: 4,000 bytes and back, through the firewall`);
      }
      const found = await waitFor('known', () => known(placed.id, connectionKey(imported)));
      t.equal(found.opener, 'terminal');
      await terminal.ask('close', { name });
      await retired(placed);
    }
    const dead = await place([], { policy: { ...closed, defaults: { outbound: 'drop', inbound: 'drop' } } });
    const name = `${family} control`;
    const ends = { from: TERMINAL[family], to: SERVER[family] };
    await terminal.ask('connect', { name, protocol: 'udp', ...ends, port: 90 });
    const { error } = await terminal.ask('talk', { name, text: large, timeout: 0.5 });
    t.match(error, /timed out/, `${name}: dead when it is not imported`);
    await retired(dead);
  }
});
