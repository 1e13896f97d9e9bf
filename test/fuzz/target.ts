/**
 * What can be fuzzed: one module of the folder `targets` each, whose default export is a `FuzzTarget`. The file's name is the target's. To add one, add a file.
 */
import type { Random } from './random.js';

export interface FuzzTarget {
  /** Valid inputs, of which others are made. The same seed gives the same ones. */
  seeds(seed: number): readonly Uint8Array[];
  /** Words of the input's language: put into inputs here and there. */
  readonly words?: readonly string[];
  /** Another input, changed in ways that only this target knows; undefined when it cannot be. Used beside changes of bytes. */
  change?(input: Uint8Array, random: Random): Uint8Array | undefined;
  /**
   * Takes one input, and says in words what became of it: refused, and why, or taken, as what. Whatever it throws is a finding: an error that callers
   * do not know of, or a promise that is not kept. An input whose outcome is new, numbers and quoted texts aside, is worth changing further.
   */
  run(input: Uint8Array): string;
}

// biome-ignore lint/suspicious/noExplicitAny: any arguments
type ErrorClass = new (...args: any[]) => Error;

/** The outcome of work that may fail with these errors and no others. */
export function refusedOr(work: () => string, ...known: readonly ErrorClass[]): string {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error && known.some((each) => error instanceof each))
      return `refused: ${error.message}`;
    throw error;
  }
}

/** Texts as a file or a stream has them: what is no UTF-8 becomes U+FFFD. */
export function textOf(input: Uint8Array): string {
  return Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('utf8');
}

export function bytesOf(text: string): Uint8Array {
  return Buffer.from(text);
}

/** Without what differs from input to input: numbers, quoted texts, addresses. */
export function kindOf(outcome: string): string {
  return outcome
    .slice(0, 400)
    .replace(/"(?:\\.|[^"\\])*"?/g, '"…"')
    .replace(/found .*/, 'found …')
    .replace(/\b[0-9a-f]*(?:[:.][0-9a-f]*)+\b/gi, '#')
    .replace(/0x[0-9a-f]+|-?\d+/gi, '#')
    .slice(0, 120);
}
