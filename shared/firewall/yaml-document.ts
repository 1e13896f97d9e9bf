/**
 * YAML text → a document of the yaml library, within bounds. That library builds whatever it is told to: it calls itself once for each level of
 * nesting, compares each key of a map with all others, and leaves a second document out without a word. So the text is looked at
 * token by token while the library's parser goes along, and refused where it leaves what people write. Pure.
 */
import {
  Composer,
  CST,
  type Document,
  type DocumentOptions,
  Lexer,
  LineCounter,
  type ParseOptions,
  Parser,
  type SchemaOptions,
  visit,
} from 'yaml';

/** How deep a text may nest. A policy has five levels. */
const MAX_DEPTH = 32;
/** Keys of one map. */
const MAX_KEYS = 1000;
/** Tokens of one text, white space included: a policy of 2,000 rules with every field full has some 700,000. */
const MAX_TOKENS = 1_000_000;
/** Aliases of one text: they make small texts large (the "billion laughs"). */
const MAX_ALIASES = 50;

/** The library quotes what stands in the text: as much of it as there is. */
const MAX_MESSAGE_CHARACTERS = 200;

/**
 * Texts, numbers, truth values, lists and maps, whatever version a text says it is of: tags that make sets, dates or bytes are
 * of no use here, and schemas do not expect them.
 */
const OPTIONS: ParseOptions & DocumentOptions & SchemaOptions = {
  schema: 'core',
  resolveKnownTags: false,
  prettyErrors: false,
  logLevel: 'silent',
};

/** What is wrong, and the line (from 1) where it is seen. */
export interface Flaw {
  readonly line: number;
  readonly message: string;
}

export type ReadDocument =
  | { readonly kind: 'document'; readonly document: Document.Parsed; readonly lines: LineCounter }
  | { readonly kind: 'flawed'; readonly flaws: readonly Flaw[] };

/** Reads the one document of a text; a flawed text has at least one flaw, in the order of the text, none told twice. */
export function readDocument(text: string): ReadDocument {
  const foreign = firstForeignCharacter(text);
  if (foreign) return flawed(foreign);
  const lines = new LineCounter();
  const parsed = parse(text, lines);
  if ('flaw' in parsed) return flawed(parsed.flaw);
  const composer = new Composer(OPTIONS);
  const [document, second] = firstTwo(composer.compose(parsed.tokens, true, text.length));
  if (!document) return flawed({ line: 1, message: 'not valid YAML: there is nothing in it' });
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const flaws = [...document.errors, ...document.warnings].map(
    ({ message, pos }): Flaw => ({ line: lineAt(pos[0]), message: `not valid YAML: ${message}` }),
  );
  if (flaws.length > 0) return flawed(...flaws);
  if (second) {
    const line = lineAt(second.contents?.range[0] ?? second.range[0]);
    return flawed({ line, message: 'a second document begins (after ---): a file holds one' });
  }
  const alias = firstWrongAlias(document);
  if (alias) return flawed({ line: lineAt(alias.offset), message: alias.message });
  return { kind: 'document', document, lines };
}

function shortened(message: string): string {
  return message.length > MAX_MESSAGE_CHARACTERS ? `${message.slice(0, MAX_MESSAGE_CHARACTERS)}…` : message;
}

function flawed(...flaws: readonly Flaw[]): ReadDocument {
  const seen = new Set<string>();
  const told = flaws.filter(({ line, message }) => {
    const key = `${line} ${message}`;
    return !seen.has(key) && seen.add(key);
  });
  return { kind: 'flawed', flaws: told.map(({ line, message }) => ({ line, message: shortened(message) })) };
}

/**
 * YAML 1.2.2, section 5.1: a text has no control characters but tab and line ends, no surrogates, and not U+FFFE and U+FFFF. In quotes they can be
 * written as escapes.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what the expression is for
const FOREIGN = /[\0-\x08\x0B\x0C\x0E-\x1F\x7F-\x84\x86-\x9F\uFFFE\uFFFF]|\p{Cs}/u;

function firstForeignCharacter(text: string): Flaw | undefined {
  const match = FOREIGN.exec(text);
  if (!match) return undefined;
  const code = (match[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
  return {
    line: text.slice(0, match.index).split('\n').length,
    message: `not valid YAML: the character U+${code} does not belong in a text: is it the right file?`,
  };
}

type Parsed = { readonly tokens: readonly CST.Token[] } | { readonly flaw: Flaw };

/** The library's tokens, unless a bound is passed on the way. Fills `lines`. */
function parse(text: string, lines: LineCounter): Parsed {
  const parser = new Parser(lines.addNewLine);
  const tokens: CST.Token[] = [];
  const flaw = (message: string): Parsed => ({
    flaw: { line: lines.linePos(parser.offset).line, message },
  });
  let count = 0;
  let aliases = 0;
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > MAX_TOKENS) return flaw(`more than ${MAX_TOKENS} words and marks: is it the right file?`);
    if (CST.tokenType(lexeme) === 'alias' && ++aliases > MAX_ALIASES)
      return flaw(`more than ${MAX_ALIASES} aliases (*): write out what they repeat`);
    tokens.push(...parser.next(lexeme));
    if (parser.stack.length > MAX_DEPTH) return flaw(`nested deeper than ${MAX_DEPTH} levels`);
    const open = parser.stack.at(-1);
    if (
      open &&
      'items' in open &&
      open.type !== 'block-seq' &&
      isMapToken(open) &&
      open.items.length > MAX_KEYS
    )
      return flaw(`more than ${MAX_KEYS} keys in one place`);
  }
  tokens.push(...parser.end());
  return { tokens };
}

function isMapToken(token: CST.BlockMap | CST.FlowCollection): boolean {
  return token.type === 'block-map' || token.start.source === '{';
}

function firstTwo<T>(items: Iterable<T>): readonly T[] {
  const found: T[] = [];
  for (const item of items) {
    found.push(item);
    if (found.length === 2) break;
  }
  return found;
}

function firstWrongAlias(document: Document.Parsed): { offset: number; message: string } | undefined {
  let found: { offset: number; message: string } | undefined;
  visit(document, {
    Alias(_, alias, path) {
      const target = alias.resolve(document);
      const message =
        target === undefined
          ? `there is no &${alias.source} before this alias`
          : path.some((node) => node === target)
            ? 'this alias (*) stands in what it repeats'
            : undefined;
      if (message === undefined) return undefined;
      found = { offset: alias.range?.[0] ?? 0, message };
      return visit.BREAK;
    },
  });
  return found;
}
