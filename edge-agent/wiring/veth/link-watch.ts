/**
 * Tells at once when a link of a network namespace vanishes: the kernel reports it to `ip monitor`, which runs while anything is watched.
 *
 * What the monitor misses before it listens, or while it is being started again, is found by looking at all links.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { DomainError } from '../../../shared/domain/domain.js';
import { MORE_DESCRIPTORS } from '../../../shared/runtime/command.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { vethLinks, within } from './links.js';

const AGAIN_MS = 500;
const LISTENING_DEADLINE_MS = 5000;
const LISTENING_POLL_MS = 2;
/** `Deleted 12: pg1234t1@if11: <BROADCAST,…`: what `ip -oneline monitor link` prints. */
const DELETED = /^Deleted \d+: ([^:@\s]{1,15})[:@]/;
const NETLINK_ROUTE = '0';

type Monitor = ChildProcessByStdio<null, Readable, null>;

export class LinkWatch {
  readonly #watched = new Map<string, () => void>();
  #monitor: Monitor | undefined;
  #listening: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Of the namespace at this path, or the agent's own. */
  constructor(
    private readonly log: Log,
    private readonly namespace?: string,
  ) {}

  /** Calls `gone` once, when this link is there no more. Fails with `refused` when that cannot be watched. */
  async watch(name: string, gone: () => void): Promise<void> {
    this.#watched.set(name, gone);
    try {
      await this.#listen();
    } catch (error) {
      this.forget(name);
      throw error;
    }
  }

  /** Whatever becomes of this link, nobody is told. May be repeated. */
  forget(name: string): void {
    this.#watched.delete(name);
    if (this.#watched.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const monitor = this.#monitor;
    this.#monitor = undefined;
    this.#listening = undefined;
    monitor?.kill('SIGKILL');
  }

  #listen(): Promise<void> {
    this.#listening ??= this.#start();
    return this.#listening;
  }

  async #start(): Promise<void> {
    // It dies with the agent, however that ends.
    const command = within(this.namespace, ['ip', '-oneline', 'monitor', 'link']);
    const monitor = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    monitor.on('error', () => {});
    if (monitor.stdout === undefined || monitor.pid === undefined) {
      this.#ended(undefined);
      throw new DomainError('refused', `"ip monitor" could not be started${MORE_DESCRIPTORS}`);
    }
    this.#monitor = monitor;
    createInterface({ input: monitor.stdout }).on('line', (line) => {
      const [, name] = DELETED.exec(line) ?? [];
      if (name !== undefined) this.#gone(name);
    });
    monitor.on('close', () => this.#ended(monitor));
    try {
      await this.#untilListening(monitor.pid);
      await this.#compare();
    } catch (error) {
      // Its end starts another one, as long as anything is watched.
      monitor.kill('SIGKILL');
      throw error;
    }
  }

  async #untilListening(pid: number): Promise<void> {
    const deadline = performance.now() + LISTENING_DEADLINE_MS;
    while (performance.now() < deadline) {
      if (this.#monitor?.pid !== pid) return;
      // As it sees it: of the namespace that it is in. There is none when it has ended.
      const sockets = await readFile(`/proc/${pid}/net/netlink`, 'utf8').catch(() => '');
      if (isMonitoring(sockets, pid)) return;
      await delay(LISTENING_POLL_MS);
    }
    throw new DomainError('refused', '"ip monitor link" does not listen: see that iproute2 is installed');
  }

  /** Those that are not there, whoever was told of it. */
  async #compare(): Promise<void> {
    const there = new Set((await vethLinks(this.namespace)).map(({ ifname }) => ifname));
    for (const name of [...this.#watched.keys()]) if (!there.has(name)) this.#gone(name);
  }

  #gone(name: string): void {
    const gone = this.#watched.get(name);
    this.forget(name);
    gone?.();
  }

  #ended(monitor: Monitor | undefined): void {
    if (this.#monitor !== monitor) return;
    this.#monitor = undefined;
    this.#listening = undefined;
    if (this.#watched.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#listen().catch((error: unknown) =>
        this.log.warn(
          { error: messageOf(error) },
          'whether ends of instances vanish is not watched just now',
        ),
      );
    }, AGAIN_MS).unref();
  }
}

/** Whether `/proc/…/net/netlink` shows a socket of this process that hears of links (columns: sk Eth Pid Groups …). */
export function isMonitoring(sockets: string, pid: number): boolean {
  return sockets.split('\n').some((line) => {
    const [, protocol, port, groups = '0'] = line.trim().split(/\s+/);
    return protocol === NETLINK_ROUTE && port === `${pid}` && !/^0+$/.test(groups);
  });
}
