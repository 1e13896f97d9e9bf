/**
 * The SDN domain: firewalls as flow rules of one switch, with the switch's conntrack and the controller's knowledge of it.
 *
 * Calls for one terminal go one after another. Everything that changes the switch is one bundle, so a call that fails
 * has changed nothing there. Epochs fence: see the Domain interface.
 */
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
import type { Policy } from '../../../shared/firewall/policy.js';
import type { Delta, Epoch, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock, Timer } from '../../../shared/runtime/clock.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import type { PacketIn } from '../../core/plugin.js';
import { unpackCookie } from '../../pipeline/index.js';
import type { FirewallHost } from './host.js';
import { Instance } from './instance.js';
import type { InstanceKeeper, InstanceRecord } from './record.js';
import { checkedState, explained } from './refusals.js';
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

/** What the domain keeps of one terminal. */
interface Firewalls {
  /** The highest epoch seen. */
  epoch: number;
  readonly instances: Map<Epoch, Held>;
  /** The end of the queue. */
  tail: Promise<unknown>;
}

interface Held {
  readonly instance: Instance;
  readonly ends: Ends;
  lease: Timer | undefined;
  drainEnd: Timer | undefined;
  generation: Timer | undefined;
  /** A newer instance is active in this domain. */
  fenced: boolean;
}

export class OpenFlowCtDomain implements Domain {
  readonly name: string;
  readonly dpid: Dpid;
  readonly #options: OpenFlowCtDomainOptions;
  readonly #timings: Timings;
  readonly #terminals = new Map<string, Firewalls>();
  readonly #byNumber = new Map<number, Instance>();
  #tick: Timer | undefined;
  #closed = false;

  constructor(options: OpenFlowCtDomainOptions) {
    this.name = options.name;
    this.dpid = options.dpid;
    this.#options = options;
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings };
  }

  async capabilities(): Promise<Capabilities> {
    return { implementation: 'openflow-ct', serves: this.#options.serves ?? [this.dpid] };
  }

  async prepare(untrusted: Snapshot, epoch: Epoch): Promise<Ends> {
    const snapshot = checkedState(untrusted);
    const { name } = snapshot.terminal;
    return this.#enqueue(name, async (firewalls) => {
      this.#fence(firewalls, { terminal: name, epoch });
      const known = firewalls.instances.get(epoch);
      // A repetition, perhaps with a newer state: a standby is built anew, another instance stays as it is.
      if (known && known.instance.role !== 'standby') return known.ends;
      this.#mustBeConnected();
      const id: InstanceId = { terminal: name, epoch };
      const held = this.#hold(id, this.#options.numbers.of(id, 'domain'), snapshot);
      try {
        await held.instance.install();
      } catch (error) {
        if (!known) await this.#undo(held.instance);
        throw error;
      }
      known?.instance.log.end();
      firewalls.epoch = epoch;
      this.#add(firewalls, held);
      return held.ends;
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
    return this.#enqueue(id.terminal, async (firewalls) => {
      const known = firewalls.instances.get(id.epoch);
      if (known) return known.ends;
      this.#options.numbers.restore(id, record.number, 'domain');
      const held = this.#hold(id, record.number, record);
      try {
        await held.instance.resume();
      } catch (error) {
        this.#options.numbers.release(id, 'domain');
        throw error;
      }
      firewalls.epoch = Math.max(firewalls.epoch, id.epoch);
      this.#add(firewalls, held);
      this.#resumeTimers(firewalls, held);
      return held.ends;
    });
  }

  async apply(id: InstanceId, deltas: readonly Delta[]): Promise<void> {
    const { inSwitch } = await this.#call(id, ({ instance }) => instance.apply(deltas));
    // Whoever calls next need not wait for the switch: its changes go with those of others.
    await inSwitch.catch((error: unknown) => {
      throw this.#explain(error);
    });
  }

  sync(id: InstanceId, untrusted: Snapshot): Promise<void> {
    return this.#call(id, ({ instance }) => instance.sync(checkedState(untrusted)));
  }

  digest(id: InstanceId): Promise<InstanceDigest> {
    return this.#call(id, async ({ instance }) => instance.digest());
  }

  setTerminal(id: InstanceId, terminal: Terminal): Promise<void> {
    return this.#call(id, ({ instance }) => instance.setTerminal(terminal));
  }

  setPolicy(id: InstanceId, policy: Policy): Promise<void> {
    return this.#call(id, ({ instance }) => instance.setPolicy(policy));
  }

  activate(id: InstanceId, leaseMs: number): Promise<void> {
    return this.#call(id, async (held, firewalls) => {
      if (held.instance.role === 'draining') {
        throw new DomainError(
          'refused',
          `${id.terminal} epoch ${id.epoch} drains in ${this.name}: prepare an instance with a higher epoch`,
        );
      }
      this.#mustBeConnected();
      await held.instance.activate(leaseMs);
      this.#fenceOff(firewalls, id);
      this.#startLease(held);
      if (!held.generation) this.#scheduleGeneration(held);
    });
  }

  drain(id: InstanceId, drainMs: number): Promise<void> {
    return this.#call(id, async (held) => {
      if (held.instance.role === 'draining') return;
      await held.instance.drain(drainMs);
      held.lease?.close();
      held.generation?.close();
      this.#startDrainEnd(held);
    });
  }

  retire(id: InstanceId): Promise<void> {
    return this.#enqueue(id.terminal, async (firewalls) => {
      this.#fence(firewalls, id);
      // Those of older epochs can't be named any more: they go, too.
      for (const held of [...firewalls.instances.values()]) await this.#remove(firewalls, held);
    });
  }

  export(id: InstanceId): Promise<FirewallState> {
    return this.#call(id, ({ instance }) => instance.export());
  }

  async *changes(
    id: InstanceId,
    fromSequence: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Delta[], void> {
    yield* this.#held(this.#of(id.terminal), id).instance.log.follow(fromSequence, signal);
  }

  async health(): Promise<Health> {
    const instances = [...this.#terminals].flatMap(([terminal, { instances: held }]) =>
      [...held].map(([epoch, { instance }]) => ({ terminal, epoch, role: instance.role })),
    );
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
    this.#tick?.close();
    for (const { instances } of this.#terminals.values()) {
      for (const held of instances.values()) {
        closeTimers(held);
        held.instance.close();
      }
    }
  }

  /** A newer instance is active: what the older ones know they may finish, then they go. Nobody can name them any more. */
  #fenceOff(firewalls: Firewalls, id: InstanceId): void {
    for (const [epoch, older] of firewalls.instances) {
      if (epoch >= id.epoch || older.fenced) continue;
      older.fenced = true;
      closeTimers(older);
      const { fencedMs } = this.#timings;
      this.#background(id.terminal, older.instance, () => older.instance.drain(fencedMs));
      older.drainEnd = this.#after(fencedMs, { ...id, epoch }, undefined, () =>
        this.#remove(firewalls, older),
      );
    }
  }

  async #remove(firewalls: Firewalls, held: Held): Promise<void> {
    const { id, number } = held.instance.parts;
    closeTimers(held);
    await held.instance.remove();
    firewalls.instances.delete(id.epoch);
    this.#byNumber.delete(number);
    this.#options.numbers.release(id, 'domain');
  }

  #hold(id: InstanceId, number: number, from: Snapshot | InstanceRecord): Held {
    const { name: domain, dpid } = this;
    const { host, clock, keeper, log } = this.#options;
    const onKeepFailure = (error: unknown): void =>
      log.error(
        { domain, ...id, error: messageOf(error) },
        'a firewall could not be kept: a controller that begins anew may know less of it',
      );
    const parts = { domain, id, number, dpid, host, clock, keeper, onKeepFailure, timings: this.#timings };
    return {
      instance: new Instance(parts, from),
      ends: { kind: 'pipeline', dpid, instance: number },
      lease: undefined,
      drainEnd: undefined,
      generation: undefined,
      fenced: false,
    };
  }

  #add(firewalls: Firewalls, held: Held): void {
    const { id, number } = held.instance.parts;
    firewalls.instances.set(id.epoch, held);
    this.#byNumber.set(number, held.instance);
    this.#startTick();
  }

  /** Of an instance that an earlier controller had: whoever knows how long it has run is gone. */
  #resumeTimers(firewalls: Firewalls, held: Held): void {
    const { role, admits } = held.instance;
    if (role === 'active') this.#scheduleGeneration(held);
    if (admits) this.#startLease(held);
    if (role === 'draining') this.#startDrainEnd(held);
    const active = [...firewalls.instances.values()].filter(({ instance }) => instance.role === 'active');
    for (const { instance } of active) this.#fenceOff(firewalls, instance.parts.id);
  }

  #startLease(held: Held): void {
    const { instance } = held;
    held.lease?.close();
    held.lease = this.#after(instance.leaseMs, instance.parts.id, 'the lease of a firewall has run out', () =>
      instance.refuseNew(),
    );
  }

  #startDrainEnd(held: Held): void {
    const { instance } = held;
    held.drainEnd?.close();
    held.drainEnd = this.#after(instance.drainMs, instance.parts.id, undefined, () => instance.stop());
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

  #of(terminal: string): Firewalls {
    const known = this.#terminals.get(terminal);
    if (known) return known;
    const firewalls: Firewalls = {
      epoch: 0,
      instances: new Map(),
      tail: Promise.resolve(),
    };
    this.#terminals.set(terminal, firewalls);
    return firewalls;
  }

  /** Runs after what was asked for before of this terminal. */
  #enqueue<T>(terminal: string, task: (firewalls: Firewalls) => Promise<T>): Promise<T> {
    const firewalls = this.#of(terminal);
    const result = firewalls.tail.then(async () => {
      try {
        return await task(firewalls);
      } catch (error) {
        throw this.#explain(error);
      }
    });
    firewalls.tail = result.catch(() => {});
    return result;
  }

  #call<T>(id: InstanceId, task: (held: Held, firewalls: Firewalls) => Promise<T>): Promise<T> {
    return this.#enqueue(id.terminal, (firewalls) => task(this.#held(firewalls, id), firewalls));
  }

  #held(firewalls: Firewalls, id: InstanceId): Held {
    this.#fence(firewalls, id);
    const held = firewalls.instances.get(id.epoch);
    if (held) return held;
    throw new DomainError(
      'no-instance',
      `${this.name} has no firewall of ${id.terminal} with epoch ${id.epoch}: prepare it first`,
    );
  }

  #fence(firewalls: Firewalls, id: InstanceId): void {
    if (id.epoch >= firewalls.epoch) return;
    throw new DomainError(
      'stale-epoch',
      `epoch ${id.epoch} of ${id.terminal} is over: ${this.name} has seen ${firewalls.epoch}; use a higher one`,
    );
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

  #startTick(): void {
    if (this.#tick || this.#closed) return;
    this.#tick = this.#options.clock.after(this.#timings.tickMs, () => {
      this.#tick = undefined;
      for (const [terminal, { instances }] of this.#terminals) {
        for (const { instance } of instances.values()) {
          if (instance.tick()) this.#background(terminal, instance, () => instance.settle());
        }
      }
      if ([...this.#terminals.values()].some(({ instances }) => instances.size > 0)) this.#startTick();
    });
  }

  #scheduleGeneration(held: Held): void {
    if (this.#closed) return;
    const { instance } = held;
    held.generation = this.#options.clock.after(this.#timings.generationMs, () => {
      // Also of an instance without a connection that is known: the copies of all may have been lost.
      if (this.#options.host.connected(this.dpid)) {
        this.#background(instance.parts.id.terminal, instance, () => instance.nextGeneration());
      }
      this.#scheduleGeneration(held);
    });
  }

  #after(ms: number, id: InstanceId, warning: string | undefined, task: () => Promise<void>): Timer {
    const held = this.#of(id.terminal).instances.get(id.epoch);
    return this.#options.clock.after(ms, () => {
      if (warning) this.#options.log.warn({ domain: this.name, ...id }, warning);
      if (held) this.#background(id.terminal, held.instance, task);
    });
  }

  /** Work that nobody waits for. An instance that is gone by then needs none. */
  #background(terminal: string, instance: Instance, task: () => Promise<void>): void {
    const done = this.#enqueue(terminal, async () => {
      if (instance.role !== 'retired' && !this.#closed) await task();
    });
    done.catch((error: unknown) => {
      this.#options.log.warn(
        { domain: this.name, ...instance.parts.id, error: messageOf(error) },
        'rules not changed',
      );
    });
  }
}

function closeTimers(held: Held): void {
  held.lease?.close();
  held.drainEnd?.close();
  held.generation?.close();
}
