/**
 * What a person needs who wants to know why a cell went wrong: the state of everything at that moment, and the logs, in a folder.
 */
import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandResult, run } from '../../../shared/runtime/command.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { SWITCH_OF } from '../places.js';
import type { FaultLab } from './fault-lab.js';

const BRIDGES = [...Object.values(SWITCH_OF), 's3'];
/** A switch or a program that stands still is not waited for. */
const TIMEOUT_MS = 5_000;

/** Writes what can be had; what cannot says why. Never fails for a part of the lab that does not answer. */
export async function collect(lab: Pick<FaultLab, 'paguro'>, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const keep = async (name: string, text: Promise<string>): Promise<void> => {
    await writeFile(join(folder, name), await text.catch(messageOf));
  };
  const { paguro } = lab;
  const json = async (value: Promise<unknown>): Promise<string> =>
    JSON.stringify(await within(value), undefined, 2);
  await Promise.all([
    keep('status.json', json(paguro.api.status())),
    keep('state.json', json(paguro.api.state('alice'))),
    keep('events.json', json(Promise.resolve(paguro.events))),
    keep('conntrack.txt', output('ovs-appctl', ['dpctl/dump-conntrack', '-m'])),
    keep('megaflows.txt', output('ovs-appctl', ['dpctl/dump-flows', '-m'])),
    ...BRIDGES.map((bridge) =>
      keep(`flows-${bridge}.txt`, output('ovs-ofctl', ['-O', 'OpenFlow13', 'dump-flows', bridge])),
    ),
    ...['h1', 'h2'].map((host) => keep(`sockets-${host}.txt`, text(paguro.host(host).exec('ss', ['-anup'])))),
    copyLogs(paguro.folder, folder),
  ]);
}

async function copyLogs(from: string, to: string): Promise<void> {
  const logs = (await readdir(from)).filter((name) => name.endsWith('.log'));
  await Promise.all(logs.map((name) => copyFile(join(from, name), join(to, name))));
}

function output(file: string, args: readonly string[]): Promise<string> {
  return text(run(file, args, { timeoutMs: TIMEOUT_MS }));
}

async function text(result: Promise<CommandResult>): Promise<string> {
  return (await result).stdout;
}

async function within<T>(value: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), TIMEOUT_MS);
  });
  return Promise.race([value, late]).finally(() => clearTimeout(timer));
}
