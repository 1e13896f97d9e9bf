/**
 * The edge domain: instances that are iptables firewalls in compartments beside an Open vSwitch bridge.
 *
 * It keeps instances by terminal and epoch and lets an old epoch do nothing; calls for one terminal run one after another. What an instance is, is instance.ts.
 */
import { Calls } from '../../shared/domain/calls.js';
import {
  type Capabilities,
  type Domain,
  DomainError,
  type Ends,
  type Health,
  type InstanceDigest,
  type InstanceId,
  type ToldDelta,
} from '../../shared/domain/domain.js';
import { InstanceTable } from '../../shared/domain/instance-table.js';
import { valid, validState } from '../../shared/domain/valid.js';
import { type Policy, policySchema } from '../../shared/firewall/policy.js';
import type { Delta, Epoch, FirewallState, Snapshot } from '../../shared/firewall/state.js';
import { type Terminal, terminalSchema } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { InstanceRuntime } from '../runtime/runtime.js';
import { Unfinished } from '../unfinished.js';
import type { Wiring } from '../wiring/wiring.js';
import { healthOf } from './health.js';
import { Instance } from './instance.js';
import { Leftovers } from './leftovers.js';
import { Lodging } from './lodging.js';
import { Spares } from './spares.js';

export interface EdgeDomainOptions {
  readonly name: string;
  readonly runtime: InstanceRuntime;
  readonly wiring: Wiring;
  readonly log: Log;
  /** A longer lease is taken for one of this many ms. Default 60,000. */
  readonly maxLeaseMs?: number;
  /** A longer drain is taken for one of this many ms. Default 600,000. */
  readonly maxDrainMs?: number;
  /** For conntrack's events that the agent has not read yet, in bytes. Default 16 MiB. */
  readonly eventBufferBytes?: number;
  /** Connections are kept at least this many seconds from activation on, as far as their kind may be idle so long: on a standby they have met no packet. Default 7440. */
  readonly leastSeconds?: number;
  /** Containers that are kept ready for instances to come. Default 1. */
  readonly spares?: number;
  /** Instances at the same time, spares included; one more is refused. Default 128. */
  readonly maxInstances?: number;
}

/** What the controller gives unless configured otherwise. */
const DEFAULT_LEASE_MS = 10_000;
const DEFAULT_MAX_LEASE_MS = 60_000;
const DEFAULT_MAX_DRAIN_MS = 600_000;
const DEFAULT_SPARES = 1;
const DEFAULT_MAX_INSTANCES = 128;
/** An activation that has waited this long is one that nobody counts with any more. */
const MAX_ACTIVATION_WAIT_MS = 4000;

export class EdgeDomain implements Domain {
  readonly name: string;
  readonly #instances: InstanceTable<Instance>;
  readonly #calls: Calls<Instance>;
  /** The lease that was given last: new instances are built for it, so that their activation starts no process. */
  #usualLeaseMs = DEFAULT_LEASE_MS;
  readonly #unfinished: Unfinished;
  readonly #spares: Spares;
  /** Instances that are being built. */
  #building = 0;
  /** What retired instances have left is being removed. */
  readonly #removals = new Set<Promise<void>>();
  readonly #leftovers: Leftovers;
  #closing: Promise<void> | undefined;

  private constructor(private readonly options: EdgeDomainOptions) {
    this.name = options.name;
    this.#instances = new InstanceTable(options.name);
    this.#calls = new Calls(this.#instances, asDomainError);
    const { log, runtime, wiring, spares = DEFAULT_SPARES } = options;
    this.#leftovers = new Leftovers(runtime, wiring);
    this.#unfinished = new Unfinished(log);
    this.#spares = new Spares({
      make: async () => {
        await this.#leftovers.clean();
        return Lodging.make({ runtime, wiring, unfinished: this.#unfinished });
      },
      wanted: () => Math.min(spares, this.#maxInstances - this.#count),
      log,
    });
  }

  /**
   * Starts with nothing: what an earlier life of the agent left is removed, as nobody filters by it any more. When Docker or the bridge
   * are not there yet the domain starts all the same; `health` and every `prepare` say what is missing.
   */
  static async start(options: EdgeDomainOptions): Promise<EdgeDomain> {
    const domain = new EdgeDomain(options);
    const { log } = options;
    await domain.#leftovers
      .clean()
      .catch((error: unknown) =>
        log.warn({ err: error }, 'leftovers of an earlier run could not be removed: it is tried again later'),
      );
    const { ok, problem } = await domain.health();
    if (!ok) log.warn({ problem }, 'not ready');
    domain.#spares.fill();
    return domain;
  }

  async capabilities(): Promise<Capabilities> {
    return { implementation: 'iptables', serves: [await this.options.wiring.check()] };
  }

  async prepare(given: Snapshot, epoch: Epoch): Promise<Ends> {
    const snapshot = validState(given);
    const id: InstanceId = { terminal: snapshot.terminal.name, epoch };
    return this.#calls.run(id, async () => {
      const before = this.#instances.find(id);
      if (before && before.broken === undefined && before.role !== 'retired') return before.ends;
      // No call reaches older instances any more. Those that packets still go through stay until there is another for them.
      const useless = this.#instances
        .of(id.terminal)
        .filter(
          (instance) =>
            instance === before || ['standby', 'retired'].includes(instance.role) || instance.stopped,
        );
      for (const instance of useless) await this.#remove(instance);
      const started = performance.now();
      const instance = await this.#build(id, snapshot);
      this.#instances.set(id, instance);
      this.options.log.info(
        { ...id, connections: snapshot.connections.length, ms: Math.round(performance.now() - started) },
        'prepared',
      );
      return instance.ends;
    });
  }

  async #build(id: InstanceId, snapshot: FirewallState): Promise<Instance> {
    if (this.#count >= this.#maxInstances) {
      throw new DomainError(
        'refused',
        `${this.name} has ${this.#count} firewalls, and no more are allowed: raise maxInstances in the agent's configuration`,
      );
    }
    this.#building += 1;
    try {
      return await Instance.create(id, snapshot, await this.#spares.take(), {
        log: this.options.log,
        enqueue: (act) => this.#enqueue(id.terminal, act),
        eventBufferBytes: this.options.eventBufferBytes,
        leastSeconds: this.options.leastSeconds,
        leaseMs: Math.min(this.#usualLeaseMs, this.#maxLeaseMs),
      });
    } finally {
      this.#building -= 1;
    }
  }

  apply(id: InstanceId, deltas: readonly Delta[]): Promise<void> {
    return this.#calls.on(id, (instance) => instance.apply(deltas));
  }

  async sync(id: InstanceId, given: Snapshot): Promise<void> {
    const snapshot = validState(given);
    await this.#calls.on(id, (instance) => instance.sync(snapshot));
  }

  digest(id: InstanceId): Promise<InstanceDigest> {
    return this.#calls.on(id, (instance) => instance.digest());
  }

  async setTerminal(id: InstanceId, given: Terminal): Promise<void> {
    const terminal = valid(terminalSchema, given, 'terminal');
    await this.#calls.on(id, (instance) => instance.setTerminal(terminal));
  }

  async setPolicy(id: InstanceId, given: Policy): Promise<void> {
    const policy = valid(policySchema, given, 'policy');
    await this.#calls.on(id, (instance) => instance.setPolicy(policy));
  }

  activate(id: InstanceId, leaseMs: number): Promise<void> {
    const notAfter = performance.now() + MAX_ACTIVATION_WAIT_MS;
    return this.#calls.on(id, async (instance) => {
      // One active: the older ones, which no call reaches any more, end before this one admits anything.
      for (const older of this.#instances.of(id.terminal)) {
        if (older.id.epoch < id.epoch) await this.#remove(older);
      }
      this.#usualLeaseMs = leaseMs;
      await instance.activate(Math.min(leaseMs, this.#maxLeaseMs), notAfter);
    });
  }

  drain(id: InstanceId, drainMs: number): Promise<void> {
    const ms = Math.min(drainMs, this.options.maxDrainMs ?? DEFAULT_MAX_DRAIN_MS);
    return this.#calls.on(id, (instance) => instance.drain(ms));
  }

  retire(id: InstanceId): Promise<void> {
    return this.#calls.run(id, async () => {
      const instance = this.#instances.find(id);
      if (instance) await this.#remove(instance);
    });
  }

  export(id: InstanceId): Promise<FirewallState> {
    return this.#calls.on(id, (instance) => instance.export());
  }

  async *changes(
    id: InstanceId,
    fromSequence: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly ToldDelta[]> {
    yield* this.#instances.get(id).changes(fromSequence, signal);
  }

  health(): Promise<Health> {
    return healthOf(this.options, this.#instances.all());
  }

  /** Removes all instances: without an agent nobody renews their leases. May be called twice. */
  close(): Promise<void> {
    if (!this.#closing) {
      this.#calls.close(
        new DomainError('unreachable', `the agent of ${this.name} is closing: start it again`),
      );
      this.#closing = this.#close();
    }
    return this.#closing;
  }

  async #close(): Promise<void> {
    const removals = this.#instances.terminals().map((terminal) =>
      this.#calls.anyway(terminal, async () => {
        for (const instance of this.#instances.of(terminal)) await this.#remove(instance);
      }),
    );
    const results = await Promise.allSettled([...removals, this.#spares.close()]);
    await Promise.all(this.#removals);
    const last = await Promise.allSettled([this.#unfinished.finish(), this.options.wiring.close()]);
    const failed = [...results, ...last].find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** What a timer or an event asks for. */
  #enqueue(terminal: string, act: () => Promise<void>): void {
    this.#calls
      .anyway(terminal, act)
      .catch((error: unknown) =>
        this.options.log.error({ err: error, terminal }, 'an instance could not be changed'),
      );
  }

  /** Instances, and those that are being built. */
  get #count(): number {
    return this.#instances.size + this.#building;
  }

  get #maxInstances(): number {
    return this.options.maxInstances ?? DEFAULT_MAX_INSTANCES;
  }

  get #maxLeaseMs(): number {
    return this.options.maxLeaseMs ?? DEFAULT_MAX_LEASE_MS;
  }

  /** It stays known until nothing of it forwards any more, so that a retirement that failed can be repeated. */
  async #remove(instance: Instance): Promise<void> {
    await instance.close();
    this.#instances.delete(instance.id);
    const removal = instance.removed().finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
  }
}

function asDomainError(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  return new DomainError('refused', messageOf(error), { cause: error });
}
