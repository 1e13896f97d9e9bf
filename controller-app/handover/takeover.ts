/**
 * Takeover: when an active firewall is lost, a standby becomes active without anybody asking.
 *
 *   gone    its domain says that it is of no use any more: at once, and what arrives is held until there is another
 *   silent  its domain does not answer: after a while, and again and again while that lasts; the lost instance may still forward what it knows, and does so
 *           until the switches lead elsewhere
 */
import type { HandoverReport } from '../../shared/api/schema.js';
import type { Domain } from '../../shared/domain/domain.js';
import type { Timer } from '../../shared/runtime/clock.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { CoordinatorOptions } from './options.js';
import type { Placed } from './placed.js';

export interface TakeoverParts {
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly records: ReadonlyMap<string, FirewallRecord>;
  /** Makes the standby in this domain active in place of the lost instance. */
  move(record: FirewallRecord, lost: Placed, to: Domain): Promise<HandoverReport>;
}

export class Takeovers {
  /** By domain that is silent: when it is taken for dead. */
  readonly #deadlines = new Map<string, Timer>();
  #closed = false;

  constructor(readonly parts: TakeoverParts) {}

  /** The domain is silent from now on. */
  away(name: string): void {
    if (!this.#deadlines.has(name)) this.#schedule(name);
  }

  /** It answers again. */
  back(name: string): void {
    this.#deadlines.get(name)?.close();
    this.#deadlines.delete(name);
  }

  /** The instance is of no use any more. */
  gone(record: FirewallRecord, placed: Placed, error: unknown): void {
    if (record.active !== placed) return;
    this.parts.instances.complain(placed, error);
    this.#later(record, () => this.#takeOver(record, placed, 'gone'));
  }

  /** None begins any more. May be called twice. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#deadlines.values()) timer.close();
  }

  #schedule(name: string): void {
    if (this.#closed) return;
    const { clock, timings } = this.parts.options;
    const timer = clock.after(timings.takeoverMs, () => {
      for (const record of this.parts.records.values()) {
        const { active } = record;
        if (active?.domain.name !== name || candidates(record, active).length === 0) continue;
        this.#later(record, () => this.#takeOver(record, active, 'silent'));
      }
      // There may be a standby by then.
      this.#schedule(name);
    });
    this.#deadlines.set(name, timer);
  }

  #later(record: FirewallRecord, task: () => Promise<void>): void {
    const { instances, options } = this.parts;
    const work = record.enqueue(async () => {
      if (!this.#closed) await task();
    });
    instances.inBackground(
      work.catch((error: unknown) => {
        options.log.error({ terminal: record.terminal.name, error: messageOf(error) }, 'no takeover');
      }),
    );
  }

  async #takeOver(record: FirewallRecord, lost: Placed, how: 'gone' | 'silent'): Promise<void> {
    const { options, instances, move } = this.parts;
    const terminal = record.terminal.name;
    if (record.active !== lost || (how === 'silent' && !this.#deadlines.has(lost.domain.name))) return;
    options.log.error({ ...lost.id, domain: lost.domain.name, how }, 'the active firewall is lost');
    if (how === 'gone')
      await options.steering.hold(terminal).catch((error: unknown) => instances.complain(lost, error));
    for (const domain of candidates(record, lost)) {
      const report = await move(record, lost, domain);
      if (report.outcome === 'done') return;
    }
    if (how === 'silent') return;
    await record.source?.end();
    record.source = undefined;
    record.lose();
    instances.removeInBackground(lost);
    options.onLost(terminal);
  }
}

/** Where a standby is ready, the one that knows most first. */
function candidates({ standbys }: FirewallRecord, lost: Placed): readonly Domain[] {
  return [...standbys.values()]
    .filter(({ ready, domain }) => ready && domain !== lost.domain)
    .toSorted((a, b) => (b.ready?.feed.acknowledged ?? 0) - (a.ready?.feed.acknowledged ?? 0))
    .map(({ domain }) => domain);
}
