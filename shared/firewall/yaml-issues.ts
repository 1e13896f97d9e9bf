/**
 * Says in a person's words what zod found: what to write, and what stands there. Pure.
 */
import { z } from 'zod';

export interface Explained {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

type Issue = z.core.$ZodIssue;

/** Unknown keys of one map that are told. */
const MAX_KEYS = 100;
/** Characters of a text of the file that are shown. */
const MAX_SHOWN = 60;

/** The first `most` of zod's issues as sentences. `data` is what was checked, `schema` what it was checked against. */
export function explainIssues(
  issues: readonly Issue[],
  schema: z.ZodType,
  data: unknown,
  most: number,
): Explained[] {
  const explained: Explained[] = [];
  for (const issue of withoutConsequences(issues)) {
    if (explained.length >= most) break;
    explained.push(...explain(issue, schema, data, []).slice(0, most - explained.length));
  }
  return explained;
}

/** How many sentences the issues make. */
export function countIssues(issues: readonly Issue[]): number {
  return withoutConsequences(issues).reduce(
    (sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1),
    0,
  );
}

function explain(
  issue: Issue,
  schema: z.core.$ZodType,
  data: unknown,
  above: readonly (string | number)[],
): Explained[] {
  const relative = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
  const path = [...above, ...relative];
  const value = valueAt(data, path);
  const tell = (message: string): Explained[] => [{ path, message }];

  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(schema, path);
      const keys = issue.keys.slice(0, MAX_KEYS);
      return keys.map((key) => ({ path: [...path, key], message: unknownKey(key, known) }));
    }
    case 'invalid_value': {
      const wanted = issue.values.map(String);
      const write = wanted.length === 1 ? `write ${wanted[0]}` : `write one of ${wanted.join(', ')}`;
      return tell(value === undefined ? `is missing: ${write}` : `${write}; found ${show(value)}`);
    }
    case 'invalid_type': {
      const write = `write ${kindInWords(issue.expected)}`;
      return tell(value === undefined ? `is missing: ${write}` : `${write}; found ${show(value)}`);
    }
    case 'too_big':
      if (issue.origin === 'array' && Array.isArray(value)) return [tooMany(issue, path, value)];
      return tell(outOfBounds(issue, value));
    case 'too_small':
      return tell(outOfBounds(issue, value));
    case 'invalid_union':
      return explainUnion(issue, schema, data, path, value);
    case 'custom':
      return tell(
        value === undefined || typeof value === 'object'
          ? issue.message
          : `${issue.message}; found ${show(value)}`,
      );
    default:
      return tell(
        value === undefined ? `is missing: ${issue.message}` : `${issue.message}; found ${show(value)}`,
      );
  }
}

function outOfBounds(issue: Extract<Issue, { code: 'too_small' | 'too_big' }>, value: unknown): string {
  const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum;
  const side = issue.code === 'too_small' ? 'at least' : 'at most';
  const of = issue.origin === 'string' ? ' characters' : issue.origin === 'array' ? ' entries' : '';
  return `write ${side} ${bound}${of}; found ${show(value)}`;
}

/** Told of the first entry that is too many: there the person can begin to look. */
function tooMany(
  issue: Extract<Issue, { code: 'too_big' }>,
  path: readonly (string | number)[],
  { length }: readonly unknown[],
): Explained {
  const most = Number(issue.maximum);
  const own = issue.message.startsWith('Too big') ? `write at most ${most}` : issue.message;
  return { path: [...path, most], message: tooManyOf(length, own) };
}

/** `there are`: a number, or a number and what it is counted in. */
export function tooManyOf(thereAre: number | string, rule: string): string {
  return `is one too many, there are ${thereAre}: ${rule}`;
}

/** Of the members of a union, the one that the value was meant for speaks: the one whose complaint is the deepest. */
function explainUnion(
  issue: Extract<Issue, { code: 'invalid_union' }>,
  schema: z.core.$ZodType,
  data: unknown,
  path: readonly (string | number)[],
  value: unknown,
): Explained[] {
  const discriminator = 'discriminator' in issue ? issue.discriminator : undefined;
  if (typeof discriminator === 'string' && issue.errors.length === 0) {
    const owner = path.at(-1) === discriminator ? path.slice(0, -1) : path;
    const wanted = literalsAt(schema, owner, discriminator);
    const write = wanted.length > 0 ? `write one of ${wanted.join(', ')}` : 'is none that exists';
    const found = valueAt(data, [...owner, discriminator]);
    return [
      {
        path: [...owner, discriminator],
        message: found === undefined ? `is missing: ${write}` : `${write}; found ${show(found)}`,
      },
    ];
  }
  const kinds = new Set<string>();
  let best: readonly Issue[] = [];
  for (const errors of issue.errors) {
    const first = errors[0];
    if (first === undefined) continue;
    if (first.code === 'invalid_type' && first.path.length === 0) kinds.add(kindInWords(first.expected));
    else if (best.length === 0 || depth(errors) > depth(best)) best = errors;
  }
  if (best.length > 0 && value !== undefined) {
    return withoutConsequences(best).flatMap((inner) => explain(inner, schema, data, path));
  }
  const write = `write ${[...kinds].join(' or ') || 'something else'}`;
  return [{ path, message: value === undefined ? `is missing: ${write}` : `${write}; found ${show(value)}` }];
}

/** What is said of a whole although a part of it is wrong, is most often wrong because of that part. */
function withoutConsequences(issues: readonly Issue[]): readonly Issue[] {
  if (!issues.some(({ code }) => code === 'custom')) return issues;
  const wrongWithin = new Set<string>();
  for (const { path, code } of issues) {
    if (code === 'custom') continue;
    for (let length = 0; length < path.length; length++) wrongWithin.add(path.slice(0, length).join('/'));
  }
  return issues.filter(({ path, code }) => code !== 'custom' || !wrongWithin.has(path.join('/')));
}

function depth(issues: readonly Issue[]): number {
  return Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === 'invalid_type' ? 0 : 1)));
}

function unknownKey(key: string, known: readonly string[]): string {
  if (known.length === 0) return 'no such key';
  const near = known.find((candidate) => {
    if (key.length > candidate.length + 2) return false;
    const changes = editDistance(candidate.toLowerCase(), key.toLowerCase());
    return changes <= Math.min(2, key.length / 3);
  });
  return near === undefined
    ? `no such key; there are ${known.join(', ')}`
    : `no such key; did you mean ${near}?`;
}

const KINDS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'keys with values',
  record: 'keys with values',
};

function kindInWords(expected: string): string {
  return KINDS[expected] ?? expected;
}

/** A value as a person sees it in the text; never long. */
function show(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'keys with values';
  return typeof value === 'string' ? shortened(JSON.stringify(value.slice(0, MAX_SHOWN))) : String(value);
}

/** A text of a file as part of a sentence. */
export function shortened(text: string): string {
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN - 3)}…` : text;
}

function valueAt(data: unknown, path: readonly (string | number)[]): unknown {
  let value = data;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.hasOwn(value, part) ? Reflect.get(value, part) : undefined;
  }
  return value;
}

/** Every schema that a path may lead to: more than one where there are unions. */
function schemasAt(schema: z.core.$ZodType, path: readonly (string | number)[]): z.core.$ZodType[] {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodReadonly ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  ) {
    return schemasAt(schema.unwrap(), path);
  }
  if (schema instanceof z.ZodPipe) return schemasAt(schema.in, path);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => schemasAt(option, path));
  const [first, ...rest] = path;
  if (first === undefined) return [schema];
  if (schema instanceof z.ZodArray) return schemasAt(schema.element, rest);
  if (schema instanceof z.ZodObject) {
    const member = schema.shape[String(first)];
    return member === undefined ? [] : schemasAt(member, rest);
  }
  return [];
}

function keysAt(schema: z.core.$ZodType, path: readonly (string | number)[]): string[] {
  const keys = schemasAt(schema, path).flatMap((found) =>
    found instanceof z.ZodObject ? Object.keys(found.shape) : [],
  );
  return [...new Set(keys)];
}

function literalsAt(schema: z.core.$ZodType, path: readonly (string | number)[], key: string): string[] {
  return schemasAt(schema, [...path, key]).flatMap((found) =>
    found instanceof z.ZodLiteral ? [...found.values].map(String) : [],
  );
}

/** Levenshtein's distance: how many letters to change, add or leave out. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
