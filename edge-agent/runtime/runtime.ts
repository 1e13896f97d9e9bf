/**
 * Where an instance lives: a compartment with a network namespace of its own. Nothing here says how it is made.
 */
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { CommandOptions, CommandResult } from '../../shared/runtime/command.js';

/** A program that runs until it is killed, its input written and its output read as they come. */
export type LongRunning = ChildProcessByStdio<Writable, Readable, Readable>;

export interface Compartment {
  /** The first process of the compartment: its namespaces are the compartment's. */
  readonly pid: number;
  /** Its network namespace, for ip(8) and nsenter(1): until it is closed, also when its processes have ended. */
  readonly namespace: string;
  /** Runs a program of the compartment's own file system in it. Fails with a CommandError, like `run`. */
  run(file: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /**
   * Starts a program of the machine's own in its network namespace alone, as nobody, with the right to administer that network and no other. It runs
   * until it is killed or the agent ends. Fails with `refused` when the machine is short of something.
   */
  start(file: string, args: readonly string[]): LongRunning;
  /** Settles when the compartment has ended by itself or was closed. */
  readonly ended: Promise<void>;
  /** Removes it and everything in it. May be called twice, and again when it failed. */
  close(): Promise<void>;
}

export interface InstanceRuntime {
  /** Fails with `not-ready` and what to do when no compartment could be made now. */
  check(): Promise<void>;
  /** A new compartment, with nothing of any terminal in it. Whatever goes wrong is undone before the call fails. */
  create(): Promise<Compartment>;
  /** Removes what an earlier life of this agent left. */
  removeLeftovers(): Promise<void>;
}
