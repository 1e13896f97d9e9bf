/**
 * What a measurement was made on. Figures without it mean nothing.
 */
import { cpus, release, totalmem } from 'node:os';
import { run } from '../shared/runtime/command.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly linux: string;
  readonly node: string;
  readonly openVSwitch: string;
  readonly docker: string;
  /** All of it in one line. */
  readonly text: string;
}

/** Looks; asks the programs for their versions. */
export async function machine(): Promise<Machine> {
  const [openVSwitch, docker] = await Promise.all([
    versionOf('ovs-vswitchd', ['--version']),
    versionOf('dockerd', ['--version']),
  ]);
  const found = {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    ...{ linux: release(), node: process.versions.node, openVSwitch, docker },
  };
  const { cpu, cores, memoryGiB, linux, node } = found;
  const text = `${cores} cores of ${cpu}, ${memoryGiB} GiB; Linux ${linux}, Node ${node}, Open vSwitch ${openVSwitch}, Docker ${docker}`;
  return { ...found, text };
}

async function versionOf(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(program, args);
  return /\d+(\.\d+)+/.exec(stdout)?.[0] ?? 'unknown';
}
