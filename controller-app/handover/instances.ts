/**
 * Makes and removes instances for the coordinator: what is begun is undone when it fails, and what must be removed is removed, however often that takes.
 */

import type { HandoverStep } from '../../shared/api/schema.js';
import type { Domain, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { FirewallState, RuleCounter } from '../../shared/firewall/state.js';
import { sleep } from '../../shared/runtime/clock.js';
import { Complaints } from './complaints.js';
import { added } from './counters.js';
import { Feed } from './feed.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Mirror } from './mirror.js';
import type { CoordinatorOptions } from './options.js';
import { type Complain, isAway, isGone, type Placed } from './placed.js';
import { Source } from './source.js';
import type { Ready } from './standby.js';

/** Between two tries of a removal: doubled each time up to the most. */
const REPEAT_MS = { first: 250, most: 10_000 } as const;

export class Instances {
  readonly complaints: Complaints;
  readonly #closing = new AbortController();
  readonly #background = new Set<Promise<void>>();

  /** `onGone`: the active instance of a terminal is of no use any more. */
  constructor(
    readonly options: CoordinatorOptions,
    readonly onGone: (record: FirewallRecord, placed: Placed, error: unknown) => void,
  ) {
    this.complaints = new Complaints(options.log, options.clock);
  }

  /** Says that a call of a domain failed. */
  get complain(): Complain {
    return this.complaints.call;
  }

  /**
   * A standby with what the firewall holds now, a path to it, and a feed that keeps it so. `step` is told what comes next. Fails with what the
   * domain or steering failed with; then nothing is left of it.
   */
  async build(
    record: FirewallRecord,
    mirror: Mirror,
    domain: Domain,
    step: (name: HandoverStep) => Promise<void> = async () => {},
  ): Promise<Ready> {
    await step('export');
    // What comes after this is brought by the feed, if need be once more.
    const { sequence } = mirror;
    const state = await this.stateNow(record, mirror);
    const id = { terminal: record.terminal.name, epoch: await record.nextEpoch() };
    const placed = { domain, id };
    const ends = await this.#install(placed, { ...state, sequence }, step);
    return { placed, ends, feed: this.feed(placed, mirror, sequence), counters: state.counters };
  }

  /** The same without the connections, and without a feed. */
  async buildEmpty(
    record: FirewallRecord,
    mirror: Mirror,
    domain: Domain,
  ): Promise<{ readonly placed: Placed; readonly ends: Ends; readonly counters: readonly RuleCounter[] }> {
    const state = await this.stateNow(record, mirror);
    const placed = { domain, id: { terminal: record.terminal.name, epoch: await record.nextEpoch() } };
    const ends = await this.#install(placed, { ...state, connections: [] }, async () => {});
    return { placed, ends, counters: state.counters };
  }

  feed(placed: Placed, mirror: Mirror, sequence: number): Feed {
    const { clock, timings, log } = this.options;
    return new Feed(placed, mirror, sequence, {
      clock,
      digestMs: timings.digestMs,
      onSync: ({ domain, id }, reason) =>
        log.warn({ domain: domain.name, ...id, reason }, 'a standby is given the whole state'),
    });
  }

  /** Follows what the instance tells after its change `sequence`; without one, after taking its whole state. */
  follow(record: FirewallRecord, placed: Placed, sequence: number | undefined, mirror: Mirror): Source {
    const { clock, timings, log } = this.options;
    return new Source(placed, sequence, mirror, {
      clock,
      digestMs: timings.digestMs,
      terminal: () => record.terminal,
      onGone: (from, error) => this.onGone(record, from, error),
      onTrouble: this.complain,
      onMended: ({ domain, id }, differences) =>
        log.warn({ domain: domain.name, ...id, differences }, 'the active firewall was taken stock of'),
    });
  }

  /** As the active instance says; when it does not answer, as it said last. Counters are those of the whole life of the firewall. */
  async stateNow(record: FirewallRecord, mirror: Mirror): Promise<FirewallState> {
    const { active } = record;
    try {
      if (active) {
        const state = await active.domain.export(active.id);
        return { ...state, counters: added(state.counters, record.carried) };
      }
    } catch (error) {
      if (!active || !(isAway(error) || isGone(error))) throw error;
      this.complain(active, error);
    }
    return mirror.snapshot(active?.id.epoch ?? (await record.nextEpoch()));
  }

  async #install(
    placed: Placed,
    state: FirewallState,
    step: (name: HandoverStep) => Promise<void>,
  ): Promise<Ends> {
    const { domain, id } = placed;
    try {
      await step('prepare');
      const ends = await domain.prepare(state, id.epoch);
      await step('path');
      await this.options.steering.addPath(id, ends);
      return ends;
    } catch (error) {
      await this.removeSurely(placed);
      throw error;
    }
  }

  /** Removes an instance; what cannot be done now is repeated in the background. */
  async removeSurely(placed: Placed): Promise<void> {
    try {
      await this.remove(placed);
    } catch (error) {
      this.complain(placed, error);
      this.removeInBackground(placed);
    }
  }

  async remove({ domain, id }: { readonly domain: Domain; readonly id: InstanceId }): Promise<void> {
    await this.options.steering.removePath(id);
    try {
      await domain.retire(id);
    } catch (error) {
      // As good as retired.
      if (!isGone(error)) throw error;
    }
  }

  removeInBackground(placed: Placed): void {
    this.inBackground(this.#untilRemoved(placed));
  }

  /** Work that nobody waits for but `close`. It must not fail. */
  inBackground(task: Promise<void>): void {
    const work = task.finally(() => this.#background.delete(work));
    this.#background.add(work);
  }

  /** Repeats the removal, which must be done, until it is or the coordinator closes. */
  async #untilRemoved(placed: Placed): Promise<void> {
    let waitMs: number = REPEAT_MS.first;
    while (!this.#closing.signal.aborted) {
      try {
        return await this.remove(placed);
      } catch (error) {
        this.complain(placed, error);
        await this.pause(waitMs);
        waitMs = Math.min(waitMs * 2, REPEAT_MS.most);
      }
    }
  }

  /** Ends early when the coordinator closes. */
  pause(ms: number): Promise<void> {
    return sleep(this.options.clock, ms, this.#closing.signal).catch(() => {});
  }

  /** Nothing is repeated any more. */
  stop(): void {
    this.#closing.abort();
  }

  /** Settles when nothing is under way, and all that went wrong has been said. May be called twice. */
  async close(): Promise<void> {
    this.stop();
    await Promise.allSettled(this.#background);
    this.complaints.close();
  }
}
