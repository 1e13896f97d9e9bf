/**
 * The SDN domain on a real Open vSwitch: it is a domain like any other, and its rules do with real packets what they are meant to.
 * What must not pass is always seen to arrive first when nothing filters.
 */
import '../lab/enter.js';
import t from 'tap';
import { domainConformance } from '../../shared/domain/conformance.js';
import { NEW_ADDRESSES } from '../../shared/domain/conformance-state.js';
import type { InstanceId } from '../../shared/domain/domain.js';
import { type Connection, connectionKey, type Opener } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { type Family, familyOf } from '../../shared/firewall/terminal.js';
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
import {
  FAMILIES,
  fresh,
  nextNumber,
  SdnBench,
  type Segment,
  type Shot,
  shot,
} from '../fixtures/sdn-bench.js';
import { alice, bob, type Host, OTHER, SERVER, startSdnLab, TERMINAL } from '../fixtures/sdn-lab.js';
import { waitFor } from '../lab/index.js';

const GENERATION_MS = 1000;
const SETTLE_MS = 200;
const LEASE_MS = 600_000;
const DRAIN_MS = 600_000;

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
t.setTimeout(180_000);
t.teardown(() => lab.close());

const bench = new SdnBench(lab, policy);
function toClosedPort(): Connection {
  const one = fresh('tcp', 'ipv4');
  return one.protocol === 'tcp' ? { ...one, remote: { ...one.remote, port: 81 } } : one;
}

await domainConformance(t, {
  name: 'the SDN domain',
  create: async () => {
    /** Steering as the coordinator would have it: nothing leads to a standby. */
    const through = async (id: InstanceId): Promise<void> => {
      const { instances } = await domain.health();
      const role = instances.find((one) => one.terminal === id.terminal && one.epoch === id.epoch)?.role;
      const instance = role === 'active' || role === 'draining' ? lab.numbers.known(id) : undefined;
      // The guard knows the addresses that the suite gives to the terminal.
      await steering.lead(instance, { ...alice, ipv4: [...alice.ipv4, NEW_ADDRESSES.ipv4] });
    };
    return {
      domain,
      terminal: alice,
      otherTerminal: bob,
      policy,
      wire: {
        allowed: (local) => {
          const family = local ? familyOf(local) : nextNumber() % 3 ? 'ipv4' : 'ipv6';
          return fresh(nextNumber() % 2 ? 'tcp' : 'udp', family, 'terminal', local);
        },
        forbidden: toClosedPort,
        admit: async (id, connection) => {
          await through(id);
          if (connection.protocol !== 'tcp') return bench.arrives(bench.packetOf(connection, 'terminal'));
          const open = { flags: TCP.syn, seq: 1000, data: '' };
          if (!(await bench.arrives(bench.packetOf(connection, 'terminal', open)))) return false;
          const answer = { flags: TCP.syn | TCP.ack, seq: 5000, ack: 1001, data: '' };
          const end = { flags: TCP.ack, seq: 1001, ack: 5001, data: '' };
          return (
            (await bench.arrives(bench.packetOf(connection, 'remote', answer))) &&
            bench.arrives(bench.packetOf(connection, 'terminal', end))
          );
        },
        carries: async (id, connection) => {
          await through(id);
          return connection.protocol === 'tcp'
            ? bench.arrives(bench.packetOf(connection, 'terminal', { seq: 1001, ack: 5001 }))
            : bench.arrives(bench.packetOf(connection, 'remote'));
        },
      },
      close: async () => {},
    };
  },
});

t.test('connections that the terminal opens pass, and the controller knows their state', async (t) => {
  await steering.lead('direct');
  for (const family of FAMILIES) await server.ask('serve', { address: SERVER[family], port: 80 });
  const placed = await bench.place();
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
      const found = await bench.known(placed.id, key);
      return found?.protocol === 'tcp' ? `${found.opener} ${found.state}` : undefined;
    };
    t.ok(await waitFor('established', async () => (await state()) === 'terminal established'), name);
    // Packets of one batch are looked up before any of them is committed: the end of the handshake may be told twice.
    const copies = (): string =>
      [...new Set(bench.copiesOf(port)), ...bench.copiesOf(port).filter((kind) => kind === 'state')].join(
        ' ',
      );
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
      t.ok(await bench.arrives(bench.packetOf(connection, 'terminal')), `${protocol} ${family} passes`);
      t.ok(await bench.arrives(bench.packetOf(connection, 'terminal')), 'also before there is a reply');
      t.ok(await bench.arrives(bench.packetOf(connection, 'remote')), 'the reply passes');
      const found = await waitFor('replied', async () => {
        const one = await bench.known(placed.id, connectionKey(connection));
        return one && one.protocol !== 'tcp' && one.replied && one;
      });
      t.equal(found.opener, 'terminal');
    }
  }
  t.notOk(
    await bench.arrives(bench.packetOf(toClosedPort(), 'terminal', { flags: TCP.syn })),
    'a port that the policy closes',
  );
  const { counters } = await domain.export(placed.id);
  const packets = (rule: string): number => counters.find((one) => one.rule === rule)?.packets ?? -1;
  t.equal(packets('default outbound'), 6, 'each opening packet is counted once, by the rule that decided');
  t.equal(packets('no 81'), 1);
  await bench.retired(placed);
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
          bench.packetOf(fresh('tcp', family), sender, { flags: bits }),
        ]);
      }
    }
    shots.push([`UDP from outside, ${family}`, bench.packetOf(fresh('udp', family), 'remote')]);
    shots.push([
      `echo request from outside, ${family}`,
      bench.packetOf(fresh('icmp', family, 'remote'), 'remote'),
    ]);
    shots.push([`echo reply nobody asked for, ${family}`, bench.packetOf(fresh('icmp', family), 'remote')]);
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
  for (const [name, one] of shots) t.ok(await bench.arrivesDirectly(one), `control: ${name}`);
  const placed = await bench.place();
  for (const [name, one] of shots) t.notOk(await bench.arrives(one), name);
  t.same((await domain.export(placed.id)).connections, [], 'and nothing of it is known');
  await bench.retired(placed);
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
    const { packet } = udpFrom(ipv4, SERVER.ipv4, 5000, nextNumber());
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
    if (name !== 'LLDP') t.ok(await bench.arrivesDirectly(one), `control: ${name}`);
  }
  const placed = await bench.place();
  for (const [name, one] of Object.entries(forbidden)) t.notOk(await bench.arrives(one), name);
  for (const [name, one] of Object.entries(allowed)) t.ok(await bench.arrives(one), `${name} passes`);
  await bench.retired(placed);
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
          const placed = await bench.place([connection]);
          for (const [sender, segment] of steps)
            t.ok(await bench.arrives(bench.packetOf(connection, sender, segment)), label);
          const found = await waitFor('known', () => bench.known(placed.id, key));
          t.equal(found.opener, opener, `${label}: the opener is who it was`);
          const closed = name.startsWith('a FIN') || name.startsWith('a RST');
          if (closed) {
            await waitFor('closed', async () => {
              const one = await bench.known(placed.id, key);
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
              return !(await bench.arrives(bench.packetOf(connection, 'remote', late)));
            });
          } else if (!closed) {
            t.ok(
              await bench.arrives(bench.packetOf(connection, 'terminal', { seq: 1020, ack: 5020 })),
              `${label}: without them too`,
            );
            t.ok(
              await bench.arrives(bench.packetOf(connection, 'remote', { seq: 5020, ack: 1030 })),
              `${label}: in both directions`,
            );
          }
          await bench.retired(placed);
          // Control: the very same packets, of a connection that was not imported.
          const control = await bench.place();
          for (const [sender, segment] of steps) {
            t.notOk(await bench.arrives(bench.packetOf(connection, sender, segment)), `control: ${label}`);
          }
          await bench.retired(control);
        }
        for (const protocol of ['udp', 'icmp'] as const) {
          for (const first of ['terminal', 'remote'] as const) {
            const second: Opener = first === 'terminal' ? 'remote' : 'terminal';
            const connection = fresh(protocol, family, opener);
            const label = `${protocol} ${family} opened by the ${opener}, the ${first} first`;
            const placed = await bench.place([connection]);
            for (const sender of [first, second, first, second])
              t.ok(await bench.arrives(bench.packetOf(connection, sender)), label);
            t.equal(
              (await waitFor('known', () => bench.known(placed.id, connectionKey(connection)))).opener,
              opener,
            );
            await bench.retired(placed);
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
        const placed = await bench.place(isImported ? [connection] : []);
        const { error } = await terminal.ask('talk', { name, text: large, timeout: isImported ? 20 : 1 });
        if (isImported) t.equal(error, '', `${name}: every byte arrives, in order`);
        else t.match(error, /timed out/, `${name}: dead`);
        const key = connectionKey(connection);
        t.equal((await bench.known(placed.id, key)) !== undefined, isImported);
        await terminal.ask('close', { name });
        if (isImported) {
          await waitFor('closed', async () => {
            const one = await bench.known(placed.id, key);
            return one?.protocol === 'tcp' && one.state === 'closed';
          });
        }
        await bench.retired(placed);
      }
    }
  },
);

t.test('adoption ends: with the time the connection had left, and only after activation', async (t) => {
  const connection = { ...fresh('udp', 'ipv4', 'remote'), timeLeftSeconds: 1 };
  const id = bench.newId();
  const state = bench.state([connection]);
  const ends = await domain.prepare(state, id.epoch);
  await domain.activate(id, LEASE_MS);
  await bench.lead(ends);
  await waitFor('it is forgotten', async () => (await domain.export(id)).connections.length === 0);
  await waitFor(
    'its rules are gone',
    async () => !(await lab.dump('firewall-ct')).some((line) => line.includes('priority=30000')),
  );
  t.notOk(await bench.arrives(bench.packetOf(connection, 'remote')));
  await bench.retired({ id, ends });
});

t.test('a draining instance hands on what it does not know', async (t) => {
  for (const family of FAMILIES) {
    const placed = await bench.place();
    const mine = { ...fresh('udp', family), replied: false };
    t.ok(await bench.arrives(bench.packetOf(mine, 'terminal')));
    await domain.drain(placed.id, DRAIN_MS);
    // Confirmed is not yet in effect: the switch may use what it has cached.
    await steering.inEffect();
    t.ok(await bench.arrives(bench.packetOf(mine, 'remote')), `${family}: what it knows passes`);
    const strange: readonly (readonly [string, Shot])[] = [
      ['a new datagram', bench.packetOf(fresh('udp', family), 'terminal')],
      ['a SYN', bench.packetOf(fresh('tcp', family), 'terminal', { flags: TCP.syn, data: '' })],
      ['a SYN-ACK', bench.packetOf(fresh('tcp', family), 'remote', { flags: TCP.syn | TCP.ack, data: '' })],
      ['an echo reply', bench.packetOf(fresh('icmp', family), 'remote')],
    ];
    for (const [name, one] of strange) {
      t.notOk(await bench.arrives(one), `${family}: ${name} does not pass`);
      await waitFor(`${family}: ${name} is handed on`, async () => (await other.seen(one.marker)) > 0);
    }
    await bench.retired(placed);
  }
  const brief = await bench.place();
  const mine = { ...fresh('udp', 'ipv4'), replied: false };
  t.ok(await bench.arrives(bench.packetOf(mine, 'terminal')));
  await domain.drain(brief.id, 1);
  await waitFor('the drain is over', async () => !(await bench.arrives(bench.packetOf(mine, 'remote'))));
  await bench.retired(brief);
});

t.test('live connections announce themselves once a generation', async (t) => {
  const placed = await bench.place();
  const live = { ...fresh('udp', 'ipv4'), replied: false };
  t.ok(await bench.arrives(bench.packetOf(live, 'terminal')));
  t.ok(await bench.arrives(bench.packetOf(live, 'remote')));
  const port = live.protocol === 'udp' ? live.local.port : 0;
  const announcements = (): number => bench.copiesOf(port).filter((kind) => kind === 'announce').length;
  const generation = async (): Promise<string | undefined> =>
    (await lab.dump('firewall-ct'))
      .map((line) => /ct_mark=(0x\w+|0)\/0xf0/.exec(line)?.[1])
      .find((mark) => mark);
  for (let round = 1; round <= 2; round++) {
    const [before, seen] = [await generation(), announcements()];
    // The announcement of the generation before may still be under way.
    await waitFor('an announcement in another generation', async () => {
      await bench.arrives(bench.packetOf(live, 'terminal'));
      return announcements() > seen && (await generation()) !== before;
    });
    t.not(await generation(), before);
  }
  // Twenty packets in one generation: at most one copy. When a new one begins meanwhile, once more.
  await waitFor('twenty packets within one generation', async () => {
    const before = await generation();
    // Confirmed is not yet in effect: what the switch has cached may announce it once more.
    await steering.purge();
    const seen = announcements();
    await bench.arriving(Array.from({ length: 20 }, () => bench.packetOf(live, 'terminal')));
    if ((await generation()) !== before) return false;
    t.ok(announcements() - seen <= 1, `${announcements() - seen} copies of 20 packets`);
    return true;
  });
  t.ok(await bench.known(placed.id, connectionKey(live)));
  await bench.retired(placed);
});

t.test("only the terminal's own addresses have connections, and nobody else sends from them", async (t) => {
  const linkLocal = 'fe80::ff:fe00:1';
  const fromNetwork = (packet: { ethertype: number; packet: Buffer }): Shot => shot(server, terminal, packet);
  const ssh = (src: string, dst: string): Shot =>
    fromNetwork(ip(src, dst, 6, tcp(src, dst, nextNumber(), 22, TCP.syn)));
  const advertised = (src: string): Shot =>
    fromNetwork(
      ip(src, TERMINAL.ipv6, 58, neighbor(src, TERMINAL.ipv6, 136, SERVER.ipv6, SERVER.mac), { ttl: 255 }),
    );
  const claimed = (spa: string): Shot =>
    fromNetwork({ ethertype: 0x0806, packet: arp(2, SERVER.mac, spa, TERMINAL.mac, TERMINAL.ipv4) });
  const live = FAMILIES.map((family) => ({ ...fresh('udp', family), replied: false }));
  const forbidden: (readonly [string, Shot])[] = [
    ...live.map((one): [string, Shot] => {
      const { frame, marker } = bench.packetOf(one, 'terminal');
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
    ...live.map((one): [string, Shot] => [`${one.local.address}: the reply`, bench.packetOf(one, 'remote')]),
  ];
  for (const [name, one] of forbidden) t.ok(await bench.arrivesDirectly(one), `control: ${name}`);
  const placed = await bench.place();
  for (const one of live) t.ok(await bench.arrives(bench.packetOf(one, 'terminal')), 'a live connection');
  for (const [name, one] of forbidden) t.notOk(await bench.arrives(one), name);
  for (const [name, one] of allowed) t.ok(await bench.arrives(one), `${name} passes`);
  await bench.retired(placed);
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
              icmpv6(local.address, remote.address, 128, Buffer.from(`odd ${nextNumber()}`), 1),
            )
          : ip(
              local.address,
              remote.address,
              1,
              Buffer.from(`0801f7fe0001${nextNumber().toString(16).padStart(4, '0')}`, 'hex'),
            );
      return shot(terminal, server, { ethertype: family === 'ipv6' ? 0x86dd : 0x0800, packet });
    };
    t.ok(await bench.arrivesDirectly(odd()), `control: ${family}`);
    const placed = await bench.place([connection]);
    t.notOk(await bench.arrives(odd()), `${family}: code 1`);
    t.ok(await bench.arrives(bench.packetOf(connection, 'terminal')));
    t.notOk(await bench.arrives(odd()), `${family}: code 1, once it is tracked`);
    t.ok(await bench.arrives(bench.packetOf(connection, 'remote')));
    await bench.retired(placed);
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
      fragments(from.at[family], to.at[family], protocol, body, { id: nextNumber(), size }).map((piece) =>
        shot(from, to, piece),
      );
    const data = (): Buffer => Buffer.alloc(2000, `fragment ${nextNumber()} `);
    const datagram = (dport: number, sport: number, from: Host, to: Host): Shot[] =>
      pieces(17, udp(from.at[family], to.at[family], sport, dport, data()), from, to);
    const echoed = (from: Host, to: Host, kind: 'request' | 'reply'): Shot[] =>
      pieces(icmp, echo(from.at[family], to.at[family], kind, 77, data()), from, to);
    const syn = tcp(TERMINAL[family], SERVER[family], nextNumber(), 81, TCP.syn, { data: data() });
    const forbidden: Record<string, Shot[]> = {
      'a port that the policy closes': datagram(7001, nextNumber(), terminal, server),
      'the same, last piece first': datagram(7001, nextNumber(), terminal, server).reverse(),
      'a SYN to such a port': pieces(6, syn, terminal, server),
      'a SYN to such a port, in tiny pieces': pieces(6, syn.subarray(0, 40), terminal, server, 8),
      'from outside': datagram(7000, nextNumber(), server, terminal),
      'a later piece alone': datagram(7000, nextNumber(), server, terminal).slice(1),
      'an echo reply nobody asked for': echoed(server, terminal, 'reply'),
    };
    // Both first pieces of one datagram.
    const id = nextNumber();
    forbidden['two first pieces'] = [7000, 7001].flatMap((dport) => {
      const body = udp(TERMINAL[family], SERVER[family], 6999, dport, data());
      return fragments(TERMINAL[family], SERVER[family], 17, body, { id })
        .slice(0, dport === 7000 ? 1 : 2)
        .map((piece) => shot(terminal, server, piece));
    });
    if (family === 'ipv6') Object.assign(forbidden, hiddenPieces());
    await steering.lead('direct');
    for (const [name, shots] of Object.entries(forbidden))
      t.equal(await bench.arriving(shots), shots.length, `control: ${name}, ${family}`);

    const placed = await bench.place([], { policy: closed });
    const sport = nextNumber();
    const one = `${family}: an opening datagram in two pieces`;
    t.equal(await bench.arriving(datagram(7000, sport, terminal, server)), 2, one);
    t.equal(await bench.arriving(datagram(sport, 7000, server, terminal)), 2, 'the reply in two pieces');
    t.equal(await bench.arriving(datagram(7000, sport, terminal, server)), 2, 'and once more');
    t.equal(await bench.arriving(datagram(sport, 7000, server, terminal)), 2, 'and back');
    t.equal(await bench.arriving(echoed(terminal, server, 'request')), 2, 'a large ping');
    t.equal(await bench.arriving(echoed(server, terminal, 'reply')), 2, 'its reply');
    await waitFor('the echo is known as replied', async () => {
      const found = await bench.known(placed.id, `icmp ${TERMINAL[family]} ${SERVER[family]} 77`);
      return found?.protocol === 'icmp' && found.replied;
    }).catch(() => t.fail('the echo is not known as replied'));
    for (const [name, shots] of Object.entries(forbidden)) {
      if (name.startsWith('an echo reply')) continue;
      t.equal(await bench.arriving(shots), 0, `${name}, ${family}`);
    }
    await bench.retired(placed);
    const unasked = await bench.place([], { policy: closed });
    t.equal(await bench.arriving(echoed(server, terminal, 'reply')), 0, 'an echo reply nobody asked for');
    await bench.retired(unasked);
  }
});

/** What only shows in the second piece: the first is full of options. */
function hiddenPieces(): Record<string, Shot[]> {
  const [own, remote] = [TERMINAL.ipv6, SERVER.ipv6];
  const hide = (from: Host, to: Host, protocol: number, body: Buffer, ttl = 64): Shot[] => {
    const [src, dst] = [from.at.ipv6, to.at.ipv6];
    const whole = Buffer.concat([padding(protocol, 1280), body]);
    return fragments(src, dst, 60, whole, { id: nextNumber(), size: 1280, ttl }).map((piece) =>
      shot(from, to, piece),
    );
  };
  const data = Buffer.alloc(100, `hidden ${nextNumber()} `);
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
        fragment(own, remote, 58, data.subarray(4), { id: nextNumber(), offset: 1280, more: false }),
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
      const before = isImported ? undefined : await bench.place();
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
      const placed = before ?? (await bench.place([imported], { policy: shut }));
      if (isImported) {
        const { error } = await terminal.ask('talk', { name, text: large });
        t.equal(error, '', `${name}: 4,000 bytes and back, through the firewall`);
      }
      const found = await waitFor('known', () => bench.known(placed.id, connectionKey(imported)));
      t.equal(found.opener, 'terminal');
      await terminal.ask('close', { name });
      await bench.retired(placed);
    }
    const dead = await bench.place([], {
      policy: { ...closed, defaults: { outbound: 'drop', inbound: 'drop' } },
    });
    const name = `${family} control`;
    const ends = { from: TERMINAL[family], to: SERVER[family] };
    await terminal.ask('connect', { name, protocol: 'udp', ...ends, port: 90 });
    const { error } = await terminal.ask('talk', { name, text: large, timeout: 0.5 });
    t.match(error, /timed out/, `${name}: dead when it is not imported`);
    await bench.retired(dead);
  }
});
