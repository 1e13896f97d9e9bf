import { randomUUID } from 'node:crypto';
import Docker from 'dockerode';
import { DomainError } from '../../../shared/domain/domain.js';
import { DEFAULT_IDLE_TIMES } from '../../../shared/firewall/timeouts.js';
import { CommandError, MORE_DESCRIPTORS, run } from '../../../shared/runtime/command.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { Unfinished } from '../../unfinished.js';
import type { Compartment, InstanceRuntime } from '../runtime.js';
import { DockerCompartment, exists, FILES } from './docker-compartment.js';
import { isNotFound, provideImage, statusOf } from './image.js';

export interface DockerRuntimeOptions {
  /** The agent's name: its containers are known by it. */
  readonly agent: string;
  readonly socketPath: string;
  /** Where set-up put the image's archive. */
  readonly cacheDirectory: string;
  /** A tag instead of the current image's. */
  readonly image?: string | undefined;
  /** Docker answers most requests in milliseconds; when it takes this long it hangs. Default 20,000 ms. */
  readonly timeoutMs?: number;
  readonly log: Log;
}

const LABEL = { agent: 'paguro.agent', request: 'paguro.request' } as const;
/** Of the first process alone, which sleeps: programs that enter from outside count as the agent's. */
const MEMORY_BYTES = 32 * 2 ** 20;
/** Docker's own start of a container takes some threads. */
const PROCESSES = 16;
/** The first process holds the namespaces and does nothing: it needs no rights. */
const NOBODY = '65534:65534';
const FILES_BYTES = 32 * 2 ** 20;
const DOCKER_TIMEOUT_MS = 20_000;
/** A request that Docker had when it hung is carried out this soon after it answers again, or never. */
const LATE_MS = 5000;

/** Kernel modules that are not loaded on demand, each with a file that shows that it is there. */
const MODULES = [
  { name: 'br_netfilter', shows: '/proc/sys/net/bridge/bridge-nf-call-iptables' },
  { name: 'nf_conntrack', shows: '/proc/sys/net/netfilter/nf_conntrack_tcp_loose' },
] as const;

/** All are per network namespace. /proc/sys is read-only in the container, so they are set when it is created. */
const SYSCTLS: Readonly<Record<string, string>> = {
  'net.bridge.bridge-nf-call-iptables': '1',
  'net.bridge.bridge-nf-call-ip6tables': '1',
  // Loaded entries have no window: packets outside of it must pass. RSTs outside of it then pass, too.
  'net.netfilter.nf_conntrack_tcp_be_liberal': '1',
  // With 1, the default, a packet in mid-stream would open a connection that was never admitted.
  'net.netfilter.nf_conntrack_tcp_loose': '0',
  // By default an entry made before anybody listens never reports its changes.
  'net.netfilter.nf_conntrack_events': '1',
  'net.netfilter.nf_conntrack_tcp_timeout_syn_sent': `${DEFAULT_IDLE_TIMES.tcpOpening}`,
  'net.netfilter.nf_conntrack_tcp_timeout_syn_recv': `${DEFAULT_IDLE_TIMES.tcpAnswered}`,
  'net.netfilter.nf_conntrack_tcp_timeout_established': `${DEFAULT_IDLE_TIMES.tcpEstablished}`,
  'net.netfilter.nf_conntrack_tcp_timeout_fin_wait': `${DEFAULT_IDLE_TIMES.tcpClosing}`,
  'net.netfilter.nf_conntrack_tcp_timeout_close_wait': `${DEFAULT_IDLE_TIMES.tcpClosing}`,
  'net.netfilter.nf_conntrack_tcp_timeout_last_ack': `${DEFAULT_IDLE_TIMES.tcpClosing}`,
  'net.netfilter.nf_conntrack_tcp_timeout_time_wait': `${DEFAULT_IDLE_TIMES.tcpClosed}`,
  'net.netfilter.nf_conntrack_tcp_timeout_close': `${DEFAULT_IDLE_TIMES.tcpClosed}`,
  'net.netfilter.nf_conntrack_udp_timeout': `${DEFAULT_IDLE_TIMES.udp}`,
  'net.netfilter.nf_conntrack_udp_timeout_stream': `${DEFAULT_IDLE_TIMES.udpReplied}`,
  'net.netfilter.nf_conntrack_icmp_timeout': `${DEFAULT_IDLE_TIMES.icmp}`,
  'net.netfilter.nf_conntrack_icmpv6_timeout': `${DEFAULT_IDLE_TIMES.icmp}`,
};

export class DockerRuntime implements InstanceRuntime {
  readonly #docker: Docker;
  /** For requests that Docker answers when something happens. */
  readonly #patient: Docker;
  readonly #unfinished: Unfinished;
  #image: string | undefined;

  constructor(private readonly options: DockerRuntimeOptions) {
    this.#unfinished = new Unfinished(options.log);
    this.#docker = new Docker({
      socketPath: options.socketPath,
      timeout: options.timeoutMs ?? DOCKER_TIMEOUT_MS,
    });
    this.#patient = new Docker({ socketPath: options.socketPath });
  }

  async check(): Promise<void> {
    await Promise.all([loadModules(), this.#asking(() => this.#docker.ping())]);
    this.#image = await this.#asking(() => this.#provideImage());
  }

  async create(): Promise<Compartment> {
    const image = this.#image ?? (await this.#asking(() => this.#provideImage()));
    let container: Docker.Container;
    try {
      container = await this.#createContainer(image);
    } catch (error) {
      // The image may have been removed since, or be another by now: look once more, and say what is wrong with it.
      if (!isNotFound(error)) throw this.#explain(error);
      this.#image = await this.#asking(() => this.#provideImage());
      const found = this.#image;
      container = await this.#asking(() => this.#createContainer(found));
    }
    this.#image = image;
    try {
      await container.start();
      const { State } = await container.inspect();
      if (!State.Running || State.Pid === 0) {
        throw new DomainError(
          'refused',
          `the firewall's container ended at once: ${State.Error || `exit code ${State.ExitCode}`}`,
        );
      }
      return await DockerCompartment.of(
        () => this.#asking(() => removeContainer(container)),
        this.#patient.getContainer(container.id),
        State.Pid,
      );
    } catch (error) {
      await this.#unfinished.undo('a container', () => removeContainer(container));
      throw this.#explain(error);
    }
  }

  async removeLeftovers(): Promise<void> {
    const containers = await this.#asking(() =>
      this.#docker.listContainers({
        all: true,
        filters: { label: [`${LABEL.agent}=${this.options.agent}`] },
      }),
    );
    await Promise.all(
      containers.map(({ Id }) => this.#asking(() => removeContainer(this.#docker.getContainer(Id)))),
    );
    if (containers.length > 0)
      this.options.log.info({ containers: containers.length }, 'removed containers of an earlier run');
  }

  #provideImage(): Promise<string> {
    return provideImage(this.#docker, this.options.cacheDirectory, this.options.image);
  }

  /** A request that is given up may still be carried out when Docker comes to its senses: what comes of it then is removed. */
  async #createContainer(image: string): Promise<Docker.Container> {
    const request = randomUUID();
    try {
      return await this.#requestContainer(image, request);
    } catch (error) {
      if (statusOf(error) === undefined) {
        let answersSince: number | undefined;
        void this.#unfinished.undo('the container of a request that Docker did not answer', async () => {
          const [late] = await this.#docker.listContainers({
            all: true,
            filters: { label: [`${LABEL.request}=${request}`] },
          });
          answersSince ??= performance.now();
          if (late) await removeContainer(this.#docker.getContainer(late.Id));
          else if (performance.now() - answersSince < LATE_MS) throw new Error('it may still come');
        });
      }
      throw error;
    }
  }

  #requestContainer(image: string, request: string): Promise<Docker.Container> {
    return this.#docker.createContainer({
      Image: image,
      Cmd: ['/usr/bin/sleep', 'infinity'],
      User: NOBODY,
      Labels: { [LABEL.agent]: this.options.agent, [LABEL.request]: request },
      HostConfig: {
        NetworkMode: 'none',
        Sysctls: { ...SYSCTLS },
        ReadonlyRootfs: true,
        Tmpfs: { [FILES]: `rw,noexec,nosuid,nodev,mode=700,size=${FILES_BYTES}` },
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges'],
        Memory: MEMORY_BYTES,
        PidsLimit: PROCESSES,
        LogConfig: { Type: 'none', Config: {} },
        RestartPolicy: { Name: 'no' },
      },
    });
  }

  async #asking<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  /** Docker's errors in words that say what to do. */
  #explain(error: unknown): DomainError {
    if (error instanceof DomainError) return error;
    const message = messageOf(error);
    if (/\bE[MN]FILE\b/.test(message)) {
      return new DomainError('not-ready', `Docker could not be asked${MORE_DESCRIPTORS}`, { cause: error });
    }
    if (statusOf(error) === undefined && /\bEACCES\b/.test(message)) {
      const what = `this user may not use ${this.options.socketPath}: run the agent as root (${message})`;
      return new DomainError('not-ready', what, { cause: error });
    }
    if (statusOf(error) === undefined) {
      return new DomainError(
        'not-ready',
        `Docker does not answer on ${this.options.socketPath}: start it ("systemctl start docker", or dockerd), or see why it hangs, and try again (${message})`,
        { cause: error },
      );
    }
    return new DomainError('refused', `Docker refused: ${message}`, { cause: error });
  }
}

async function removeContainer(container: Docker.Container): Promise<void> {
  try {
    await container.remove({ force: true, v: true });
  } catch (error) {
    // 409: somebody else is removing it at this moment.
    if (!isNotFound(error) && statusOf(error) !== 409) throw error;
  }
}

async function loadModules(): Promise<void> {
  for (const { name, shows } of MODULES) {
    if (await exists(shows)) continue;
    const cause = await run('modprobe', [name]).then(
      () => undefined,
      (error: unknown) => (error instanceof CommandError ? error : undefined),
    );
    if (await exists(shows)) continue;
    throw new DomainError(
      'not-ready',
      `the kernel has no ${name}, without which a bridge is not filtered: run "modprobe ${name}" or use another kernel`,
      { cause },
    );
  }
}
