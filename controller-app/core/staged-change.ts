/**
 * A change that a switch has been sent ahead of time, without effect: when it is stated, it takes one message. What was sent is used only if the change needs, by
 * then, exactly that; otherwise it is discarded and the change goes as any other. So staging changes when something is sent, and never what becomes of it.
 */
import type { FlowMod } from '../openflow/index.js';
import { BundleError } from '../switch/index.js';
import { type Needed, sameNeeds } from './actual-rules.js';
import type { Groups } from './changes.js';
import type { Identified } from './flow-identity.js';
import { endsByItself } from './rule-set.js';

/** For each answer before it is stated: whoever stages does not wait for long. */
const STAGING_TIMEOUT_MS = 1_000;

/** A bundle that the switch has read and not done. */
export interface ReadBundle {
  readonly usable: boolean;
  /** Fails with BundleError, and then nothing of it was done; or with another error, and then nobody knows. */
  commit(timeoutMs: number): Promise<void>;
  /** May be called twice, and does nothing after `commit`. */
  discard(): void;
}

export interface StagingTarget {
  stage(mods: readonly FlowMod[], options: { readonly timeoutMs: number }): Promise<ReadBundle>;
}

/** What one switch has been sent of a change. */
export class AtSwitch {
  private constructor(
    readonly target: StagingTarget,
    readonly rules: Groups<Identified>,
    readonly needed: Needed,
    readonly bundle: ReadBundle,
  ) {}

  /** Sends what the change needs at present. Nothing, when it needs nothing or the switch does not take it. */
  static async send(
    target: StagingTarget,
    rules: Groups<Identified>,
    needed: Needed,
  ): Promise<AtSwitch | undefined> {
    // The age of a rule may count from when it was sent.
    if (needed.mods.length === 0 || needed.coming.some(({ flow }) => endsByItself(flow))) return undefined;
    const bundle = await target
      .stage(needed.mods, { timeoutMs: STAGING_TIMEOUT_MS })
      // Should there be something wrong with it, whoever states it is told.
      .catch(() => undefined);
    return bundle && new AtSwitch(target, rules, needed, bundle);
  }

  /** Does what the change needs, if that is what was sent. False: nothing has been done, and it goes as any other. */
  async commit(target: StagingTarget, needed: Needed, timeoutMs: number): Promise<boolean> {
    if (target !== this.target || !this.bundle.usable || !sameNeeds(needed, this.needed)) return false;
    try {
      await this.bundle.commit(timeoutMs);
      return true;
    } catch (error) {
      if (error instanceof BundleError) return false;
      throw error;
    }
  }

  discard(): void {
    this.bundle.discard();
  }
}

/** A change that can be stated at once. */
export interface StagedChange {
  /** As if it were stated now for the first time. Once. */
  state(): Promise<void>;
  /** It will not be stated. May be called twice. */
  discard(): void;
}
