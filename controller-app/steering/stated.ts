/**
 * What has been stated of one switch, so that a change states no more than what changes: groups that stay as they are cost the switch and the core
 * nothing, however many there are.
 */
import type { Rule } from '../core/plugin.js';

type Groups = ReadonlyMap<string, readonly Rule[]>;

const NONE = '[]';
const UNKNOWN = '';

export class StatedGroups {
  readonly #texts = new Map<string, string>();
  #last: Promise<void> = Promise.resolve();

  /**
   * States those of the groups that differ; an empty one goes. Settles when everything stated so far has been confirmed; when `state` fails, nothing
   * is known, and the next change states all its groups.
   */
  change(groups: Groups, state: (changed: Groups) => Promise<void>): Promise<void> {
    const changed = new Map<string, readonly Rule[]>();
    for (const [group, rules] of groups) {
      const text = JSON.stringify(rules);
      if (this.#texts.get(group) === text) continue;
      this.#texts.set(group, text);
      changed.set(group, rules);
    }
    if (changed.size === 0) return this.#last;
    const stating = state(changed).then(
      () => {
        for (const [group, { length }] of changed)
          if (length === 0 && this.#texts.get(group) === NONE) this.#texts.delete(group);
      },
      (error: unknown) => {
        this.#forget();
        throw error;
      },
    );
    const all = Promise.all([this.#last, stating]).then(() => {});
    this.#last = all;
    // Told to those who waited for it; those who come later state everything again.
    all.catch(() => {
      if (this.#last === all) this.#last = Promise.resolve();
    });
    return stating;
  }

  /** States all of them, and that there are no others. */
  replace(groups: Groups, state: (changed: Groups) => Promise<void>): Promise<void> {
    const others = [...this.#texts.keys()].filter((group) => !groups.has(group));
    this.#forget();
    return this.change(new Map([...groups, ...others.map((group) => [group, []] as const)]), state);
  }

  /** The groups are known, and what is in them is not. */
  #forget(): void {
    for (const group of this.#texts.keys()) this.#texts.set(group, UNKNOWN);
  }
}
