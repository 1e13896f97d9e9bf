/**
 * What every program stands on: owning and closing, the clock, reading YAML files.
 */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { z } from 'zod';
import { ManualClock, realClock, sleep } from '../../shared/runtime/clock.js';
import { Lifetime, LifetimeError } from '../../shared/runtime/lifetime.js';
import { isLoopback } from '../../shared/runtime/loopback.js';
import { ConfigFileError, readTextFile } from '../../shared/runtime/text-file.js';
import { loadYaml } from '../../shared/runtime/yaml-config.js';

t.test('a lifetime closes what it owns, the youngest first, and once', async (t) => {
  const closed: string[] = [];
  const thing = (name: string) => ({ close: () => void closed.push(name) });
  const lifetime = new Lifetime();
  lifetime.own('a', thing('a'));
  lifetime.own('b', thing('b'));
  lifetime.defer('c', async () => {
    await Promise.resolve();
    closed.push('c');
  });
  t.notOk(lifetime.signal.aborted);
  await Promise.all([lifetime.close(), lifetime.close()]);
  await lifetime.close();
  t.same(closed, ['c', 'b', 'a']);
  t.ok(lifetime.signal.aborted);

  lifetime.own('late', thing('late'));
  await lifetime.close();
  t.same(closed, ['c', 'b', 'a', 'late'], 'what comes too late is closed at once');
});

t.test('a failure does not keep the rest open', async (t) => {
  const closed: string[] = [];
  const lifetime = new Lifetime();
  lifetime.defer('first', () => void closed.push('first'));
  lifetime.defer('broken', () => {
    throw new Error('stuck');
  });
  lifetime.defer('last', () => void closed.push('last'));
  await t.rejects(lifetime.close(), { code: 'close-failed', message: 'broken did not close: stuck' });
  await t.rejects(lifetime.close(), LifetimeError, 'and says so again');
  t.same(closed, ['last', 'first']);
});

t.test('a program closes at SIGTERM and at SIGINT, and ends at a second one', async (t) => {
  const lifetimeUrl = new URL('../../shared/runtime/lifetime.js', import.meta.url).href;
  const logUrl = new URL('../../shared/runtime/log.js', import.meta.url).href;
  const program = (close: string) => `
    import { Lifetime, untilStopped } from ${JSON.stringify(lifetimeUrl)};
    import { silentLog } from ${JSON.stringify(logUrl)};
    const lifetime = new Lifetime();
    setInterval(() => {}, 1000).unref();
    const keep = setInterval(() => {}, 1000);
    lifetime.defer('x', () => ${close});
    const stopped = untilStopped(lifetime, silentLog);
    console.log('ready');
    process.exitCode = await stopped;`;
  const run = async (
    source: string,
    signals: NodeJS.Signals[],
  ): Promise<{ code: number | null; out: string }> => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk;
      // A signal for each line that the program writes.
      const signal = signals.shift();
      if (signal) child.kill(signal);
    });
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { code, out };
  };
  const closes = `{ clearInterval(keep); console.log('closed'); }`;
  t.same(await run(program(closes), ['SIGTERM']), { code: 0, out: 'ready\nclosed\n' });
  t.same(await run(program(closes), ['SIGINT']), { code: 0, out: 'ready\nclosed\n' });
  const hangs = `{ console.log('closing'); return new Promise(() => {}); }`;
  t.same(await run(program(hangs), ['SIGINT', 'SIGINT']), { code: 130, out: 'ready\nclosing\n' });
});

t.test('a manual clock calls back in the order of time, when it is told to', async (t) => {
  const clock = new ManualClock(1000);
  const seen: string[] = [];
  clock.after(20, () => seen.push(`b at ${clock.monotonic()}`));
  clock.after(10, () => {
    seen.push(`a at ${clock.monotonic()}`);
    clock.after(5, () => seen.push(`a2 at ${clock.monotonic()}`));
  });
  clock.after(15, () => seen.push('never')).close();
  clock.advance(9);
  t.same(seen, []);
  clock.advance(20);
  t.same(seen, ['a at 10', 'a2 at 15', 'b at 20']);
  t.equal(clock.now(), 1029);
  t.equal(clock.pending, 0);
});

t.test('sleep', async (t) => {
  const clock = new ManualClock();
  let woke = false;
  const sleeping = sleep(clock, 10).then(() => {
    woke = true;
  });
  clock.advance(9);
  await Promise.resolve();
  t.notOk(woke);
  clock.advance(1);
  await sleeping;
  t.ok(woke);
  const abort = new AbortController();
  const aborted = sleep(clock, 10, abort.signal);
  abort.abort(new Error('enough'));
  await t.rejects(aborted, { message: 'enough' });
  t.equal(clock.pending, 0, 'leaves no timer');
  await t.rejects(sleep(clock, 10, AbortSignal.abort(new Error('before'))), { message: 'before' });
  await sleep(realClock, 1);
});

t.test('loopback is an address, not a name', async (t) => {
  for (const host of ['127.0.0.1', '127.255.1.2', '::1']) t.ok(isLoopback(host), host);
  for (const host of ['0.0.0.0', '10.0.0.1', '::', 'localhost', '127.0.0.1.example', '127.1', '']) {
    t.notOk(isLoopback(host), host);
  }
});

t.test('YAML files', async (t) => {
  const folder = t.testdir();
  const write = async (name: string, text: string): Promise<string> => {
    const file = join(folder, name);
    await writeFile(file, text);
    return file;
  };
  const schema = z.strictObject({
    listen: z.string(),
    list: z.array(z.strictObject({ kind: z.enum(['a', 'b']), size: z.int().min(1) })).default([]),
    id: z.union([z.int(), z.string()]).optional(),
  });

  const good = await write('good.yaml', 'listen: here\nlist:\n  - {kind: a, size: 1}\nid: 0010\n');
  const { data, lineOf } = await loadYaml(good, schema);
  t.same(
    data,
    { listen: 'here', list: [{ kind: 'a', size: 1 }], id: '0010' },
    'digits after a zero are a text',
  );
  t.equal(lineOf(['list', 0, 'size']), 3);
  t.equal(lineOf(['list', 0, 'missing']), 3);
  t.equal(lineOf(['id']), 4);

  const bad = await write('bad.yaml', 'listn: here\nlist:\n  - kind: c\n    size: 0\n  - 5\n');
  await t.rejects(loadYaml(bad, schema), {
    code: 'invalid',
    message: [
      `${bad}:1: listen: is missing: write a text`,
      `${bad}:1: listn: no such key; did you mean listen?`,
      `${bad}:3: list[0].kind: write one of a, b; found "c"`,
      `${bad}:4: list[0].size: write at least 1; found 0`,
      `${bad}:5: list[1]: write keys with values; found 5`,
    ].join('\n'),
  });
  await t.rejects(loadYaml(await write('syntax.yaml', 'a: [1\nb: 2\n'), schema), {
    code: 'syntax',
    message: /syntax.yaml:\d: not valid YAML: /,
  });
  await t.rejects(loadYaml(join(folder, 'none.yaml'), schema), {
    code: 'not-found',
    message: /none.yaml: there is no such file/,
  });
  await mkdir(join(folder, 'folder'));
  await t.rejects(loadYaml(join(folder, 'folder'), schema), { code: 'unreadable', message: /is a folder/ });
  t.equal((await readTextFile(good, 3)).length, 4, 'reads one byte more than it may, and not the rest');
  await t.rejects(loadYaml(good, schema, { maxBytes: 3 }), { code: 'too-large' });
  await t.rejects(readTextFile(join(folder, 'none.yaml'), 10), ConfigFileError);
});
