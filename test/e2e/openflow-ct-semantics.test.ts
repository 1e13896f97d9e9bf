/**
 * What connections need beside their own packets, and how long they last, on a real Open vSwitch: ICMP errors, half-closed connections, moves
 * there and back, policies of the largest size. What must not pass is always seen to arrive when nothing filters.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { checksum } from '../../controller-app/packet/build.js';
import { MAX_POLICY_RULES } from '../../controller-app/pipeline/index.js';
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { MAX_RULES, type Policy, policySchema } from '../../shared/firewall/policy.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { icmpv6, ip, TCP } from '../fixtures/frames.js';
import {
  FAMILIES,
  fresh,
  type Placed,
  SdnBench,
  type Segment,
  type Shot,
  shot,
} from '../fixtures/sdn-bench.js';
import { startSdnLab } from '../fixtures/sdn-lab.js';
import { waitFor } from '../lab/index.js';

const LEASE_MS = 600_000;
const policy = policySchema.parse({
  name: 'semantics',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [{ name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 }],
});
const closed: Policy = { name: 'closed', defaults: { outbound: 'drop', inbound: 'drop' }, rules: [] };

const lab = await startSdnLab({ settleMs: 200, tickMs: 50 });
const { domain, terminal, server } = lab;
const bench = new SdnBench(lab, policy);
t.setTimeout(180_000);
t.teardown(() => lab.close());

type Side = 'terminal' | 'remote';
const other = (side: Side): Side => (side === 'terminal' ? 'remote' : 'terminal');

/** A TCP connection through its handshake. */
async function opened(t: Test, connection: Connection): Promise<void> {
  const { opener } = connection;
  const steps: readonly (readonly [Side, Segment])[] = [
    [opener, { flags: TCP.syn, seq: 1000, data: '' }],
    [other(opener), { flags: TCP.syn | TCP.ack, seq: 5000, ack: 1001, data: '' }],
    [opener, { flags: TCP.ack, seq: 1001, ack: 5001, data: '' }],
  ];
  for (const [sender, segment] of steps)
    t.ok(await bench.arrives(bench.packetOf(connection, sender, segment)), 'the handshake passes');
}

/** An ICMP error from this side about a packet of the other side. */
function errorAbout(
  quoted: Shot,
  sender: Side,
  family: Family,
  kind: keyof typeof ERRORS,
  source?: string,
): Shot {
  const [from, to] = sender === 'terminal' ? [terminal, server] : [server, terminal];
  const [src, dst] = [source ?? from.at[family], to.at[family]];
  const { types, rest } = ERRORS[kind];
  const [type, code] = types[family];
  const about = Buffer.concat([Buffer.from(rest, 'hex'), Buffer.from(quoted.frame.payload, 'hex')]);
  if (family === 'ipv6') return shot(from, to, ip(src, dst, 58, icmpv6(src, dst, type, about, code)));
  const body = Buffer.concat([Buffer.from([type, code, 0, 0]), about]);
  body.writeUInt16BE(checksum(body), 2);
  return shot(from, to, ip(src, dst, 1, body));
}

const ERRORS = {
  'port unreachable': { types: { ipv4: [3, 3], ipv6: [1, 4] }, rest: '00000000' },
  'host unreachable': { types: { ipv4: [3, 1], ipv6: [1, 3] }, rest: '00000000' },
  'fragmentation needed, packet too big': { types: { ipv4: [3, 4], ipv6: [2, 0] }, rest: '00000514' },
  'time exceeded': { types: { ipv4: [11, 0], ipv6: [3, 0] }, rest: '00000000' },
  'parameter problem': { types: { ipv4: [12, 0], ipv6: [4, 0] }, rest: '00000000' },
} as const satisfies Record<string, { types: Record<Family, readonly [number, number]>; rest: string }>;
const KINDS = Object.keys(ERRORS) as (keyof typeof ERRORS)[];

t.test(
  'ICMP errors pass when they are about an admitted connection, in both directions, and only then',
  async (t) => {
    const routers = { ipv4: '10.0.0.254', ipv6: 'fd00::fe' } as const;
    for (const family of FAMILIES) {
      for (const protocol of ['tcp', 'udp', 'icmp'] as const) {
        const [one, imported] = [fresh(protocol, family), fresh(protocol, family)];
        const unknown = { terminal: fresh(protocol, family), remote: fresh(protocol, family) };
        for (const sender of ['terminal', 'remote'] as const) {
          const strange = errorAbout(
            bench.packetOf(unknown[sender], other(sender)),
            sender,
            family,
            'port unreachable',
          );
          t.ok(await bench.arrivesDirectly(strange), `control: ${protocol} ${family} from the ${sender}`);
        }
        const placed = await bench.place([imported]);
        if (protocol === 'tcp') await opened(t, one);
        else t.ok(await bench.arrives(bench.packetOf(one, 'terminal')));
        if (protocol !== 'tcp') t.ok(await bench.arrives(bench.packetOf(one, 'remote')));
        // An imported one is tracked once it has spoken.
        t.ok(await bench.arrives(bench.packetOf(imported, 'terminal', { seq: 1001, ack: 5001 })));
        t.ok(await bench.arrives(bench.packetOf(imported, 'remote', { seq: 5001, ack: 1001 })));
        for (const [what, known] of [
          ['opened here', one],
          ['imported', imported],
        ] as const) {
          for (const sender of ['terminal', 'remote'] as const) {
            const about = bench.packetOf(known, other(sender), { seq: 1001, ack: 5001 });
            for (const kind of KINDS) {
              const label = `${kind} from the ${sender} about ${protocol} ${family}, ${what}`;
              t.ok(await bench.arrives(errorAbout(about, sender, family, kind)), label);
              const strange = bench.packetOf(unknown[sender], other(sender));
              t.notOk(
                await bench.arrives(errorAbout(strange, sender, family, kind)),
                `${label}: not of an unknown one`,
              );
            }
          }
          const about = bench.packetOf(known, 'terminal', { seq: 1010, ack: 5010 });
          t.ok(
            await bench.arrives(errorAbout(about, 'remote', family, 'time exceeded', routers[family])),
            `a router on the way may tell of it, ${protocol} ${family}, ${what}`,
          );
          const { ipv4, ipv6 } = terminal.at;
          const packet = Buffer.from(about.frame.payload, 'hex');
          const gateway = Buffer.from(routers.ipv4.split('.').map(Number));
          const redirect = Buffer.concat([Buffer.from([5, 1, 0, 0]), gateway, packet]);
          redirect.writeUInt16BE(checksum(redirect), 2);
          const six = Buffer.concat([Buffer.alloc(36), packet]);
          const redirected =
            family === 'ipv4'
              ? ip(server.at.ipv4, ipv4, 1, redirect)
              : ip(server.at.ipv6, ipv6, 58, icmpv6(server.at.ipv6, ipv6, 137, six), { ttl: 255 });
          t.notOk(await bench.arrives(shot(server, terminal, redirected)), 'a redirect never passes');
        }
        await bench.retired(placed);
        // They may pass for a connection only, and open none.
        const later = await bench.place([], { policy: closed });
        const about = bench.packetOf(one, 'terminal', { seq: 1001, ack: 5001 });
        t.notOk(
          await bench.arrives(errorAbout(about, 'remote', family, 'port unreachable')),
          'control: without it',
        );
        await bench.retired(later);
      }
    }
  },
);

t.test('a half-closed connection carries data the other way for long, also when it is adopted', async (t) => {
  const SEGMENTS = 120;
  const BYTES = 1200;
  for (const family of FAMILIES) {
    for (const closes of ['terminal', 'remote'] as const) {
      for (const isAdopted of [false, true]) {
        const label = `${family}, the ${closes} has closed${isAdopted ? ', adopted' : ''}`;
        const connection = fresh('tcp', family);
        const talks = other(closes);
        // The sequence numbers of the one that closes, and of the one that talks on.
        const [mine, start] = closes === 'terminal' ? [1001, 5001] : [5001, 1001];
        const first: Placed = await bench.place();
        await opened(t, connection);
        const fin = { flags: TCP.fin | TCP.ack, seq: mine, ack: start, data: '' };
        t.ok(await bench.arrives(bench.packetOf(connection, closes, fin)), label);
        const acked = { flags: TCP.ack, seq: start, ack: mine + 1, data: '' };
        t.ok(await bench.arrives(bench.packetOf(connection, talks, acked)), label);
        const state = async (id: Placed['id']): Promise<string | undefined> => {
          const one = await bench.known(id, connectionKey(connection));
          return one?.protocol === 'tcp' ? one.state : undefined;
        };
        await waitFor('closing', async () => (await state(first.id)) === 'closing');
        let now = first;
        if (isAdopted) {
          const exported = await domain.export(first.id);
          await bench.retired(first);
          now = await bench.place(exported.connections, { policy: closed, earlier: [policy] });
        }
        let seq = start;
        const lost: string[] = [];
        const passes = async (sender: Side, segment: Segment): Promise<void> => {
          if (!(await bench.arrives(bench.packetOf(connection, sender, segment))))
            lost.push(`${sender} ${JSON.stringify(segment).slice(0, 60)}`);
        };
        for (let segment = 0; segment < SEGMENTS; segment++) {
          const data = `${segment} `.padEnd(BYTES, 'half-closed ');
          await passes(talks, { flags: TCP.ack | TCP.psh, seq, ack: mine + 1, data });
          seq += BYTES;
          if (segment % 4 === 3) await passes(closes, { flags: TCP.ack, seq: mine + 1, ack: seq, data: '' });
        }
        t.same(lost, [], `${label}: every segment and acknowledgement passes`);
        t.equal(await state(now.id), 'closing');
        const last = { flags: TCP.fin | TCP.ack, seq, ack: mine + 1, data: '' };
        t.ok(await bench.arrives(bench.packetOf(connection, talks, last)), `${label}: the second FIN`);
        const end = { flags: TCP.ack, seq: mine + 1, ack: seq + 1, data: '' };
        t.ok(
          await bench.arrives(bench.packetOf(connection, closes, end)),
          `${label}: and what acknowledges it`,
        );
        // Who closed first is no part of a state: an adopted one is over when it has been idle for long enough.
        if (!isAdopted) await waitFor('closed', async () => (await state(now.id)) === 'closed');
        await bench.retired(now);
        const control = await bench.place([], { policy: closed });
        t.notOk(
          await bench.arrives(bench.packetOf(connection, talks, last)),
          `control: ${label}, not adopted`,
        );
        await bench.retired(control);
      }
    }
  }
});

t.test(
  'who opened a connection stays known through moves there and back, whoever speaks first',
  async (t) => {
    for (const family of FAMILIES) {
      for (const opener of ['terminal', 'remote'] as const) {
        const tcp = fresh('tcp', family, opener);
        if (tcp.protocol !== 'tcp') throw new Error('not TCP');
        const connection =
          opener === 'remote'
            ? { ...tcp, local: { ...tcp.local, port: 22 }, remote: { ...tcp.remote, port: tcp.local.port } }
            : tcp;
        const key = connectionKey(connection);
        let placed = await bench.place();
        await opened(t, connection);
        let [mine, theirs] = opener === 'terminal' ? [1001, 5001] : [5001, 1001];
        for (let move = 0; move < 4; move++) {
          const first: Side = move % 2 === 0 ? other(opener) : opener;
          for (const sender of [first, other(first)]) {
            const data = `move ${move} from the ${sender}`;
            const [seq, ack] = sender === 'terminal' ? [mine, theirs] : [theirs, mine];
            const label = `${family}, opened by the ${opener}, after ${move} moves, the ${sender} speaks`;
            t.ok(await bench.arrives(bench.packetOf(connection, sender, { seq, ack, data })), label);
            if (sender === 'terminal') mine += data.length;
            else theirs += data.length;
          }
          t.equal((await waitFor('known', () => bench.known(placed.id, key))).opener, opener);
          await domain.setPolicy(placed.id, { ...closed, name: `closed ${move}` });
          const state = await domain.export(placed.id);
          const next = bench.newId();
          const ends = await domain.prepare(state, next.epoch);
          await domain.activate(next, LEASE_MS);
          await bench.lead(ends);
          placed = { id: next, ends };
        }
        await bench.retired(placed);
      }
    }
  },
);

/** A policy of the largest number of rules, each with a range of ports: accept, drop and reject in turn. */
const RANGE = 14;
const FIRST_PORT = 10_000;
const many = (rules: number): Policy =>
  policySchema.parse({
    name: `${rules} rules`,
    defaults: { outbound: 'drop', inbound: 'drop' },
    rules: Array.from({ length: rules }, (_, index) => ({
      name: `rule ${index}`,
      direction: 'outbound',
      action: (['accept', 'drop', 'reject'] as const)[index % 3],
      protocol: 'tcp',
      remotePorts: [[FIRST_PORT + index * RANGE, FIRST_PORT + index * RANGE + RANGE - 1]],
    })),
  });

t.test('a policy of the largest number of rules decides like a small one', async (t) => {
  const placed = await bench.place();
  const live = fresh('udp', 'ipv4');
  t.ok(await bench.arrives(bench.packetOf(live, 'terminal')));
  const start = performance.now();
  await domain.setPolicy(placed.id, many(MAX_RULES));
  await lab.steering.purge();
  t.comment(
    `${MAX_RULES} rules with ranges: ${(await lab.dump('firewall-ct')).length} flow rules, ${(performance.now() - start).toFixed(0)} ms`,
  );
  t.ok(await bench.arrives(bench.packetOf(live, 'remote')), 'what was admitted before lives on');
  for (const family of FAMILIES) {
    for (const index of [0, 1, 2, 1000, 1001, 1997, 1998, 1999]) {
      for (const at of [0, RANGE - 1]) {
        const one = fresh('tcp', family);
        if (one.protocol !== 'tcp') throw new Error('not TCP');
        const connection = { ...one, remote: { ...one.remote, port: FIRST_PORT + index * RANGE + at } };
        const syn = bench.packetOf(connection, 'terminal', { flags: TCP.syn, data: '' });
        t.equal(await bench.arrives(syn), index % 3 === 0, `rule ${index}, ${family}`);
      }
    }
  }
  const { counters } = await domain.export(placed.id);
  const counted = counters
    .filter(({ packets }) => packets > 0)
    .map(({ rule, packets }) => `${rule}: ${packets}`);
  const expected = [0, 1, 2, 1000, 1001, 1997, 1998, 1999].map((index) => `rule ${index}: 4`);
  t.same(
    counted.filter((line) => line.startsWith('rule')),
    expected,
    'each rule counts its own packets',
  );

  const ragged = Array.from({ length: 32 }, (_, index): [number, number] => [
    index * 2000 + 1,
    index * 2000 + 1998,
  ]);
  const large: Policy = {
    ...closed,
    rules: [
      ...{ ...many(3) }.rules,
      ...Array.from({ length: 3 }, (_, index) => ({
        ...({ name: `ragged ${index}`, direction: 'outbound', action: 'accept', protocol: 'udp' } as const),
        ...{ remotePorts: ragged, localPorts: ragged },
      })),
    ],
  };
  await t.rejects(domain.setPolicy(placed.id, large), {
    code: 'refused',
    message: new RegExp(`at most ${MAX_POLICY_RULES} fit: use fewer or rounder port ranges`),
  });
  t.equal(
    (await domain.export(placed.id)).policy.name,
    `${MAX_RULES} rules`,
    'the one before stays in force',
  );
  const id = bench.newId();
  await t.rejects(domain.prepare(bench.state([], { policy: large }), id.epoch), { code: 'refused' });
  await domain.retire(id);
  await lab.steering.lead(undefined);
  t.same(await lab.dump('firewall-ct'), [], 'nothing is left of any of them');
});
