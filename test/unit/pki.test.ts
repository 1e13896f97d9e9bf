/**
 * The CA and its certificates: what `paguro pki` makes, what it refuses, and how a program that is given wrong files is told what to do.
 */
import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { z } from 'zod';
import { runCli } from '../../controller-app/cli/program.js';
import { agentConfigSchema } from '../../edge-agent/config.js';
import { dpid } from '../../shared/domain/domain.js';
import { run } from '../../shared/runtime/command.js';
import { loadYaml } from '../../shared/runtime/yaml-config.js';
import {
  holderNamed,
  loadIdentity,
  type TlsFiles,
  tlsFilesIn,
  tlsSchema,
  urisOf,
  type Wanted,
} from '../../shared/tls/index.js';
import { Certificates, type Odd } from '../fixtures/certificates.js';

async function pki(folder: string, ...args: string[]) {
  let out = '';
  let err = '';
  const code = await runCli(['pki', ...args, '--folder', folder], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env: {},
    interrupted: new AbortController().signal,
  });
  return { code, out, err };
}

async function emptyFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'paguro-pki-'));
  t.teardown(() => rm(folder, { recursive: true }));
  return join(folder, 'pki');
}

const permissions = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);

t.test('a CA and certificates are made, and belong together', async (t) => {
  const folder = await emptyFolder(t);
  t.match(await pki(folder, 'init'), { code: 0, out: /ca\.pem/ });
  t.match(await pki(folder, 'issue', 'controller', '192.0.2.1', '2001:db8::1', 'controller.example'), {
    code: 0,
    out: /in controller\.yaml.*\n {2}tls: \{ ca: pki\/ca\.pem, certificate: pki\/controller\.pem, key: pki\/controller\.key \}\n/,
  });
  t.match(await pki(folder, 'issue', 'agent', 'edge-1', '--days', '7'), { code: 0, out: /in agent\.yaml/ });
  t.match(await pki(folder, 'issue', 'switch', '1', '00000000000000ff'), {
    code: 0,
    out: /ovs-vsctl set-ssl/,
  });
  t.same(
    (await readdir(folder)).sort(),
    [
      ...['agent-edge-1.key', 'agent-edge-1.pem', 'ca.key', 'ca.pem'],
      ...['controller.key', 'controller.pem', 'switch-1.key', 'switch-1.pem'],
    ],
    'and nothing else is left',
  );
  t.equal(await permissions(folder), '700');
  for (const name of ['ca', 'controller', 'agent-edge-1', 'switch-1'])
    t.equal(await permissions(join(folder, `${name}.key`)), '600', name);
  const read = async (name: string) => new X509Certificate(await readFile(join(folder, `${name}.pem`)));
  const purposes = { controller: 'sslserver', 'agent-edge-1': 'sslclient', 'switch-1': 'sslclient' };
  for (const [name, purpose] of Object.entries(purposes)) {
    const file = join(folder, `${name}.pem`);
    const verify = (as: string) =>
      run('openssl', ['verify', '-x509_strict', '-purpose', as, '-CAfile', join(folder, 'ca.pem'), file]);
    t.match((await verify(purpose)).stdout, /OK/, `${name} by openssl’s own judgement`);
    await t.rejects(
      verify(purpose === 'sslserver' ? 'sslclient' : 'sslserver'),
      { message: /purpose/ },
      `${name} serves for nothing else`,
    );
  }
  t.equal(
    (await read('controller')).subjectAltName,
    'URI:paguro:controller, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, DNS:controller.example',
  );
  t.equal((await read('agent-edge-1')).subjectAltName, 'URI:paguro:agent:edge-1');
  t.equal(
    (await read('switch-1')).subjectAltName,
    'URI:paguro:switch:0000000000000001, URI:paguro:switch:00000000000000ff',
  );
  const agent = await read('agent-edge-1');
  t.equal(Math.round((Date.parse(agent.validTo) - Date.parse(agent.validFrom)) / 86_400_000), 7);
  const serials = await Promise.all(
    Object.keys(purposes).map(async (name) => (await read(name)).serialNumber),
  );
  t.equal(new Set(serials).size, 3, 'each has a serial number of its own');
  t.ok(
    serials.every((serial) => serial.length > 30),
    'that nobody guesses',
  );
});

t.test('what is printed can be pasted into a configuration beside the folder', async (t) => {
  for (const name of ['pki', 'keys, {mine} #1']) {
    const beside = dirname(await emptyFolder(t));
    const folder = join(beside, name);
    await pki(folder, 'init');
    const pasted = async (kind: 'controller' | 'agent', ...names: string[]) => {
      const { out } = await pki(folder, 'issue', kind, ...names);
      t.match(out, new RegExp(`in ${kind}\\.yaml, if it lies in ${beside} `));
      const file = join(beside, `${kind}.yaml`);
      await writeFile(file, out.replaceAll(/^(?! {2}).*\n/gm, '').replaceAll(/^ {2}/gm, ''));
      return file;
    };
    const controller = await pasted('controller');
    const { data } = await loadYaml(controller, z.strictObject({ tls: tlsSchema }));
    t.match(await loadIdentity(tlsFilesIn(beside, data.tls), { kind: 'controller' }), {
      holder: { kind: 'controller' },
    });
    await t.rejects(loadIdentity(tlsFilesIn(folder, data.tls), { kind: 'controller' }), 'control: elsewhere');
    const agent = await loadYaml(
      await pasted('agent', 'edge-1'),
      agentConfigSchema.partial({ name: true, bridge: true }),
    );
    t.match(agent.data.controller, /^wss:/);
    const files = agent.data.tls && tlsFilesIn(beside, agent.data.tls);
    t.ok(files && (await loadIdentity(files, { kind: 'agent', domain: 'edge-1' })));
  }
});

t.test('nothing is overwritten, and what cannot be done is told', async (t) => {
  const folder = await emptyFolder(t);
  t.match(await pki(folder, 'issue', 'agent', 'edge-1'), { code: 1, err: /run "paguro pki init" first/ });
  await pki(folder, 'init');
  await pki(folder, 'issue', 'agent', 'edge-1');
  const files = await readdir(folder);
  const before = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  for (const again of [['init'], ['issue', 'agent', 'edge-1']])
    t.match(await pki(folder, ...again), { code: 1, err: /is there already, and is not overwritten/ });
  await rm(join(folder, 'agent-edge-1.key'));
  t.match(await pki(folder, 'issue', 'agent', 'edge-1'), {
    code: 1,
    err: /agent-edge-1\.pem is there already/,
  });
  t.notOk((await readdir(folder)).includes('agent-edge-1.key'), 'no key without its certificate');
  await writeFile(join(folder, 'agent-edge-1.key'), before[files.indexOf('agent-edge-1.key')] ?? '');
  t.same(await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8'))), before);

  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['issue', 'agent'], /name the domain/],
    [['issue', 'agent', 'Edge 1'], /a domain name is a lower-case letter/],
    [['issue', 'agent', 'edge-1,URI:paguro:agent:edge-2'], /a domain name is a lower-case letter/],
    [['issue', 'switch'], /datapath ids/],
    [['issue', 'switch', '0'], /no datapath id/],
    [['issue', 'switch', 'xyz'], /no datapath id/],
    [['issue', 'controller', '10.0.0.256'], /neither an IP address nor a DNS name/],
    [['issue', 'controller', 'a,URI:paguro:agent:edge-1'], /neither an IP address nor a DNS name/],
    [['issue', 'controller', '-x'], /unknown option/],
    [['issue', 'router', 'r1'], /Allowed choices are controller, agent, switch/],
    [['issue', 'agent', 'edge-3', '--days', '0'], /a number of days/],
    [['issue', 'agent', 'edge-3', '--days', '1x'], /a number of days/],
  ];
  for (const [args, says] of wrong) {
    const { code, err } = await pki(folder, ...args);
    t.not(code, 0, args.join(' '));
    t.match(err, says, args.join(' '));
  }
  t.same((await readdir(folder)).sort(), files.sort(), 'and nothing was made');
});

t.test('a folder that is there keeps its mode, and one that is not to be used is told', async (t) => {
  const folder = await emptyFolder(t);
  await mkdir(folder, { mode: 0o755 });
  t.match(await pki(folder, 'init'), { code: 0 });
  t.equal(await permissions(folder), '755', 'others may have to find what else is in it');
  t.equal(await permissions(join(folder, 'ca.key')), '600');
  t.match(await pki(join(folder, 'ca.pem'), 'init'), {
    code: 1,
    err: /ca\.pem cannot be made \(.*\): .* or name another with --folder/,
  });
  t.match(await pki(join(folder, 'ca.pem', 'x'), 'issue', 'controller'), {
    code: 1,
    err: /cannot be read \(/,
  });
});

t.test('without the program openssl it is told what to install', async (t) => {
  const folder = await emptyFolder(t);
  const { PATH } = process.env;
  process.env.PATH = '/nonexistent';
  try {
    t.match(await pki(folder, 'init'), { code: 1, err: /openssl is missing: apt-get install openssl/ });
  } finally {
    process.env.PATH = PATH;
  }
  t.same(await readdir(folder), []);
});

t.test('names in a certificate are read strictly', async (t) => {
  const holders = [
    { kind: 'controller' },
    { kind: 'agent', domains: ['edge-1', 'edge-2'] },
    { kind: 'switch', dpids: [dpid(1), dpid(0xffn)] },
  ] as const;
  for (const holder of holders)
    t.same(
      holderNamed(
        urisOf(holder)
          .map((uri) => `URI:${uri}`)
          .join(', '),
      ),
      holder,
    );
  t.same(holderNamed('DNS:x.example, URI:paguro:agent:edge-1, IP Address:192.0.2.1'), {
    kind: 'agent',
    domains: ['edge-1'],
  });
  const wrong = [
    ...['', 'DNS:edge-1', 'DNS:paguro:agent:edge-1', 'URI:https://x.example', 'URI:paguro:agent:'],
    ...['URI:paguro:agent:Edge', 'URI:paguro:agent:edge-1:x', 'URI:paguro:agent:a b', 'URI:paguro:owner'],
    ...['URI:paguro:switch:1', 'URI:paguro:switch:00000000000000FF', 'URI:paguro:controller:1'],
    ...['URI:paguro:controller, URI:paguro:agent:edge-1'],
    ...['URI:paguro:agent:edge-1, URI:paguro:switch:0000000000000001'],
    // As Node writes a name with a comma in it: what follows the comma is no name of its own.
    ...['URI:"x, URI:paguro:agent:edge-1, y"', 'DNS:"x, URI:paguro:controller"'],
    Array.from({ length: 1025 }, (_, i) => `URI:paguro:agent:e${i}`).join(', '),
  ];
  for (const text of wrong)
    t.throws(() => holderNamed(text), { code: 'wrong-kind' }, text.slice(0, 80) || 'nothing');
});

t.test('wrong files are told by their name, and with what to do', async (t) => {
  const ours = await Certificates.make(t);
  const others = await Certificates.make(t);
  const controller = await ours.issue('controller');
  const agent = await ours.issue('agent', 'edge-1');
  const foreign = await others.issue('agent', 'edge-1');
  const asAgent: Wanted = { kind: 'agent', domain: 'edge-1' };
  const asController: Wanted = { kind: 'controller' };
  t.same((await loadIdentity(agent, asAgent)).holder, { kind: 'agent', domains: ['edge-1'] }, 'control');
  t.same((await loadIdentity(controller, asController)).holder, { kind: 'controller' }, 'control');

  const text = join(ours.folder, 'text');
  await writeFile(text, 'hello');
  const open = join(ours.folder, 'open.key');
  await writeFile(open, await readFile(agent.key));
  await chmod(open, 0o604);
  const odd = (name: string, change: Partial<Odd>): Promise<TlsFiles> =>
    ours.odd({ name, names: 'URI:paguro:agent:edge-1', usage: 'clientAuth', ...change });
  const cases: Readonly<Record<string, readonly [TlsFiles, Wanted, string, RegExp]>> = {
    'a file that is not there': [{ ...agent, key: '/nonexistent' }, asAgent, 'not-found', /no such file/],
    'no certificate': [{ ...agent, certificate: text }, asAgent, 'malformed', /no certificate in PEM/],
    'no key': [{ ...agent, key: text }, asAgent, 'open-key', /chmod 600/],
    'a key that all can read': [{ ...agent, key: open }, asAgent, 'open-key', /chmod 600/],
    'a key that is none': [{ ...agent, key: agent.certificate }, asAgent, 'open-key', /chmod/],
    'the key of another': [{ ...agent, key: foreign.key }, asAgent, 'key-mismatch', /is not the key of/],
    'another CA': [{ ...foreign, ca: agent.ca }, asAgent, 'wrong-ca', /one "paguro pki init"/],
    'one that has expired': [await odd('expired', { days: -1 }), asAgent, 'expired', /paguro pki issue/],
    'a controller’s': [controller, asAgent, 'wrong-kind', /issue one with "paguro pki issue agent edge-1"/],
    'an agent’s': [agent, asController, 'wrong-kind', /a controller's is needed/],
    'a switch’s': [await ours.issue('switch', '1'), asAgent, 'wrong-kind', /a switch's \(0000000000000001\)/],
    'another agent’s': [
      agent,
      { kind: 'agent', domain: 'edge-2' },
      'wrong-name',
      /is for edge-1, not for edge-2/,
    ],
    'one without names': [await odd('bare', { names: 'DNS:edge-1' }), asAgent, 'wrong-kind', /names neither/],
    'an agent’s that may serve': [
      await odd('server', { usage: 'serverAuth' }),
      asAgent,
      'wrong-kind',
      /extended key usage/,
    ],
    'one that may do everything': [
      await odd('both', { usage: 'clientAuth,serverAuth' }),
      asAgent,
      'wrong-kind',
      /extended key usage/,
    ],
    'the CA’s own': [
      { ca: agent.ca, certificate: agent.ca, key: join(ours.folder, 'ca.key') },
      asAgent,
      'wrong-kind',
      /names neither|signs/,
    ],
  };
  for (const [what, [files, wanted, code, message]] of Object.entries(cases))
    await t.rejects(loadIdentity(files, wanted), { code, message }, what);
  await chmod(text, 0o600);
  await t.rejects(loadIdentity({ ...agent, key: text }, asAgent), {
    code: 'malformed',
    message: /no private key in PEM/,
  });
  const day = 86_400_000;
  await t.rejects(loadIdentity(agent, asAgent, Date.now() - day), {
    code: 'not-yet-valid',
    message: /clock/,
  });
  await t.rejects(loadIdentity(agent, asAgent, Date.now() + 3 * day), { code: 'expired' });
});

t.test('two CAs may be trusted while one takes over from the other', async (t) => {
  const [before, after] = [await Certificates.make(t), await Certificates.make(t)];
  const both = join(after.folder, 'both.pem');
  const texts = [join(after.folder, 'ca.pem'), join(before.folder, 'ca.pem')].map((file) =>
    readFile(file, 'utf8'),
  );
  await writeFile(both, (await Promise.all(texts)).join('\n'));
  const wanted: Wanted = { kind: 'agent', domain: 'edge-1' };
  for (const ca of [before, after]) {
    const files = await ca.issue('agent', 'edge-1');
    t.ok(await loadIdentity({ ...files, ca: both }, wanted));
  }
});

t.test('an identity shows its key to nobody who looks at it', async (t) => {
  const ca = await Certificates.make(t);
  const files = await ca.issue('agent', 'edge-1');
  const identity = await loadIdentity(files, { kind: 'agent', domain: 'edge-1' });
  const [, secret = ''] = (await readFile(files.key, 'utf8')).split('\n');
  t.ok(secret.length > 40, 'control');
  for (const shown of [inspect(identity, { depth: 9, showHidden: true }), JSON.stringify(identity)]) {
    t.notMatch(shown, /PRIVATE KEY/);
    t.notOk(shown.includes(secret));
  }
});
