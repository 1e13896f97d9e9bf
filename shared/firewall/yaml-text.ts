/**
 * Reads YAML that a person wrote: checks it against a schema and, where it is wrong, names the line and what to write.
 * It is here because policies are YAML, and `firewall` imports nothing of the other folders; `runtime` reads configurations with it.
 */
import { type Document, isAlias, isMap, isNode, isScalar, type LineCounter, visit } from 'yaml';
import type { z } from 'zod';
import { readDocument } from './yaml-document.js';
import { countIssues, explainIssues, shortened } from './yaml-issues.js';

/** Largest YAML text that is read, in bytes. A policy of 1,000 rules has about 200 kB. */
export const MAX_YAML_BYTES = 1_000_000;
/** How many problems of one text are told. */
export const MAX_PROBLEMS = 20;
/** How many are looked up in the text at all, to be told in its order. */
const MAX_LOCATED = 200;
/** How often one alias may be repeated by others that repeat it. */
const MAX_ALIAS_USES = 50;

/** One thing that is wrong. `line` counts from 1. */
export interface Problem {
  readonly line?: number;
  /** Where in the data, in words: `rule 3 "no smtp", remotePorts`. */
  readonly where: string;
  readonly message: string;
}

export class YamlError extends Error {
  override readonly name = 'YamlError';
  constructor(
    readonly code: 'too-large' | 'syntax' | 'invalid',
    /** The file, as the person named it. */
    readonly source: string,
    readonly problems: readonly Problem[],
    /** `total`: how many there are, where not all are listed. */
    { total = problems.length, ...options }: { readonly total?: number; readonly cause?: unknown } = {},
  ) {
    super(formatProblems(source, problems, total), options);
  }
}

/** `source:line: where: message`, a line each, as compilers write it; at most `MAX_PROBLEMS` of a `total`. */
export function formatProblems(
  source: string,
  problems: readonly Problem[],
  total: number = problems.length,
): string {
  const lines = problems.slice(0, MAX_PROBLEMS).map(({ line, where, message }) => {
    const place = line === undefined ? source : `${source}:${line}`;
    return `${place}: ${where === '' ? '' : `${where}: `}${message}`;
  });
  const rest = Math.max(total, problems.length) - lines.length;
  if (rest > 0) lines.push(`${source}: and ${rest} more`);
  return lines.join('\n');
}

export type Path = readonly (string | number)[];

export interface YamlOptions {
  /** The file, as the person named it; the messages begin with it. */
  readonly source: string;
  readonly maxBytes?: number;
  /** Says a path in the words of this kind of file. Default: `rules[2].remotePorts`. */
  readonly describe?: (path: Path, data: unknown) => string;
}

/** A checked text, and where in it things are: for checks that a schema cannot make. */
export interface YamlDocument<T> {
  readonly data: T;
  /** The line of a path, or of the nearest thing above it that is in the text. */
  lineOf(path: Path): number | undefined;
}

/**
 * Parses and checks a text. Fails with a `YamlError` that lists what is wrong, in the order of the text.
 * YAML 1.2, so `no` and `on` are texts; beyond it, digits with a leading zero stay a text (a datapath id is no number).
 */
export function parseYaml<S extends z.ZodType>(
  text: string,
  schema: S,
  options: YamlOptions,
): YamlDocument<z.output<S>> {
  const { source, maxBytes = MAX_YAML_BYTES, describe = describePath } = options;
  if (Buffer.byteLength(text) > maxBytes) {
    throw new YamlError('too-large', source, [
      { where: '', message: `the file is larger than ${maxBytes} bytes: is it the right one?` },
    ]);
  }
  const read = readDocument(text);
  if (read.kind === 'flawed') {
    throw new YamlError(
      'syntax',
      source,
      read.flaws.map(({ line, message }) => ({ line, where: '', message })),
    );
  }
  const { document, lines } = read;
  visit(document, {
    Scalar(_, scalar) {
      if (scalar.type === 'PLAIN' && /^0\d+$/.test(scalar.source ?? '')) scalar.value = scalar.source;
    },
  });

  const lineOf = (path: Path): number | undefined => {
    for (let length = path.length; length >= 0; length--) {
      const offset = offsetOf(document.contents, path.slice(0, length));
      if (offset !== undefined) return lines.linePos(offset).line;
    }
    return undefined;
  };
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: MAX_ALIAS_USES });
  } catch (cause) {
    const line = lineOfFirstAlias(document, lines);
    const message = 'aliases (*) repeat aliases too often: write out what they repeat';
    throw new YamlError('syntax', source, [{ line, where: '', message }], { cause });
  }
  const result = schema.safeParse(data);
  if (result.success) return { data: result.data, lineOf };
  const { issues } = result.error;
  const problems = explainIssues(issues, schema, data, MAX_LOCATED)
    .map(({ path, message }) => {
      const line = lineOf(path);
      return { ...(line === undefined ? {} : { line }), where: describe(path, data), message };
    })
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
  throw new YamlError('invalid', source, problems, { total: countIssues(issues) });
}

function lineOfFirstAlias(document: Document.Parsed, lines: LineCounter): number {
  let offset = 0;
  visit(document, {
    Alias(_, { range }) {
      offset = range?.[0] ?? 0;
      return visit.BREAK;
    },
  });
  return lines.linePos(offset).line;
}

/** `rules[2].remotePorts`. */
export function describePath(path: Path): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      return `${index === 0 ? '' : '.'}${shortened(part)}`;
    })
    .join('');
}

/** Where in the text a path begins: at its key in a map, at the value in a list. */
function offsetOf(root: unknown, path: Path): number | undefined {
  let node = root;
  let offset = isNode(root) ? root.range?.[0] : undefined;
  for (const part of path) {
    if (isAlias(node)) return undefined;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
      if (pair === undefined) return undefined;
      offset = isNode(pair.key) ? pair.key.range?.[0] : undefined;
      node = pair.value;
    } else if (typeof node === 'object' && node !== null && 'items' in node && Array.isArray(node.items)) {
      node = node.items[Number(part)];
      if (node === undefined) return undefined;
      offset = isNode(node) ? node.range?.[0] : undefined;
    } else return undefined;
  }
  return offset;
}
