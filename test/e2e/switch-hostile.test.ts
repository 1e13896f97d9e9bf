/**
 * Real switches while the controller is attacked on the same port: they stay connected, echoes go there and back, rules are set, and the attackers become
 * nothing. Both families.
 */
import '../lab/enter.js';
import { readdirSync } from 'node:fs';
import t from 'tap';
import { Core } from '../../controller-app/core/host.js';
import type { PluginHost, Rule } from '../../controller-app/core/plugin.js';
import { logRefusal, OpenFlowListener, type Switch } from '../../controller-app/switch/index.js';
import { dpid } from '../../shared/domain/domain.js';
import { realClock } from '../../shared/runtime/clock.js';
import { run } from '../../shared/runtime/command.js';
import { type Log, silentLog } from '../../shared/runtime/log.js';
import { QuietLog } from '../../shared/runtime/quiet-log.js';
import { startAttack } from '../fixtures/hostile-peers.js';
import { startOpenVSwitch, waitFor } from '../lab/index.js';

t.setTimeout(180_000);

/** A bridge for each family. */
const SWITCHES = [
  { bridge: 'br4', id: 0xc4n, target: 'tcp:127.0.0.1' },
  { bridge: 'br6', id: 0xc6n, target: 'tcp:[::1]' },
] as const;
const PEERS = 1_000;
/** Until the switches had so many changes, and the attackers so many connections. */
const CHANGES = 100;
const ATTEMPTS = 3_000;
const MAX_GROWTH_BYTES = 400 * 2 ** 20;

const ovs = await startOpenVSwitch();
let host: PluginHost | undefined;
const core = new Core(
  [
    {
      name: 'test',
      tables: [{ name: 'only', stage: 'classify' }],
      start: (given) => {
        host = given;
      },
    },
  ],
  silentLog,
);
await core.start();
const ids = SWITCHES.map(({ id }) => dpid(id));
const listener = new OpenFlowListener({
  ...{ host: '::', port: 0, handshakeTimeoutMs: 2_000, maxStrangers: 64 },
  accepts: (id) => ids.includes(id),
});
const arrived: Switch[] = [];
listener.on('switch', (sw) => {
  arrived.push(sw);
  void core.adopt(sw);
});
const lines: object[] = [];
const quiet = new QuietLog({ warn: (line: object) => lines.push(line) } as unknown as Log, realClock);
const reasons = new Map<string, number>();
listener.on('refused', (error, peer) => {
  const reason = 'code' in error ? String(error.code) : error.name;
  reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  logRefusal(quiet, error, peer);
});
const { port } = await listener.listen();

t.teardown(async () => {
  await core.close();
  quiet.close();
  await listener.close();
  await ovs.close();
});

const rule = (priority: number, eth_type: number): Rule => ({
  ...{ table: 'only', priority, match: { eth_type }, instructions: [] },
});
const countOf = async (bridge: string): Promise<number> =>
  Number(
    /flow_count=(\d+)/.exec(
      (await run('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-aggregate', bridge])).stdout,
    )?.[1],
  );
const openFiles = (): number => readdirSync('/proc/self/fd').length;

t.test('switches notice nothing of an attack, and nobody else becomes a switch', async (t) => {
  for (const { bridge, id, target } of SWITCHES)
    await run('ovs-vsctl', [
      ...[
        '--timeout=10',
        'add-br',
        bridge,
        '--',
        'set',
        'bridge',
        bridge,
        'datapath_type=netdev',
        'fail_mode=secure',
      ],
      ...['protocols=OpenFlow13', `other-config:datapath-id=${id.toString(16).padStart(16, '0')}`],
      ...['other-config:disable-in-band=true', '--', 'set-controller', bridge, `${target}:${port}`],
    ]);
  await waitFor('both switches', () => core.switches().length === 2);
  const [before, filesBefore] = [process.memoryUsage().rss, openFiles()];
  const attack = startAttack({
    hosts: ['127.0.0.1', '::1'],
    port,
    peers: PEERS,
    victims: SWITCHES.map(({ id }) => Number(id)),
  });
  const refused = (): number => [...reasons.values()].reduce((sum, count) => sum + count, 0);
  await waitFor('the attack', () => refused() > 100);

  let worst = 0;
  let growth = 0;
  let changes = 0;
  for (; changes < CHANGES || refused() < ATTEMPTS; changes++) {
    for (const sw of arrived) {
      const start = performance.now();
      await host?.setRules(sw.dpid, `change ${changes % CHANGES}`, [
        rule(changes % CHANGES, 0x0800),
        rule(changes % CHANGES, 0x86dd),
      ]);
      await sw.request({ type: 'echo_request', data: Buffer.from('still there?') });
      worst = Math.max(worst, performance.now() - start);
    }
    growth = Math.max(growth, process.memoryUsage().rss - before);
  }
  for (const { bridge } of SWITCHES)
    t.equal(await countOf(bridge), 2 * CHANGES, `every rule is in ${bridge}`);
  t.equal(arrived.length, 2, 'nobody else became a switch, and none had to come again');
  t.notOk(arrived.some((sw) => sw.closed));

  const report = await attack.stop();
  t.comment(JSON.stringify({ report, reasons: Object.fromEntries(reasons), lines: lines.length }));
  t.comment(`${changes} changes; worst change and echo ${worst.toFixed(0)} ms; memory +${growth >> 20} MiB`);
  for (const error of ['0/0', '0/1', '1/0', '1/1', '1/6'])
    t.ok((report.errors[error] ?? 0) > 0, `error ${error} was told`);
  for (const reason of ['protocol', 'version', 'duplicate', 'unknown-switch', 'crowded', 'closed'])
    t.ok((reasons.get(reason) ?? 0) > 0, `refused: ${reason}`);
  t.ok(growth < MAX_GROWTH_BYTES, `memory grew by ${growth >> 20} MiB at most`);
  t.ok(lines.length < refused() / 10, `${lines.length} lines in the log of ${refused()} refusals`);
  await waitFor('all their sockets to be closed', () => openFiles() <= filesBefore + 2);
});

t.test('when it is over, a switch that comes is taken as ever', async (t) => {
  await run('ovs-appctl', ['bridge/reconnect', 'br6']);
  await waitFor('it is back', () => arrived.length === 3 && core.switches().length === 2);
  t.equal(arrived[2]?.dpid, ids[1]);
});
