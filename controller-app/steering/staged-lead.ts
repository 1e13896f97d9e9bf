/**
 * What leads a terminal's traffic to another instance, at the switches already and without effect. It follows from what steering knew when it was staged:
 * whatever changes that discards it.
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

  /** Has it been sent to all of these, and is it what they need? */
  isFor(dpids: readonly Dpid[]): boolean {
    if (this.#isOver) return false;
    return dpids.every((dpid) => {
      const part = this.#parts.get(dpid);
      return part?.stated.isCurrent(part.differing) ?? false;
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
