/**
 * Tables for people: columns as wide as they need to be, two spaces between them. Pure.
 */

/** Which columns hold numbers, which stand at the right. */
export interface TableOptions {
  readonly right?: readonly number[];
  /** Spaces before each line. */
  readonly indent?: number;
}

/** Lines without a line feed at the end; nothing but the heading when there are no rows. */
export function table(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  options: TableOptions = {},
): string {
  const { right = [], indent = 0 } = options;
  const all = [heading, ...rows].map((row) => row.map(printable));
  const widths = heading.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) => {
      const cells = widths.map((width, column) => {
        const cell = row[column] ?? '';
        return right.includes(column) ? cell.padStart(width) : cell.padEnd(width);
      });
      return `${' '.repeat(indent)}${cells.join('  ')}`.trimEnd();
    })
    .join('\n');
}

/** Without control characters, also of writing direction: what a terminal shows comes from files and from the network. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, '?');
}

/** `1,234`. */
export function number(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** `0.4 ms`, `812 ms`, `1.20 s`. */
export function duration(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(0)} ms`;
}
