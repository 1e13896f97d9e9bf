/**
 * The panel: a network namespace of the agent's own, in which the switch's side of every firewall (jacks) and the compartment's side (cords) meet, and nothing
 * else is. What is changed here the switch does not see.
 *
 * One process runs in it, its holder (panel.pl): what is plugged in when the agent dies goes on as long as its container lives. With nothing plugged in the panel
 * ends with the agent, and every pair with it that has a side there.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { DomainError } from '../../../shared/domain/domain.js';
import { MORE_DESCRIPTORS } from '../../../shared/runtime/command.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { projectRoot } from '../../../shared/runtime/project-root.js';
import { asNobody } from '../../runtime/as-nobody.js';
import { LinkWatch } from './link-watch.js';
import { CORD_PATTERN } from './panel-names.js';

const DEADLINE_MS = 5000;
const PERL = '/usr/bin/perl';
const PROGRAM = join('edge-agent', 'wiring', 'veth', 'panel.pl');

type Holder = ChildProcessByStdio<null, Readable, null>;

export class Panel {
  /** Of links in it. */
  readonly watch: LinkWatch;

  private constructor(
    private readonly namespace: FileHandle,
    private readonly holder: Holder,
    log: Log,
  ) {
    this.watch = new LinkWatch(log, this.path);
  }

  /** For ip(8), tc(8) and nsenter(1), as long as it is open. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.namespace.fd}`;
  }

  /** Fails with `refused`. */
  static async open(log: Log): Promise<Panel> {
    const program = readFileSync(join(projectRoot(), PROGRAM), 'utf8');
    const holding = [
      'setpriv',
      '--pdeathsig',
      'TERM',
      ...asNobody('-all'),
      PERL,
      '-e',
      program,
      CORD_PATTERN,
    ];
    // What ends a program's whole group ends the agent, and this after it.
    const holder = spawn('unshare', ['--net', '--', ...holding], {
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    try {
      if (holder.stdout === undefined) {
        holder.on('error', () => {});
        throw new Error(`unshare could not be started${MORE_DESCRIPTORS}`);
      }
      const signal = AbortSignal.timeout(DEADLINE_MS);
      const ended = once(holder, 'close', { signal }).then(() => {
        throw new Error(`its holder ended at once: the agent needs CAP_SYS_ADMIN, and ${PERL} must be there`);
      });
      // Once it says a line it runs in a namespace of its own.
      await Promise.race([once(holder.stdout, 'data', { signal }), ended]);
      const namespace = await open(`/proc/${holder.pid}/ns/net`);
      // Nothing waits for it but `close`.
      holder.stdout.destroy();
      holder.unref();
      return new Panel(namespace, holder, log);
    } catch (cause) {
      holder.kill('SIGKILL');
      const what = `no network namespace could be made for the ends of instances: ${messageOf(cause)}`;
      throw new DomainError('refused', what, { cause });
    }
  }

  async close(): Promise<void> {
    const { holder } = this;
    if (holder.exitCode === null && holder.signalCode === null) {
      const ended = once(holder, 'exit');
      holder.ref();
      holder.kill('SIGKILL');
      await ended;
    }
    await this.namespace.close();
  }
}
