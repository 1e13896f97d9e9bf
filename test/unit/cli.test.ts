/**
 * The command line: what it prints, what it asks the controller, how it ends. In process against a controller without a network,
 * and as the program that a user starts.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { runCli } from '../../controller-app/cli/program.js';
import { duration, table } from '../../controller-app/cli/table.js';
import { startHttp } from '../../controller-app/http/server.js';
import { openStore } from '../../controller-app/store/journal-store.js';
import { dpid } from '../../shared/domain/domain.js';
import { epoch, type FirewallState, firewallStateSchema } from '../../shared/firewall/state.js';
import { silentLog } from '../../shared/runtime/log.js';
import { FakeController, PHONE, phaseEvent } from '../fixtures/fake-controller.js';
import { sourceFile } from '../lab/project.js';
import { waitFor } from '../lab/wait.js';

const EXAMPLES = sourceFile('scripts', 'examples');
const MAIN = fileURLToPath(new URL('../../controller-app/main.js', import.meta.url));

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Fixture {
  readonly fake: FakeController;
  readonly api: string;
  readonly folder: string;
  run(...args: string[]): Promise<Result>;
}

async function paguro(
  args: string[],
  env: Record<string, string> = {},
  interrupted = new AbortController().signal,
) {
  let out = '';
  let err = '';
  const code = await runCli(args, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env,
    interrupted,
  });
  return { code, out, err };
}

async function start(t: Test): Promise<Fixture> {
  const fake = new FakeController();
  const folder = await mkdtemp(join(tmpdir(), 'paguro-'));
  const socket = join(folder, 's');
  const server = await startHttp(fake, { host: '127.0.0.1', port: 0, socket }, silentLog);
  t.teardown(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });
  const api = `unix:${socket}`;
  return { fake, api, folder, run: (...args) => paguro(args, { PAGURO_API: api }) };
}

t.test('status', async (t) => {
  const { run } = await start(t);
  const { code, out, err } = await run('status');
  t.equal(code, 0);
  t.equal(err, '');
  t.equal(
    out,
    `Paguro 0.0.0, running since 2030-01-01 12:00:00 UTC

SWITCH  DATAPATH ID       CONNECTED
s1      0000000000000001  yes
s2      0000000000000002  no

DOMAIN  KIND         SERVES  INSTANCES  HEALTH
sdn-1   openflow-ct  s1      1          ok
edge-1  remote       s2      0          no agent is connected: start paguro-agent

TERMINAL  ATTACHED AT  ACTIVE IN  EPOCH  POLICY  PLACEMENT  OTHER INSTANCES
alice     s1 s1-eth2   sdn-1          1  phone   follow     -

TERMINAL  ADDRESS      BY
alice     10.0.0.1     configuration
          10.0.0.150   DHCP, until 2030-01-01 12:00:00 UTC
          fd00::1      configuration
          fd00::b4d:1  SLAAC
`,
  );
  const asJson = await run('status', '--json');
  t.match(JSON.parse(asJson.out), { version: '0.0.0', terminals: [{ name: 'alice' }] });
});

t.test('state', async (t) => {
  const { run } = await start(t);
  const { code, out } = await run('state', 'alice');
  t.equal(code, 0);
  t.equal(
    out,
    `alice: epoch 1, change 1,234, 2 connections

ADDRESS      BY
10.0.0.1     configuration
10.0.0.150   DHCP, until 2030-01-01 12:00:00 UTC
fd00::1      configuration
fd00::b4d:1  SLAAC

   RULE              DIRECTION  ACTION  MATCHES                             PACKETS
1  no smtp           outbound   drop    tcp remote port 25, 465-466               3
2  ssh               inbound    accept  tcp from fd00::2/128 local port 22        0
   default outbound  outbound   accept  all else                                  0
   default inbound   inbound    drop    all else                                  0

PROTOCOL  TERMINAL            REMOTE       STATE          IDLE LEFT
tcp       10.0.0.1:40000  ->  10.0.0.2:80  established    432,000 s
icmp      fd00::1         <-  fd00::2      replied, id 7       30 s
`,
  );
  const state: FirewallState = firewallStateSchema.parse(
    JSON.parse((await run('state', 'alice', '--json')).out),
  );
  t.equal(state.sequence, 1234, 'what --json prints can be imported');
});

t.test('handover', async (t) => {
  const { fake, run } = await start(t);
  const done = await run('handover', 'alice', '--to', 'edge-1', '--omit-connections');
  t.equal(done.code, 0);
  t.equal(
    done.out,
    `alice's firewall moved from sdn-1 to edge-1
  PHASE      TIME
  prepare  812 ms
  switch   0.4 ms
  total    1.51 s
  500 connections, 8,000 bytes of state, 320 bytes of changes; epoch 1 to 2
`,
  );
  t.same(fake.asked, [{ terminal: 'alice', to: 'edge-1', omitConnections: true }]);
  fake.outcome = 'undone';
  const undone = await run('handover', 'alice', '--to', 'edge-1');
  t.equal(undone.code, 1, 'a handover that was undone is a failure');
  t.match(
    undone.out,
    /stayed in sdn-1: the handover to edge-1 was undone\n {2}Docker is not there: start dockerd\n/,
  );
  const asJson = await run('handover', 'alice', '--to', 'edge-1', '--json');
  t.equal(asJson.code, 1);
  t.match(JSON.parse(asJson.out), { outcome: 'undone', connections: 500 });
});

t.test('what went wrong, and what there is', async (t) => {
  const { api, run } = await start(t);
  t.same(await run('state', 'bob'), { code: 1, out: '', err: 'there is no terminal bob; there are alice\n' });
  t.same(await run('handover', 'alice', '--to', 'mars'), {
    code: 1,
    out: '',
    err: 'there is no domain mars; there are sdn-1, edge-1\n',
  });
  const none = await paguro(['status', '--api', `${api}-none`]);
  t.equal(none.code, 1);
  t.match(
    none.err,
    /no controller answers at unix:.*-none: start one with "paguro controller --config FILE", or name its address with --api/,
  );
  const before = await paguro(['--api', `${api}-none`, 'status']);
  t.equal(before.err, none.err, '--api before or after the command');
});

t.test('a command that is wrongly written ends with 2', async (t) => {
  const { run } = await start(t);
  const cases: [string[], RegExp][] = [
    [[], /Usage: paguro/],
    [['stat'], /unknown command 'stat'.*\(Did you mean (one of )?stat/s],
    [['handover', 'alice'], /required option '--to <domain>' not specified/],
    [['handover', '--to', 'edge-1'], /missing required argument 'terminal'/],
    [['state', 'alice', 'bob'], /too many arguments/],
    [['status', '--jsn'], /unknown option '--jsn'/],
    [['--api', '127.0.0.1', 'status'], /127.0.0.1 is no address of the API: write one such as/],
    [['controller'], /required option '--config <file>' not specified/],
    [['policy'], /Usage: paguro policy/],
  ];
  for (const [args, message] of cases) {
    const { code, err } = await run(...args);
    t.equal(code, 2, args.join(' '));
    t.match(err, message);
  }
  const help = await run('--help');
  t.equal(help.code, 0);
  t.match(help.out, /controller.*status.*state.*handover.*watch.*policy/s);
});

t.test('policies', async (t) => {
  const { fake, folder, run } = await start(t);
  const phone = join(EXAMPLES, 'policy-phone.yaml');
  const right = await run('policy', 'check', phone);
  t.equal(right.code, 0);
  t.match(right.out, /policy-phone.yaml is right: policy phone, 9 rules\n/);
  t.match(right.out, /2 {2}no smb +outbound {3}drop {4}tcp remote port 139, 445\n/);
  t.notMatch(right.out, /never decides/);

  const wrong = join(folder, 'wrong.yaml');
  await writeFile(wrong, 'name: x\ndefaults: {outbound: accept, inbound: dorp}\nrules: []\n');
  const told = `${wrong}:2: defaults.inbound: write one of accept, drop, reject; found "dorp"\n`;
  t.same(await run('policy', 'check', wrong), { code: 1, out: '', err: told });
  t.same(await run('policy', 'set', 'alice', wrong), { code: 1, out: '', err: told });
  t.equal(fake.policy, PHONE, 'a wrong policy is not sent');
  t.match(await run('policy', 'check', join(folder, 'none')), { code: 1, err: /there is no such file/ });

  const shadowed = join(folder, 'shadowed.yaml');
  const rules =
    '[{name: all, direction: outbound, action: accept}, {name: web, direction: outbound, action: drop, protocol: tcp}]';
  await writeFile(shadowed, `name: x\ndefaults: {outbound: accept, inbound: drop}\nrules: ${rules}\n`);
  t.match((await run('policy', 'check', shadowed)).out, /rule "web" never decides: "all" before it/);

  t.same(await run('policy', 'set', 'alice', phone), {
    code: 0,
    out: 'alice has policy phone now\n',
    err: '',
  });
  t.equal(fake.policy.rules.length, 9);
  t.match(await run('policy', 'set', 'bob', phone), { code: 1, err: /there are alice/ });
});

t.test('placement', async (t) => {
  const { fake, run } = await start(t);
  t.match(await run('placement', 'alice', 'stay'), { code: 0, out: /stays where it is/ });
  t.equal(fake.placement, 'stay');
  t.match(await run('placement', 'alice', 'follow'), { code: 0, out: /follows it/ });
  t.equal(fake.placement, 'follow');
  t.match(await run('placement', 'alice', 'fly'), { code: 2, err: /Allowed choices are follow, stay/ });
  t.match(await run('placement', 'bob', 'stay'), { code: 1, err: /there are alice/ });
});

t.test('watch prints what happens until Ctrl-C', async (t) => {
  const { fake, api } = await start(t);
  const stop = new AbortController();
  let out = '';
  const lines: string[] = [];
  const watching = runCli(['watch', '--api', api], {
    out: (text) => {
      out += text;
      lines.push(text);
      if (lines.length === 3) stop.abort();
    },
    err: () => {},
    env: {},
    interrupted: stop.signal,
  });
  await waitFor('watch listens', () => fake.happenings.listeners > 0);
  fake.happenings.publish({
    kind: 'attachment',
    terminal: 'alice',
    attachment: { switch: 's2', port: 's2-eth2' },
    at: Date.UTC(2030, 0, 1, 12, 30),
  });
  fake.happenings.publish(phaseEvent('prepare'));
  fake.handover('alice', { to: 'edge-1', omitConnections: false });
  t.equal(await watching, 0);
  t.match(out, /^12:30:00\.000 {2}alice {2}attached at s2 s2-eth2\n/);
  t.match(out, /\n12:00:00\.000 {2}alice {2}sdn-1 -> edge-1 {2}prepare {5}12 ms {2}4,096 bytes\n/);
});

t.test('tables', async (t) => {
  t.equal(
    table(
      ['A', 'B'],
      [
        ['x', '10'],
        ['long', '9'],
      ],
      { right: [1], indent: 1 },
    ),
    ' A      B\n x     10\n long   9',
  );
  t.equal(table(['A'], []), 'A');
  t.equal(table(['A'], [['evil\u001b[2J\n']]), 'A\nevil?[2J?', 'nothing controls the terminal');
  t.same([0, 0.41, 9.9, 10, 812.4, 1512.8].map(duration), [
    '0.0 ms',
    '0.4 ms',
    '9.9 ms',
    '10 ms',
    '812 ms',
    '1.51 s',
  ]);
});

/** Runs the program itself. `onOut` may send it signals. */
async function program(
  args: string[],
  api: string,
  onOut: (out: string, kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Result> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, PAGURO_API: api },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
    onOut(out, (signal) => void child.kill(signal));
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code: code ?? -1, out, err };
}

t.test('the program itself', async (t) => {
  const { fake, api } = await start(t);
  t.match(await program(['status'], api), { code: 0, out: /^Paguro 0\.0\.0/, err: '' });
  t.match(await program(['state', 'bob'], api), {
    code: 1,
    out: '',
    err: 'there is no terminal bob; there are alice\n',
  });
  t.match(await program(['nonsense'], api), { code: 2, out: '' });

  const watching = program(['watch', '--json'], api, (_, kill) => kill('SIGINT'));
  await waitFor('watch listens', () => fake.happenings.listeners > 0);
  fake.happenings.publish(phaseEvent('haul'));
  const { code, out } = await watching;
  t.equal(code, 0, 'Ctrl-C ends watching, which is no failure');
  t.same(JSON.parse(out), phaseEvent('haul'));
});

t.test('a controller with a wrong configuration does not start and says why', async (t) => {
  const { folder, api } = await start(t);
  const config = join(folder, 'c.yaml');
  await writeFile(config, 'switches: []\n');
  const { code, out, err } = await program(['controller', '--config', config], api);
  t.equal(code, 1);
  t.equal(out, '');
  t.equal(
    err,
    `${config}:1: switches: write at least 1 entries; found a list\n${config}:1: domains: is missing: write a list\n`,
  );
});

t.test('store: what is kept is shown, backed up while a controller runs, and put back', async (t) => {
  const { folder, run } = await start(t);
  const config = join(folder, 'controller.yaml');
  await writeFile(
    config,
    'store: kept\nswitches: [{name: s1, dpid: 1}]\ndomains: [{name: sdn-1, kind: openflow-ct, switch: s1}]\n',
  );
  t.match(await run('store', 'show', '--config', config), {
    code: 1,
    err: /there is no store at .*\/kept: /,
  });
  const store = await openStore({ folder: join(folder, 'kept'), log: silentLog });
  await store.terminal('alice').setEpoch(41);
  await store.terminal('alice').setPlacement('stay');
  store.terminal('alice').setActive({
    domain: 'edge-1',
    epoch: epoch(40),
    number: 3,
    ends: { kind: 'pipeline', dpid: dpid(1), instance: 3 },
  });
  await store.flushed();

  const shown = await run('store', 'show', '--config', config);
  t.equal(shown.code, 0);
  t.match(shown.out, /kept: \d+ bytes/);
  t.match(shown.out, /alice +edge-1 +41 +its file +stay +- +0/);
  const json = JSON.parse((await run('store', 'show', '--json', '--config', config)).out);
  t.match(json, { terminals: [{ name: 'alice', lastEpoch: 41, placement: 'stay' }], instances: [] });

  const file = join(folder, 'backup');
  for (const time of ['first', 'again'])
    t.match(
      await run('store', 'backup', file, '--config', config),
      { code: 0, out: /backup has all that was kept/ },
      `${time}: an earlier backup may go`,
    );
  t.match(await run('store', 'restore', file, '--config', config), {
    code: 1,
    err: new RegExp(`in use by process ${process.pid}: stop that first`),
  });
  await store.terminal('alice').setEpoch(50);
  await store.close();
  t.match(await run('store', 'restore', file, '--config', config), {
    code: 0,
    out: /kept has what was in .*backup\nwhat it had before is in .*kept-before-\d{8}T\d{6}\n/,
  });
  const restored = JSON.parse((await run('store', 'show', '--json', '--config', config)).out);
  t.equal(restored.terminals[0].lastEpoch, 41);

  await writeFile(file, 'something else');
  t.match(await run('store', 'restore', file, '--config', config), {
    code: 1,
    err: /backup cannot be used: /,
  });
  t.match(await run('store', 'restore', join(folder, 'none'), '--config', config), {
    code: 1,
    err: /none cannot be read \(.*\): name a file that "paguro store backup" wrote/,
  });
  const files = {
    config,
    folder,
    journal: join(folder, 'kept', 'journal-00000009'),
    inNone: join(folder, 'none', 'x'),
  };
  const kept = await readFile(config, 'utf8');
  for (const [name, says] of [
    ['config', /is there already, and no backup: nothing was written\. Name another file/],
    ['folder', /is there already, and no backup/],
    ['journal', /would be a file of the store itself/],
    ['inNone', /cannot be written \(.*\): name a file in a folder that you may write to/],
  ] as const) {
    t.match(await run('store', 'backup', files[name], '--config', config), { code: 1, err: says }, name);
  }
  t.equal(await readFile(config, 'utf8'), kept, 'nothing is lost by a slip');
  const names = await readdir(folder);
  t.notOk(names.some((name) => name.endsWith('.tmp')));
  await writeFile(config, (await readFile(config, 'utf8')).replace('store: kept', 'store: false'));
  t.match(await run('store', 'backup', file, '--config', config), { code: 1, err: /says "store: false"/ });
});
