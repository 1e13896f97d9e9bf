/**
 * The whole system in a lab: Open vSwitch, Docker, Mininet, a controller and an edge agent, as a user would start them, and the calls that
 * a scenario is made of. README.md shows one.
 */
import { writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApiClient } from '../../shared/api/client.js';
import type { ApiEvent, HandoverReport, HandoverRequest, TerminalStatus } from '../../shared/api/schema.js';
import {
  certifySwitches,
  currentLab,
  type Daemon,
  type Docker,
  labCertificate,
  type Mininet,
  type Move,
  type NetworkSpec,
  type SendingLink,
  sourceFile,
  startDaemon,
  startDocker,
  startMininet,
  startOpenVSwitch,
  tlsYaml,
  waitFor,
} from '../lab/index.js';
import { type AgentSpec, asAgent, mayLearn, ofAlice, overTls, withoutTimings } from './configuration.js';
import type { Host } from './hosts/host.js';
import { NO_ORDER, type Order, orderLab } from './priorities.js';

const CONTROLLER = fileURLToPath(new URL('../../controller-app/main.js', import.meta.url));
const AGENT = fileURLToPath(new URL('../../edge-agent/main.js', import.meta.url));
const FIRST_AGENT = 'edge-1';
const READY_MS = 60_000;
const HANDOVER_MS = 60_000;
/** Of the switches of the demo's network. */
const DPIDS = [1, 2, 3];

export interface PaguroOptions {
  /** The whole text of the controller's configuration in place of the example, but for the socket, which is appended. */
  readonly controller?: string;
  /** YAML text of alice's policy. Default: scripts/examples/policy-phone.yaml. */
  readonly policy?: string;
  /** Appended to the controller's configuration: `timings:`, `plugins:`. */
  readonly controllerYaml?: string;
  /** Alice may learn addresses, as the example says. */
  readonly learn?: boolean;
  /** Domains that keep a standby of alice's firewall. Default: none. */
  readonly standbys?: readonly string[];
  /** On how many ports alice may be at once. Default: 1. */
  readonly attachments?: 1 | 2;
  /** Appended to the agent's. */
  readonly agentYaml?: string;
  readonly network?: NetworkSpec;
  /** Default true: channel and OpenFlow over TLS, with certificates of the lab's own CA. */
  readonly tls?: boolean;
  /** Default true. */
  readonly docker?: boolean;
  /** Default: edge-1, beside s2. */
  readonly agents?: readonly AgentSpec[];
  /** Whether the programs have an order, see priorities.ts. Default: false. */
  readonly priorities?: boolean;
  /** Called when the network is there and no controller yet. */
  readonly beforeController?: (net: Mininet, order: Order) => Promise<void>;
}

/** A running system. Everything in it ends with the lab; `close` ends it in order. */
export class Paguro {
  readonly api: ApiClient;
  readonly #events: ApiEvent[] = [];
  readonly #stop = new AbortController();
  readonly #agents = new Map<string, Daemon>();
  #controller: Daemon | undefined;

  private constructor(
    readonly net: Mininet,
    readonly docker: Docker | undefined,
    readonly folder: string,
    readonly agents: readonly AgentSpec[],
    readonly order: Order,
    socket: string,
  ) {
    this.api = new ApiClient(`unix:${socket}`);
  }

  static async start(options: PaguroOptions = {}): Promise<Paguro> {
    const lab = currentLab();
    const policy =
      options.policy ?? (await readFile(sourceFile('scripts/examples/policy-phone.yaml'), 'utf8'));
    const controller =
      options.controller ?? (await readFile(sourceFile('scripts/examples/controller.yaml'), 'utf8'));
    const agent = await readFile(sourceFile('scripts/examples/agent.yaml'), 'utf8');
    writeFileSync(join(lab.folder, 'policy-phone.yaml'), policy);
    const bare = options.controllerYaml === undefined ? controller : withoutTimings(controller);
    const alices = options.controller === undefined ? ofAlice(bare, options) : bare;
    const learning = options.learn ? mayLearn(alices) : alices;
    const tls = options.tls ?? true;
    writeFileSync(
      join(lab.folder, 'controller.yaml'),
      `${learning}\nsocket: ${lab.apiSocket}\n${tls ? tlsYaml(await labCertificate('controller')) : ''}${options.controllerYaml ?? ''}`,
    );
    const agents = options.agents ?? [{ name: FIRST_AGENT, bridge: 's2' }];
    for (const spec of agents) {
      const plain = asAgent(agent, spec);
      const yaml = tls ? overTls(plain, tlsYaml(await labCertificate('agent', spec.name))) : plain;
      writeFileSync(configOf(lab.folder, spec.name), `${yaml}\n${options.agentYaml ?? ''}`);
    }
    const openVSwitch = await startOpenVSwitch();
    if (tls) await certifySwitches(options.network?.switches?.map(({ dpid }) => dpid) ?? DPIDS);
    const [net, docker] = await Promise.all([
      startMininet({ controllers: [`${tls ? 'ssl' : 'tcp'}:127.0.0.1:6653`], ...options.network }),
      options.docker === false ? undefined : startDocker(),
    ]);
    const order = options.priorities ? await orderLab(openVSwitch, net) : NO_ORDER;
    await options.beforeController?.(net, order);
    const paguro = new Paguro(net, docker, lab.folder, agents, order, lab.apiSocket);
    await paguro.startController();
    await Promise.all(agents.map(({ name }) => paguro.startAgent(name)));
    return paguro;
  }

  get hosts(): ReadonlyMap<string, Host> {
    return this.net.hosts;
  }

  host(name: string): Host {
    return this.net.host(name);
  }

  /** From its next start on the controller lets alice learn addresses, as the example says. */
  async letLearn(): Promise<void> {
    const file = join(this.folder, 'controller.yaml');
    await writeFile(file, mayLearn(await readFile(file, 'utf8')));
  }

  /** Settles when all switches are connected. */
  async startController(): Promise<void> {
    const config = join(this.folder, 'controller.yaml');
    this.#controller = await startDaemon(
      process.execPath,
      [CONTROLLER, 'controller', '--config', config],
      async () => {
        const status = await this.api.status().catch(() => undefined);
        return status?.switches.every((sw) => sw.connected) ?? false;
      },
      { name: 'controller', hint: 'The controller did not come up with its switches.', timeoutMs: READY_MS },
    );
    await this.order.program(this.#controller.pid);
    void this.#listen();
  }

  /** Settles when the agent is connected; whether it can run firewalls is another question, which its domain's status answers. */
  async startAgent(name = FIRST_AGENT): Promise<void> {
    const config = configOf(this.folder, name);
    const daemon = await startDaemon(
      process.execPath,
      [AGENT, '--config', config],
      async () => {
        const edge = await this.domain(name).catch(() => undefined);
        return edge !== undefined && !edge.problem?.startsWith('no agent');
      },
      {
        name: name === FIRST_AGENT ? 'agent' : `agent-${name}`,
        hint: 'The agent did not connect.',
        timeoutMs: READY_MS,
      },
    );
    this.#agents.set(name, daemon);
    await this.order.program(daemon.pid);
  }

  async stopAgent(name = FIRST_AGENT): Promise<void> {
    await this.#agents.get(name)?.close();
  }

  /** As by `kill -9`: it has no time to put anything away. */
  async killAgent(name = FIRST_AGENT): Promise<void> {
    await kill(this.#agents.get(name));
  }

  /** SIGHUP to the controller: its certificates are read again. */
  hangUp(): void {
    if (this.#controller?.running()) process.kill(this.#controller.pid, 'SIGHUP');
  }

  /** As by `kill -9`. */
  async killController(): Promise<void> {
    await kill(this.#controller);
  }

  /** Those of its programs that run now. */
  pids(): { readonly controller: number | undefined; readonly agents: ReadonlyMap<string, number> } {
    const running = [...this.#agents].filter(([, daemon]) => daemon.running());
    return {
      controller: this.#controller?.running() ? this.#controller.pid : undefined,
      agents: new Map(running.map(([name, daemon]) => [name, daemon.pid])),
    };
  }

  async domain(name: string) {
    return (await this.api.status()).domains.find((domain) => domain.name === name);
  }

  async terminal(name: string): Promise<TerminalStatus> {
    const found = (await this.api.terminals()).find((terminal) => terminal.name === name);
    if (!found) throw new Error(`no terminal ${name}`);
    return found;
  }

  /** Waits until the terminal's firewall is active in a domain and no handover is under way. */
  settled(terminal: string, domain: string): Promise<TerminalStatus> {
    return waitFor(
      `the firewall of ${terminal} is active in ${domain}`,
      async () => {
        const status = await this.terminal(terminal);
        return status.active?.domain === domain && status.handover === null && status;
      },
      { timeoutMs: HANDOVER_MS, intervalMs: 20 },
    );
  }

  /** Makes a terminal known to the network by its first frames, and waits for its first firewall. */
  async attach(terminal: string, host: string, domain: string): Promise<TerminalStatus> {
    const { ipv4 } = this.host('h2');
    const frames = this.host(host)
      .exec('ping', ['-c', '20', '-i', '0.1', '-w', '3', ipv4])
      .catch(() => undefined);
    const status = await this.settled(terminal, domain);
    await frames;
    return status;
  }

  /** Moves a host's link to another switch, and nothing else: the controller is to notice by itself. */
  move(host: string, to: string): Promise<Move> {
    return this.net.move(host, to);
  }

  /** A host with two links sends by the one to this switch from now on; it goes on receiving on both. */
  sendBy(host: string, to: string): Promise<SendingLink> {
    return this.net.sendBy(host, to);
  }

  handover(
    terminal: string,
    to: string,
    options: Omit<HandoverRequest, 'to' | 'wait'> = {},
  ): Promise<HandoverReport> {
    return this.api.handover(terminal, { to, ...options });
  }

  /** The report of the next handover of a terminal that ends after the `seen`-th. */
  async handoverAfter(terminal: string, seen: number): Promise<HandoverReport> {
    return waitFor(
      `a handover of ${terminal} ends`,
      async () => (await this.api.handovers()).filter((report) => report.terminal === terminal)[seen],
      { timeoutMs: HANDOVER_MS, intervalMs: 20 },
    );
  }

  /** The report of the next handover of a terminal that ends, by the events after the `seen`-th. */
  async nextHandover(terminal: string, seen: number): Promise<HandoverReport> {
    return waitFor(
      `a handover of ${terminal} ends`,
      () =>
        this.#events
          .slice(seen)
          .flatMap((event) => (event.kind === 'handover' ? [event.report] : []))
          .find((report) => report.terminal === terminal),
      { timeoutMs: HANDOVER_MS },
    );
  }

  /** Events so far, the oldest first. */
  get events(): readonly ApiEvent[] {
    return this.#events;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...this.#agents.values()].map((agent) => agent.close()));
    await this.#controller?.close();
    await this.net.close();
    await this.docker?.close();
  }

  async #listen(): Promise<void> {
    try {
      for await (const event of await this.api.events(this.#stop.signal)) this.#events.push(event);
    } catch {
      // The controller has ended: a scenario that needs it will say so.
    }
  }
}

async function kill(daemon: Daemon | undefined): Promise<void> {
  if (!daemon?.running()) return;
  process.kill(daemon.pid, 'SIGKILL');
  await daemon.ended;
}

function configOf(folder: string, agent: string): string {
  return join(folder, agent === FIRST_AGENT ? 'agent.yaml' : `agent-${agent}.yaml`);
}
