/**
 * Cuts text that comes piece by piece into lines of a bounded length. Pure but for what it holds of a line that is not whole yet.
 */

/** The longest line that conntrack prints has some 400 characters. */
export const MAX_LINE_CHARACTERS = 4096;

export class LineCutter {
  #rest = '';

  /** The lines that this piece completes; undefined when one is longer than any line is: what comes after it has no meaning. */
  push(text: string): readonly string[] | undefined {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    const tooLong = [this.#rest, ...lines].some(({ length }) => length > MAX_LINE_CHARACTERS);
    if (!tooLong) return lines;
    this.#rest = '';
    return undefined;
  }
}
