/**
 * Tables and figures for a person to read. Pure.
 */

/** `0.43 ms`, `2.1 ms`, `530 ms`. */
export function milliseconds(value: number): string {
  return `${value.toFixed(Math.abs(value) < 1 ? 2 : Math.abs(value) < 10 ? 1 : 0)} ms`;
}

/** A table with a header; columns after the first are aligned to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths =
    rows[0]?.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length))) ?? [];
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('   ');
  const [header = [], ...body] = rows;
  const rule = widths.map((width) => '-'.repeat(width)).join('   ');
  return [line(header), rule, ...body.map(line)].map((text) => `  ${text.trimEnd()}`).join('\n');
}
