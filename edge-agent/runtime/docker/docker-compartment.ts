/**
 * A running container as a compartment: programs enter its namespaces from outside.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import { DomainError } from '../../../shared/domain/domain.js';
import { MORE_DESCRIPTORS, run } from '../../../shared/runtime/command.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import type { Compartment } from '../runtime.js';
import { isNotFound } from './image.js';

/** The only place where something can be written: what programs can't take from standard input. */
export const FILES = '/run';
const WAIT_AGAIN_MS = 1000;

export class DockerCompartment implements Compartment {
  readonly ended: Promise<void>;
  #closing: Promise<void> | undefined;

  constructor(
    private readonly remove: () => Promise<void>,
    waiting: Docker.Container,
    readonly pid: number,
  ) {
    this.ended = this.#untilEnded(waiting);
  }

  /** Docker keeps the request open until the container has ended. When Docker itself goes away, containers may live on. */
  async #untilEnded(waiting: Docker.Container): Promise<void> {
    while (this.#closing === undefined) {
      try {
        await waiting.wait();
        return;
      } catch (error) {
        if (isNotFound(error) || !(await exists(`/proc/${this.pid}`))) return;
        await delay(WAIT_AGAIN_MS, undefined, { ref: false });
      }
    }
  }

  /** nsenter takes 3 ms where `docker exec` takes 50. */
  run: Compartment['run'] = (file, args, options) => run('nsenter', this.#inside(file, args), options);

  /** Through the first process's root directory, which shows its mounts. */
  async withFile<T>(text: string, act: (path: string) => Promise<T>): Promise<T> {
    const inside = `${FILES}/${randomUUID()}`;
    const outside = `/proc/${this.pid}/root${inside}`;
    try {
      await writeFile(outside, text, { mode: 0o600 }).catch((cause: unknown) => {
        throw new DomainError(
          'refused',
          `${text.length} bytes could not be handed to a program in the firewall's container: ${messageOf(cause)}; look what fills its ${FILES}`,
          { cause },
        );
      });
      return await act(inside);
    } finally {
      await rm(outside, { force: true });
    }
  }

  /** It dies with the agent, however that ends: a process left in the namespace would keep it from going. */
  start: Compartment['start'] = (file, args) => {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'nsenter', ...this.#inside(file, args)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    if (child.stdout !== undefined) return child;
    // Node gives a program no pipes when it has no descriptors for them, and tells of it later.
    child.on('error', () => {});
    throw new DomainError('refused', `${file} could not be started${MORE_DESCRIPTORS}`);
  };

  close(): Promise<void> {
    this.#closing ??= this.remove().catch((error: unknown) => {
      this.#closing = undefined;
      throw error;
    });
    return this.#closing;
  }

  #inside(file: string, args: readonly string[]): string[] {
    return ['--target', `${this.pid}`, '--net', '--mount', '--', file, ...args];
  }
}

export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
