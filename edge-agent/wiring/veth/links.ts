/**
 * The links of a network namespace, as `ip` shows and changes them. Without a path of a namespace it is the agent's own.
 */
import { z } from 'zod';
import { CommandError, type CommandResult, run } from '../../../shared/runtime/command.js';

const linksSchema = z.array(
  z.object({ ifname: z.string(), ifalias: z.string().optional(), flags: z.array(z.string()) }),
);
export type LinkInfo = z.infer<typeof linksSchema>[number];

/** The words with which a program is run in this namespace. */
export function within(namespace: string | undefined, command: readonly string[]): readonly string[] {
  return namespace === undefined ? command : ['nsenter', `--net=${namespace}`, '--', ...command];
}

/** Runs a program in this namespace. Fails with a CommandError. */
export function runWithin(
  namespace: string | undefined,
  command: readonly string[],
  input = '',
): Promise<CommandResult> {
  const [file = '', ...args] = within(namespace, command);
  return run(file, args, { input });
}

/** All veth links. */
export async function vethLinks(namespace?: string): Promise<readonly LinkInfo[]> {
  const { stdout } = await runWithin(namespace, ['ip', '-json', 'link', 'show', 'type', 'veth']);
  return linksSchema.parse(JSON.parse(stdout.trim() || '[]'));
}

/** Whether the link is up, and its other side, too. */
export function isUp({ flags }: LinkInfo): boolean {
  return flags.includes('UP') && flags.includes('LOWER_UP');
}

/** Does these commands of ip(8); the first that fails is the last. */
export async function changeLinks(commands: readonly string[], namespace?: string): Promise<void> {
  await runWithin(namespace, ['ip', '-batch', '-'], lines(commands));
}

/** Those that are there no more are passed over. */
export async function removeLinks(names: readonly string[], namespace?: string): Promise<void> {
  await eachThere(
    names.map((name) => `link delete ${name}`),
    namespace,
  );
}

/** Nothing gets in or out of them any more. Those that are there no more are passed over. */
export async function shutLinks(names: readonly string[], namespace?: string): Promise<void> {
  await eachThere(
    names.map((name) => `link set ${name} down`),
    namespace,
  );
}

async function eachThere(commands: readonly string[], namespace: string | undefined): Promise<void> {
  if (commands.length === 0) return;
  try {
    await runWithin(namespace, ['ip', '-force', '-batch', '-'], lines(commands));
  } catch (error) {
    if (!(error instanceof CommandError) || !onlyMissing(error.stderr)) throw error;
  }
}

/** What a program reads as a batch. */
export const lines = (commands: readonly string[]): string =>
  commands.map((command) => `${command}\n`).join('');

/** `ip` complains in pairs of lines: what is wrong, and in which line of its input. */
function onlyMissing(complaints: string): boolean {
  const said = complaints.trim().split('\n');
  return said.every((line) => /^(Cannot find device |Command failed )/.test(line));
}
