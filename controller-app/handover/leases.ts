/**
 * Leases: active instances are told again and again that they may admit new connections. So it is also noticed that one is there no more: its agent
 * has begun anew, or its container has ended.
 */
import { mendAddresses } from './addresses.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { CoordinatorOptions } from './options.js';
import { isGone } from './placed.js';

/** A lease is renewed this many times before it would run out. */
const RENEWALS_PER_LEASE = 3;

export interface LeasesParts {
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly records: ReadonlyMap<string, FirewallRecord>;
}

export class Leases {
  readonly #renewals: NodeJS.Timeout;

  constructor(readonly parts: LeasesParts) {
    this.#renewals = setInterval(() => {
      for (const record of parts.records.values()) void this.renew(record);
    }, parts.options.timings.leaseMs / RENEWALS_PER_LEASE);
  }

  /** The active instance was just told, or may have been. */
  begin(record: FirewallRecord): void {
    const { clock, timings } = this.parts.options;
    record.leaseEnd = clock.monotonic() + timings.leaseMs;
  }

  /** Never fails. */
  async renew(record: FirewallRecord): Promise<void> {
    const { active } = record;
    if (!active) return;
    const { instances, options } = this.parts;
    try {
      await active.domain.activate(active.id, options.timings.leaseMs);
      if (record.active !== active) return;
      this.begin(record);
      await mendAddresses(record, instances.complain);
    } catch (error) {
      instances.complain(active, error);
      if (isGone(error)) instances.onGone(record, active, error);
    }
  }

  /** May be called twice. */
  close(): void {
    clearInterval(this.#renewals);
  }
}
