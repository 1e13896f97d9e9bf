/**
 * What steering counts with in Open vSwitch: cached flows that overlap are not changed one by one, so that some go on leading where they led;
 * rules that look at another bit than those before have them removed.
 */
import '../lab/enter.js';
import t from 'tap';
import { lookingAgain } from '../../controller-app/pipeline/index.js';
import { run } from '../../shared/runtime/command.js';
import { frames, startInjector } from '../harness/hosts/index.js';
import { startMininet, startOpenVSwitch } from '../lab/index.js';

const BRIDGE = 's1';
const BEFORE = 100;
const AFTER = 200;
/** Of source and destination: while there are rules for them, cached flows look at more bits of the ports than afterwards. */
const PASSING_PORTS = [
  [12_001, 47_011],
  [33_333, 5_003],
  [60_007, 20_011],
  [25_013, 61_001],
  [41_999, 9_973],
  [7_001, 30_011],
] as const;
const FRAMES = 80;

await startOpenVSwitch();
const net = await startMininet();
const [terminal, server] = [net.host('h1'), net.host('h2')];
const injector = startInjector(terminal);
const inPort = (await output('ovs-vsctl', ['get', 'Interface', terminal.attachment.port, 'ofport'])).trim();

async function output(file: string, args: readonly string[], input?: string): Promise<string> {
  return (await run(file, args, input === undefined ? {} : { input })).stdout;
}

/** Lines of ovs-ofctl's bundles, all at once. */
async function change(...lines: readonly string[]): Promise<void> {
  await output('ovs-ofctl', ['-O', 'OpenFlow13', '--bundle', 'add-flows', BRIDGE, '-'], lines.join('\n'));
}

/** Settles when the switch has looked at every cached flow since. */
async function lookedThrough(): Promise<void> {
  for (let each = 0; each < 2; each += 1) await output('ovs-appctl', ['revalidator/wait']);
}

async function leadingTo(vlan: number): Promise<number> {
  const flows = await output('ovs-appctl', ['dpctl/dump-flows']);
  return flows.split('\n').filter((flow) => flow.includes(`push_vlan(vid=${vlan}`)).length;
}

/** The same ports in each run, by a multiplier that goes through all of them. */
function datagrams(seed: number): Buffer[] {
  return Array.from({ length: FRAMES }, (_, index) => {
    const port = (step: number): number => 1 + (((seed + index) * step) % 65_521);
    return frames.udp(
      { from: terminal.mac, to: server.mac },
      { source: terminal.ipv4, destination: server.ipv4 },
      { sourcePort: port(25_931), destinationPort: port(40_127), payload: Buffer.alloc(8) },
    );
  });
}

const entry = (look: string, register: number): string =>
  `table=0,in_port=${inPort}${look} actions=set_field:${register}->reg1,goto_table:1`;

/** How many cached flows still lead to the old place when the rule of the port has long been replaced. */
async function left(looks: readonly [before: string, after: string]): Promise<number> {
  const passing = PASSING_PORTS.map(([from, to]) => `table=1,priority=300,udp,tp_src=${from},tp_dst=${to}`);
  const lead = (register: number, vlan: number): string =>
    `table=2,reg1=${register} actions=push_vlan:0x8100,set_field:${0x1000 + vlan}->vlan_vid,output:1`;
  await change('delete');
  await lookedThrough();
  await change(
    entry(looks[0], 1),
    'table=1,priority=300,udp,tp_src=68,tp_dst=67 actions=drop',
    'table=1,priority=290,udp,tp_dst=68 actions=drop',
    'table=1,priority=5 actions=goto_table:2',
    ...[lead(1, BEFORE), lead(2, AFTER)],
    ...passing.map((match) => `${match} actions=drop`),
  );
  await injector.send(datagrams(1));
  await lookedThrough();
  await change(...passing.map((match) => `delete_strict ${match}`));
  await lookedThrough();
  await injector.send(datagrams(10_000));
  await lookedThrough();
  t.ok((await leadingTo(BEFORE)) > FRAMES / 4, 'enough flows are cached');
  await change(`delete_strict table=0,in_port=${inPort}${looks[0]}`, entry(looks[1], 2));
  await lookedThrough();
  return leadingTo(BEFORE);
}

/** As ovs-ofctl writes it. */
function look(turn: number): string {
  const { pkt_mark } = lookingAgain(turn);
  if (typeof pkt_mark !== 'object' || !('mask' in pkt_mark)) throw new Error('it looks at no bit');
  return `,pkt_mark=${pkt_mark.value}/${pkt_mark.mask}`;
}

t.test('rules that look at another bit: no cached flow leads where it led', async (t) => {
  t.equal(await left([look(1), look(2)]), 0);
});

t.test('control: with rules that look at the same as before some do', async (t) => {
  t.ok((await left(['', ''])) > 0);
});

t.teardown(async () => {
  await injector.close();
  await net.close();
});
