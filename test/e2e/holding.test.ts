/**
 * What arrives while no instance can take it is held and goes through the next one, seen on the wire: all of it, in order, and filtered.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { HELD_LIMITS } from '../../controller-app/steering/held-frames.js';
import { CLOSED_PORT, OPEN_PORT, startSteeringLab } from '../fixtures/steering-lab.js';
import { udp } from '../harness/hosts/frames.js';
import { type Capture, type Host, startCapture, startInjector } from '../harness/hosts/index.js';
import { waitFor } from '../lab/index.js';

t.setTimeout(180_000);
const FAMILIES = ['ipv4', 'ipv6'] as const;
type Family = (typeof FAMILIES)[number];
/** From both sides, forbidden ones included, no more than a meter lets pass at once (200): a busy switch may read all of them in one turn. */
const FRAMES = 80;

const lab = await startSteeringLab();
const { steering } = lab.firewall;
const [h1, h2] = [lab.net.host('h1'), lab.net.host('h2')];
const injectors = { terminal: startInjector(h1), server: startInjector(h2) };
const filter = ['udp'];
const captures = {
  terminal: await startCapture(h1, { filter }),
  server: await startCapture(h2, { filter }),
};
t.teardown(async () => {
  await Promise.all(Object.values(injectors).map((injector) => injector.close()));
  await Promise.all(Object.values(captures).map((capture) => capture.close()));
  await lab.close();
});

let batch = 0;

/** Numbered datagrams of one batch from one host to another. */
function numbered(from: Host, to: Host, family: Family, port: number, count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) =>
    udp(
      { from: from.mac, to: to.mac },
      { source: from[family], destination: to[family] },
      { sourcePort: 40_000 + (batch % 1_000), destinationPort: port, payload: label(index) },
    ),
  );
}

function label(index: number): Buffer {
  const payload = Buffer.alloc(12);
  payload.write('held');
  payload.writeUInt32BE(batch, 4);
  payload.writeUInt32BE(index, 8);
  return payload;
}

/** The numbers of this batch's datagrams to a port, as they arrived. */
function arrived(capture: Capture, port: number, sender: Host): number[] {
  return capture.frames().flatMap(({ data }) => {
    const at = data.indexOf('held');
    const mine = at > 0 && data.readUInt32BE(at + 4) === batch && data.readUInt16BE(at - 6) === port;
    const source = data.subarray(6, 12).toString('hex') === sender.mac.replaceAll(':', '');
    return mine && source ? [data.readUInt32BE(at + 8)] : [];
  });
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** From both sides at once, and among them what the policy forbids. */
async function sendAll(family: Family): Promise<void> {
  const mixed = (from: Host, to: Host): Buffer[] => {
    const good = numbered(from, to, family, OPEN_PORT, FRAMES);
    const bad = numbered(from, to, family, CLOSED_PORT, FRAMES / 10);
    return good.flatMap((frame, index) => [
      frame,
      ...(index % 10 === 0 ? bad.slice(index / 10, index / 10 + 1) : []),
    ]);
  };
  await Promise.all([
    injectors.terminal.send(mixed(h1, h2), { intervalMs: 1 }),
    injectors.server.send(mixed(h2, h1), { intervalMs: 1 }),
  ]);
}

async function flush(): Promise<void> {
  await Promise.all(Object.values(captures).map((capture) => capture.flush()));
}

/** All of one batch, each once, in order, on both sides, and nothing of what is forbidden. */
async function allArrive(t: Test): Promise<void> {
  const enough = (capture: Capture, sender: Host): boolean =>
    arrived(capture, OPEN_PORT, sender).length >= FRAMES;
  await waitFor('all arrives', () => enough(captures.server, h1) && enough(captures.terminal, h2)).catch(
    () => {},
  );
  await flush();
  t.same(arrived(captures.server, OPEN_PORT, h1), upTo(FRAMES), 'from the terminal: each once, in order');
  t.same(arrived(captures.terminal, OPEN_PORT, h2), upTo(FRAMES), 'to the terminal: each once, in order');
  t.same(arrived(captures.server, CLOSED_PORT, h1), [], 'what the policy forbids does not pass');
  t.same(arrived(captures.terminal, CLOSED_PORT, h2), []);
}

await injectors.terminal.send(numbered(h1, h2, 'ipv4', OPEN_PORT, 1));
await waitFor('the terminal is attached', () => lab.attached.length > 0);
let epoch = 1;
let active = { where: 's1' as 's1' | 's2', id: await lab.instance('s1', epoch) };
await steering.setActive(active.id);
// Where the server is must be learnt: a frame for nobody known is not flooded to a terminal.
await injectors.server.send(numbered(h2, h1, 'ipv4', OPEN_PORT, 1));

for (const family of FAMILIES) {
  await t.test(`${family}: without a hold all of it passes when there is an instance`, async (t) => {
    batch++;
    await sendAll(family);
    await allArrive(t);
  });

  for (const where of ['s2', 's1'] as const) {
    await t.test(`${family}: what is held goes through the next instance, in ${where}`, async (t) => {
      batch++;
      await steering.hold('alice');
      await lab.retire(active.where, active.id);
      await sendAll(family);
      // Of forbidden frames nobody has decided yet.
      const all = 2 * (FRAMES + FRAMES / 10);
      await waitFor('all of it is held', () => steering.holds('alice') >= all);
      await flush();
      t.same(arrived(captures.server, OPEN_PORT, h1), [], 'nothing passes');
      t.same(arrived(captures.terminal, OPEN_PORT, h2), []);
      active = { where, id: await lab.instance(where, ++epoch) };
      await steering.setActive(active.id);
      await allArrive(t);
      t.equal(steering.holds('alice'), 0);
    });
  }

  await t.test(`${family}: control: with no instance and no hold it is lost`, async (t) => {
    batch++;
    await lab.retire(active.where, active.id);
    await sendAll(family);
    active = { where: 's1', id: await lab.instance('s1', ++epoch) };
    await steering.setActive(active.id);
    await flush();
    t.same(arrived(captures.server, OPEN_PORT, h1), []);
    t.same(arrived(captures.terminal, OPEN_PORT, h2), []);
  });

  await t.test(`${family}: at the bound those that came first stay, in order`, async (t) => {
    batch++;
    await steering.hold('alice');
    await lab.retire(active.where, active.id);
    const frames = numbered(h1, h2, family, OPEN_PORT, 3 * HELD_LIMITS.frames);
    // As fast as the meter lets them, and no slower than would be too old. What a busy switch did not read is sent on top, and more than there is room for.
    const BATCH = 100;
    let sent = 0;
    const send = async (): Promise<void> => {
      await injectors.terminal.send(frames.slice(sent, sent + BATCH), { intervalMs: 0.2 });
      sent += BATCH;
    };
    while (steering.holds('alice') < HELD_LIMITS.frames && sent < frames.length) await send();
    for (let more = 0; more < 5; more++) await send();
    await waitFor('as many are held as may be', () => steering.holds('alice') === HELD_LIMITS.frames);
    active = { where: 's1', id: await lab.instance('s1', ++epoch) };
    await steering.setActive(active.id);
    // A burst of so many may overrun a port's buffer on a busy machine: that all of them arrive is for the tests above.
    await waitFor('all that was held is on its way', () => steering.holds('alice') === 0);
    await flush();
    const numbers = arrived(captures.server, OPEN_PORT, h1);
    t.equal(numbers[0], 0, 'the first came first');
    t.same(
      numbers,
      [...new Set(numbers)].toSorted((a, b) => a - b),
      'each once, in order',
    );
    t.ok(numbers.length <= HELD_LIMITS.frames, `${numbers.length} of ${sent}`);
  });
}
