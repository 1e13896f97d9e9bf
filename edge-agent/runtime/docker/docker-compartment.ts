/**
 * A running container as a compartment: programs enter its namespaces from outside.
 *
 * Its network namespace is held open until the compartment is closed. A namespace that nobody has any more loses its rules before its links: for that moment
 * its bridge would forward whatever comes. So when a container is killed its firewall goes on, until its ends are off the switch.
 */
import { access, type FileHandle, open, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import { DomainError } from '../../../shared/domain/domain.js';
import { run } from '../../../shared/runtime/command.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { startAsNobody } from '../as-nobody.js';
import type { Compartment } from '../runtime.js';

/** The only place where something can be written. */
export const FILES = '/run';
/** How soon the end of a container is noticed when Docker, which tells of it at once, is not there. */
const LOOK_MS = 200;

export class DockerCompartment implements Compartment {
  readonly ended: Promise<void>;
  #closing: Promise<void> | undefined;

  private constructor(
    private readonly remove: () => Promise<void>,
    waiting: Docker.Container,
    readonly pid: number,
    private readonly held: FileHandle,
  ) {
    this.ended = this.#untilEnded(waiting);
  }

  /** `pid`: of the container's first process. Fails with `refused` when its namespace can't be held. */
  static async of(
    remove: () => Promise<void>,
    waiting: Docker.Container,
    pid: number,
  ): Promise<DockerCompartment> {
    return new DockerCompartment(remove, waiting, pid, await heldNamespace(pid));
  }

  get namespace(): string {
    return `/proc/${process.pid}/fd/${this.held.fd}`;
  }

  /**
   * Docker keeps the request open until the container has ended. When Docker itself goes away the answer may never come, and the container
   * may live on: so its first process is looked at, too.
   */
  async #untilEnded(waiting: Docker.Container): Promise<void> {
    const over = new AbortController();
    void waiting.wait().then(
      () => over.abort(),
      () => {},
    );
    const born = await birthOf(this.pid);
    const lives = async (): Promise<boolean> => born !== undefined && (await birthOf(this.pid)) === born;
    while (!over.signal.aborted && this.#closing === undefined && (await lives()))
      await delay(LOOK_MS, undefined, { ref: false, signal: over.signal }).catch(() => {});
  }

  /** nsenter takes 3 ms where `docker exec` takes 50. */
  run: Compartment['run'] = (file, args, options) => run('nsenter', this.#inside(file, args), options);

  start: Compartment['start'] = (file, args) => startAsNobody(this.pid, file, args);

  close(): Promise<void> {
    this.#closing ??= this.remove()
      .then(() => this.held.close())
      .catch((error: unknown) => {
        this.#closing = undefined;
        throw error;
      });
    return this.#closing;
  }

  #inside(file: string, args: readonly string[]): string[] {
    return ['--target', `${this.pid}`, '--net', '--mount', '--', file, ...args];
  }
}

async function heldNamespace(pid: number): Promise<FileHandle> {
  try {
    return await open(`/proc/${pid}/ns/net`);
  } catch (cause) {
    const what = `the network namespace of the firewall's container cannot be held: ${messageOf(cause)}; the agent needs CAP_SYS_PTRACE, and the container must not end at once`;
    throw new DomainError('refused', what, { cause });
  }
}

export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** When a living process was started, in the kernel's own count: another process of the same number has another. Undefined when there is none (proc(5)). */
async function birthOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name, in parentheses, may have anything in it.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return state === undefined || /^[ZX]?$/.test(state) ? undefined : fields[18];
}
