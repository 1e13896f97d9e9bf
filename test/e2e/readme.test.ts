/**
 * The README's own texts are run as they stand there: the scenario, and the plugin.
 */
import '../lab/enter.js';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../../shared/runtime/command.js';
import { projectRoot } from '../../shared/runtime/project-root.js';
import { Paguro } from '../harness/paguro.js';
import { currentLab, sourceFile } from '../lab/index.js';

t.setTimeout(180_000);

const readme = await readFile(sourceFile('README.md'), 'utf8');

/** The code block of the README whose first line is a comment with this file name. */
function block(file: string): string {
  const found = [...readme.matchAll(/```js\n(\/\/ (\S+?)[:\s][\s\S]*?)```/g)].find(
    (match) => match[2] === file,
  );
  if (found?.[1] === undefined) throw new Error(`README.md has no block of ${file}`);
  return found[1];
}

t.test('the scenario of 20 lines runs, and says what became of the connections', async (t) => {
  const text = block('my-scenario.mjs');
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('//'));
  t.ok(lines.length <= 20, `${lines.length} lines`);
  // Below the project, as a user would have it: there the name paguro/harness means this project.
  const folder = await mkdtemp(join(projectRoot(), 'dist', 'readme-'));
  const file = join(folder, 'my-scenario.mjs');
  await writeFile(file, text);
  // Not in this lab: a scenario starts one of its own.
  const { PAGURO_LAB: _, ...env } = process.env;
  const { stdout } = await run('env', ['-u', 'PAGURO_LAB', process.execPath, file], {
    timeoutMs: 90_000,
    env: env as Record<string, string>,
  }).finally(() => run('rm', ['-r', folder]));
  t.match(stdout, /survived/);
  t.notMatch(stdout, /dead|reset|garbled/);
});

t.test('the plugin is loaded from the configuration, and filtered packets pass it', async (t) => {
  await writeFile(join(currentLab().folder, 'my-plugin.mjs'), block('my-plugin.mjs'));
  const paguro = await Paguro.start({
    docker: false,
    agents: [],
    controllerYaml: 'plugins:\n  - module: ./my-plugin.mjs\n    options: { blocked: 10.0.0.3 }\n',
  });
  await paguro.attach('alice', 'h1', 'sdn-1');
  const reaches = async (address: string): Promise<boolean> => {
    const { stdout } = await paguro
      .host('h1')
      .exec('ping', ['-c', '3', '-i', '0.1', '-W', '1', address])
      .catch(() => ({ stdout: '0 received' }));
    return !/\b0 received/.test(stdout);
  };
  t.ok(await reaches('10.0.0.2'), 'others are reached');
  t.notOk(await reaches('10.0.0.3'), 'who is blocked is not');
  t.ok(await reaches('fd00::3'), 'but by IPv6, of which the plugin says nothing');
  await paguro.close();
});
