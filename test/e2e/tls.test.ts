/**
 * TLS with the real peers: Open vSwitch, which claims only what its certificate names and takes no controller but one, and the programs as a user starts
 * and renews them.
 */
import '../lab/enter.js';
import { once } from 'node:events';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { OpenFlowListener, type Switch } from '../../controller-app/switch/index.js';
import { dpid } from '../../shared/domain/domain.js';
import { CommandError, run } from '../../shared/runtime/command.js';
import { loadIdentity, type TlsFiles } from '../../shared/tls/index.js';
import { Certificates, pemOf } from '../fixtures/certificates.js';
import { Paguro } from '../harness/paguro.js';
import {
  certifySwitches,
  currentLab,
  labCertificate,
  startOpenVSwitch,
  tlsYaml,
  waitFor,
} from '../lab/index.js';

t.setTimeout(200_000);

const AGENT = fileURLToPath(new URL('../../edge-agent/main.js', import.meta.url));
const CONTROLLER = fileURLToPath(new URL('../../controller-app/main.js', import.meta.url));
/** A peer that refuses says so in milliseconds; one that takes the certificate says hello. */
const DECIDED_MS = 10_000;

const vsctl = (...args: string[]) => run('ovs-vsctl', ['--timeout=10', ...args]);
const addBridge = (name: string, id: number) =>
  vsctl(
    ...['add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev', 'protocols=OpenFlow13'],
    ...['fail_mode=secure', 'other-config:disable-in-band=true'],
    `other-config:datapath-id=${dpid(id)}`,
  );
const pointAt = async (bridge: string, target: string): Promise<void> => {
  await vsctl('set-controller', bridge, target, '--', 'set', 'controller', bridge, 'max_backoff=1000');
};

await t.test('Open vSwitch', async (t) => {
  const ovs = await startOpenVSwitch();
  await certifySwitches([1]);
  await addBridge('br1', 1);
  await addBridge('br9', 9);

  for (const host of ['127.0.0.1', '::1']) {
    await t.test(`claims only what its certificate names, over ${host}`, async (t) => {
      await certifySwitches([1]);
      const identity = await loadIdentity(await labCertificate('controller'), { kind: 'controller' });
      const listener = new OpenFlowListener({ host, port: 0, identity });
      const refused: string[] = [];
      listener.on('refused', (error) => refused.push(error.message));
      const { port } = await listener.listen();
      const target = `ssl:${host.includes(':') ? `[${host}]` : host}:${port}`;
      const comes = new Promise<Switch>((resolve) => listener.once('switch', resolve));
      await pointAt('br1', target);
      const sw = await comes;
      t.equal(sw.dpid, dpid(1));
      await sw.bundle([
        {
          type: 'flow_mod',
          command: 'add',
          table: 0,
          priority: 7,
          cookie: 1n,
          match: { eth_type: 0x0806 },
          instructions: [],
        },
      ]);
      const { stdout } = await run('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-flows', 'br1']);
      t.match(stdout, /priority=7,arp actions=drop/, 'what is said over TLS arrives');

      await pointAt('br9', target);
      await waitFor('br9 is refused', () => refused.length > 0);
      t.match(refused[0], /claims to be 0000000000000009, and its certificate is for 0000000000000001/);
      t.same([...listener.switches.keys()], [dpid(1)]);
      t.notOk(sw.closed, 'the other bridge of the same daemon keeps its connection');

      await certifySwitches([1, 9]);
      await waitFor('control: with a certificate for both it is let in', () =>
        listener.switches.has(dpid(9)),
      );
      await pointAt('br9', `tcp:${target.slice('ssl:'.length)}`);
      await waitFor('and without TLS it is not', () =>
        refused.some((text) => /does not speak TLS/.test(text)),
      );
      for (const bridge of ['br1', 'br9']) await vsctl('del-controller', bridge);
      await listener.close();
    });
  }

  await t.test('takes no controller but one that its CA has certified as such', async (t) => {
    const others = await Certificates.make(t);
    const folder = currentLab().folder;
    const odd = Certificates.in(join(folder, 'pki'));
    const cases: Readonly<Record<string, TlsFiles>> = {
      'control: a controller': await labCertificate('controller'),
      'an agent': await labCertificate('agent', 'edge-4'),
      'another switch': await labCertificate('switch', '77'),
      'one of another CA': await others.issue('controller'),
      'one that has expired': await odd.odd({
        name: 'expired',
        names: 'URI:paguro:controller,IP:127.0.0.1',
        usage: 'serverAuth',
        days: -1,
      }),
    };
    for (const [what, files] of Object.entries(cases)) {
      const server = createTlsServer({
        ...(await pemOf(files)),
        requestCert: true,
        rejectUnauthorized: false,
      });
      let heard = 0;
      let failed = 0;
      server.on('tlsClientError', () => failed++);
      server.on('secureConnection', (socket) => {
        socket.on('data', (chunk) => {
          heard += chunk.length;
        });
        // It may have finished its handshake on this side before the switch has looked at the certificate.
        socket.on('error', () => failed++);
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      await pointAt('br1', `ssl:127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`);
      await waitFor(`${what}: it is decided`, () => heard > 0 || failed > 0, { timeoutMs: DECIDED_MS });
      t.equal(heard > 0, what.startsWith('control'), what);
      await vsctl('del-controller', 'br1');
      server.close();
    }
  });
  for (const bridge of ['br1', 'br9']) await vsctl('del-br', bridge);
  await ovs.close();
});

await t.test('the programs', async (t) => {
  const paguro = await Paguro.start({ docker: false });
  const { folder } = paguro;
  await t.test('an agent with another agent’s certificate says what to do, and does not start', async (t) => {
    const config = join(folder, 'other.yaml');
    const yaml = `name: edge-1\nbridge: s2\ncontroller: wss://127.0.0.1:7653\n`;
    await writeFile(config, yaml + tlsYaml(await labCertificate('agent', 'edge-2')));
    const error = await run(process.execPath, [AGENT, '--config', config]).catch((error: unknown) => error);
    t.ok(error instanceof CommandError);
    t.match(error, {
      exitCode: 1,
      stderr: /is for edge-2, not for edge-1: issue one with "paguro pki issue agent edge-1"/,
    });
  });
  await t.test('neither does a controller with an agent’s', async (t) => {
    const config = join(folder, 'wrong-controller.yaml');
    const yaml = await readFile(join(folder, 'controller.yaml'), 'utf8');
    const tls = tlsYaml(await labCertificate('agent', 'edge-2'));
    await writeFile(config, yaml.replace(/^tls: .*\n/m, tls));
    const error = await run(process.execPath, [CONTROLLER, 'controller', '--config', config]).catch(
      (error: unknown) => error,
    );
    t.match(error, {
      exitCode: 1,
      stderr: /is an agent's \(edge-2\) certificate, and a controller's is needed/,
    });
  });
  await t.test('nothing in any log is of a key', async (t) => {
    const logs = await Promise.all(
      ['controller.log', 'agent.log'].map((name) => readFile(join(folder, name), 'utf8')),
    );
    const keys = await Promise.all(
      ['controller', 'agent-edge-1'].map((name) => readFile(join(folder, 'pki', `${name}.key`), 'utf8')),
    );
    for (const log of logs) {
      t.match(log, /ready|started/, 'control');
      t.notMatch(log, /PRIVATE KEY/);
      for (const key of keys) t.notOk(log.includes(key.split('\n')[1] ?? ' '));
    }
  });
  await t.test('SIGHUP: a new certificate for those who come, and nobody is hung up on', async (t) => {
    const shown = async (): Promise<string | undefined> => {
      const { ca, cert, key } = await pemOf(await labCertificate('agent', 'edge-2'));
      const socket = tlsConnect({ host: '127.0.0.1', port: 7653, ca, cert, key });
      await once(socket, 'secureConnect');
      const serial = socket.getPeerX509Certificate()?.serialNumber;
      socket.destroy();
      return serial;
    };
    const before = await shown();
    const at = await labCertificate('controller');
    const renewed = join(folder, 'renewed');
    await mkdir(renewed);
    const fresh = await Certificates.in(join(folder, 'pki')).odd({
      name: 'fresh',
      names: 'URI:paguro:controller,IP:127.0.0.1',
      usage: 'serverAuth',
    });
    await copyFile(fresh.certificate, at.certificate);
    paguro.hangUp();
    const log = () => readFile(join(folder, 'controller.log'), 'utf8');
    await waitFor('half of the files is refused', async () => /is not the key of/.test(await log()));
    t.equal(await shown(), before, 'and the certificate from before stays');
    await copyFile(fresh.key, at.key);
    paguro.hangUp();
    await waitFor('they are read', async () => /were read again/.test(await log()));
    t.not(await shown(), before);
    const { switches, domains } = await paguro.api.status();
    t.ok(switches.every(({ connected }) => connected));
    t.ok(domains.every(({ problem = '' }) => !problem.startsWith('no agent')));
    t.notMatch(await log(), /agent disconnected/);
  });
  await paguro.close();
});
