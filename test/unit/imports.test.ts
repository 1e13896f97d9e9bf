/**
 * The nevers of the architecture, read off the imports of the sources: which folder may not know which.
 */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, posix, relative, sep } from 'node:path';
import t from 'tap';
import { projectRoot } from '../../shared/runtime/project-root.js';

/** Not checked itself: the wrong sources below are text in it. */
const SELF = 'test/unit/imports.test.ts';

const FOLDERS = ['shared', 'controller-app', 'edge-agent', 'test', 'scripts'];

interface Import {
  /** Both as paths from the root, with slashes. */
  readonly from: string;
  readonly to: string;
}

interface Never {
  readonly name: string;
  broken(edge: Import): boolean;
}

const within = (folder: string, path: string): boolean => path.startsWith(`${folder}/`);
const neverImports = (folder: string, ...others: readonly string[]): Never => ({
  name: `${folder} never imports ${others.join(', ')}`,
  broken: ({ from, to }) => within(folder, from) && others.some((other) => within(other, to)),
});
const importsNothingOfOurs = (folder: string): Never => ({
  name: `${folder} imports nothing of ours`,
  broken: ({ from, to }) => within(folder, from) && !within(folder, to),
});

const NEVERS: readonly Never[] = [
  neverImports('edge-agent', 'controller-app'),
  neverImports('controller-app', 'edge-agent'),
  importsNothingOfOurs('controller-app/openflow'),
  importsNothingOfOurs('shared/firewall'),
  neverImports('controller-app/pipeline', 'controller-app/switch'),
  neverImports(
    'controller-app/handover',
    'controller-app/openflow',
    'controller-app/switch',
    'controller-app/pipeline',
  ),
  neverImports('shared', 'controller-app', 'edge-agent', 'test', 'scripts'),
  neverImports('controller-app', 'test', 'scripts'),
  neverImports('edge-agent', 'test', 'scripts'),
  { name: 'nothing imports a main', broken: ({ to }) => /(^|\/)main\.[jt]s$/.test(to) },
];

/** Every form that names another module: import … from, export … from, import '…', import('…'), and in types. */
const SPECIFIER = /\b(?:from|import)\s*\(?\s*(['"])(\.{1,2}\/[^'"]+)\1/g;

function importsOf(file: string, source: string): Import[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  return [...code.matchAll(SPECIFIER)].map(([, , specifier = '']) => ({
    from: file,
    to: posix.normalize(posix.join(posix.dirname(file), specifier)),
  }));
}

function violations(edges: readonly Import[]): string[] {
  return NEVERS.flatMap((never) =>
    edges.filter(never.broken).map(({ from, to }) => `${never.name}: ${from} imports ${to}`),
  );
}

const root = projectRoot();
const edges: Import[] = [];
let files = 0;
for (const folder of FOLDERS) {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile() || !/\.ts$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const file = relative(root, path).split(sep).join('/');
    edges.push(...importsOf(file, await readFile(path, 'utf8')));
    files++;
  }
}

t.test('the sources are there', async (t) => {
  t.ok(files > 50, `${files} files`);
  t.ok(edges.length > files, `${edges.length} imports`);
  const here = edges.filter(({ from }) => from === SELF);
  t.ok(
    here.some(({ to }) => to === 'shared/runtime/project-root.js'),
    'this very import is found',
  );
  t.equal(dirname(here[0]?.to ?? ''), 'shared/runtime');
});

t.test('no source breaks a never', async (t) => {
  t.same(violations(edges.filter(({ from }) => from !== SELF)), []);
});

t.test('a source that broke one would be found', async (t) => {
  const cases: [string, string, string][] = [
    ['edge-agent/x.ts', `import { a } from '../controller-app/config.js';`, 'edge-agent never'],
    [
      'controller-app/core/x.ts',
      `import type { A } from "../../edge-agent/domain/a.js";`,
      'controller-app never',
    ],
    [
      'controller-app/openflow/x.ts',
      `export * from '../../shared/domain/domain.js';`,
      'openflow imports nothing',
    ],
    ['controller-app/openflow/x.ts', `import '../switch/index.js';`, 'openflow imports nothing'],
    [
      'shared/firewall/x.ts',
      `import { run } from '../runtime/command.js';`,
      'shared/firewall imports nothing',
    ],
    ['controller-app/pipeline/x.ts', `const a = await import('../switch/index.js');`, 'pipeline never'],
    ['controller-app/handover/x.ts', `type A = import('../openflow/index.js').Flow;`, 'handover never'],
    [
      'controller-app/handover/x.ts',
      `import {\n  a,\n  b,\n} from '../pipeline/index.js';`,
      'handover never',
    ],
    ['controller-app/handover/x.ts', `import { Switch } from '../switch/index.js';`, 'handover never'],
    ['shared/api/x.ts', `import { a } from '../../controller-app/http/service.js';`, 'shared never'],
    ['test/unit/x.test.ts', `import '../../controller-app/main.js';`, 'nothing imports a main'],
    ['controller-app/x.ts', `import { a } from './main.js';`, 'nothing imports a main'],
  ];
  for (const [file, source, name] of cases) {
    const found = violations(importsOf(file, source));
    t.ok(
      found.some((text) => text.includes(name)),
      `${file}: ${source.replaceAll('\n', ' ')}`,
    );
  }
  const fine: [string, string][] = [
    ['controller-app/openflow/x.ts', `import { a } from './wire.js';`],
    ['controller-app/handover/x.ts', `import type { Domain } from '../../shared/domain/domain.js';`],
    ['shared/firewall/x.ts', `import { z } from 'zod';`],
    ['shared/firewall/x.ts', `// import { run } from '../runtime/command.js';`],
    ['controller-app/x.ts', `import { a } from './domain.js';`],
  ];
  for (const [file, source] of fine) t.same(violations(importsOf(file, source)), [], `${file}: ${source}`);
});
