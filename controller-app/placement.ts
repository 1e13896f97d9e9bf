/**
 * Where a terminal's firewall should be: in the domain that serves the switch where the terminal is attached. On each attachment the
 * firewall is placed or moved there. What cannot be done then stays due: it is tried again when something has come back, and from time
 * to time; meanwhile the terminal's traffic is hauled to where its firewall is. A handover on demand says otherwise until the next
 * attachment.
 */
import type { PlacementMode } from '../shared/api/schema.js';
import type { Dpid } from '../shared/domain/domain.js';
import type { Clock, Timer } from '../shared/runtime/clock.js';
import type { Log } from '../shared/runtime/log.js';
import { messageOf } from '../shared/runtime/message-of.js';
import type { Coordinator } from './handover/coordinator.js';
import type { HandoverOrder } from './handover/options.js';
import type { Attachment } from './steering/view.js';

/** Phases that an attachment itself took. */
type Before = NonNullable<HandoverOrder['before']>;

export interface PlacementOptions {
  readonly coordinator: Coordinator;
  /** The domain that serves a switch. */
  readonly servedBy: ReadonlyMap<Dpid, string>;
  attachment(terminal: string): Attachment | undefined;
  /** Terminals whose firewall stays where it is. */
  readonly staying?: Iterable<string>;
  /** Called before a mode takes effect: when it fails, the mode stays as it is. */
  readonly keep?: (terminal: string, mode: PlacementMode) => Promise<void>;
  /** What is still due is tried again after this many ms. */
  readonly retryMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export class Placement {
  readonly #due = new Map<string, Before>();
  readonly #under = new Map<string, Promise<void>>();
  readonly #staying: Set<string>;
  #retry: Timer | undefined;
  #closed = false;

  constructor(readonly options: PlacementOptions) {
    this.#staying = new Set(options.staying);
  }

  get(terminal: string): PlacementMode {
    return this.#staying.has(terminal) ? 'stay' : 'follow';
  }

  async set(terminal: string, mode: PlacementMode): Promise<void> {
    await this.options.keep?.(terminal, mode);
    if (mode === 'stay') this.#staying.add(terminal);
    else if (this.#staying.delete(terminal)) this.attached(terminal, []);
  }

  /** The terminal has been attached; `before` are the phases that this took. */
  attached(terminal: string, before: Before): void {
    this.#due.set(terminal, before);
    this.#start(terminal);
  }

  /** Somebody has said where the firewall is to be. */
  demanded(terminal: string): void {
    this.#due.delete(terminal);
  }

  /** A switch or a domain has come back: what is due may be possible now. */
  reconsider(): void {
    for (const terminal of this.#due.keys()) this.#start(terminal);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.close();
    await Promise.allSettled(this.#under.values());
  }

  /** One at a time for each terminal: what becomes due meanwhile is begun afterwards. */
  #start(terminal: string): void {
    const before = this.#due.get(terminal);
    if (before === undefined || this.#closed || this.#under.has(terminal)) return;
    const work = this.#settle(terminal, before)
      .then((done) => {
        if (done && this.#due.get(terminal) === before) this.#due.delete(terminal);
      })
      .catch((error: unknown) => {
        this.options.log.error(
          { terminal, error: messageOf(error) },
          'the firewall is not where the terminal is',
        );
      })
      .finally(() => {
        this.#under.delete(terminal);
        const due = this.#due.get(terminal);
        if (due !== undefined && due !== before) this.#start(terminal);
        else if (due !== undefined) this.#later();
      });
    this.#under.set(terminal, work);
  }

  /** Whether the firewall is where it should be now. */
  async #settle(terminal: string, before: Before): Promise<boolean> {
    const { coordinator, servedBy } = this.options;
    const record = coordinator.record(terminal);
    // A handover on demand may be under way: it goes first.
    await record.tail;
    const at = this.options.attachment(terminal);
    const domain = at && servedBy.get(at.dpid);
    if (domain === undefined || record.active?.domain.name === domain) return true;
    if (!record.active) return this.#place(terminal, domain);
    if (this.#staying.has(terminal)) return true;
    const { outcome } = await coordinator.handover(terminal, { to: domain, cause: 'attachment', before })
      .report;
    return outcome === 'done';
  }

  /** A firewall that was lost is placed where it can be, rather than nowhere: its connections wait. The first one is placed where it belongs. */
  async #place(terminal: string, domain: string): Promise<boolean> {
    const { coordinator, servedBy, log } = this.options;
    try {
      await coordinator.place(terminal, domain);
      return true;
    } catch (error) {
      if (!coordinator.record(terminal).mirror) throw error;
      for (const other of new Set(servedBy.values())) {
        if (other === domain) continue;
        const placed = await coordinator.place(terminal, other).then(
          () => true,
          () => false,
        );
        if (!placed) continue;
        log.warn({ terminal, domain, error: messageOf(error) }, `the firewall is in ${other} for now`);
        return this.#staying.has(terminal);
      }
      throw error;
    }
  }

  #later(): void {
    if (this.#retry || this.#closed) return;
    this.#retry = this.options.clock.after(this.options.retryMs, () => {
      this.#retry = undefined;
      this.reconsider();
    });
  }
}
