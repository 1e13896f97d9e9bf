/**
 * What was found, kept in a folder: each input as a file that can be replayed, with a note beside it.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** `error`: the target threw. `hang`: it did not come to an end. `crash`: its process died. `memory`: it took too much. */
export type FindingKind = 'error' | 'hang' | 'crash' | 'memory';

export interface Finding {
  readonly target: string;
  readonly kind: FindingKind;
  readonly input: Uint8Array;
  /** One line: what happened. */
  readonly signature: string;
  /** All that is known of it. */
  readonly text: string;
}

/** Of one target and cause: more say nothing new. */
const MOST_ALIKE = 3;
/** Of one target in one run. */
const MOST_OF_TARGET = 100;

export class Findings {
  readonly #causes = new Map<string, number>();
  readonly #counts = new Map<string, number>();

  constructor(
    private readonly folder: string,
    /** What else the note says, such as the seed. */
    private readonly note: string,
  ) {}

  /** Different causes, of one target or of all. */
  causes(target?: string): number {
    const keys = [...this.#causes.keys()];
    return target === undefined ? keys.length : keys.filter((key) => key.startsWith(`${target} `)).length;
  }

  /** So many of this target have been kept that it is not worth going on. */
  isFull(target: string): boolean {
    return (this.#counts.get(target) ?? 0) >= MOST_OF_TARGET;
  }

  /** Keeps it unless enough like it are kept already. Returns its file, and whether its cause is a new one. */
  keep(finding: Finding): { readonly file: string; readonly isNew: boolean } | undefined {
    const { target, kind, input, signature, text } = finding;
    const cause = `${target} ${kind} ${signature}`;
    const alike = this.#causes.get(cause) ?? 0;
    this.#causes.set(cause, alike + 1);
    if (alike >= MOST_ALIKE || this.isFull(target)) return undefined;
    this.#counts.set(target, (this.#counts.get(target) ?? 0) + 1);
    mkdirSync(this.folder, { recursive: true });
    const hash = createHash('sha256').update(input).digest('hex').slice(0, 16);
    const file = join(this.folder, `${target}-${hash}.bin`);
    if (!existsSync(file)) {
      writeFileSync(file, input);
      writeFileSync(
        file.replace(/\.bin$/, '.txt'),
        [
          `${kind}: ${signature}`,
          `target ${target}, ${input.length} bytes; ${this.note}`,
          `again: npm run fuzz -- --replay ${file}`,
          '',
          text,
          '',
        ].join('\n'),
      );
    }
    return { file, isNew: alike === 0 };
  }
}

/** The target that a kept input is of, by the name of its file. */
export function targetOf(file: string): string | undefined {
  return /^(.+)-[0-9a-f]{16}\.bin$/.exec(basename(file))?.[1];
}
