/**
 * A host of the network: a network namespace with a name and addresses. Programs enter it through nsenter (3 ms).
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { z } from 'zod';
import { type CommandOptions, type CommandResult, run } from '../../../shared/runtime/command.js';
import { JsonLines } from './json-lines.js';

/** As the topology server describes it. */
export const hostSchema = z.object({
  pid: z.number().int().positive(),
  interface: z.string(),
  mac: z.string(),
  ipv4: z.string(),
  ipv6: z.string(),
  switch: z.string(),
  port: z.string(),
});

export type HostDescription = z.infer<typeof hostSchema>;

/** What frames to and from it are made of. */
export interface Addresses {
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export class Host implements Addresses {
  readonly name: string;
  /** A process that holds the namespace. */
  readonly pid: number;
  /** Its interface, as it sees it: `h1-eth0`. */
  readonly interface: string;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
  #attachment: { readonly switch: string; readonly port: string };

  constructor(name: string, description: HostDescription) {
    this.name = name;
    this.pid = description.pid;
    this.interface = description.interface;
    this.mac = description.mac;
    this.ipv4 = description.ipv4;
    this.ipv6 = description.ipv6;
    this.#attachment = { switch: description.switch, port: description.port };
  }

  /** Where it is plugged in: switch and port, as Mininet names them. */
  get attachment(): { readonly switch: string; readonly port: string } {
    return this.#attachment;
  }

  /** Told by whoever moves the link. */
  attached(to: { readonly switch: string; readonly port: string }): void {
    this.#attachment = { switch: to.switch, port: to.port };
  }

  /** The command line that runs a program in this host. */
  argv(file: string, args: readonly string[]): [string, string[]] {
    return ['nsenter', [`--net=/proc/${this.pid}/ns/net`, '--', file, ...args]];
  }

  /** Runs a program in this host to its end. Fails with a CommandError unless it exits with 0. */
  exec(file: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return run(...this.argv(file, args), options);
  }

  /** Starts a program in this host. nsenter becomes the program: the process is the program's own. */
  spawn(file: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn(...this.argv(file, args), options);
  }

  /** Starts a helper program in this host. */
  helper(name: string, file: string, args: readonly string[]): JsonLines {
    return new JsonLines(`${name} in ${this.name}`, ...this.argv(file, args));
  }

  /** Forgets what it learned of its neighbours' MACs: after frames that lied about them. */
  async flushNeighbours(): Promise<void> {
    await this.exec('ip', ['neigh', 'flush', 'all']);
  }
}
