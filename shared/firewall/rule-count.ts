/**
 * How many rules a policy has that is too large to be read. Only the library's lexer goes over the text, so that this takes the memory of one token. Pure.
 */
import { CST, Lexer } from 'yaml';

export interface RuleCount {
  readonly rules: number;
  /** The line (from 1) on which rule number `nth` begins, when there are so many. */
  readonly lineOfNth: number | undefined;
}

/** Counts the entries of the list under the top key `rules`, in either style of YAML. What is no such text has none. */
export function countRules(text: string, nth: number): RuleCount {
  const counter = new RuleCounter(nth);
  for (const lexeme of new Lexer().lex(text)) {
    counter.next(lexeme);
    if (counter.ended) break;
  }
  return { rules: counter.rules, lineOfNth: counter.lineOfNth };
}

/** before: not at `rules` yet. key: at its value. block, flow: within its list. end: after it. */
type Place = 'before' | 'key' | 'block' | 'flow' | 'end';

class RuleCounter {
  rules = 0;
  lineOfNth: number | undefined;
  #place: Place = 'before';
  #line = 1;
  #column = 0;
  /** How many brackets are open. */
  #depth = 0;
  /** Of the list: the column of its dashes, or the depth within its brackets. */
  #level = 0;
  /** Within brackets: the entry that a comma ends has begun. */
  #inEntry = false;

  constructor(private readonly nth: number) {}

  get ended(): boolean {
    return this.#place === 'end';
  }

  next(lexeme: string): void {
    const type = CST.tokenType(lexeme);
    // What the lexer puts in between: a start of a document, of a scalar, an end of brackets that should not be.
    if (lexeme === CST.DOCUMENT || lexeme === CST.SCALAR || lexeme === CST.FLOW_END) return;
    if (type === 'flow-map-end' || type === 'flow-seq-end') this.#depth--;
    if (type !== 'space' && type !== 'newline' && type !== 'comment' && type !== 'byte-order-mark')
      this.#see(lexeme, type);
    if (type === 'flow-map-start' || type === 'flow-seq-start') this.#depth++;
    this.#move(lexeme);
  }

  #see(lexeme: string, type: CST.TokenType | null): void {
    switch (this.#place) {
      case 'before':
        if (this.#atTop() && /^(["']?)rules\1$/.test(lexeme)) this.#place = 'key';
        return;
      case 'key':
        if (type === 'map-value-ind' || type === 'anchor' || type === 'tag') return;
        if (type === 'seq-item-ind') {
          this.#enter('block', this.#column);
          this.#count();
        } else if (type === 'flow-seq-start') this.#enter('flow', this.#depth + 1);
        else this.#place = 'before';
        return;
      case 'block':
        if (this.#depth > 0 || this.#column > this.#level) return;
        if (type === 'seq-item-ind' && this.#column === this.#level) this.#count();
        else this.#place = 'end';
        return;
      case 'flow':
        if (this.#depth < this.#level) this.#place = 'end';
        else if (this.#depth === this.#level && type === 'comma') this.#inEntry = false;
        else if (!this.#inEntry) {
          this.#inEntry = true;
          this.#count();
        }
        return;
      case 'end':
        return;
    }
  }

  /** In a key of the outermost map, in either style. */
  #atTop(): boolean {
    return this.#depth === 1 || (this.#depth === 0 && this.#column === 0);
  }

  #enter(place: 'block' | 'flow', level: number): void {
    this.#place = place;
    this.#level = level;
  }

  #count(): void {
    this.rules++;
    if (this.rules === this.nth) this.lineOfNth = this.#line;
  }

  #move(lexeme: string): void {
    const last = lexeme.lastIndexOf('\n');
    if (last < 0) {
      this.#column += lexeme.length;
      return;
    }
    for (const character of lexeme) if (character === '\n') this.#line++;
    this.#column = lexeme.length - last - 1;
  }
}
