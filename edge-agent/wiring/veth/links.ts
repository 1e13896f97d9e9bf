/**
 * The links of this machine's network namespace, as `ip` shows them and removes them.
 */
import { z } from 'zod';
import { CommandError, run } from '../../../shared/runtime/command.js';

const linksSchema = z.array(z.object({ ifname: z.string(), ifalias: z.string().optional() }));
export type LinkInfo = z.infer<typeof linksSchema>[number];

/** All veth links. */
export async function vethLinks(): Promise<readonly LinkInfo[]> {
  const { stdout } = await run('ip', ['-json', 'link', 'show', 'type', 'veth']);
  return linksSchema.parse(JSON.parse(stdout.trim() || '[]'));
}

/** The names of all veth links. */
export async function linkNames(): Promise<readonly string[]> {
  return (await vethLinks()).map(({ ifname }) => ifname);
}

/** Those that are there no more are passed over. */
export async function removeLinks(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const input = `${names.map((name) => `link delete ${name}`).join('\n')}\n`;
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
