/**
 * What leads a terminal's traffic to another instance, at the switches already and without effect. It follows from what steering knew when it was staged. What
 * changes of the terminal itself discards it. What changes otherwise puts it in doubt: it is worked out once more, and used if nothing else comes of that.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Rule } from '../core/plugin.js';
import type { Differing, StatedGroups } from './stated.js';

/** Rules that a switch has been sent, to be stated or not. */
export interface StagedRules {
  /** As if they were stated now. Once. */
  state(): Promise<void>;
  /** May be called twice. */
  discard(): void;
}

type Groups = ReadonlyMap<string, readonly Rule[]>;

/** Of one switch. */
interface Part {
  readonly stated: StatedGroups;
  readonly differing: Differing;
  /** Nothing when this switch needs no other rules. */
  readonly rules: StagedRules | undefined;
}

export class StagedLead {
  readonly #parts = new Map<Dpid, Part>();
  #isInDoubt = false;
  #isOver = false;

  /** `number`: of the instance. */
  constructor(readonly number: number) {}

  /** Sends a switch what it needs for these groups. */
  async send(
    dpid: Dpid,
    stated: StatedGroups,
    groups: Groups,
    stage: (differing: Groups) => Promise<StagedRules>,
  ): Promise<void> {
    const differing = stated.differing(groups);
    const rules = differing.groups.size > 0 ? await stage(differing.groups) : undefined;
    if (this.#isOver) rules?.discard();
    else this.#parts.set(dpid, { stated, differing, rules });
  }

  /** Steering knows more than when it was staged. */
  doubt(): void {
    this.#isInDoubt = true;
  }

  /** Has it been sent to all of these, and is it what they need? `groups`: what they would be told now. */
  isFor(dpids: readonly Dpid[], groups: (dpid: Dpid) => Groups): boolean {
    if (this.#isOver) return false;
    return dpids.every((dpid) => {
      const part = this.#parts.get(dpid);
      if (!part) return false;
      const { stated, differing } = part;
      return (!this.#isInDoubt && stated.isCurrent(differing)) || stated.isStill(differing, groups(dpid));
    });
  }

  /** States it on one of the switches that it is for. */
  state(dpid: Dpid): Promise<void> {
    const part = this.#parts.get(dpid);
    if (!part) return Promise.resolve();
    return part.stated.state(part.differing, () => part.rules?.state() ?? Promise.resolve());
  }

  /** It will not be stated. May be called twice. */
  discard(): void {
    this.#isOver = true;
    for (const { rules } of this.#parts.values()) rules?.discard();
  }
}

/** Of all terminals: at most one each. */
export class StagedLeads {
  readonly #leads = new Map<string, StagedLead>();

  /** In place of the one before. */
  begin(terminal: string, number: number): StagedLead {
    this.#discard(terminal);
    const lead = new StagedLead(number);
    this.#leads.set(terminal, lead);
    return lead;
  }

  /** The terminal is seen otherwise, or the ports of a switch are; of a terminal that is led by what was staged, `take` that before. */
  changed(terminal?: string): void {
    if (terminal !== undefined) this.#discard(terminal);
    for (const lead of this.#leads.values()) lead.doubt();
  }

  /** The terminal's, which then is nobody else's, if it leads to this instance and is what these switches need. */
  take(
    terminal: string,
    number: number,
    dpids: readonly Dpid[],
    groups: (dpid: Dpid) => Groups,
  ): StagedLead | undefined {
    const lead = this.#leads.get(terminal);
    if (lead?.number !== number || !lead.isFor(dpids, groups)) {
      this.#discard(terminal);
      return undefined;
    }
    this.#leads.delete(terminal);
    return lead;
  }

  close(): void {
    for (const terminal of this.#leads.keys()) this.#discard(terminal);
  }

  #discard(terminal: string): void {
    this.#leads.get(terminal)?.discard();
    this.#leads.delete(terminal);
  }
}
