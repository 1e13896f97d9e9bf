/**
 * What happens to the instances of the domain by itself, as time goes: leases and drains end, generations change, and what is over is looked for.
 */
import type { Clock, Timer } from '../../../shared/runtime/clock.js';
import type { Instance } from './instance.js';
import type { Timings } from './timings.js';

export interface TermsOptions {
  readonly clock: Clock;
  readonly timings: Timings;
  readonly instances: () => readonly Instance[];
  readonly connected: () => boolean;
  /** Does something to an instance in its turn, unless it is gone by then; nobody waits for it. */
  readonly background: (instance: Instance, task: () => Promise<void>) => void;
  readonly onLeaseEnd: (instance: Instance) => void;
}

interface Timers {
  lease?: Timer;
  drainEnd?: Timer;
  generation?: Timer;
}

export class Terms {
  readonly #options: TermsOptions;
  readonly #timers = new Map<Instance, Timers>();
  /** Those of which a newer one is active in this domain. */
  readonly #fenced = new WeakSet<Instance>();
  #tick: Timer | undefined;
  #closed = false;

  constructor(options: TermsOptions) {
    this.#options = options;
  }

  /** Of an instance that an earlier controller had: whoever knows how long it has run is gone. */
  resume(instance: Instance): void {
    if (instance.role === 'active') this.#scheduleGeneration(instance);
    if (instance.admits) this.#startLease(instance);
    if (instance.role === 'draining') this.#startDrainEnd(instance);
  }

  activated(instance: Instance): void {
    this.#startLease(instance);
    if (!this.#of(instance).generation) this.#scheduleGeneration(instance);
  }

  draining(instance: Instance): void {
    const { lease, generation } = this.#of(instance);
    lease?.close();
    generation?.close();
    this.#startDrainEnd(instance);
  }

  /** A newer instance is active: what this one knows it may finish, then it is removed. May be repeated. */
  fence(instance: Instance, remove: () => Promise<void>): void {
    if (this.#fenced.has(instance)) return;
    this.#fenced.add(instance);
    this.end(instance);
    const { fencedMs } = this.#options.timings;
    this.#options.background(instance, () => instance.drain(fencedMs));
    this.#of(instance).drainEnd = this.#after(fencedMs, instance, remove);
  }

  /** It is about to be removed. May be repeated. */
  end(instance: Instance): void {
    const { lease, drainEnd, generation } = this.#of(instance);
    for (const timer of [lease, drainEnd, generation]) timer?.close();
    this.#timers.delete(instance);
  }

  /** There is an instance: from now on is looked for what is over, as long as there is any. */
  watch(): void {
    if (this.#tick || this.#closed) return;
    const { clock, timings, instances, background } = this.#options;
    this.#tick = clock.after(timings.tickMs, () => {
      this.#tick = undefined;
      for (const instance of instances()) {
        if (instance.tick()) background(instance, () => instance.settle());
      }
      if (instances().length > 0) this.watch();
    });
  }

  /** May be called twice. */
  close(): void {
    this.#closed = true;
    this.#tick?.close();
    for (const instance of [...this.#timers.keys()]) this.end(instance);
  }

  #of(instance: Instance): Timers {
    const known = this.#timers.get(instance);
    if (known) return known;
    const timers = {};
    this.#timers.set(instance, timers);
    return timers;
  }

  #startLease(instance: Instance): void {
    const timers = this.#of(instance);
    timers.lease?.close();
    timers.lease = this.#after(
      instance.leaseMs,
      instance,
      () => instance.refuseNew(),
      () => this.#options.onLeaseEnd(instance),
    );
  }

  #startDrainEnd(instance: Instance): void {
    const timers = this.#of(instance);
    timers.drainEnd?.close();
    timers.drainEnd = this.#after(instance.drainMs, instance, () => instance.stop());
  }

  #scheduleGeneration(instance: Instance): void {
    if (this.#closed) return;
    const { clock, timings, connected, background } = this.#options;
    this.#of(instance).generation = clock.after(timings.generationMs, () => {
      // Also of an instance without a connection that is known: the copies of all may have been lost.
      if (connected()) background(instance, () => instance.nextGeneration());
      this.#scheduleGeneration(instance);
    });
  }

  #after(ms: number, instance: Instance, task: () => Promise<void>, say?: () => void): Timer {
    return this.#options.clock.after(ms, () => {
      say?.();
      this.#options.background(instance, task);
    });
  }
}
