/**
 * Handovers one at a time: on demand, undone, refused, and what stays untouched meanwhile. One lab, one terminal.
 */
import '../lab/enter.js';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { cachedImage, defaultCacheDirectory } from '../../edge-agent/runtime/docker/image-cache.js';
import { realClock, sleep } from '../../shared/runtime/clock.js';
import { CommandError, run } from '../../shared/runtime/command.js';
import { endsPlugged } from '../fixtures/ends-plugged.js';
import { fatesFromNow } from '../harness/fates-from-now.js';
import { startTraffic } from '../harness/hosts/index.js';
import { Paguro } from '../harness/paguro.js';
import { currentLab, waitFor } from '../lab/index.js';

t.setTimeout(300_000);

const PORT = { both: 5001, serverOnly: 5002 } as const;
const MAIN = fileURLToPath(new URL('../../controller-app/main.js', import.meta.url));
/** Of four connections each, opened while a firewall moves. */
const MAX_BATCHES = 20;
const REFUSING_IMAGE = 'paguro/refusing:test';

// Without spares: a firewall that is built here is built now, or fails to be.
const paguro = await Paguro.start({ agentYaml: `docker:\n  image: ${REFUSING_IMAGE}\nspares: 0` });
const [client, server] = [startTraffic(paguro.host('h1')), startTraffic(paguro.host('h2'))];
t.teardown(async () => {
  await Promise.all([client.close(), server.close()]);
  await paguro.close();
});

/** The CLI as a user runs it. */
function cli(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, [MAIN, '--api', `unix:${currentLab().apiSocket}`, ...args], {
    timeoutMs: 60_000,
  });
}

async function failing(work: Promise<unknown>): Promise<CommandError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof CommandError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

async function open(): Promise<void> {
  const both = ['ipv4', 'ipv6'] as const;
  await client.connect(
    both.flatMap((family) =>
      (
        [
          ['both', PORT.both],
          ['server-only', PORT.serverOnly],
        ] as const
      ).map(([mode, port]) => ({
        address: paguro.host('h2')[family],
        port,
        mode,
      })),
    ),
  );
}

/** Every connection opened until now moves bytes from now on. */
async function allAlive(t: Test): Promise<void> {
  const all = await fatesFromNow(client, server);
  const others = all.flatMap((fate, place) => (fate === 'survived' ? [] : [`${place}: ${fate}`]));
  t.ok(all.length > 0, `${all.length} connections`);
  t.same(others, [], 'all of them live');
}

/** An image whose iptables-restore lacks the match that tells the direction: a real refusal, on cue. */
async function makeRefusingImage(): Promise<void> {
  const image = await cachedImage(defaultCacheDirectory());
  if (!image) throw new Error('no image: run "npm run setup"');
  const folder = join('/run', 'refusing-image');
  await run('mkdir', ['-p', folder]);
  await run('tar', ['-x', '-f', image.file, '-C', folder]);
  const { stdout } = await run('find', [folder, '-name', 'libxt_physdev.so', '-print', '-delete']);
  if (stdout === '') throw new Error('the image has no libxt_physdev.so to take away');
  await run('tar', ['-c', '-f', '/run/refusing.tar', '-C', folder, '.']);
  await run('docker', ['import', '/run/refusing.tar', REFUSING_IMAGE]);
}

async function restartAgent(edit: (yaml: string) => string): Promise<void> {
  await paguro.stopAgent();
  const file = join(currentLab().folder, 'agent.yaml');
  await writeFile(file, edit(await readFile(file, 'utf8')));
  await paguro.startAgent();
}

await server.listen({
  tcp: [
    { port: PORT.both, mode: 'both' },
    { port: PORT.serverOnly, mode: 'server-only' },
  ],
});
await paguro.attach('alice', 'h1', 'sdn-1');
await open();

await t.test('image missing: undone before the switch, and the error says what to do', async (t) => {
  const report = await paguro.handover('alice', 'edge-1');
  t.equal(report.outcome, 'undone');
  t.match(report.error, /image/i);
  t.match(report.error, /npm run setup|docker/i);
  t.notOk(report.phases.some(({ name }) => name === 'switch'));
  t.equal((await paguro.terminal('alice')).active?.domain, 'sdn-1');
  await allAlive(t);
});

await t.test('a restore is refused: undone, nothing is left of the new instance', async (t) => {
  await makeRefusingImage();
  const error = await failing(cli('handover', 'alice', '--to', 'edge-1'));
  t.equal(error.exitCode, 1);
  t.match(error.message, /iptables.*restore refused/);
  t.equal((await paguro.terminal('alice')).active?.domain, 'sdn-1');
  t.same((await paguro.domain('edge-1'))?.instances, []);
  t.equal((await run('docker', ['ps', '-aq'])).stdout, '', 'no container is left');
  t.same(await endsPlugged(), [], 'no end of it is plugged in');
  await allAlive(t);
});

await t.test('the terminal moves while the edge cannot have its firewall: hauled, and alive', async (t) => {
  const seen = (await paguro.api.handovers()).length;
  await paguro.move('h1', 's2');
  const report = await paguro.handoverAfter('alice', seen);
  t.equal(report.outcome, 'undone');
  t.equal(report.cause, 'attachment');
  const status = await paguro.terminal('alice');
  t.equal(status.attachment?.switch, 's2');
  t.equal(status.active?.domain, 'sdn-1');
  await allAlive(t);
});

await t.test('an agent that can comes back: the firewall follows at last', async (t) => {
  await restartAgent((yaml) => yaml.replace(/^docker:\n.*$/m, ''));
  await paguro.settled('alice', 'edge-1');
  await allAlive(t);
  await open();
  await allAlive(t);
});

await t.test('on demand by the command line, wherever the terminal is', async (t) => {
  const { stdout } = await cli('handover', 'alice', '--to', 'sdn-1');
  t.match(stdout, /edge-1.*sdn-1/s);
  const status = await paguro.terminal('alice');
  t.equal(status.active?.domain, 'sdn-1');
  t.equal(status.attachment?.switch, 's2', 'the terminal itself has not moved');
  await allAlive(t);
  const again = await failing(cli('handover', 'alice', '--to', 'sdn-1'));
  t.match(again.message, /active in sdn-1 already/);
  t.match((await failing(cli('handover', 'alice', '--to', 'nowhere'))).message, /there are: sdn-1, edge-1/);
  t.match((await failing(cli('handover', 'nobody', '--to', 'edge-1'))).message, /alice/);
});

await t.test('connections opened while the firewall moves live on, there and back', async (t) => {
  for (const to of ['edge-1', 'sdn-1']) {
    let over = false;
    const moving = paguro.handover('alice', to).finally(() => {
      over = true;
    });
    let batches = 0;
    for (; !over && batches < MAX_BATCHES; batches += 1) {
      await open();
      await sleep(realClock, 30);
    }
    const report = await moving;
    t.equal(report.outcome, 'done', report.error ?? 'done');
    t.ok(batches > 3, `${4 * batches} connections opened meanwhile`);
    t.ok(report.deltaBytes > 0, `${report.deltaBytes} bytes of changes followed the snapshot`);
    await allAlive(t);
  }
});

await t.test('a wrong policy file is refused; the policy in force stays', async (t) => {
  const file = join(currentLab().folder, 'wrong.yaml');
  await writeFile(
    file,
    'name: wrong\ndefaults: { outbound: accept, inbound: drop }\nrules:\n  - { name: a, direction: sideways, action: drop }\n',
  );
  const error = await failing(cli('policy', 'set', 'alice', file));
  t.match(error.message, /wrong\.yaml/);
  t.match(error.message, /direction/);
  t.equal((await paguro.api.state('alice')).policy.name, 'phone');
  await allAlive(t);
});

await t.test('the controller is killed and comes back: connections at the edge live on', async (t) => {
  t.equal((await paguro.handover('alice', 'edge-1')).outcome, 'done');
  const { epoch } = (await paguro.terminal('alice')).active ?? { epoch: 0 };
  await paguro.killController();
  await paguro.startController();
  const status = await paguro.settled('alice', 'edge-1');
  t.equal(status.active?.epoch, epoch, 'the instance itself goes on');
  await allAlive(t);
  await open();
  await allAlive(t);
});

await t.test('the agent is killed and comes back: what the controller knows lives on', async (t) => {
  const { epoch } = (await paguro.terminal('alice')).active ?? { epoch: 0 };
  // After its own restart the controller knows what happened meanwhile when the agent has come back and told it.
  await waitFor('the agent is back', async () => (await paguro.domain('edge-1'))?.ok ?? false);
  await open();
  await allAlive(t);
  await paguro.killAgent();
  await paguro.startAgent();
  await waitFor(
    'another firewall is active',
    async () => ((await paguro.terminal('alice')).active?.epoch ?? 0) > epoch,
    { timeoutMs: 30_000 },
  );
  await allAlive(t);
  await open();
  await allAlive(t);
  if ((await paguro.terminal('alice')).active?.domain === 'edge-1')
    t.equal((await paguro.handover('alice', 'sdn-1')).outcome, 'done');
  await allAlive(t);
});

await t.test('Docker goes away: the handover is undone, and the agent says what to do', async (t) => {
  await paguro.docker?.close();
  const report = await paguro.handover('alice', 'edge-1');
  t.equal(report.outcome, 'undone');
  t.match(report.error, /docker/i);
  t.equal((await paguro.terminal('alice')).active?.domain, 'sdn-1');
  await allAlive(t);
});

await t.test('rules of another controller stay; a switch that comes back has ours', async (t) => {
  const ofctl = (...args: string[]) => run('ovs-ofctl', ['-O', 'OpenFlow13', '--no-names', ...args]);
  /** Priority, match and actions of each flow: not how old it is. */
  const flows = async (filter: string): Promise<readonly string[]> =>
    (await ofctl('dump-flows', 's1', filter)).stdout
      .split('\n')
      .flatMap((line) => /priority=.*$/.exec(line)?.[0] ?? [])
      .sort();
  const classify = 'cookie=0x5047000100000000/0xffffffff00000000,table=0';
  await ofctl('add-flow', 's1', 'cookie=0xbeef,table=200,priority=7,udp actions=drop');
  const before = await flows(classify);
  const connected = async () =>
    (await paguro.api.status()).switches.find(({ name }) => name === 's1')?.connected;
  // To an address where nobody answers, and back: without any controller the switch would flush all flows by itself.
  await run('ovs-vsctl', ['set-controller', 's1', 'ssl:127.0.0.1:6654']);
  await waitFor('s1 is gone', async () => !(await connected()));
  await ofctl('del-flows', 's1', classify);
  await ofctl('add-flow', 's1', 'cookie=0x5047000100000000,table=0,priority=77,arp actions=drop');
  t.same(
    await flows(classify),
    ['priority=77,arp actions=drop'],
    'ours are missing, and one is not ours any more',
  );
  await run('ovs-vsctl', ['set-controller', 's1', 'ssl:127.0.0.1:6653']);
  await waitFor('s1 is back', connected);
  t.same(await flows(classify), before, 'what was missing is in again, what we do not want is out');
  t.same(await flows('table=200'), ['priority=7,udp actions=drop']);
  await allAlive(t);
});
