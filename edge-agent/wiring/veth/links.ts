/**
 * The links of a network namespace, as `ip` shows and changes them.
 */
import { z } from 'zod';
import { CommandError, run } from '../../../shared/runtime/command.js';

const linksSchema = z.array(z.object({ ifname: z.string(), ifalias: z.string().optional() }));
export type LinkInfo = z.infer<typeof linksSchema>[number];

/** All veth links of the agent's own namespace. */
export async function vethLinks(): Promise<readonly LinkInfo[]> {
  const { stdout } = await run('ip', ['-json', 'link', 'show', 'type', 'veth']);
  return linksSchema.parse(JSON.parse(stdout.trim() || '[]'));
}

/** Their names. */
export async function linkNames(): Promise<readonly string[]> {
  return (await vethLinks()).map(({ ifname }) => ifname);
}

/** Does these commands of ip(8), in the agent's own namespace or the one at this path; the first that fails is the last. */
export async function changeLinks(commands: readonly string[], namespace?: string): Promise<void> {
  const input = commands.map((command) => `${command}\n`).join('');
  if (namespace === undefined) await run('ip', ['-batch', '-'], { input });
  else await run('nsenter', [`--net=${namespace}`, '--', 'ip', '-batch', '-'], { input });
}

/** Those that are there no more are passed over. */
export async function removeLinks(names: readonly string[]): Promise<void> {
  await eachThere(names.map((name) => `link delete ${name}`));
}

/** Nothing gets in or out of them any more. Those that are there no more are passed over. */
export async function shutLinks(names: readonly string[]): Promise<void> {
  await eachThere(names.map((name) => `link set ${name} down`));
}

async function eachThere(commands: readonly string[]): Promise<void> {
  if (commands.length === 0) return;
  const input = commands.map((command) => `${command}\n`).join('');
  try {
    await run('ip', ['-force', '-batch', '-'], { input });
  } catch (error) {
    if (!(error instanceof CommandError) || !onlyMissing(error.stderr)) throw error;
  }
}

/** `ip` complains in pairs of lines: what is wrong, and in which line of its input. */
function onlyMissing(complaints: string): boolean {
  const lines = complaints.trim().split('\n');
  return lines.every((line) => /^(Cannot find device |Command failed )/.test(line));
}
