/**
 * The SDN domain: firewalls as flow rules of one switch, with the switch's conntrack and the controller's knowledge of it.
 *
 * Calls for one terminal go one after another. Everything that changes the switch is one bundle, so a call that fails
 * has changed nothing there. Epochs fence: see the Domain interface.
 */
import { z } from 'zod';
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
import { problemOfState } from '../../../shared/firewall/admission.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import { StateError } from '../../../shared/firewall/reduce.js';
import {
  type Delta,
  type Epoch,
  type FirewallState,
  firewallStateSchema,
  type Snapshot,
} from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import type { Clock, Timer } from '../../../shared/runtime/clock.js';
import type { Log } from '../../../shared/runtime/log.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import type { PacketIn } from '../../core/plugin.js';
import { PolicyTooLargeError, unpackCookie } from '../../pipeline/index.js';
import type { FirewallHost } from './host.js';
import { Instance } from './instance.js';
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
      const held = this.#build(id, snapshot);
      try {
        await held.instance.install();
      } catch (error) {
        if (!known) await this.#undo(held.instance);
        throw error;
      }
      known?.instance.log.end();
      firewalls.epoch = epoch;
      firewalls.instances.set(epoch, held);
      this.#byNumber.set(held.instance.parts.number, held.instance);
      this.#startTick();
      return held.ends;
    });
  }

  apply(id: InstanceId, deltas: readonly Delta[]): Promise<void> {
    return this.#call(id, ({ instance }) => instance.apply(deltas));
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
      await held.instance.activate();
      this.#fenceOff(firewalls, id);
      held.lease?.close();
      held.lease = this.#after(leaseMs, id, 'the lease of a firewall has run out', () =>
        held.instance.refuseNew(),
      );
      if (!held.generation) this.#scheduleGeneration(held);
    });
  }

  drain(id: InstanceId, drainMs: number): Promise<void> {
    return this.#call(id, async (held) => {
      if (held.instance.role === 'draining') return;
      await held.instance.drain();
      held.lease?.close();
      held.generation?.close();
      held.drainEnd = this.#after(drainMs, id, undefined, () => held.instance.stop());
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
        held.instance.log.end();
      }
    }
  }

  /** A newer instance is active: what the older ones know they may finish, then they go. Nobody can name them any more. */
  #fenceOff(firewalls: Firewalls, id: InstanceId): void {
    for (const [epoch, older] of firewalls.instances) {
      if (epoch >= id.epoch || older.fenced) continue;
      older.fenced = true;
      closeTimers(older);
      this.#background(id.terminal, older.instance, () => older.instance.drain());
      older.drainEnd = this.#after(this.#timings.fencedMs, { ...id, epoch }, undefined, () =>
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

  #build(id: InstanceId, snapshot: Snapshot): Held {
    const { host, numbers, clock } = this.#options;
    const number = numbers.of(id, 'domain');
    const parts = { id, number, dpid: this.dpid, host, timings: this.#timings, now: () => clock.monotonic() };
    return {
      instance: new Instance(parts, snapshot),
      ends: { kind: 'pipeline', dpid: this.dpid, instance: number },
      lease: undefined,
      drainEnd: undefined,
      generation: undefined,
      fenced: false,
    };
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
    if (error instanceof DomainError) return error;
    if (error instanceof StateError) {
      return new DomainError(error.code === 'changes-lost' ? 'changes-lost' : 'refused', error.message, {
        cause: error,
      });
    }
    if (error instanceof PolicyTooLargeError)
      return new DomainError('refused', error.message, { cause: error });
    if (!this.#options.host.connected(this.dpid)) {
      return new DomainError('not-ready', this.#notConnected(), { cause: error });
    }
    return new DomainError(
      'refused',
      `switch ${this.dpid} of ${this.name} did not take the rules: ${messageOf(error)}; try again, and look into its log`,
      { cause: error },
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
      if (instance.hasConnections && this.#options.host.connected(this.dpid)) {
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

/** Fails with `invalid`. */
function checkedState(untrusted: Snapshot): Snapshot {
  const parsed = firewallStateSchema.safeParse(untrusted);
  if (!parsed.success) {
    const problem = `the snapshot is not a firewall state: ${z.prettifyError(parsed.error)}; export it once more`;
    throw new DomainError('invalid', problem, { cause: parsed.error });
  }
  const wrong = problemOfState(parsed.data);
  if (!wrong) return parsed.data;
  const problem = `the state is refused: ${wrong}; whoever sent it is not to be trusted with it`;
  throw new DomainError('invalid', problem);
}

function closeTimers(held: Held): void {
  held.lease?.close();
  held.drainEnd?.close();
  held.generation?.close();
}
