/**
 * `paguro store`: looks at what a controller keeps, makes backups of it, and puts them back. The commands read and write the store itself, not through a
 * controller: all but `restore` while one runs, too.
 */
import type { Command } from 'commander';
import { loadConfig } from '../config.js';
import { backUp, readStore, restore } from '../store/archive.js';
import type { Loaded } from '../store/folder.js';
import { Failed } from './failure.js';
import { number, table } from './table.js';

interface Output {
  print(text: string): void;
  json(value: unknown): void;
}

export function addStoreCommands(program: Command, { print, json }: Output): void {
  const store = program.command('store').description('what a restart of the controller does not lose');
  const CONFIG = ['--config <file>', "the controller's YAML file"] as const;

  store
    .command('show')
    .description('what is kept of each terminal')
    .requiredOption(...CONFIG)
    .option('--json', 'as JSON')
    .action(async (options: { config: string; json?: true }) => {
      const folder = await folderOf(options.config);
      const loaded = await readStore(folder);
      if (options.json) json(summary(folder, loaded));
      else print(render(folder, loaded));
    });

  store
    .command('backup')
    .description('write all of it into one file, also while the controller runs')
    .argument('<file>')
    .requiredOption(...CONFIG)
    .action(async (file: string, { config }: { config: string }) => {
      const bytes = await backUp(await folderOf(config), file);
      print(`${file} has all that was kept until now: ${number(bytes)} bytes`);
    });

  store
    .command('restore')
    .description('put a backup in place of what is kept; the controller must be stopped')
    .argument('<file>')
    .requiredOption(...CONFIG)
    .action(async (file: string, { config }: { config: string }) => {
      const folder = await folderOf(config);
      const before = await restore(folder, file, new Date());
      print(`${folder} has what was in ${file}`);
      if (before !== undefined) print(`what it had before is in ${before}`);
    });
}

async function folderOf(config: string): Promise<string> {
  const { store } = await loadConfig(config);
  if (store !== undefined) return store;
  throw new Failed(`${config} says "store: false": nothing is kept. Name a folder there to have it kept`);
}

function summary(folder: string, { contents, snapshotBytes, journalBytes }: Loaded) {
  return {
    folder,
    bytes: snapshotBytes + journalBytes,
    terminals: contents.terminals().map((name) => {
      const { state, ...kept } = contents.terminal(name);
      return { name, ...kept, connections: state?.connections.length ?? 0 };
    }),
    instances: contents.instances().map(({ domain, terminal, epoch, role, connections }) => ({
      ...{ domain, terminal: terminal.name, epoch, role },
      connections: connections.length,
    })),
  };
}

function render(folder: string, loaded: Loaded): string {
  const { bytes, terminals, instances } = summary(folder, loaded);
  const kept = table(
    ['TERMINAL', 'ACTIVE IN', 'LAST EPOCH', 'POLICY', 'PLACEMENT', 'LEARNT ADDRESSES', 'CONNECTIONS'],
    terminals.map((terminal) => [
      terminal.name,
      terminal.active?.domain ?? 'nowhere',
      String(terminal.lastEpoch),
      terminal.policy?.policy.name ?? 'its file',
      terminal.placement,
      terminal.addresses.map(({ address }) => address).join(', ') || '-',
      number(terminal.connections),
    ]),
    { right: [2, 6] },
  );
  const inSwitches = table(
    ['IN SWITCHES', 'TERMINAL', 'EPOCH', 'ROLE', 'CONNECTIONS'],
    instances.map(({ domain, terminal, epoch, role, connections }) => [
      domain,
      terminal,
      String(epoch),
      role,
      number(connections),
    ]),
    { right: [2, 4] },
  );
  return [`${folder}: ${number(bytes)} bytes`, kept, ...(instances.length > 0 ? [inSwitches] : [])].join(
    '\n\n',
  );
}
