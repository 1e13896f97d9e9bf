/**
 * What has been stated of one switch, so that a change states no more than what changes: groups that stay as they are cost the switch and the core
 * nothing, however many there are.
 */
import type { Rule } from '../core/plugin.js';

type Groups = ReadonlyMap<string, readonly Rule[]>;

/** What there is to state of some groups. */
export interface Differing {
  readonly groups: Groups;
  readonly texts: ReadonlyMap<string, string>;
  /** Of what was stated when they were compared. */
  readonly version: number;
}

const NONE = '[]';
const UNKNOWN = '';

export class StatedGroups {
  readonly #texts = new Map<string, string>();
  #version = 0;
  #last: Promise<void> = Promise.resolve();

  /** Those of the groups that are not stated so; an empty one goes. */
  differing(groups: Groups): Differing {
    const differing = new Map<string, readonly Rule[]>();
    const texts = new Map<string, string>();
    for (const [group, rules] of groups) {
      const text = JSON.stringify(rules);
      if (this.#texts.get(group) === text) continue;
      texts.set(group, text);
      differing.set(group, rules);
    }
    return { groups: differing, texts, version: this.#version };
  }

  /** Has nothing been stated since, so that these are still the groups that differ? */
  isCurrent({ version }: Differing): boolean {
    return version === this.#version;
  }

  /** Do these groups differ, compared once more, in the same as before? */
  isStill({ texts }: Differing, groups: Groups): boolean {
    const now = this.differing(groups).texts;
    return now.size === texts.size && [...texts].every(([group, text]) => now.get(group) === text);
  }

  /**
   * States what differs. Settles when everything stated so far has been confirmed; when `state` fails, nothing
   * is known, and the next change states all its groups.
   */
  state({ groups, texts }: Differing, state: (differing: Groups) => Promise<void>): Promise<void> {
    if (groups.size === 0) return this.#last;
    this.#version++;
    for (const [group, text] of texts) this.#texts.set(group, text);
    const stating = state(groups).then(
      () => {
        for (const [group, { length }] of groups)
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

  /** Compares, and states what differs. */
  change(groups: Groups, state: (differing: Groups) => Promise<void>): Promise<void> {
    return this.state(this.differing(groups), state);
  }

  /** States all of them, and that there are no others. */
  replace(groups: Groups, state: (differing: Groups) => Promise<void>): Promise<void> {
    const others = [...this.#texts.keys()].filter((group) => !groups.has(group));
    this.#forget();
    return this.change(new Map([...groups, ...others.map((group) => [group, []] as const)]), state);
  }

  /** The groups are known, and what is in them is not. */
  #forget(): void {
    this.#version++;
    for (const group of this.#texts.keys()) this.#texts.set(group, UNKNOWN);
  }
}
