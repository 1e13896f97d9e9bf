/**
 * The patch panel between the switch and the compartments: what it lets through, that the switch hears nothing of what is plugged in and out, and that nothing goes to
 * another compartment than the one that its jack is connected with.
 */
import '../lab/enter.js';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { z } from 'zod';
import type { Compartment } from '../../edge-agent/runtime/runtime.js';
import { INNER } from '../../edge-agent/wiring/inner.js';
import { cordOf, innerSide } from '../../edge-agent/wiring/veth/panel-names.js';
import { connectLinks, disconnectLinks } from '../../edge-agent/wiring/veth/redirects.js';
import { VethWiring } from '../../edge-agent/wiring/veth/veth-wiring.js';
import type { Wires } from '../../edge-agent/wiring/wiring.js';
import { END_PORT_PREFIX } from '../../shared/domain/ends.js';
import { run } from '../../shared/runtime/command.js';
import { silentLog } from '../../shared/runtime/log.js';
import { bareCompartment } from '../fixtures/bare-compartment.js';
import { arrivals, BRIDGE, type Frame, SERVER, TERMINAL } from '../fixtures/edge-lab.js';
import { endsPlugged, panelOf } from '../fixtures/ends-plugged.js';
import { Host } from '../fixtures/netns-host.js';
import { startOpenVSwitch, waitFor } from '../lab/index.js';

t.setTimeout(120_000);

const AGENT = 'edge-1';
const statsSchema = z.tuple([z.object({ stats64: z.object({ rx: z.object({ packets: z.number() }) }) })]);
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** The bytes of an IP packet of the usual size, but for the marker of 12 that follows. */
const FULL = '5a'.repeat(1488);

const openVSwitch = await startOpenVSwitch();
await run('ovs-vsctl', [
  ...['add-br', BRIDGE, '--', 'set', 'bridge', BRIDGE],
  ...['datapath_type=netdev', 'fail_mode=secure', 'other-config:datapath-id=0000000000000002'],
]);
const terminal = await Host.start('h1', TERMINAL, { bridge: BRIDGE, mute: true });
const server = await Host.start('h2', SERVER, { bridge: BRIDGE, mute: true });
const wiring = new VethWiring({ agent: AGENT, bridge: BRIDGE, log: silentLog, restMs: 0 });
t.teardown(async () => {
  terminal.close();
  server.close();
  await wiring.close();
  await openVSwitch.close();
});

/** The ends' names, the terminal's first. */
function namesOf({ ends }: Wires): readonly [string, string] {
  if (ends.kind !== 'ports') throw new Error('its ends are ports');
  return [ends.terminalSide, ends.networkSide];
}

async function newCompartment(t: Test): Promise<Compartment> {
  const compartment = await bareCompartment();
  t.teardown(() => compartment.close());
  return compartment;
}

/** Everything between the hosts goes through these ends, or all but ARP: it shows that frames have had their time also where none gets through. */
async function lead(
  [terminalSide, networkSide]: readonly [string, string],
  { butArp = false } = {},
): Promise<void> {
  const both = (condition: string, one: string, other: string): readonly string[] => [
    `${condition}in_port=${one},actions=output:${other}`,
    `${condition}in_port=${other},actions=output:${one}`,
  ];
  const flows = [
    ...both('', TERMINAL.port, terminalSide),
    ...both('', SERVER.port, networkSide),
    ...(butArp ? both('priority=40000,arp,', TERMINAL.port, SERVER.port) : []),
  ];
  await run('ovs-ofctl', ['--bundle', 'replace-flows', BRIDGE, '-'], { input: `${flows.join('\n')}\n` });
  await run('ovs-appctl', ['revalidator/wait']);
}

/** Plugged in, with a compartment that hands everything on from one end to the other. */
async function plugged(t: Test): Promise<{ wires: Wires; compartment: Compartment }> {
  const [wires, compartment] = await Promise.all([wiring.create(), newCompartment(t)]);
  await wires.enter(compartment);
  const { bridge, terminalSide, networkSide } = INNER;
  const links = [
    `link add ${bridge} mtu 1504 type bridge stp_state 0 mcast_snooping 0`,
    ...[terminalSide, networkSide].flatMap((name) => [
      `link set ${name} master ${bridge}`,
      `link set ${name} up`,
    ]),
    `link set ${bridge} up`,
  ];
  await compartment.run('ip', ['-batch', '-'], { input: `${links.join('\n')}\n` });
  await lead(namesOf(wires));
  return { wires, compartment };
}

const udp = (six: boolean): Frame => {
  const [src, dst] = six ? [TERMINAL.ipv6, SERVER.ipv6] : [TERMINAL.ipv4, SERVER.ipv4];
  return { protocol: 'udp', src, dst, sport: 43_000, dport: 5000 };
};
const FRAMES = new Map<string, Frame>([
  ['IPv4', udp(false)],
  ['IPv6', udp(true)],
  ['broadcast', { ...udp(false), dmac: BROADCAST }],
  ['multicast', { ...udp(true), dmac: '33:33:00:00:00:01' }],
  ['a type that nobody knows, full size', { ethertype: 0x88b5, payload: FULL }],
  ['a tag, full size', { ethertype: 0x8100, payload: `00c90800${FULL}` }],
  ['two tags', { ethertype: 0x88a8, payload: '00c98100012c0800' }],
  ['hardly anything', { ethertype: 0x88b5, payload: '' }],
]);
const there = { host: terminal, mac: TERMINAL.mac };
const here = { host: server, mac: SERVER.mac };

/** The names of those that arrive, of all frames sent both ways. */
async function passing(): Promise<readonly string[]> {
  const names = [...FRAMES.keys()];
  const out = await arrivals(there, here, [...FRAMES.values()]);
  const back = await arrivals(here, there, [...FRAMES.values()]);
  return [
    ...names.filter((_, index) => out[index]).map((name) => `out: ${name}`),
    ...names.filter((_, index) => back[index]).map((name) => `back: ${name}`),
  ];
}
const ALL = ['out', 'back'].flatMap((way) => [...FRAMES.keys()].map((name) => `${way}: ${name}`));

await t.test('whatever comes in at an end goes out at the other, until it is detached', async (t) => {
  const { wires } = await plugged(t);
  t.same([...(await endsPlugged())].sort(), [...namesOf(wires)].sort());
  t.same(await passing(), ALL);
  await wires.detach();
  await lead(namesOf(wires), { butArp: true });
  t.same(await endsPlugged(), []);
  t.same(await passing(), [], 'nothing gets in or out');
  await wires.detach();
  await wires.close();
  t.same(await passing(), [], 'nor later');
});

/** What the kernel tells of the links of the switch's namespace whose names begin with `prefix`. */
function listen(t: Test, prefix: string): readonly string[] {
  const heard: string[] = [];
  const monitor = spawn('ip', ['-oneline', 'monitor', 'link'], { stdio: ['ignore', 'pipe', 'ignore'] });
  createInterface({ input: monitor.stdout }).on('line', (line) => {
    if (line.includes(` ${prefix}`)) heard.push(line);
  });
  t.teardown(() => monitor.kill('SIGKILL'));
  return heard;
}

/** Its answers come once in each turn of its loop: by the last of them it has taken note of all that was before the first. */
const TURNS = 4;

/** How often the switch has looked at all its ports. */
async function reconfigurations(): Promise<number> {
  let count = '';
  for (let turn = 0; turn < TURNS; turn++)
    count = (await run('ovs-appctl', ['coverage/read-counter', 'bridge_reconfigure'])).stdout;
  return Number(count);
}

let marks = 0;
/** Returns when the monitor has told of all that was before: of a link of this prefix that comes and goes. */
async function untilHeard(heard: readonly string[], prefix: string): Promise<readonly string[]> {
  const mark = `${prefix}m${marks++}`;
  const before = await waitFor('the monitor to listen', async () => {
    await run('ip', ['link', 'add', mark, 'type', 'bridge']);
    await run('ip', ['link', 'delete', mark]);
    return heard.some((line) => line.startsWith('Deleted') && line.includes(mark)) && [...heard];
  });
  return before.filter((line) => !line.includes(`${prefix}m`));
}

await t.test('the switch hears nothing of what is plugged in and out', async (t) => {
  const first = await plugged(t);
  const names = namesOf(first.wires);
  const [name] = names;
  const prefix = END_PORT_PREFIX;
  const heard = listen(t, prefix);
  t.same(await untilHeard(heard, prefix), [], 'nothing happens');
  const before = await reconfigurations();
  t.same(await passing(), ALL, 'control: it is in use');

  await first.wires.detach();
  await first.wires.close();
  const second = await wiring.create();
  t.same(namesOf(second), names, 'the same ends');
  await second.enter(await newCompartment(t));
  await second.confirm();
  await second.detach();
  await second.close();
  t.equal(await reconfigurations(), before, 'the switch has not looked');
  t.same(await untilHeard(heard, prefix), [], 'and there was nothing to be seen');

  const looked = await reconfigurations();
  await run('ip', ['link', 'set', name, 'down']);
  await run('ip', ['link', 'set', name, 'up']);
  await waitFor('control: an end that is set down is seen', async () => (await reconfigurations()) > looked);
  t.ok((await untilHeard(heard, prefix)).length > 0, 'control: and heard of');
});

await t.test('a jack leads to its own cord, never to a link that is called the same later', async (t) => {
  const { wires } = await plugged(t);
  const names = namesOf(wires);
  const [jack] = names;
  const path = await panelOf(jack);
  const panel = (...args: readonly string[]) => run('nsenter', [`--net=${path}`, '--', ...args]);
  t.same(await passing(), ALL, 'control');
  await panel('ip', 'link', 'delete', cordOf(jack));
  await wires.lost;
  t.pass('that a cord vanishes is noticed');

  const other = await newCompartment(t);
  await panel(
    'ip',
    'link',
    'add',
    cordOf(jack),
    'type',
    'veth',
    'peer',
    'name',
    'x',
    'netns',
    other.namespace,
  );
  // The kernel sends nothing of its own.
  await panel('ip', 'link', 'set', cordOf(jack), 'addrgenmode', 'none');
  await other.run('ip', ['link', 'set', 'x', 'addrgenmode', 'none']);
  await panel('ip', 'link', 'set', cordOf(jack), 'up');
  await other.run('ip', ['link', 'set', 'x', 'up']);
  const received = async (): Promise<number> => {
    const { stdout } = await other.run('ip', ['-json', '-stats', 'link', 'show', 'x']);
    const [link] = statsSchema.parse(JSON.parse(stdout));
    return link.stats64.rx.packets;
  };
  await lead(names, { butArp: true });
  const quiet = await received();
  t.same(await passing(), []);
  t.equal(await received(), quiet, 'nothing of it comes to another compartment');
  await disconnectLinks([innerSide(jack)], path);
  await connectLinks([[cordOf(jack), innerSide(jack)]], path);
  t.same(await passing(), []);
  await waitFor('control: connected it would have', async () => (await received()) > quiet);
  await wires.close();
});

await t.test('jacks into which something is plugged are not given to an instance', async (t) => {
  const wires = await wiring.create();
  const names = namesOf(wires);
  await wires.close();
  const free = await wiring.create();
  t.same(namesOf(free), names, 'control: free ones are');
  await free.close();
  const [one, other] = names;
  await connectLinks([[innerSide(one), innerSide(other)]], await panelOf(one));
  const next = await wiring.create();
  t.not(
    namesOf(next).some((name) => names.includes(name)),
    'they are replaced',
  );
  await next.close();
});
