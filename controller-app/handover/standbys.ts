/**
 * The standbys of all terminals: that they are where they are wanted and nowhere else, and what can be said of them.
 */
import type { StandbyStatus } from '../../shared/api/schema.js';
import type { Domain } from '../../shared/domain/domain.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { Damping } from './damping.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { CoordinatorOptions } from './options.js';
import type { Pause } from './progress.js';
import { Standby } from './standby.js';
import type { Strays } from './strays.js';

export interface StandbysParts {
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly strays: Strays;
  readonly damping: Damping;
  /** Throws when there is none of this name. */
  readonly domain: (name: string) => Domain;
  /** Where the handover of a terminal, if there is one, is to wait. */
  readonly pause: (record: FirewallRecord) => Pause | undefined;
}

export class Standbys {
  #closed = false;

  constructor(readonly parts: StandbysParts) {}

  /** The one in this domain; from now on there is one. */
  of(record: FirewallRecord, domain: Domain): Standby {
    const known = record.standbys.get(domain.name);
    if (known) return known;
    const standby = this.#begin(record, domain);
    record.standbys.set(domain.name, standby);
    return standby;
  }

  /** Begins those that are wanted, and ends all others; not while a handover decides which these are. */
  refill(record: FirewallRecord): void {
    if (this.#closed || !record.active || record.handover !== undefined) return;
    const wanted = record.options.standbys.filter((name) => name !== record.active?.domain.name);
    for (const name of wanted) this.of(record, this.parts.domain(name));
    for (const [name, standby] of record.standbys) {
      if (wanted.includes(name)) continue;
      record.standbys.delete(name);
      this.parts.instances.inBackground(standby.close());
    }
  }

  /** None begins any more. */
  close(): void {
    this.#closed = true;
  }

  #begin(record: FirewallRecord, domain: Domain): Standby {
    const { instances, strays, damping, pause } = this.parts;
    const { clock, timings } = this.parts.options;
    return new Standby(domain, {
      clock,
      damping,
      retryMs: timings.retryMs,
      build: async (where) => {
        const { mirror } = record;
        if (!mirror) throw new Error(`the firewall of ${record.terminal.name} holds nothing`);
        await strays.clear(record, where);
        return instances.build(record, mirror, where, async (step) => pause(record)?.at(step));
      },
      feedAgain: ({ placed, ends, feed, counters }) => ({
        placed,
        ends,
        feed: instances.feed(placed, feed.mirror, feed.acknowledged),
        counters,
      }),
      discard: (placed) => instances.removeSurely(placed),
      onProblem: (where, error) => instances.complaints.standby(where, record.terminal.name, error),
    });
  }
}

export function standbyStatus({ domain, state, problem, known, ready }: Standby): StandbyStatus {
  const { changes = 0, p50Ms, p99Ms, maxMs } = ready?.feed.lag ?? {};
  const measured = p50Ms !== undefined && p99Ms !== undefined && maxMs !== undefined;
  return {
    domain: domain.name,
    epoch: known?.id.epoch ?? null,
    state,
    ...(state === 'away' && problem !== undefined ? { problem: messageOf(problem) } : {}),
    behind: changes,
    ...(measured ? { lagMs: { p50: p50Ms, p99: p99Ms, max: maxMs } } : {}),
  };
}
