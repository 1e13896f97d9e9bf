/**
 * The number of an end's port is never another port's: a port that asks Open vSwitch for a number pushes out one that did not ask for its own.
 */
import '../lab/enter.js';
import t from 'tap';
import { SwitchPorts } from '../../edge-agent/wiring/veth/switch-ports.js';
import { run } from '../../shared/runtime/command.js';
import { startOpenVSwitch } from '../lab/index.js';

const BRIDGE = 'br0';

await startOpenVSwitch();
await run('ovs-vsctl', ['add-br', BRIDGE, '--', 'set', 'bridge', BRIDGE, 'datapath_type=netdev']);

async function link(name: string): Promise<void> {
  await run('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
}

async function numberOf(name: string): Promise<number> {
  return Number((await run('ovs-vsctl', ['get', 'interface', name, 'ofport'])).stdout);
}

/** A host's port that asks for this number, and some other change of the bridge after it. */
async function hostAsksFor(name: string, number: number): Promise<void> {
  for (const each of [name, `${name}o`]) await link(each);
  const asking = ['--', 'set', 'interface', name, `ofport_request=${number}`];
  await run('ovs-vsctl', ['add-port', BRIDGE, name, ...asking]);
  await run('ovs-vsctl', ['add-port', BRIDGE, `${name}o`]);
}

t.test('an end keeps its number, whatever other ports ask for', async (t) => {
  const names = ['pg01abt1', 'pg01abn1', 'pg01abt2', 'pg01abn2'];
  const ports = new SwitchPorts({ agent: 'edge-1', bridge: BRIDGE });
  for (const name of names) await link(name);
  await ports.add(names);
  const before = await Promise.all(names.map(numberOf));
  t.equal(new Set(before).size, names.length);
  t.ok(
    before.every((number) => number >= 0x8000 && number < 0xff00),
    before.join(', '),
  );
  for (const [index, number] of before.slice(0, 2).entries()) await hostAsksFor(`h${index}`, number);
  t.same(await Promise.all(names.map(numberOf)), before);
  await ports.remove(names.slice(0, 2));
  await ports.add(names.slice(0, 2));
  t.same((await Promise.all(names.map(numberOf))).slice(2), before.slice(2));
});

t.test('control: a port that did not ask for its number loses it to one that does', async (t) => {
  await link('plain');
  await run('ovs-vsctl', ['add-port', BRIDGE, 'plain']);
  const before = await numberOf('plain');
  await hostAsksFor('host', before);
  t.equal(await numberOf('host'), before);
  t.not(await numberOf('plain'), before);
});
