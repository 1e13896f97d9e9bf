/**
 * Where terminals are, and where their firewalls should be: the registry, and what becomes of a placement that fails.
 */
import t from 'tap';
import { EventBus } from '../../controller-app/event-bus.js';
import { LINK_CHANGES, LinkChanges } from '../../controller-app/firewall/link-changes.js';
import { isOwnFrame } from '../../controller-app/firewall/own-frame.js';
import { Placement } from '../../controller-app/placement.js';
import { loadPlugins } from '../../controller-app/plugins.js';
import type { Attachment } from '../../controller-app/steering/view.js';
import { Registry } from '../../controller-app/terminals/registry.js';
import type { ApiEvent } from '../../shared/api/schema.js';
import { type Domain, DomainError, dpid } from '../../shared/domain/domain.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { quietCoordinator } from '../fixtures/quiet-coordinator.js';
import { ReferenceDomain } from '../fixtures/reference-domain.js';
import { alice, bob } from '../fixtures/reference-environment.js';
import { ethernet, tagged, udp } from '../harness/hosts/frames.js';
import { waitFor } from '../lab/wait.js';

const [s1, s2] = [dpid(1), dpid(2)];
const at = (where: typeof s1, port: number): Attachment => ({ dpid: where, port, portName: `p${port}` });

t.test('a terminal is attached where its first frame comes from', async (t) => {
  const registry = new Registry([alice, bob]);
  t.equal(registry.attachment('alice'), undefined);
  t.match(registry.seen(alice.mac, at(s1, 5)), { kind: 'attached', terminal: { name: 'alice' } });
  t.same(registry.attachment('alice'), at(s1, 5));
  t.match(registry.seen(alice.mac, at(s1, 5)), { kind: 'known' });
  t.match(registry.seen('02:00:00:00:00:99', at(s1, 6)), { kind: 'stranger' });
});

t.test('while its port is up, nobody else can claim its MAC', async (t) => {
  const registry = new Registry([alice]);
  registry.seen(alice.mac, at(s1, 5));
  t.match(registry.seen(alice.mac, at(s2, 3)), { kind: 'contested', attachment: at(s1, 5) });
  t.same(registry.attachment('alice'), at(s1, 5));
  t.same(registry.portGone(s1, 6), [], 'another port of the switch');
  t.same(registry.portGone(s2, 5), [], 'the same number on another switch');
  t.same(
    registry.portGone(s1, 5).map(({ terminal }) => terminal.name),
    ['alice'],
  );
  t.same(registry.portGone(s1, 5), [], 'once');
  t.match(registry.seen(alice.mac, at(s2, 3)), { kind: 'attached' });
});

t.test(
  'a terminal that may be at two places is where it sent by last, and on a third port it is contested',
  async (t) => {
    const registry = new Registry([alice, bob], { limit: (name) => (name === 'alice' ? 2 : 1) });
    const [one, two, three] = [at(s1, 5), at(s2, 5), at(s2, 6)];
    const own = () => true;
    t.match(registry.seen(alice.mac, one), { kind: 'attached', joins: false });
    t.match(registry.seen(alice.mac, two), { kind: 'contested' }, 'its MAC alone is not enough');
    t.match(registry.seen(alice.mac, two, own), { kind: 'attached', joins: true, attachment: two });
    t.same(registry.attachments('alice'), [two, one]);
    t.match(registry.seen(alice.mac, three, own), { kind: 'contested', attachment: two });
    t.match(registry.seen(alice.mac, one, own), { kind: 'known' });
    t.equal(registry.sendsBy('alice', s2, 5), undefined, 'it is the primary one already');
    t.equal(registry.sendsBy('alice', s2, 6), undefined, 'it is not there');
    t.equal(registry.sendsBy('alice', s1, 5), one);
    t.same(registry.attachments('alice'), [one, two]);
    t.match(registry.portGone(s2, 5), [{ primary: false, left: [one] }]);
    registry.seen(alice.mac, two, own);
    t.match(registry.portGone(s2, 5), [{ primary: true, left: [one] }], 'the other is primary at once');
    t.match(registry.portGone(s1, 5), [{ primary: true, left: [] }]);
    registry.seen(bob.mac, one);
    t.match(registry.seen(bob.mac, two, own), { kind: 'contested' }, 'control: one that may be at one place');
  },
);

t.test('how often a terminal may change its link is bounded, and comes back with time', async (t) => {
  const clock = new ManualClock();
  const allowed: string[] = [];
  const changes = new LinkChanges(clock, (name) => allowed.push(name));
  const takes = (): number => Array.from({ length: 100 }, () => changes.take('alice')).filter(Boolean).length;
  t.equal(takes(), LINK_CHANGES.burst);
  t.notOk(changes.allowed('alice'));
  t.ok(changes.take('bob'), 'another’s are its own');
  clock.advance(LINK_CHANGES.everyMs);
  t.same(allowed, ['alice'], 'it is told when there is one again');
  t.equal(takes(), 1);
  clock.advance(LINK_CHANGES.everyMs * 1_000);
  t.equal(takes(), LINK_CHANGES.burst, 'no more than at first');
  changes.close();
  changes.close();
});

t.test('a second place is believed by frames from the terminal’s own MAC and address only', async (t) => {
  const [mac, stranger] = [alice.mac, bob.mac];
  const from = (address: string, to: string) => ({ source: address, destination: to });
  const datagram = { sourcePort: 1, destinationPort: 2, payload: Buffer.alloc(4) };
  const link = { from: mac, to: stranger };
  const frames: readonly (readonly [string, Buffer, boolean])[] = [
    ['IPv4', udp(link, from('10.0.0.1', '10.0.0.2'), datagram), true],
    ['IPv6', udp(link, from('fd00::1', 'fd00::2'), datagram), true],
    ['another’s IPv4', udp(link, from('10.0.0.9', '10.0.0.2'), datagram), false],
    ['another’s IPv6', udp(link, from('fd00::9', 'fd00::2'), datagram), false],
    ['another’s MAC', udp({ from: stranger, to: mac }, from('10.0.0.1', '10.0.0.2'), datagram), false],
    ['tagged', tagged(udp(link, from('10.0.0.1', '10.0.0.2'), datagram), 5), false],
  ];
  for (const [name, frame, own] of frames) {
    t.equal(isOwnFrame(alice, frame), own, name);
    for (let length = 0; length < frame.length; length++) isOwnFrame(alice, frame.subarray(0, length));
  }
  const asks = (senderMac: string, senderIp: string): Buffer => {
    const body = Buffer.from('0001080006040001', 'hex');
    const hex = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
    const ip = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
    const packet = [body, hex(senderMac), ip(senderIp), Buffer.alloc(6), ip('10.0.0.2')];
    return ethernet({ from: mac, to: 'ff:ff:ff:ff:ff:ff' }, 0x0806, Buffer.concat(packet));
  };
  t.ok(isOwnFrame(alice, asks(mac, '10.0.0.1')), 'ARP');
  t.notOk(isOwnFrame(alice, asks(mac, '10.0.0.9')), 'ARP for another');
  t.notOk(isOwnFrame(alice, asks(stranger, '10.0.0.1')), 'ARP with another MAC inside');
  t.notOk(isOwnFrame(alice, asks(mac, '0.0.0.0')), 'a probe shows no address of its own');
});

/** Two domains, `a` at s1 and `b` at s2, of which `b` fails while it has faults. */
function places(t: { teardown(done: () => Promise<void>): void }) {
  const faults: Error[] = [];
  const b = new ReferenceDomain('b');
  const failing = new Proxy<Domain>(b, {
    get(target, property) {
      const fault = property === 'prepare' ? faults.shift() : undefined;
      if (fault) return () => Promise.reject(fault);
      const value: unknown = Reflect.get(target, property);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const coordinator = quietCoordinator([new ReferenceDomain('a'), failing], {
    ...{ drainMs: 5, firstEpoch: 1, reclaim: () => alice },
  });
  const clock = new ManualClock();
  let attachment = at(s1, 1);
  const placement = new Placement({
    coordinator,
    servedBy: new Map([
      [s1, 'a'],
      [s2, 'b'],
    ]),
    attachment: () => attachment,
    retryMs: 30_000,
    clock,
    log: silentLog,
  });
  t.teardown(async () => {
    await placement.close();
    await coordinator.close();
  });
  const activeIn = (): string | undefined => coordinator.record('alice').active?.domain.name;
  return {
    ...{ coordinator, placement, clock, faults },
    attach: (where: typeof s1): void => {
      attachment = at(where, 1);
      placement.attached('alice', []);
    },
    isIn: (domain: string) => waitFor(`the firewall is in ${domain}`, () => activeIn() === domain),
    activeIn,
  };
}

t.test('the firewall is placed where the terminal is, and follows it', async (t) => {
  const { attach, isIn } = places(t);
  attach(s1);
  await isIn('a');
  attach(s2);
  t.ok(await isIn('b'));
});

t.test('what fails stays due: again when something comes back, and from time to time', async (t) => {
  const { attach, isIn, activeIn, faults, clock, placement } = places(t);
  attach(s1);
  await isIn('a');
  faults.push(new DomainError('not-ready', 'no Docker'), new DomainError('not-ready', 'still none'));
  attach(s2);
  await waitFor('the first try has failed, and another is due', () => clock.pending === 1);
  t.equal(activeIn(), 'a');
  placement.reconsider();
  await waitFor('the second, too', () => faults.length === 0);
  t.equal(activeIn(), 'a');
  clock.advance(30_000);
  t.ok(await isIn('b'));
});

t.test('a firewall that stays moves on demand only, until it may follow again', async (t) => {
  const { attach, isIn, activeIn, placement, coordinator } = places(t);
  attach(s1);
  await isIn('a');
  await placement.set('alice', 'stay');
  t.equal(placement.get('alice'), 'stay');
  attach(s2);
  await coordinator.record('alice').tail;
  placement.reconsider();
  await coordinator.record('alice').tail;
  t.equal(activeIn(), 'a');
  await placement.set('alice', 'follow');
  t.ok(await isIn('b'));
});

t.test('what was demanded is not taken back', async (t) => {
  const { attach, isIn, activeIn, placement, coordinator, faults, clock } = places(t);
  attach(s1);
  await isIn('a');
  faults.push(new DomainError('not-ready', 'no Docker'));
  attach(s2);
  await waitFor('the move has failed', () => clock.pending === 1);
  await coordinator.handover('alice', { to: 'b', cause: 'demand' }).report;
  await coordinator.handover('alice', { to: 'a', cause: 'demand' }).report;
  placement.demanded('alice');
  clock.advance(60_000);
  await coordinator.record('alice').tail;
  t.equal(activeIn(), 'a');
});

t.test('a listener that does not keep up loses the oldest events', async (t) => {
  const bus = new EventBus();
  const stop = new AbortController();
  const heard: ApiEvent[] = [];
  const events = bus.listen(stop.signal);
  for (let number = 0; number < 1500; number += 1) {
    bus.publish({ kind: 'attachment', terminal: `t${number}`, attachment: null, at: 0 });
  }
  for await (const event of events) {
    heard.push(event);
    if (heard.length === 1000) stop.abort();
  }
  t.match(heard[0], { terminal: 't500' });
  t.match(heard.at(-1), { terminal: 't1499' });
});

t.test('what is no plugin says what it would have to be', async (t) => {
  const module = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`;
  const load = (text: string) => loadPlugins([{ module: module(text), options: { x: 1 } }]);
  await t.rejects(load('export default {}'), /name, tables .* and start/);
  await t.rejects(
    load('export default { name: "p", tables: [{ name: "t", stage: "somewhere" }], start() {} }'),
    /no plugin/,
  );
  await t.rejects(load('throw new Error("broken")'), /could not be loaded: broken/);
  const [made] = await load('export default (o) => ({ name: "p" + o.x, tables: [], start() {} })');
  t.equal(made?.name, 'p1');
});
