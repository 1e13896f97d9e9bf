/**
 * Policies that are wrong, enormous or no policies at all, as a user gives them: `paguro policy check` and `set`, and bodies of the HTTP API. Each is
 * refused with what is wrong and where; the policy in force stays.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { runCli } from '../../controller-app/cli/program.js';
import { startHttp } from '../../controller-app/http/server.js';
import { MAX_REQUEST_BYTES } from '../../shared/api/schema.js';
import { MAX_RULES } from '../../shared/firewall/policy.js';
import { MAX_POLICY_BYTES, parsePolicy } from '../../shared/firewall/policy-file.js';
import { countRules } from '../../shared/firewall/rule-count.js';
import { YamlError } from '../../shared/firewall/yaml-text.js';
import { silentLog } from '../../shared/runtime/log.js';
import { FakeController, PHONE } from '../fixtures/fake-controller.js';
import policyTarget from '../fuzz/targets/policy.js';
import policyBodyTarget from '../fuzz/targets/policy-body.js';

t.setTimeout(120_000);

const HEAD = 'name: x\ndefaults: { outbound: accept, inbound: drop }\nrules:\n';
const rule = (n: number | string, more = ''): string =>
  `  - { name: r${n}, direction: outbound, action: drop${more} }\n`;
const rules = (count: number): string => Array.from({ length: count }, (_, n) => rule(n)).join('');

async function controller(t: Test) {
  const fake = new FakeController();
  const server = await startHttp(fake, { host: '127.0.0.1', port: 0 }, silentLog);
  t.teardown(() => server.close());
  const folder = t.testdir({});
  const paguro = async (...args: readonly string[]) => {
    let [out, err] = ['', ''];
    const code = await runCli(['--api', `http://127.0.0.1:${server.port}`, ...args], {
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
  };
  return { fake, port: server.port, folder, paguro };
}

/** The first of these take seconds to look at: once is enough. */
const LARGE = 1;
/** What a file holds, and the whole of what is said of it after its name. */
const FILES: Readonly<Record<string, readonly [string | Buffer, string | RegExp]>> = {
  'more rules than are counted': [
    HEAD + rules(300_000),
    /:2004: rule 2001: is one too many, there are more than 2\d{5}: /,
  ],
  'a list of a million entries': [
    `rules: [${'a,'.repeat(1_000_000)}]`,
    ':1: more than 1000000 words and marks: is it the right file?',
  ],
  'an unknown key': [
    HEAD + rule(1, ', remotePort: 25'),
    ':4: rule 1 "r1", remotePort: no such key; did you mean remotePorts?',
  ],
  'a bad prefix': [
    HEAD + rule(1) + rule(2, ', remote: 10.0.0.0/33'),
    ':5: rule 2 "r2", remote: write a prefix such as 10.0.0.0/8 or fd00::/8; found "10.0.0.0/33"',
  ],
  'a port of 70000': [
    HEAD + rule(1, ', protocol: tcp, remotePorts: 70000'),
    ':4: rule 1 "r1", remotePorts: write at most 65535; found 70000',
  ],
  'a range up to 70000': [
    HEAD + rule(1, ', protocol: tcp, remotePorts: [80, 1-70000]'),
    ':4: rule 1 "r1", remotePorts[1]: a port range runs from a lower to a higher port, at most 65535; found "1-70000"',
  ],
  'a pair up to 70000': [
    HEAD + rule(1, ', protocol: tcp, remotePorts: [80, [443, 70000]]'),
    ':4: rule 1 "r1", remotePorts[1][1]: write at most 65535; found 70000',
  ],
  '2,001 rules': [
    HEAD + rules(MAX_RULES + 1),
    ':2004: rule 2001 "r2000": is one too many, there are 2001: a policy has at most 2000 rules: join some, for instance with lists of ports',
  ],
  '100,000 rules': [
    HEAD + rules(100_000),
    ':2004: rule 2001: is one too many, there are 100000: a policy has at most 2000 rules: join some, for instance with lists of ports',
  ],
  'a million characters that are no policy': [
    'x'.repeat(MAX_POLICY_BYTES + 1),
    /: the file is larger than 4000000 bytes: is it the right one\?$/,
  ],
  'brackets without end': [`rules: ${'['.repeat(100_000)}`, ':1: nested deeper than 32 levels'],
  'dashes without end': ['- '.repeat(100_000), ':1: nested deeper than 32 levels'],
  'lines ever deeper': [
    Array.from({ length: 500 }, (_, i) => `${' '.repeat(i)}a:\n`).join(''),
    /^:3\d: nested deeper than 32 levels$/,
  ],
  'a map of 50,000 keys': [
    `{${Array.from({ length: 50_000 }, (_, i) => `k${i}`).join(',')}}`,
    ':1: more than 1000 keys in one place',
  ],
  'aliases of aliases': [
    [
      'a: &a [x,x,x]',
      ...Array.from(
        'bcdefghijklmnopq',
        (c, i) => `${c}: &${c} [*${'abcdefghijklmnopq'[i]},*${'abcdefghijklmnopq'[i]}]`,
      ),
    ].join('\n'),
    /^:2: aliases \(\*\) repeat aliases too often/,
  ],
  'many aliases': [
    `a: &a 1\nb: [${'*a,'.repeat(100)}]`,
    ':2: more than 50 aliases (*): write out what they repeat',
  ],
  'an alias of itself': ['name: x\nrules: &a [*a]\n', ':2: this alias (*) stands in what it repeats'],
  'an alias of nothing': ['name: x\nrules: *b\n', ':2: there is no &b before this alias'],
  'a key twice': ['name: x\nname: y\n', ':2: not valid YAML: Map keys must be unique'],
  tabs: [
    'name: x\ndefaults:\n\toutbound: drop\n',
    /^:3: not valid YAML: Tabs are not allowed as indentation$/,
  ],
  'Windows lines': [
    (HEAD + rule(1) + rule(1)).replaceAll('\n', '\r\n'),
    /^:5: rule 2 "r1", name: another rule has this name/,
  ],
  'another encoding': [
    Buffer.from('name: a\n# caf\xe9\n', 'latin1'),
    ':2: this line is not UTF-8: save the file as UTF-8',
  ],
  'UTF-16': [Buffer.from(`\ufeff${HEAD}`, 'utf16le'), ':1: it is UTF-16: save the file as UTF-8'],
  'a NUL': [
    'name: x\nrules: "\0"\n',
    ':2: not valid YAML: the character U+0000 does not belong in a text: is it the right file?',
  ],
  'an escape sequence': ['name: "\x1b[2J"\n', /^:1: not valid YAML: the character U\+001B does not belong/],
  'a NUL, as an escape': [
    'name: "a\\0"\ndefaults: { outbound: drop, inbound: drop }\nrules: []\n',
    /^:1: name: a policy name is at most 63 characters/,
  ],
  'a text that runs backwards': [
    'name: "a\\u202eb"\ndefaults: { outbound: drop, inbound: drop }\nrules: []\n',
    /^:1: name: a policy name .*found "a\?b"$/,
  ],
  'a second document': [
    `${HEAD}${rule(1)}---\n${HEAD}${rule(2)}`,
    ':6: a second document begins (after ---): a file holds one',
  ],
  'bytes for rules': ['name: x\nrules: !!binary aGk=\n', /^:2: not valid YAML: Unresolved tag/],
  'an unknown tag': ['name: !shell id\nrules: []\n', /^:1: not valid YAML: Unresolved tag: !shell$/],
  'another version of YAML': [
    '%YAML 1.1\n---\nname: yes\nrules: !!set {a, b}\n',
    /^:4: not valid YAML: Unresolved tag/,
  ],
  __proto__: ['__proto__: {rules: []}\nname: x\n', /:1: __proto__: no such key/],
  nothing: ['', ': write keys with values; found nothing'],
};

t.test('a wrong policy is told with file, line and reason, and the one in force stays', async (t) => {
  const { fake, folder, paguro } = await controller(t);
  for (const [index, [what, [content, says]]] of Object.entries(FILES).entries()) {
    const file = join(folder, `p${index}.yaml`);
    writeFileSync(file, content);
    const checked = await paguro('policy', 'check', file);
    t.equal(checked.code, 1, what);
    t.equal(checked.out, '');
    const told = checked.err.trimEnd();
    t.ok(told.startsWith(file) && told.length < 5_000);
    if (typeof says === 'string') t.equal(told.slice(file.length), says, what);
    else t.match(told.slice(file.length), says, what);
    if (index > LARGE)
      t.same(await paguro('policy', 'set', 'alice', file), checked, `${what}: set says the same`);
    t.equal(fake.policy, PHONE, 'the policy in force stays');
  }
  const good = join(folder, 'good.yaml');
  writeFileSync(good, `\ufeff${(HEAD + rule(1)).replaceAll('\n', '\r\n')}`);
  t.match(await paguro('policy', 'set', 'alice', good), { code: 0, out: 'alice has policy x now\n' });
  t.equal(
    fake.policy.rules.length,
    1,
    'control: a good one is put in force, also with a byte order mark and Windows lines',
  );
  writeFileSync(good, HEAD + rules(MAX_RULES));
  t.equal((await paguro('policy', 'set', 'alice', good)).code, 0);
  t.equal(fake.policy.rules.length, MAX_RULES, 'control: as many rules as may be');
});

t.test('many problems are told in their order, and how many more there are', async (t) => {
  const text = HEAD + Array.from({ length: 1_000 }, (_, n) => rule(n, ', x: 1')).join('');
  try {
    parsePolicy(text, 'p');
    t.fail('it is wrong');
  } catch (error) {
    if (!(error instanceof YamlError)) throw error;
    const lines = error.message.split('\n');
    t.equal(lines.length, 21);
    t.match(lines[0], /^p:4: rule 1 "r0", x: no such key/);
    t.match(lines[19], /^p:23: rule 20 "r19", x: no such key/);
    t.equal(lines[20], 'p: and 980 more');
  }
});

t.test('what is no ordinary file is not waited for, and an endless one not read', async (t) => {
  const { paguro, folder } = await controller(t);
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  t.match(await paguro('policy', 'check', pipe), {
    code: 1,
    err: `${pipe} can't be read: it is a pipe or a device: write its contents to a file\n`,
  });
  t.match(await paguro('policy', 'check', '/dev/zero'), { code: 1, err: /it is a pipe or a device/ });
  mkdirSync(join(folder, 'folder'));
  t.match(await paguro('policy', 'check', join(folder, 'folder')), { code: 1, err: /it is a folder/ });
  const huge = join(folder, 'huge');
  writeFileSync(huge, '');
  truncateSync(huge, 2 ** 30);
  const before = bytesRead();
  t.match(await paguro('policy', 'check', huge), { code: 1, err: /is larger than 4000000 bytes/ });
  const read = bytesRead() - before;
  t.ok(read >= 4_000_000 && read < 40_000_000, `${read} bytes of 1 GB were read`);
});

/** By this process so far: proc(5), io. */
function bytesRead(): number {
  return Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

t.test('rules are counted in whatever style they are written', async (t) => {
  const json = JSON.stringify({
    name: 'x',
    rules: Array.from({ length: 50 }, (_, i) => ({ name: `r${i}`, ports: [1, [2, 3]] })),
  });
  const cases: readonly [string, number, number | undefined][] = [
    [HEAD + rules(50), 50, 6],
    [(HEAD + rules(50)).replaceAll('\n', '\r\n'), 50, 6],
    [HEAD.replace('rules:', '"rules":') + rules(50), 50, 6],
    [
      `rules:\n- name: a\n  list:\n  - 1\n  - 2\n# - no\n- name: b\n  text: |\n    - no\n    - no\n- {name: c, x: [1, 2]}\nname: x\nother:\n- 1\n`,
      3,
      11,
    ],
    [`defaults: {rules: 1}\nrules: [ {a: 1}, b, [1, 2], "x, y", ]\nmore: [1, 2]`, 4, 2],
    [json, 50, 1],
    [JSON.stringify(JSON.parse(json), null, 2), 50, 24],
    ['rules: 5\n', 0, undefined],
    ['- rules:\n  - 1\n', 0, undefined],
    ['', 0, undefined],
    [`${HEAD}${rules(50)}---\n- 1\n`, 50, 6],
  ];
  for (const [text, count, third] of cases)
    t.same(countRules(text, 3), { rules: count, lineOfNth: third }, text.slice(0, 60));
});

interface Answer {
  readonly status: number;
  readonly body: { readonly code?: string; readonly message?: string };
}

function put(port: number, body: Buffer | string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method: 'PUT',
        path: '/v1/terminals/alice/policy',
        headers: { 'content-type': 'application/json', ...headers },
        agent: false,
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => {
          text += part;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      },
    );
    // The server may answer, and hang up, before it has read a body that is too large.
    sent.on(
      'error',
      (error: NodeJS.ErrnoException) =>
        error.code !== 'EPIPE' && error.code !== 'ECONNRESET' && reject(error),
    );
    sent.end(body);
  });
}

t.test('a wrong policy in a body is refused with where and why, and the one in force stays', async (t) => {
  const { fake, port } = await controller(t);
  const good = { name: 'x', defaults: { outbound: 'accept', inbound: 'drop' }, rules: [] };
  const one = { name: 'r', direction: 'outbound', action: 'drop', protocol: 'tcp' };
  const many = Array.from({ length: 100_000 }, (_, n) => ({
    name: `r${n}`,
    direction: 'outbound',
    action: 'drop',
  }));
  const cases: readonly [string, string | Buffer, number, RegExp][] = [
    [
      'an unknown key',
      JSON.stringify({ ...good, rules: [{ ...one, remotePort: 1 }] }),
      400,
      /^rules\[0\]\.remotePort: no such key; did you mean remotePorts\?$/,
    ],
    [
      'a bad prefix',
      JSON.stringify({ ...good, rules: [{ ...one, remote: '10.0.0.0/33' }] }),
      400,
      /^rules\[0\]\.remote: write a prefix/,
    ],
    [
      'a port of 70000',
      JSON.stringify({ ...good, rules: [{ ...one, remotePorts: 70_000 }] }),
      400,
      /^rules\[0\]\.remotePorts: write at most 65535; found 70000$/,
    ],
    [
      '3,000 rules',
      JSON.stringify({ ...good, rules: many.slice(0, 3_000) }),
      400,
      /^rules\[2000\]: is one too many, there are 3000: a policy has at most 2000 rules/,
    ],
    [
      '100,000 rules',
      JSON.stringify({ ...good, rules: many }),
      413,
      /larger than 4194304 bytes.*a policy has at most 2000 rules/,
    ],
    ['nothing', '', 400, /./],
    ['no JSON', '{"name":', 400, /./],
    ['bytes', Buffer.from([0xff, 0xfe, 0, 1]), 400, /./],
    ['a NUL in the name', JSON.stringify({ ...good, name: 'a\0b' }), 400, /^name: a policy name/],
    [
      'half a character in the name',
      JSON.stringify({ ...good, name: 'a\ud800' }),
      400,
      /^name: a policy name/,
    ],
    ['__proto__', '{"__proto__": {"name": "x"}}', 400, /./],
    ['deep nesting', '['.repeat(500_000) + ']'.repeat(500_000), 400, /./],
    ['many wrong rules', JSON.stringify({ ...good, rules: Array(2_000).fill({ a: 1 }) }), 400, /^rules\[0\]/],
    ['a key of a megabyte', JSON.stringify({ ...good, ['k'.repeat(1_000_000)]: 1 }), 400, /^kkk/],
    ['a million keys', `{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":1`).join(',')}}`, 400, /./],
  ];
  for (const [what, body, status, says] of cases) {
    const answer = await put(port, body);
    t.match(answer, { status, body: { message: says } }, what);
    t.ok((answer.body.message ?? '').length < 10_000, `${what}: the answer is short`);
    t.equal(fake.policy, PHONE, 'the policy in force stays');
  }
  t.match(await put(port, 'x', { 'content-type': 'text/plain' }), { status: 400 });
  t.match(await put(port, JSON.stringify(good), { origin: 'http://evil.example' }), { status: 403 });
  t.equal(fake.policy, PHONE);
  t.match(await put(port, JSON.stringify(good)), { status: 200 });
  t.equal(fake.policy.name, 'x', 'control: a good one is put in force');
  t.ok(MAX_REQUEST_BYTES > MAX_POLICY_BYTES, 'what a file may say a body may say');
});

t.test('whatever a body is, the server answers and goes on', async (t) => {
  const { fake, port } = await controller(t);
  const seeds = policyBodyTarget.seeds(1);
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.constantFrom(...seeds), fc.nat(), fc.nat(255)).map(([seed, at, value]) => {
      const bytes = Uint8Array.from(seed);
      bytes[at % bytes.length] = value;
      return bytes;
    }),
  );
  await fc.assert(
    fc.asyncProperty(body, async (bytes) => {
      fake.policy = PHONE;
      const { status } = await put(port, Buffer.from(bytes));
      if (status !== 200 && (status < 400 || status >= 500)) throw new Error(`status ${status}`);
      return status === 200 || fake.policy === PHONE;
    }),
    { numRuns: 300 },
  );
  t.match(await put(port, '{}'), { status: 400 });
  t.ok(policyTarget.seeds(1).length > 10);
});
