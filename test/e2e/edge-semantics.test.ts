/**
 * What belongs to an admitted connection at an edge instance, and what only seems to: ICMP errors, fragments, half-closed connections, connections that
 * expire, and who opened them. Each with its control.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import type { Family } from '../../shared/firewall/terminal.js';
import {
  ACK,
  type Direction,
  EdgeBench,
  ends,
  FAMILIES,
  LEASE_MS,
  type Prepared,
  PSH,
  tcp,
  udp,
} from '../fixtures/edge-bench.js';
import { marker, SERVER, TERMINAL } from '../fixtures/edge-lab.js';
import { fragment, icmpv6, ip, udp as udpBody } from '../fixtures/frames.js';
import { checksum } from '../harness/hosts/frames.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);

const OPEN = 9000;
const CLOSED = 9999;
const HALF_CLOSED = 81;
/** Of a datagram that does not fit into one frame. */
const LARGE = 3000;
const ROUTER = { ipv4: '10.0.0.254', ipv6: 'fd00::fe' } as const;
const STRANGER = { ipv4: '10.0.0.77', ipv6: 'fd00::77' } as const;
const PROTOCOLS = { ipv4: 1, ipv6: 58, udp: 17 } as const;

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    { name: 'closed', direction: 'outbound', action: 'drop', protocol: 'udp', remotePorts: CLOSED },
    { name: 'open', direction: 'inbound', action: 'accept', protocol: 'udp', localPorts: OPEN },
    { name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 },
    { name: 'ping', direction: 'inbound', action: 'accept', protocol: 'icmp' },
  ],
});
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;
for (const address of [SERVER.ipv4, SERVER.ipv6])
  await lab.server.ask('serve', { address, port: HALF_CLOSED, half_closed: true });

type IpPacket = ReturnType<typeof ip>;
/** Packets that are one thing together, and bytes of it that arrive when it does. */
interface Whole {
  readonly name: string;
  readonly packets: readonly IpPacket[];
  readonly mark: string;
}

/** Sends everything, in order; returns the names of what arrived at the other host. */
async function passed(direction: Direction, wholes: readonly Whole[]): Promise<readonly string[]> {
  const [from, to] =
    direction === 'outbound' ? [bench.terminal, bench.server] : [bench.server, bench.terminal];
  for (const { packets } of wholes) {
    for (const { ethertype, packet } of packets)
      await from.host.send({ smac: from.mac, dmac: to.mac, ethertype, payload: packet.toString('hex') });
  }
  await (direction === 'outbound' ? bench.outbound : bench.inbound)([]);
  const found = await Promise.all(
    wholes.map(async ({ name, mark }) => ((await to.host.seen(mark)) > 0 ? [name] : [])),
  );
  return found.flat();
}

const names = (wholes: readonly Whole[]): readonly string[] => wholes.map(({ name }) => name);

/** A UDP packet, as an error quotes it. */
function quoted(family: Family, direction: Direction, sport: number, dport: number, mark: string): Buffer {
  const [src, dst] = ends(family, direction);
  return ip(src, dst, PROTOCOLS.udp, udpBody(src, dst, sport, dport, Buffer.from(mark, 'hex'))).packet;
}

function icmpError(
  family: Family,
  [src, dst]: readonly [string, string],
  [type, code]: readonly [number, number],
  quote: Buffer,
): IpPacket {
  const rest = Buffer.concat([Buffer.from([0, 0, 5, 0]), quote]);
  if (family === 'ipv6') return ip(src, dst, PROTOCOLS.ipv6, icmpv6(src, dst, type, rest, code));
  const body = Buffer.concat([Buffer.from([type, code, 0, 0]), rest]);
  body.writeUInt16BE(checksum(body), 2);
  return ip(src, dst, PROTOCOLS.ipv4, body);
}

const ERRORS: Readonly<Record<Family, Readonly<Record<string, readonly [number, number]>>>> = {
  ipv4: {
    'port unreachable': [3, 3],
    'too big': [3, 4],
    'time exceeded': [11, 0],
    'parameter problem': [12, 0],
  },
  ipv6: {
    'port unreachable': [1, 4],
    'too big': [2, 0],
    'time exceeded': [3, 0],
    'parameter problem': [4, 1],
  },
};
const REDIRECT: Readonly<Record<Family, readonly [number, number]>> = { ipv4: [5, 1], ipv6: [137, 0] };

/** Errors that go this way, about a connection with these ports whose packets go the other way. */
function errors(
  family: Family,
  direction: Direction,
  ports: readonly [number, number],
): { readonly due: readonly Whole[]; readonly undue: readonly Whole[] } {
  const back = direction === 'outbound' ? 'inbound' : 'outbound';
  const [src, dst] = ends(family, direction);
  const one = (
    name: string,
    error: readonly [number, number],
    change: { from?: string; to?: string; ports?: readonly [number, number] } = {},
  ): Whole => {
    const mark = marker();
    const [sport, dport] = change.ports ?? ports;
    const quote = quoted(family, back, sport, dport, mark);
    return {
      name: `${family} ${name}`,
      mark,
      packets: [icmpError(family, [change.from ?? src, change.to ?? dst], error, quote)],
    };
  };
  const kinds = Object.entries(ERRORS[family]);
  return {
    due: [
      ...kinds.map(([name, error]) => one(name, error)),
      // The terminal is no router: its errors have its own address.
      ...(direction === 'inbound'
        ? kinds.map(([name, error]) => one(`${name}, of a router`, error, { from: ROUTER[family] }))
        : []),
    ],
    undue: [
      ...kinds.map(([name, error]) => one(`${name}, of no connection`, error, { ports: [1234, 4321] })),
      ...kinds.map(([name, error]) => one(`${name}, for another host`, error, { to: STRANGER[family] })),
      one('redirect', REDIRECT[family]),
      one('redirect, of no connection', REDIRECT[family], { ports: [1234, 4321] }),
    ],
  };
}

await t.test('ICMP errors of admitted connections pass both ways, others do not', async (t) => {
  const sport = 43_500;
  const both = FAMILIES.flatMap((family) => [
    // An error goes back to who sent the packet: first about connections that the terminal opened.
    {
      family,
      direction: 'inbound' as const,
      opening: udp(family, 'outbound', { sport, dport: 44_500 }),
      ports: [sport, 44_500] as const,
    },
    {
      family,
      direction: 'outbound' as const,
      opening: udp(family, 'inbound', { sport, dport: OPEN }),
      ports: [sport, OPEN] as const,
    },
  ]);
  for (const imported of [false, true]) {
    const connections = both.map(({ family, direction, ports }): Connection => {
      const [local, remote] = direction === 'inbound' ? ports : [ports[1], ports[0]];
      return {
        protocol: 'udp',
        opener: direction === 'inbound' ? 'terminal' : 'remote',
        local: { address: TERMINAL[family], port: local },
        remote: { address: SERVER[family], port: remote },
        replied: true,
        timeLeftSeconds: 60,
      };
    });
    const { id } = await bench.active(imported ? { connections } : {});
    if (!imported) {
      for (const { direction, opening } of both)
        t.same(
          await (direction === 'inbound' ? bench.outbound : bench.inbound)([opening]),
          [true],
          'it opens',
        );
    }
    const what = imported ? 'imported' : 'opened here';
    for (const { family, direction, ports } of both) {
      const { due, undue } = errors(family, direction, ports);
      t.same(await passed(direction, due), names(due), `${what}, ${direction}: all of ${due.length}`);
      t.same(await passed(direction, undue), [], `${what}, ${direction}: none of ${undue.length}`);
    }
    await domain.retire(id);
  }
  await lab.direct();
  for (const { family, direction, ports } of both) {
    const { undue } = errors(family, direction, ports);
    t.same(
      await passed(direction, undue),
      names(undue),
      `control: without a firewall all arrive, ${direction}`,
    );
  }
});

let lastFragmentId = 100;

/** A large datagram in pieces; the first may be smaller than the others. */
function pieces(name: string, family: Family, direction: Direction, dport: number, first = 1400): Whole {
  const [src, dst] = ends(family, direction);
  const mark = marker();
  const data = Buffer.concat([Buffer.alloc(LARGE), Buffer.from(mark, 'hex')]);
  const body = udpBody(src, dst, 43_600, dport, data);
  const id = lastFragmentId++;
  const packets: IpPacket[] = [];
  for (let offset = 0, size = first; offset < body.length; offset += size, size = 1400) {
    const more = offset + size < body.length;
    const piece = body.subarray(offset, offset + size);
    packets.push(fragment(src, dst, PROTOCOLS.udp, piece, { id, offset, more }));
  }
  return { name: `${family} ${name}`, mark, packets };
}

await t.test('fragments are judged as the packet that they are of', async (t) => {
  const { id } = await bench.active();
  const make = (family: Family) => {
    const out = pieces('outbound', family, 'outbound', 44_600);
    const closed = pieces('to a closed port', family, 'outbound', CLOSED);
    const tiny = pieces('to a closed port, the ports alone in the first', family, 'outbound', CLOSED, 8);
    const without = pieces('without the first', family, 'outbound', 44_601);
    const [src, dst] = ends(family, 'outbound');
    const overlapping = marker();
    const innocent = udpBody(src, dst, 43_601, 44_602, Buffer.alloc(64));
    const overlaid = udpBody(src, dst, 43_601, CLOSED, Buffer.from(overlapping.repeat(4), 'hex'));
    const at = { id: lastFragmentId++, more: true };
    return {
      out,
      inside: pieces('inbound', family, 'inbound', OPEN),
      uninvited: pieces('uninvited', family, 'inbound', CLOSED),
      closed,
      tiny,
      without: { ...without, packets: without.packets.slice(1) },
      overlapping: {
        name: `${family} over the first piece another one`,
        mark: overlapping,
        packets: [
          fragment(src, dst, PROTOCOLS.udp, innocent.subarray(0, 24), { ...at, offset: 0 }),
          fragment(src, dst, PROTOCOLS.udp, overlaid.subarray(0, 24), { ...at, offset: 0 }),
          fragment(src, dst, PROTOCOLS.udp, overlaid.subarray(16), { ...at, offset: 16, more: false }),
        ],
      },
    };
  };
  for (const family of FAMILIES) {
    const { out, inside, uninvited, closed, tiny, without, overlapping } = make(family);
    t.same(await passed('outbound', [out]), names([out]));
    t.same(await passed('inbound', [inside]), names([inside]));
    t.same(await passed('outbound', [closed, tiny, without, overlapping]), []);
    t.same(await passed('inbound', [uninvited]), []);
  }
  await domain.retire(id);
  await lab.direct();
  for (const family of FAMILIES) {
    const { uninvited, closed, tiny, without, overlapping } = make(family);
    const all = [closed, tiny, without, overlapping];
    t.same(await passed('outbound', all), names(all), 'control: without a firewall all arrive');
    t.same(await passed('inbound', [uninvited]), names([uninvited]));
  }
});

/** A new instance with what this one exports, and traffic through it. */
async function moved(
  { id }: Prepared,
  keep: (connection: Connection) => boolean = () => true,
): Promise<Prepared> {
  const state = await domain.export(id);
  return bench.active({ ...state, sequence: 7, connections: state.connections.filter(keep) });
}

async function hears(t: Test, name: string, expected: boolean, what: string): Promise<void> {
  const { count = 0 } = await lab.terminal.ask('drain', { name, timeout: expected ? 5 : 1 });
  t.equal(count > 0, expected, what);
}

await t.test('a half-closed connection lives on, also in the next instance', async (t) => {
  for (const family of FAMILIES) {
    let instance = await bench.active();
    const { name, connection, error } = await bench.open(family, 'tcp', HALF_CLOSED);
    t.equal(error, undefined);
    const { deltas, stop } = bench.follow(instance.id, 0);
    await lab.terminal.ask('shutdown', { name });
    await hears(t, name, true, `${family}: the other side goes on talking`);
    await waitFor('the change to be told', () =>
      deltas.some(
        ({ change }) =>
          change.kind === 'connection' &&
          connectionKey(change.connection) === connectionKey(connection) &&
          change.connection.protocol === 'tcp' &&
          change.connection.state === 'closing',
      ),
    );
    await stop();
    for (const move of ['once', 'and again']) {
      instance = await moved(instance);
      await hears(t, name, true, `${family}: moved ${move}`);
    }
    const exported = (await domain.export(instance.id)).connections.find(
      (one) => connectionKey(one) === connectionKey(connection),
    );
    t.match(exported, { protocol: 'tcp', state: 'closing', opener: 'terminal' });
    const without = await moved(instance, (one) => connectionKey(one) !== connectionKey(connection));
    await hears(t, name, false, `${family}: control: left out of a move it is dead`);
    await lab.terminal.ask('close', { name });
    await domain.retire(without.id);
  }
});

await t.test('who opened a connection stays true through moves, whoever speaks first', async (t) => {
  const imported = FAMILIES.flatMap((family): Connection[] => {
    const address = { local: TERMINAL[family], remote: SERVER[family] };
    const ports = (local: number, remote: number) => ({
      local: { address: address.local, port: local },
      remote: { address: address.remote, port: remote },
      timeLeftSeconds: 60,
    });
    const echo = {
      local: { address: address.local },
      remote: { address: address.remote },
      timeLeftSeconds: 30,
    };
    return [
      { protocol: 'tcp', opener: 'remote', state: 'established', ...ports(22, 50_001) },
      { protocol: 'tcp', opener: 'terminal', state: 'established', ...ports(50_002, 443) },
      { protocol: 'udp', opener: 'remote', replied: true, ...ports(OPEN, 50_003) },
      { protocol: 'udp', opener: 'terminal', replied: false, ...ports(50_004, 53) },
      { protocol: 'icmp', opener: 'remote', id: 71, replied: true, ...echo },
      { protocol: 'icmp', opener: 'terminal', id: 72, replied: true, ...echo },
    ];
  });
  let instance = await bench.active({ connections: imported });
  const openers = (connections: readonly Connection[]): readonly string[] =>
    connections.map((one) => `${connectionKey(one)}: ${one.opener}`).sort();
  for (const move of [1, 2]) {
    // Each time the first word is of the one who did not open it.
    const first = await Promise.all(
      FAMILIES.map(async (family) => [
        ...(await bench.outbound([
          tcp(family, 'outbound', PSH | ACK, { sport: 22, dport: 50_001 }),
          udp(family, 'outbound', { sport: OPEN, dport: 50_003 }),
        ])),
        ...(await bench.inbound([
          tcp(family, 'inbound', PSH | ACK, { sport: 443, dport: 50_002 }),
          udp(family, 'inbound', { sport: 53, dport: 50_004 }),
        ])),
      ]),
    );
    t.ok(
      first.flat().every((arrived) => arrived),
      'they pass',
    );
    const before = await domain.export(instance.id);
    const known = new Set(imported.map(connectionKey));
    const ours = before.connections.filter((one) => known.has(connectionKey(one)));
    t.same(openers(ours), openers(imported), `after ${move}`);
    instance = await moved(instance);
  }
  await domain.retire(instance.id);
});

await t.test('connections that expire are told, and are dead', async (t) => {
  const short = await lab.startDomain('edge-2', { leastSeconds: 1 });
  const expiring = FAMILIES.flatMap((family): Connection[] => [
    {
      protocol: 'udp',
      opener: 'remote',
      local: { address: TERMINAL[family], port: CLOSED },
      remote: { address: SERVER[family], port: 50_010 },
      replied: true,
      timeLeftSeconds: 1,
    },
    {
      protocol: 'icmp',
      opener: 'terminal',
      local: { address: TERMINAL[family] },
      remote: { address: SERVER[family] },
      id: 73,
      replied: true,
      timeLeftSeconds: 1,
    },
  ]);
  const lasting: Connection = {
    protocol: 'udp',
    opener: 'terminal',
    local: { address: TERMINAL.ipv4, port: 50_011 },
    remote: { address: SERVER.ipv4, port: 53 },
    replied: true,
    timeLeftSeconds: 60,
  };
  const open = policySchema.parse({ ...policy, defaults: { outbound: 'accept', inbound: 'accept' } });
  const { id, ends: through } = await bench.standby(
    { earlier: [open], connections: [...expiring, lasting] },
    short,
  );
  const { deltas, stop } = bench.follow(id, 0, short);
  await short.activate(id, LEASE_MS);
  await lab.through(through);
  const ended = (): readonly string[] =>
    deltas.flatMap(({ change }) => (change.kind === 'ended' ? [change.key] : [])).sort();
  // Whoever looks at the table takes what is past its time out of it; the kernel itself does so within a minute.
  await waitFor('them to end', async () => {
    await short.export(id);
    return ended().length >= expiring.length;
  });
  t.same(ended(), expiring.map(connectionKey).sort());
  t.same((await short.export(id)).connections.map(connectionKey), [connectionKey(lasting)], 'control');
  t.same(
    await bench.inbound([
      udp('ipv4', 'inbound', { sport: 50_010, dport: CLOSED }),
      udp('ipv6', 'inbound', { sport: 50_010, dport: CLOSED }),
      udp('ipv4', 'inbound', { sport: 53, dport: 50_011 }),
    ]),
    [false, false, true],
    'their packets are nobody’s',
  );
  await stop();
  await short.close();
});
