/**
 * What the sender of a rejected packet hears from an edge instance, on the wire: the answer of the model (shared/firewall/reject.ts), and nothing else.
 */
import '../lab/enter.js';
import t from 'tap';
import { type Packet, parsePacket } from '../../controller-app/packet/index.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { rejectionOf } from '../../shared/firewall/reject.js';
import type { Family } from '../../shared/firewall/terminal.js';
import {
  ACK,
  type Direction,
  EdgeBench,
  echoRequest,
  ends,
  expectAll,
  FAMILIES,
  LEASE_MS,
  PORT,
  RST,
  SYN,
  tcp,
  udp,
} from '../fixtures/edge-bench.js';
import { type Frame, marker, TERMINAL } from '../fixtures/edge-lab.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const DIRECTIONS: readonly Direction[] = ['outbound', 'inbound'];
const PROTOCOLS = ['tcp', 'udp', 'icmp'] as const;
type Protocol = (typeof PROTOCOLS)[number];
/** Nobody listens there, and the policy rejects it. */
const CLOSED = 5000;
const FLOOD = 3000;

const rejecting = (name: string, protocol: Protocol, direction: Direction) => ({
  name,
  direction,
  action: 'reject',
  protocol,
  ...(protocol === 'icmp' ? {} : { [direction === 'outbound' ? 'remotePorts' : 'localPorts']: CLOSED }),
});
const policy = policySchema.parse({
  name: 'rejects',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [
    ...DIRECTIONS.flatMap((direction) =>
      PROTOCOLS.map((protocol) => rejecting(`${protocol} ${direction}`, protocol, direction)),
    ),
    { name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 },
  ],
});
const dropping = policySchema.parse({
  ...policy,
  rules: policy.rules.map((rule) => (rule.action === 'reject' ? { ...rule, action: 'drop' } : rule)),
});
const bench = await EdgeBench.start(t, policy);
const { lab, domain } = bench;
const side = (direction: Direction) => ({
  from: direction === 'outbound' ? bench.terminal : bench.server,
  to: direction === 'outbound' ? bench.server : bench.terminal,
});

let sport = 20_000;
const hex16 = (value: number): string => value.toString(16).padStart(4, '0');

/** A frame, and bytes that every answer to it has, and it itself when it arrives. */
interface Probe {
  readonly frame: Frame;
  readonly inAnswer: string;
  readonly inFrame: string;
}

function probe(protocol: Protocol, family: Family, direction: Direction, change: Frame = {}): Probe {
  const mark = marker();
  const port = sport++;
  const more = { payload: mark, ...change };
  switch (protocol) {
    case 'tcp':
      // A reset says the ports the other way round, and number 0.
      return {
        frame: tcp(family, direction, SYN, { sport: port, dport: CLOSED, ...more }),
        inAnswer: `${hex16(CLOSED)}${hex16(port)}00000000`,
        inFrame: mark,
      };
    case 'udp':
      return {
        frame: udp(family, direction, { sport: port, dport: CLOSED, ...more }),
        inAnswer: mark,
        inFrame: mark,
      };
    case 'icmp':
      return { frame: echoRequest(family, direction, { id: port, ...more }), inAnswer: mark, inFrame: mark };
  }
}

/**
 * Sends frames, and returns the answers to each as they arrived at the sender, and how often the frame itself arrived. They are all there as soon as a
 * packet that is sent after them and that the other host answers has its answer.
 */
async function tell(
  direction: Direction,
  probes: readonly Probe[],
  count = 1,
): Promise<readonly { readonly answers: readonly Buffer[]; readonly passed: number }[]> {
  const { from, to } = side(direction);
  const macs = { smac: from.mac, dmac: to.mac };
  for (const { frame } of probes) await from.host.ask('forge', { frame: { ...macs, ...frame }, count });
  const [port, last] = [direction === 'outbound' ? PORT : 22, sport++];
  const fence = tcp('ipv4', direction, SYN, { sport: last, dport: port, payload: '', ...macs });
  await waitFor('the packet that is let pass to be answered', async () => {
    await from.host.ask('forge', { frame: fence });
    return (await from.host.seen(`${hex16(port)}${hex16(last)}`)) > 0;
  });
  return Promise.all(
    probes.map(async ({ inAnswer, inFrame }) => ({
      answers: (await from.host.frames(inAnswer)).map((frame) => Buffer.from(frame, 'hex')),
      passed: await to.host.seen(inFrame),
    })),
  );
}

/** The answer as the model has it: the kind, and who seems to say it to whom. */
function expected(protocol: Protocol, family: Family, direction: Direction): unknown {
  const [src, dst] = ends(family, direction);
  const { from, to } = side(direction);
  const rejection = rejectionOf(protocol, family);
  return {
    ethSrc: to.mac,
    ethDst: from.mac,
    ip: { family, src: dst, dst: src, fragment: 'none' },
    transport:
      rejection.kind === 'tcp-reset'
        ? { protocol: 'tcp', src: CLOSED, flags: RST | ACK }
        : { protocol: 'icmp', type: rejection.type, code: rejection.code },
  };
}

const parsed = (frame: Buffer | undefined): Packet | undefined => frame && parsePacket(frame);
const cases = FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ family, protocol })));

await t.test('every kind is answered once, as the model says, and goes no further', async (t) => {
  const { id } = await bench.active();
  const { sequence } = await domain.export(id);
  const { deltas, stop } = bench.follow(id, sequence);
  for (const direction of DIRECTIONS) {
    const told = await tell(
      direction,
      cases.map(({ protocol, family }) => probe(protocol, family, direction)),
    );
    for (const [index, { protocol, family }] of cases.entries()) {
      const what = `${family} ${protocol}, ${direction}`;
      t.equal(told[index]?.answers.length, 1, `${what}: one answer`);
      t.match(parsed(told[index]?.answers[0]), expected(protocol, family, direction), what);
      t.equal(told[index]?.passed, 0, `${what}: it does not pass`);
    }
  }
  const { stdout } = await bench.inContainer('/usr/sbin/conntrack', ['-L', '-o', 'extended']);
  t.notMatch(stdout, new RegExp(`port=${CLOSED}|icmp`), 'no connection comes of it');
  t.match(stdout, /port=80/, 'control: others are in the table');
  const state = await domain.export(id);
  for (const direction of DIRECTIONS) {
    for (const protocol of PROTOCOLS) {
      const counter = state.counters.find(({ rule }) => rule === `${protocol} ${direction}`);
      t.equal(counter?.packets, 2, `counted: ${protocol} ${direction}, both families`);
    }
  }
  await stop();
  const ports = deltas.flatMap(({ change }) =>
    change.kind === 'connection' && change.connection.protocol !== 'icmp'
      ? [change.connection.local.port, change.connection.remote.port]
      : [],
  );
  t.ok(ports.includes(PORT) && !ports.includes(CLOSED), 'and nothing of it is told');
  await domain.retire(id);
});

await t.test('programs hear it at once', async (t) => {
  const { id } = await bench.active();
  for (const family of FAMILIES) {
    for (const [direction, host] of [
      ['outbound', lab.terminal],
      ['inbound', lab.server],
    ] as const) {
      const [from, to] = ends(family, direction);
      const connection = { from, to, port: CLOSED, timeout: 5 };
      const refused = await host.ask('connect', { name: 'tcp', protocol: 'tcp', ...connection });
      t.match(refused.error, /refused/, `${family} TCP, ${direction}`);
      const name = `udp ${family} ${direction}`;
      await host.ask('connect', { name, protocol: 'udp', ...connection });
      const { error } = await host.ask('talk', { name, text: 'hello', timeout: 5 });
      t.match(error, /refused/, `${family} UDP, ${direction}`);
    }
  }
  await domain.retire(id);
});

await t.test('control: what is dropped is not answered', async (t) => {
  const { id } = await bench.active({ policy: dropping });
  for (const direction of DIRECTIONS) {
    const told = await tell(
      direction,
      cases.map(({ protocol, family }) => probe(protocol, family, direction)),
    );
    t.same(
      told.map(({ answers, passed }) => [answers.length, passed]),
      cases.map(() => [0, 0]),
      direction,
    );
  }
  await domain.setPolicy(id, policy);
  const [one] = await tell('outbound', [probe('udp', 'ipv4', 'outbound')]);
  t.equal(one?.answers.length, 1, 'until the policy rejects it');
  await domain.retire(id);
});

await t.test('whom no answer is due', async (t) => {
  const { id } = await bench.active();
  const silent: Readonly<Record<Direction, ReadonlyMap<string, Probe>>> = {
    outbound: new Map([
      ['to everybody’s MAC', probe('udp', 'ipv4', 'outbound', { dmac: 'ff:ff:ff:ff:ff:ff' })],
      ['to a group’s MAC', probe('udp', 'ipv6', 'outbound', { dmac: '33:33:00:00:00:05' })],
      ['to an IPv4 group', probe('udp', 'ipv4', 'outbound', { dst: '224.0.0.5' })],
      ['to everybody', probe('udp', 'ipv4', 'outbound', { dst: '255.255.255.255' })],
      ['to an IPv6 group', probe('udp', 'ipv6', 'outbound', { dst: 'ff02::5' })],
      ['with a foreign MAC', probe('udp', 'ipv4', 'outbound', { smac: '02:00:00:00:00:77' })],
      ['with a foreign address', probe('udp', 'ipv4', 'outbound', { src: '10.0.0.77' })],
      ['a reset', probe('tcp', 'ipv4', 'outbound', { flags: RST })],
      ['mid-stream', probe('tcp', 'ipv6', 'outbound', { flags: ACK })],
      ['an ICMP error', probe('icmp', 'ipv4', 'outbound', { type: 3, code: 3 })],
      ['an ICMPv6 error', probe('icmp', 'ipv6', 'outbound', { type: 1, code: 4 })],
    ]),
    inbound: new Map([
      ['to another’s MAC', probe('udp', 'ipv4', 'inbound', { dmac: '02:00:00:00:00:77' })],
      ['to everybody’s MAC', probe('udp', 'ipv6', 'inbound', { dmac: 'ff:ff:ff:ff:ff:ff' })],
      ['to another’s address', probe('udp', 'ipv4', 'inbound', { dst: '10.0.0.77' })],
      ['with the terminal’s MAC', probe('udp', 'ipv4', 'inbound', { smac: TERMINAL.mac })],
      ['with the terminal’s address', probe('udp', 'ipv6', 'inbound', { src: TERMINAL.ipv6 })],
      ['from no address', probe('udp', 'ipv4', 'inbound', { src: '0.0.0.0' })],
      ['from a group', probe('udp', 'ipv6', 'inbound', { src: 'ff02::5' })],
      ['from everybody', probe('udp', 'ipv4', 'inbound', { src: '255.255.255.255' })],
      ['from a loopback', probe('udp', 'ipv4', 'inbound', { src: '127.0.0.1' })],
      ['mid-stream', probe('tcp', 'ipv4', 'inbound', { flags: ACK })],
      ['a SYN, ACK', probe('tcp', 'ipv6', 'inbound', { flags: SYN | ACK })],
    ]),
  };
  for (const direction of DIRECTIONS) {
    const told = await tell(direction, [...silent[direction].values()]);
    t.same(
      [...silent[direction].keys()].filter((_, index) => told[index]?.answers.length !== 0),
      [],
      `${direction}: silence`,
    );
    t.ok(
      told.every(({ passed }) => passed === 0),
      'and nothing passes',
    );
  }
  await domain.retire(id);
});

await t.test('an instance that admits nothing answers nothing', async (t) => {
  for (const direction of DIRECTIONS) {
    const { id, ends: through } = await bench.standby();
    await lab.through(through);
    const early = probe('udp', 'ipv4', direction);
    const { from, to } = side(direction);
    await from.host.ask('forge', { frame: { smac: from.mac, dmac: to.mac, ...early.frame } });
    const [fence] = await (direction === 'outbound' ? bench.outbound : bench.inbound)([
      udp('ipv4', direction),
    ]);
    t.equal(fence, false, 'it has been through');
    await domain.activate(id, LEASE_MS);
    const [later] = await tell(direction, [probe('udp', 'ipv4', direction)]);
    t.equal(later?.answers.length, 1, 'control: active, it answers');
    t.equal(await from.host.seen(early.inFrame), 0, `${direction}: a standby is silent`);
    await domain.retire(id);
  }
});

await t.test('a flood is answered now and then, and keeps no answer from the other side', async (t) => {
  const { id } = await bench.active();
  const [flood] = await tell('inbound', [probe('udp', 'ipv6', 'inbound')], FLOOD);
  const heard = await lab.server.seen('0104');
  t.ok(heard > 0 && (flood?.answers.length ?? 0) > 0, 'it is answered');
  t.ok((flood?.answers.length ?? FLOOD) < FLOOD / 10, 'but seldom');
  t.equal(flood?.passed, 0);
  const [one] = await tell('outbound', [probe('udp', 'ipv6', 'outbound')]);
  t.equal(one?.answers.length, 1, 'the terminal hears all of its own');
  await domain.retire(id);
});

await t.test('without its parts a rejected packet falls silently', async (t) => {
  const frames = new Map(
    cases.map(({ protocol, family }) => [`${family} ${protocol}`, probe(protocol, family, 'outbound').frame]),
  );
  for (const family of ['netdev', 'bridge']) {
    const { id } = await bench.active();
    await bench.inContainer('/usr/sbin/nft', ['delete', 'table', family, 'paguro-answers']);
    await expectAll(t, `without the table of family ${family}`, frames, bench.outbound, false);
    const [one] = await tell('outbound', [probe('udp', 'ipv4', 'outbound')]);
    t.same([one?.answers.length, one?.passed], [0, 0], 'no answer, and it does not pass');
    await domain.retire(id);
  }
});

await t.test('a kernel that cannot answer drops, and says so', async (t) => {
  const lacking = await lab.startDomain('edge-2', {
    runtime: lab.rewritingRuntime('edge-2', (input) => input.replaceAll('reject with', 'no-such-word')),
  });
  const { id } = await bench.active({}, lacking);
  const [one] = await tell('outbound', [probe('tcp', 'ipv6', 'outbound')]);
  t.same([one?.answers.length, one?.passed], [0, 0]);
  t.match(await lacking.health(), {
    ok: false,
    problem: /dropped without an answer.*CONFIG_NFT_REJECT_NETDEV/,
  });
  await lacking.setPolicy(id, dropping);
  t.match(await lacking.health(), { ok: true }, 'as long as the policy rejects something');
  await lacking.close();
});
