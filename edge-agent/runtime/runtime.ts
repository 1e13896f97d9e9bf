/**
 * Where an instance lives: a compartment with a network namespace of its own. Nothing here says how it is made.
 */
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { CommandOptions, CommandResult } from '../../shared/runtime/command.js';

/** A program that runs until it is killed, its output read as it comes. */
export type LongRunning = ChildProcessByStdio<null, Readable, Readable>;

export interface Compartment {
  /** The first process of the compartment: its namespaces are the compartment's. */
  readonly pid: number;
  /** Runs a program of the compartment's own file system in it. Fails with a CommandError, like `run`. */
  run(file: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Writes a file that is there while `act` runs; `path` is its name inside the compartment. */
  withFile<T>(text: string, act: (path: string) => Promise<T>): Promise<T>;
  /** Starts a program in it that runs until it is killed or the compartment is closed. Fails with `refused` when the machine is short of something. */
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
