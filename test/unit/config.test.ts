/**
 * The controller's configuration: the example that is shipped, and what is told to who wrote a wrong one.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../controller-app/config.js';
import { agentConfigSchema } from '../../edge-agent/config.js';
import { loadYaml } from '../../shared/runtime/yaml-config.js';
import { sourceFile } from '../lab/project.js';

const EXAMPLES = sourceFile('scripts', 'examples');
const EXAMPLE = join(EXAMPLES, 'controller.yaml');

const POLICY = 'name: p\ndefaults: {outbound: accept, inbound: drop}\nrules: []\n';
const SMALL = 'switches: [{name: s1, dpid: 1}]\ndomains: [{name: sdn-1, kind: openflow-ct, switch: s1}]\n';

t.test('the example is the demo network', async (t) => {
  const config = await loadConfig(EXAMPLE);
  t.match(config, {
    file: EXAMPLE,
    openflow: { host: '127.0.0.1', port: 6653 },
    channel: { host: '127.0.0.1', port: 7653 },
    http: { host: '127.0.0.1', port: 7680 },
    switches: [
      { name: 's1', dpid: '0000000000000001' },
      { name: 's2', dpid: '0000000000000002' },
      { name: 's3', dpid: '0000000000000003' },
    ],
    links: [
      [
        { switch: 's1', port: 's1-eth1' },
        { switch: 's3', port: 's3-eth1' },
      ],
      [
        { switch: 's2', port: 's2-eth1' },
        { switch: 's3', port: 's3-eth2' },
      ],
    ],
    domains: [
      { name: 'sdn-1', kind: 'openflow-ct', switch: 's1', serves: ['s1'] },
      { name: 'edge-1', kind: 'remote', serves: ['s2'] },
    ],
    plugins: [],
    timings: { drainMs: 500, leaseMs: 10_000, idle: { tcpEstablished: 86_400 } },
  });
  t.same(config.terminals[0]?.terminal, {
    name: 'alice',
    mac: '02:00:00:00:00:01',
    ipv4: ['10.0.0.1'],
    ipv6: ['fd00::1'],
  });
  t.equal(config.terminals[0]?.policy.name, 'phone');
});

t.test('the example of the agent belongs to it', async (t) => {
  const { data } = await loadYaml(join(EXAMPLES, 'agent.yaml'), agentConfigSchema);
  const { channel, domains } = await loadConfig(EXAMPLE);
  t.equal(data.controller, `ws://${channel.host}:${channel.port}`);
  t.ok(domains.some(({ name, kind }) => name === data.name && kind === 'remote'));
});

t.test('with TLS the channel may have any address, and its files are beside the configuration', async (t) => {
  const tls = 'tls: {ca: pki/ca.pem, certificate: pki/c.pem, key: /keys/c.key}\n';
  const folder = t.testdir({ 'c.yaml': `${SMALL}channel: 0.0.0.0:7653\n${tls}` });
  t.match(await loadConfig(join(folder, 'c.yaml')), {
    channel: { host: '0.0.0.0', port: 7653 },
    tls: { ca: join(folder, 'pki/ca.pem'), certificate: join(folder, 'pki/c.pem'), key: '/keys/c.key' },
  });
});

t.test('paths are relative to the file, forms are made one', async (t) => {
  const folder = t.testdir({ 'p.yaml': POLICY });
  const file = join(folder, 'c.yaml');
  await writeFile(
    file,
    `openflow: "[::1]:6653"
socket: api.sock
switches: [{name: s1, dpid: 00:00:00:00:00:00:00:1F}, {name: s2, dpid: 0000000000000010}, {name: s3, dpid: 10}]
domains: [{name: sdn-1, kind: openflow-ct, switch: s1, serves: [s1, s2]}]
terminals: [{name: bob, mac: "02:AB:00:00:00:01", ipv6: ["FD00:0:0::1"], policy: p.yaml}]
plugins: [{module: ./mine.mjs, options: {a: 1}}, {module: some-package}]
timings: {drainMs: 100, idle: {udp: 5}}
`,
  );
  t.match(await loadConfig(file), {
    openflow: { host: '::1', port: 6653 },
    http: { socket: join(folder, 'api.sock') },
    switches: [{ dpid: '000000000000001f' }, { dpid: '0000000000000010' }, { dpid: '000000000000000a' }],
    domains: [{ serves: ['s1', 's2'] }],
    terminals: [
      {
        terminal: { mac: '02:ab:00:00:00:01', ipv4: [], ipv6: ['fd00::1'] },
        learn: { ipv4: [], ipv6: [] },
        policyFile: join(folder, 'p.yaml'),
      },
    ],
    plugins: [
      { module: `file://${folder}/mine.mjs`, options: { a: 1 } },
      { module: 'some-package', options: {} },
    ],
    timings: { drainMs: 100, leaseMs: 10_000, idle: { udp: 5, udpReplied: 120 } },
  });
});

t.test(
  'a terminal learns where its configuration says so, and needs no address of its own then',
  async (t) => {
    const folder = t.testdir({ 'p.yaml': POLICY });
    const file = join(folder, 'c.yaml');
    const learn = 'learn: {ipv4: [10.0.0.0/24, 192.168.0.1], ipv6: ["FD00:0::/64"]}';
    await writeFile(
      file,
      `${SMALL}terminals: [{name: bob, mac: "02:00:00:00:00:01", policy: p.yaml, ${learn}}]\n`,
    );
    t.match((await loadConfig(file)).terminals[0], {
      terminal: { name: 'bob', ipv4: [], ipv6: [] },
      learn: { ipv4: ['10.0.0.0/24', '192.168.0.1/32'], ipv6: ['fd00::/64'] },
    });
  },
);

t.test('a wrong configuration is told by line and what to write', async (t) => {
  const folder = t.testdir({ 'p.yaml': POLICY, 'wrong.yaml': POLICY.replace('accept', 'yes') });
  const file = join(folder, 'c.yaml');
  const told = async (text: string): Promise<string> => {
    await writeFile(file, text);
    return await loadConfig(file).then(
      () => 'nothing',
      (error: Error) => error.message.replaceAll(`${folder}/`, ''),
    );
  };
  t.equal(await told(SMALL), 'nothing', 'control: the small one is right');
  const terminal = (more: string) =>
    `terminals:\n  - {name: a, mac: 02:00:00:00:00:01, ipv4: [10.0.0.1], policy: p.yaml}\n  - {${more}}\n`;
  const cases: [string, string][] = [
    [
      'openflow: 127.0.0.1\n',
      'c.yaml:3: openflow: write an address and a port such as 127.0.0.1:6653 or [::1]:6653; found "127.0.0.1"',
    ],
    [
      'openflow: localhost:6653\n',
      'c.yaml:3: openflow: write an address and a port such as 127.0.0.1:6653 or [::1]:6653; found "localhost:6653"',
    ],
    [
      'http: 0.0.0.0:80\n',
      'c.yaml:3: http: write a loopback address: the API has no log-in, so that no other machine may reach it; found "0.0.0.0:80"',
    ],
    [
      'channel: 10.0.0.1:80\n',
      'c.yaml:3: 10.0.0.1 is no loopback address, and without TLS the channel takes no other: write one, or configure tls',
    ],
    [
      'links:\n  - [s1:a, s1:b]\n',
      'c.yaml:4: this link leads from s1 to itself: name one port of each of two switches',
    ],
    ['links:\n  - [s1:a, s2:b]\n', 'c.yaml:4: there is no switch s2 under switches; there are s1'],
    ['links:\n  - s1-s2\n', 'c.yaml:4: links[0]: write a list; found "s1-s2"'],
    [
      terminal('name: a, mac: 02:00:00:00:00:02, ipv4: [10.0.0.2], policy: p.yaml'),
      'c.yaml:5: two terminals are named a: give one of them another name',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:01, ipv4: [10.0.0.2], policy: p.yaml'),
      'c.yaml:5: two terminals have the MAC address 02:00:00:00:00:01: a terminal is known by it',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, ipv4: [10.0.0.1], policy: p.yaml'),
      'c.yaml:5: two terminals have the address 10.0.0.1: an address belongs to one terminal',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, policy: p.yaml'),
      'c.yaml:5: terminal b has no address: write at least one under ipv4 or ipv6, or under learn where it may get them',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, policy: p.yaml, learn: {ipv4: [10.0.0.0/33]}'),
      'c.yaml:5: terminals[1].learn.ipv4[0]: write a prefix such as 10.0.0.0/8 or fd00::/8; found "10.0.0.0/33"',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, policy: p.yaml, learn: {ipv4: ["fd00::/64"]}'),
      'c.yaml:5: terminals[1].learn.ipv4[0]: write an IPv4 prefix of hosts’ addresses such as 10.0.0.0/24; found "fd00::/64"',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, policy: p.yaml, learn: {ipv6: ["fe80::/64"]}'),
      'c.yaml:5: terminals[1].learn.ipv6[0]: write an IPv6 prefix of hosts’ addresses such as fd00::/64; found "fe80::/64"',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, policy: p.yaml, learn: {dhcp: true}'),
      'c.yaml:5: terminals[1].learn.dhcp: no such key; there are ipv4, ipv6',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, ipv4: [10.0.0.2], policy: q.yaml'),
      'c.yaml:5: terminals[1].policy: q.yaml: there is no such file',
    ],
    [
      terminal('name: b, mac: 02:00:00:00:00:02, ipv4: [10.0.0.2], policy: wrong.yaml'),
      'wrong.yaml:2: defaults.outbound: write one of accept, drop, reject; found "yes"',
    ],
    ['timings: {drainMs: 1}\n', 'c.yaml:3: timings.drainMs: write at least 50; found 1'],
    [
      'plugins: [{path: x}]\n',
      'c.yaml:3: plugins[0].module: is missing: write a text\nc.yaml:3: plugins[0].path: no such key; there are module, options',
    ],
  ];
  for (const [more, message] of cases) t.equal(await told(SMALL + more), message, more.trim());

  const domains = (text: string) =>
    told(
      `switches: [{name: s1, dpid: 1}]\ndomains:\n  - {name: a, kind: openflow-ct, switch: s1}\n  - ${text}\n`,
    );
  t.equal(
    await domains('{name: a, kind: openflow-ct, switch: s9, serves: [s8]}'),
    [
      'c.yaml:4: two domains are named a: give one of them another name',
      'c.yaml:4: there is no switch s9 under switches; there are s1',
      'c.yaml:4: there is no switch s8 under switches; there are s1',
    ].join('\n'),
  );
  t.equal(
    await domains('{name: b, kind: remote, serves: [s1]}'),
    'c.yaml:4: two domains serve the switch s1: leave it in the serves of the one that shall have the firewalls there',
  );
  t.equal(
    await domains('{name: b, kind: iptables}'),
    'c.yaml:4: domains[1].kind: write one of openflow-ct, remote; found "iptables"',
  );
  t.equal(await domains('{name: b, kind: remote}'), 'c.yaml:4: domains[1].serves: is missing: write a list');

  const switches = (text: string) =>
    told(
      `switches:\n  - {name: s1, dpid: 1}\n  - ${text}\ndomains: [{name: a, kind: openflow-ct, switch: s1}]\n`,
    );
  t.equal(
    await switches('{name: s1, dpid: 2}'),
    'c.yaml:3: two switches are named s1: give one of them another name',
  );
  t.match(
    await switches('{name: s2, dpid: "0000000000000001"}'),
    /two switches have the datapath id 0000000000000001: see "ovs-vsctl/,
  );
  t.equal(
    await switches('{name: s2, dpid: one}'),
    'c.yaml:3: switches[1].dpid: write a datapath id as a number such as 1, or as 16 hexadecimal digits such as 0000000000000001; found "one"',
  );
});

t.test('what a restart must not lose is kept beside the file, elsewhere, or not at all', async (t) => {
  const folder = t.testdir({});
  const file = join(folder, 'controller.yaml');
  const storeWith = async (line: string) => {
    await writeFile(file, `${line}${SMALL}`);
    return (await loadConfig(file)).store;
  };
  t.equal(await storeWith(''), join(folder, 'paguro-store'));
  t.equal(await storeWith('store: elsewhere\n'), join(folder, 'elsewhere'));
  t.equal(await storeWith('store: /var/lib/paguro\n'), '/var/lib/paguro');
  t.equal(await storeWith('store: false\n'), undefined);
  await t.rejects(storeWith('store: true\n'), /store/);
});
