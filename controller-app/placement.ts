/**
 * Where a terminal's firewall should be: in the domain that serves the switch where the terminal is attached. On each attachment, and when
 * a domain comes back, the firewall is placed or moved there. A handover that could not be done is undone and told of; the terminal's
 * traffic is hauled to where its firewall is meanwhile.
 */
import type { PlacementMode } from '../shared/api/schema.js';
import type { Dpid } from '../shared/domain/domain.js';
import type { Log } from '../shared/runtime/log.js';
import type { Coordinator, HandoverOrder } from './handover/coordinator.js';
import type { Attachment } from './steering/view.js';

export interface PlacementOptions {
  readonly coordinator: Coordinator;
  readonly terminals: readonly string[];
  /** The domain that serves a switch. */
  readonly servedBy: ReadonlyMap<Dpid, string>;
  attachment(terminal: string): Attachment | undefined;
  readonly log: Log;
}

export class Placement {
  readonly #under = new Map<string, Promise<void>>();
  readonly #again = new Set<string>();
  readonly #staying = new Set<string>();

  constructor(readonly options: PlacementOptions) {}

  get(terminal: string): PlacementMode {
    return this.#staying.has(terminal) ? 'stay' : 'follow';
  }

  set(terminal: string, mode: PlacementMode): void {
    if (mode === 'stay') this.#staying.add(terminal);
    else if (this.#staying.delete(terminal)) this.#consider(terminal, []);
  }

  /** The terminal has been attached; `before` are the phases that this took. */
  attached(terminal: string, before: NonNullable<HandoverOrder['before']>): void {
    this.#consider(terminal, before);
  }

  /** A domain has become reachable: what could not be done without it can be now. */
  reconsider(): void {
    for (const terminal of this.options.terminals) this.#consider(terminal, []);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#under.values());
  }

  /** One at a time for each terminal; what happens meanwhile is looked at afterwards. */
  #consider(terminal: string, before: NonNullable<HandoverOrder['before']>): void {
    if (this.#under.has(terminal)) {
      this.#again.add(terminal);
      return;
    }
    const work = this.#settle(terminal, before)
      .catch((error: unknown) => {
        const message = error instanceof Error ? error.message : String(error);
        this.options.log.error({ terminal, error: message }, 'the firewall is not where the terminal is');
      })
      .finally(() => {
        this.#under.delete(terminal);
        if (this.#again.delete(terminal)) this.#consider(terminal, []);
      });
    this.#under.set(terminal, work);
  }

  async #settle(terminal: string, before: NonNullable<HandoverOrder['before']>): Promise<void> {
    const { coordinator, servedBy } = this.options;
    const record = coordinator.record(terminal);
    // A handover on demand may be under way: it goes first.
    await record.tail;
    const at = this.options.attachment(terminal);
    const domain = at && servedBy.get(at.dpid);
    if (domain === undefined || record.active?.domain.name === domain) return;
    if (!record.active) await coordinator.place(terminal, domain);
    else if (!this.#staying.has(terminal))
      await coordinator.handover(terminal, { to: domain, cause: 'attachment', before }).report;
  }
}
