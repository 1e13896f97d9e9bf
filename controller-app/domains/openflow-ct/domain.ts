/**
 * The SDN domain: firewalls as flow rules of one switch, with the switch's conntrack and the controller's knowledge of it.
 *
 * Calls for one terminal go one after another. Everything that changes the switch is one bundle, so a call that fails
 * has changed nothing there. Epochs fence: see the Domain interface.
 */
import { Calls } from '../../../shared/domain/calls.js';
import {
  type Capabilities,
  type Domain,
  DomainError,
  type Dpid,
  type Ends,
  type Health,
  type InstanceDigest,
  type InstanceId,
} from '../../../shared/domain/domain.js';
import { InstanceTable } from '../../../shared/domain/instance-table.js';
import { validState } from '../../../shared/domain/valid.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import type { Delta, Epoch, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock } from '../../../shared/runtime/clock.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import type { PacketIn } from '../../core/plugin.js';
import { unpackCookie } from '../../pipeline/index.js';
import type { FirewallHost } from './host.js';
import { Instance } from './instance.js';
import type { InstanceKeeper, InstanceRecord } from './record.js';
import { explained } from './refusals.js';
import { Terms } from './terms.js';
import { DEFAULT_TIMINGS, type Timings } from './timings.js';

/** Instance numbers of the whole controller; a number is one for a terminal and epoch while anybody holds it. */
export interface InstanceNumberSource {
  of(id: InstanceId, holder: 'domain'): number;
  restore(id: InstanceId, number: number, holder: 'domain'): void;
  release(id: InstanceId, holder: 'domain'): void;
}

export interface OpenFlowCtDomainOptions {
  readonly name: string;
  readonly dpid: Dpid;
  /** Switches whose attachments this domain serves best. Default: its own. */
  readonly serves?: readonly Dpid[];
  readonly host: FirewallHost;
  readonly numbers: InstanceNumberSource;
  readonly clock: Clock;
  readonly log: Log;
  readonly timings?: Partial<Timings>;
  /** Without one, a controller that begins anew knows of no instance, and the rules of those that there were are removed. */
  readonly keeper?: InstanceKeeper;
}

export class OpenFlowCtDomain implements Domain {
  readonly name: string;
  readonly dpid: Dpid;
  readonly #options: OpenFlowCtDomainOptions;
  readonly #timings: Timings;
  readonly #instances: InstanceTable<Instance>;
  readonly #byNumber = new Map<number, Instance>();
  readonly #calls: Calls<Instance>;
  readonly #terms: Terms;
  #closed = false;

  constructor(options: OpenFlowCtDomainOptions) {
    this.name = options.name;
    this.dpid = options.dpid;
    this.#options = options;
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings };
    this.#instances = new InstanceTable(options.name);
    this.#calls = new Calls(this.#instances, (error) => this.#explain(error));
    this.#terms = new Terms({
      clock: options.clock,
      timings: this.#timings,
      instances: () => this.#instances.all(),
      connected: () => options.host.connected(this.dpid),
      background: (instance, task) => this.#background(instance, task),
      onLeaseEnd: ({ parts: { id } }) =>
        options.log.warn({ domain: this.name, ...id }, 'the lease of a firewall has run out'),
    });
  }

  async capabilities(): Promise<Capabilities> {
    return { implementation: 'openflow-ct', serves: this.#options.serves ?? [this.dpid] };
  }

  async prepare(untrusted: Snapshot, epoch: Epoch): Promise<Ends> {
    const snapshot = validState(untrusted);
    const id: InstanceId = { terminal: snapshot.terminal.name, epoch };
    return this.#calls.run(id, async () => {
      const known = this.#instances.find(id);
      // A repetition, perhaps with a newer state: a standby is built anew, another instance stays as it is.
      if (known && known.role !== 'standby') return known.ends;
      this.#mustBeConnected();
      const instance = this.#instance(id, this.#options.numbers.of(id, 'domain'), snapshot);
      try {
        await instance.install();
      } catch (error) {
        if (!known) await this.#undo(instance);
        throw error;
      }
      known?.log.end();
      this.#add(instance);
      return instance.ends;
    });
  }

  /**
   * Takes up an instance that an earlier controller had in this domain, with the number and the rules that it has: to be called before the switch
   * connects. Only what differs is touched then. The times of its lease and its drain run anew, and whoever followed its changes must take a new snapshot.
   * Fails with `invalid` for a record of another domain, and `refused` when another instance has its number. May be repeated.
   */
  async resume(record: InstanceRecord): Promise<Ends> {
    const id: InstanceId = { terminal: record.terminal.name, epoch: record.epoch };
    if (record.domain !== this.name)
      throw new DomainError(
        'invalid',
        `${id.terminal} epoch ${id.epoch} is of ${record.domain}, not of ${this.name}`,
      );
    return this.#calls.anyway(id.terminal, async () => {
      const known = this.#instances.find(id);
      if (known) return known.ends;
      this.#options.numbers.restore(id, record.number, 'domain');
      const instance = this.#instance(id, record.number, record);
      try {
        await instance.resume();
      } catch (error) {
        this.#options.numbers.release(id, 'domain');
        throw error;
      }
      this.#add(instance);
      this.#terms.resume(instance);
      const active = this.#instances.of(id.terminal).filter(({ role }) => role === 'active');
      for (const { parts } of active) this.#fenceOff(parts.id);
      return instance.ends;
    });
  }

  async apply(id: InstanceId, deltas: readonly Delta[]): Promise<void> {
    const { inSwitch } = await this.#calls.on(id, (instance) => instance.apply(deltas));
    // Whoever calls next need not wait for the switch: its changes go with those of others.
    await inSwitch.catch((error: unknown) => {
      throw this.#explain(error);
    });
  }

  sync(id: InstanceId, untrusted: Snapshot): Promise<void> {
    return this.#calls.on(id, (instance) => instance.sync(validState(untrusted)));
  }

  digest(id: InstanceId): Promise<InstanceDigest> {
    return this.#calls.on(id, async (instance) => instance.digest());
  }

  setTerminal(id: InstanceId, terminal: Terminal): Promise<void> {
    return this.#calls.on(id, (instance) => instance.setTerminal(terminal));
  }

  setPolicy(id: InstanceId, policy: Policy): Promise<void> {
    return this.#calls.on(id, (instance) => instance.setPolicy(policy));
  }

  activate(id: InstanceId, leaseMs: number): Promise<void> {
    return this.#calls.on(id, async (instance) => {
      if (instance.role === 'draining') {
        throw new DomainError(
          'refused',
          `${id.terminal} epoch ${id.epoch} drains in ${this.name}: prepare an instance with a higher epoch`,
        );
      }
      this.#mustBeConnected();
      await instance.activate(leaseMs);
      this.#fenceOff(id);
      this.#terms.activated(instance);
    });
  }

  drain(id: InstanceId, drainMs: number): Promise<void> {
    return this.#calls.on(id, async (instance) => {
      if (instance.role === 'draining') return;
      await instance.drain(drainMs);
      this.#terms.draining(instance);
    });
  }

  retire(id: InstanceId): Promise<void> {
    return this.#calls.run(id, async () => {
      // Those of older epochs can't be named any more: they go, too.
      for (const instance of this.#instances.of(id.terminal)) await this.#remove(instance);
    });
  }

  export(id: InstanceId): Promise<FirewallState> {
    return this.#calls.on(id, (instance) => instance.export());
  }

  async *changes(
    id: InstanceId,
    fromSequence: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Delta[], void> {
    yield* this.#instances.get(id).log.follow(fromSequence, signal);
  }

  async health(): Promise<Health> {
    const instances = this.#instances.all().map(({ parts: { id }, role }) => ({ ...id, role }));
    if (this.#options.host.connected(this.dpid)) return { ok: true, instances };
    return { ok: false, problem: this.#notConnected(), instances };
  }

  /** A copy that a rule of the table `firewall-ct` sent to the controller. */
  packetIn({ cookie, message }: Pick<PacketIn, 'cookie' | 'message'>): void {
    const parts = unpackCookie(cookie);
    if (parts) this.#byNumber.get(parts.instance)?.packetIn(parts.kind, message.match, message.data);
  }

  /** Stops all timers and ends who follows changes. The rules stay in the switch, as with any warm restart. May be called twice. */
  close(): void {
    this.#closed = true;
    this.#terms.close();
    for (const instance of this.#instances.all()) instance.close();
  }

  /** What the older instances know they may finish, then they go. Nobody can name them any more. */
  #fenceOff({ terminal, epoch }: InstanceId): void {
    const older = this.#instances.of(terminal).filter(({ parts }) => parts.id.epoch < epoch);
    for (const instance of older) this.#terms.fence(instance, () => this.#remove(instance));
  }

  #instance(id: InstanceId, number: number, from: Snapshot | InstanceRecord): Instance {
    const { name: domain, dpid } = this;
    const { host, clock, keeper, log } = this.#options;
    const onKeepFailure = (error: unknown): void =>
      log.error(
        { domain, ...id, error: messageOf(error) },
        'a firewall could not be kept: a controller that begins anew may know less of it',
      );
    const parts = { domain, id, number, dpid, host, clock, keeper, onKeepFailure, timings: this.#timings };
    return new Instance(parts, from);
  }

  #add(instance: Instance): void {
    const { id, number } = instance.parts;
    this.#instances.set(id, instance);
    this.#byNumber.set(number, instance);
    this.#terms.watch();
  }

  async #remove(instance: Instance): Promise<void> {
    const { id, number } = instance.parts;
    this.#terms.end(instance);
    await instance.remove();
    this.#instances.delete(id);
    this.#byNumber.delete(number);
    this.#options.numbers.release(id, 'domain');
  }

  async #undo(instance: Instance): Promise<void> {
    const { id } = instance.parts;
    try {
      await instance.remove();
    } catch (error) {
      this.#options.log.warn({ ...id, error: messageOf(error) }, 'a firewall that failed was not removed');
    }
    this.#options.numbers.release(id, 'domain');
  }

  /** Work that nobody waits for. An instance that is gone by then needs none. */
  #background(instance: Instance, task: () => Promise<void>): void {
    const { id } = instance.parts;
    const done = this.#calls.anyway(id.terminal, async () => {
      if (instance.role !== 'retired' && !this.#closed) await task();
    });
    done.catch((error: unknown) => {
      this.#options.log.warn({ domain: this.name, ...id, error: messageOf(error) }, 'rules not changed');
    });
  }

  #mustBeConnected(): void {
    if (!this.#options.host.connected(this.dpid)) throw new DomainError('not-ready', this.#notConnected());
  }

  #notConnected(): string {
    return `switch ${this.dpid} of ${this.name} is not connected: start it and point it at this controller (ovs-vsctl set-controller)`;
  }

  #explain(error: unknown): DomainError {
    const connected = this.#options.host.connected(this.dpid);
    return explained(error, connected ? `switch ${this.dpid} of ${this.name}` : undefined, () =>
      this.#notConnected(),
    );
  }
}
