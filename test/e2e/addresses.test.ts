/**
 * Addresses that a terminal learns from real programs: a DHCP lease, and the addresses that its kernel makes when a router advertises. What
 * is not learnt never passes, wherever the firewall is. One lab, one terminal; first the control, in which nothing may be learnt.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import type { AddressStatus } from '../../shared/api/schema.js';
import { linkLocalOf } from '../../shared/firewall/terminal.js';
import { fatesFromNow } from '../harness/fates-from-now.js';
import {
  autoconfigure,
  type Client,
  frames,
  ignoreRouters,
  kernelAddresses,
  startAddressServer,
  startDhcpClient,
  startTraffic,
} from '../harness/hosts/index.js';
import { Paguro } from '../harness/paguro.js';
import { WireRig } from '../harness/rig.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(300_000);

const PORT = { both: 5001, serverOnly: 5002 } as const;
const FIRST_LOCAL_PORT = 20_000;
const UDP_PORT = 5990;
const MAX_IPV6 = 16;
/** Addresses within the allowed prefixes that nobody gives the terminal. */
const NEVER_GIVEN = { ipv4: '10.0.0.77', ipv6: 'fd00::77' } as const;

let missing: readonly string[] = ['not tried'];
const paguro = await Paguro.start({
  beforeController: async (net) => {
    const rig = await WireRig.start(net, [], { neverGiven: NEVER_GIVEN });
    await net.bypass(true);
    await rig.settle();
    missing = (await rig.round()).missing().map(({ family, name }) => `${family}: ${name}`);
    await net.bypass(false);
    await rig.close();
    // Some of the frames lied about who has which address.
    await Promise.all([...net.hosts.values()].map((host) => host.flushNeighbours()));
  },
});
const [h1, h2, h3] = [paguro.host('h1'), paguro.host('h2'), paguro.host('h3')];
const [client, server] = [startTraffic(h1), startTraffic(h2)];
const wire = await WireRig.start(paguro, [PORT.both, PORT.serverOnly], { neverGiven: NEVER_GIVEN });
await ignoreRouters(h1);
const router = await startAddressServer(h2, paguro.folder, {
  ipv4: ['10.0.0.100', '10.0.0.120'],
  leaseSeconds: 3600,
  ipv6: 'fd00::',
});
t.teardown(async () => {
  await router.close();
  await wire.close();
  await Promise.all([client.close(), server.close()]);
  await paguro.close();
});

let localPort = FIRST_LOCAL_PORT;

/** Two connections from each address: one in which both talk, one in which only the server does. Returns what each end says of them. */
async function open(addresses: readonly string[]) {
  return client.connect(
    addresses.flatMap((address) =>
      (['both', 'server-only'] as const).map((mode) => ({
        address: address.includes(':') ? h2.ipv6 : h2.ipv4,
        port: mode === 'both' ? PORT.both : PORT.serverOnly,
        mode,
        from: { address, port: localPort++ },
      })),
    ),
  );
}

async function opens(t: Test, addresses: readonly string[]): Promise<void> {
  const opened = await open(addresses);
  t.ok(
    opened.length === 2 * addresses.length && opened.every(({ openedAt }) => openedAt !== null),
    `connections from ${addresses.join(', ')}: ${opened.map(({ error }) => error ?? 'open')}`,
  );
}

async function allAlive(t: Test): Promise<void> {
  const all = await fatesFromNow(client, server);
  t.ok(
    all.length > 0 && all.every((fate) => fate === 'survived'),
    `${all.length} connections live: ${[...new Set(all)]}`,
  );
}

async function learnt(): Promise<readonly AddressStatus[]> {
  return (await paguro.terminal('alice')).addresses.filter(({ origin }) => origin !== 'fixed');
}

const has = (address: string, origin: AddressStatus['origin']) =>
  waitFor(`${address} is learnt by ${origin}`, async () =>
    (await learnt()).find((one) => one.address === address && one.origin === origin),
  );

const link = { from: h1.mac, to: h2.mac };
let mark = 0;

/** A datagram that the policy admits, from this address: does it arrive at the server? Judged by what is sent after it and must arrive. */
async function passes(source: string): Promise<boolean> {
  const ip = { source, destination: source.includes(':') ? h2.ipv6 : h2.ipv4 };
  const payload = Buffer.from(`from ${source}, ${++mark}`);
  const frame = frames.udp(link, ip, { sourcePort: 30_000 + mark, destinationPort: UDP_PORT, payload });
  await wire.rig.injectors.terminal.send([frame]);
  await wire.settle();
  return wire.rig.captures.server.saw(frame);
}

/** "Does anybody have this address?": what a kernel sends before it uses one. */
function probe(target: string): Buffer {
  const [last = '0'] = target.split(':').slice(-1);
  const low = Number.parseInt(last, 16) || 0;
  const tail = `00:${(low >> 8).toString(16).padStart(2, '0')}:${(low & 0xff).toString(16).padStart(2, '0')}`;
  const group = `ff02::1:ff00:${low.toString(16)}`;
  const body = Buffer.concat([Buffer.alloc(4), frames.addressBytes(target)]);
  return frames.icmp(
    { from: h1.mac, to: `33:33:ff:${tail}` },
    { source: '::', destination: group },
    135,
    0,
    body,
    255,
  );
}

/** Spoofed sources and claims, which must not pass: also addresses within the allowed prefixes that nobody gave the terminal. */
async function nothingForged(t: Test): Promise<void> {
  const { arrived, tried } = await wire.round();
  t.ok(tried.some(({ name }) => name.includes('nobody gave')));
  t.same(
    arrived().map(({ family, name }) => `${family}: ${name}`),
    [],
    `${tried.length} kinds of forbidden frames`,
  );
}

await server.listen({
  tcp: [
    { port: PORT.both, mode: 'both' },
    { port: PORT.serverOnly, mode: 'server-only' },
  ],
});
await paguro.attach('alice', 'h1', 'sdn-1');

t.same(missing, [], 'control: without a firewall every forbidden frame arrives');

await t.test('control: without "learn" a lease and an announced address are of no use', async (t) => {
  const client = await startDhcpClient(h1, paguro.folder, { peer: h2.ipv4, id: '00c0' });
  const { address: lease, answered } = await client.bound();
  await client.close();
  t.notOk(answered, 'the first packet from the lease');
  t.notOk(await passes(lease), `${lease}, which the server has given`);
  await h1.exec('ip', ['address', 'del', `${lease}/24`, 'dev', h1.interface]);
  await wire.rig.injectors.terminal.send([probe('fd00::c0')]);
  t.notOk(await passes('fd00::c0'), 'an address that was announced');
  t.ok((await passes(h1.ipv4)) && (await passes(h1.ipv6)), 'control: its own pass');
  t.same(await learnt(), []);
  await paguro.killController();
  await paguro.letLearn();
  await paguro.startController();
  await paguro.attach('alice', 'h1', 'sdn-1');
});

await t.test('what nobody gave the terminal does not pass', async (t) => {
  await nothingForged(t);
  t.same(await learnt(), []);
});

function fail(why: string): never {
  throw new Error(why);
}

let started: Client | undefined;
t.teardown(() => started?.close());
const dhcp = (): Client => started ?? fail('there is no DHCP client');
let lease = '';

await t.test('a DHCP lease: its first packets pass', async (t) => {
  started = await startDhcpClient(h1, paguro.folder, { peer: h2.ipv4 });
  const bound = await dhcp().bound();
  lease = bound.address;
  t.ok(bound.answered, 'the very first');
  await opens(t, [lease]);
  const { until = 0 } = (await has(lease, 'dhcp')) ?? {};
  t.ok(until > Date.now() + 3_000_000 && until < Date.now() + 3_700_000, 'for as long as the server said');
});

let made: readonly string[] = [];

await t.test('addresses that the kernel makes: a stable and a temporary one', async (t) => {
  await autoconfigure(h1);
  // "Is there a router?" (RFC 4861, 4.1): it would ask by itself when its link comes up.
  const all = { from: h1.mac, to: '33:33:00:00:00:02' };
  const ip = { source: linkLocalOf(h1.mac), destination: 'ff02::2' };
  await wire.rig.injectors.terminal.send([frames.icmp(all, ip, 133, 0, Buffer.alloc(4), 255)]);
  made = await waitFor(
    'the kernel has made addresses',
    async () => {
      const found = (await kernelAddresses(h1)).filter(
        ({ address, tentative, failed }) => address !== h1.ipv6 && !tentative && !failed,
      );
      return (
        found.length > 1 && found.some(({ temporary }) => temporary) && found.map(({ address }) => address)
      );
    },
    { timeoutMs: 30_000, intervalMs: 20 },
  );
  await opens(t, made);
  for (const address of made) await has(address, 'slaac');
  await opens(t, [h1.ipv4, h1.ipv6]);
  await allAlive(t);
});

await t.test('an address that somebody has is not learnt', async (t) => {
  await h3.exec('ip', ['-6', 'address', 'add', 'fd00::33/64', 'dev', h3.interface, 'nodad']);
  await h1.exec('ip', ['-6', 'address', 'add', 'fd00::33/64', 'dev', h1.interface]);
  await waitFor('the kernel hears that it is taken', async () =>
    (await kernelAddresses(h1)).some(({ address, failed }) => address === 'fd00::33' && failed),
  );
  t.notOk(await passes('fd00::33'));
  t.notOk((await learnt()).some(({ address }) => address === 'fd00::33'));
});

await t.test('a server that the terminal did not ask gives it nothing', async (t) => {
  const reply = (xid: number, address: string): Buffer => {
    const bootp = Buffer.alloc(240);
    bootp.set([2, 1, 6, 0]);
    bootp.writeUInt32BE(xid, 4);
    frames.addressBytes(address).copy(bootp, 16);
    frames.macBytes(h1.mac).copy(bootp, 28);
    bootp.writeUInt32BE(0x63825363, 236);
    const options = Buffer.from([53, 1, 5, 51, 4, 0, 0, 14, 16, 54, 4, 10, 0, 0, 3, 255]);
    return frames.udp(
      { from: h3.mac, to: h1.mac },
      { source: h3.ipv4, destination: address },
      { sourcePort: 67, destinationPort: 68, payload: Buffer.concat([bootp, options]) },
    );
  };
  await wire.rig.injectors.stranger.send([reply(0x1234_5678, NEVER_GIVEN.ipv4)]);
  t.notOk(await passes(NEVER_GIVEN.ipv4));
  t.notOk((await learnt()).some(({ address }) => address === NEVER_GIVEN.ipv4));
});

let atTheEdge: readonly string[] = [];

await t.test('it goes to the edge: all live, and more is learnt there', async (t) => {
  await paguro.move('h1', 's2');
  await paguro.settled('alice', 'edge-1');
  await allAlive(t);
  await nothingForged(t);
  const other = await startDhcpClient(h1, paguro.folder, { peer: h2.ipv4, id: '00ed9e' });
  t.teardown(() => other.close());
  const { address: second, answered } = await other.bound();
  t.ok(answered, 'the first packet from another lease');
  t.not(second, lease);
  await h1.exec('ip', ['-6', 'address', 'add', 'fd00::ed9e/64', 'dev', h1.interface]);
  await waitFor('the kernel uses it', async () =>
    (await kernelAddresses(h1)).some(({ address, tentative }) => address === 'fd00::ed9e' && !tentative),
  );
  atTheEdge = [second, 'fd00::ed9e'];
  await opens(t, atTheEdge);
  await has(second, 'dhcp');
  await has('fd00::ed9e', 'slaac');
  dhcp().signal('SIGUSR1');
  await waitFor('the first lease is renewed', async () =>
    (await dhcp().events()).some((line) => line === `renew ${lease}`),
  );
  await allAlive(t);
});

await t.test('a controller that restarts knows them still, and how they were come by', async (t) => {
  const origins = async () => (await learnt()).map(({ address, origin }) => `${address} ${origin}`).sort();
  const from = await origins();
  const before = (await learnt()).map(({ address }) => address).sort();
  await paguro.killController();
  await paguro.startController();
  await paguro.attach('alice', 'h1', 'edge-1');
  t.same((await learnt()).map(({ address }) => address).sort(), before);
  t.same(await origins(), from);
  await allAlive(t);
  await opens(t, [lease, ...made, ...atTheEdge]);
  await nothingForged(t);
});

await t.test('it comes back, and announces an address while its firewall moves', async (t) => {
  const report = paguro.handover('alice', 'sdn-1');
  await h1.exec('ip', ['-6', 'address', 'add', 'fd00::404/64', 'dev', h1.interface]);
  t.equal((await report).outcome, 'done');
  await waitFor('the kernel uses it', async () =>
    (await kernelAddresses(h1)).some(({ address, tentative }) => address === 'fd00::404' && !tentative),
  );
  await opens(t, ['fd00::404']);
  // Its firewall is in s1 now, and it is not.
  const renewals = async () => (await dhcp().events()).filter((line) => line === `renew ${lease}`).length;
  const before = await renewals();
  dhcp().signal('SIGUSR1');
  await waitFor('the lease is renewed', async () => (await renewals()) > before);
  await has(lease, 'dhcp');
  await paguro.move('h1', 's1');
  await paguro.settled('alice', 'sdn-1');
  await allAlive(t);
  await opens(t, [lease, ...made, ...atTheEdge]);
  await allAlive(t);
  await nothingForged(t);
});

await t.test('a hundred announced addresses are bounded', async (t) => {
  const many = Array.from({ length: 100 }, (_, index) => `fd00::${(0x1000 + index).toString(16)}`);
  await wire.rig.injectors.terminal.send(many.map(probe), { intervalMs: 20 });
  await wire.settle();
  const state = await paguro.api.state('alice');
  t.ok(state.terminal.ipv6.length <= MAX_IPV6, `${state.terminal.ipv6.length} addresses`);
  const passed = [];
  for (const address of many.slice(-10)) if (await passes(address)) passed.push(address);
  t.same(passed, [], 'the last ones were too many');
});

await t.test('a lease that is given back is gone', async (t) => {
  t.ok(await passes(lease), 'control: it passes');
  dhcp().signal('SIGUSR2');
  await waitFor(`${lease} is gone`, async () => {
    const { terminal } = await paguro.api.state('alice');
    return !terminal.ipv4.includes(lease) && !(await learnt()).some((one) => one.address === lease);
  });
  await waitFor('the switch goes by it', async () => !(await passes(lease)));
  t.ok(await passes(h1.ipv4), 'control: its own goes on');
});
