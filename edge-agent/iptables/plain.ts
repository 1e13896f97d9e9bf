/**
 * The last fence before values become options of iptables and conntrack: whatever a value means, it is one word, and no option. Values are
 * validated where they come in; this holds if one ever came another way.
 */
import { DomainError } from '../../shared/domain/domain.js';

/** Addresses, prefixes, numbers. */
const WORD = /^[A-Za-z0-9:][A-Za-z0-9:./-]*$/;
const NUMBER = /^\d+$/;
/** What may stand between quotation marks in a file for iptables-restore. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9 ._-]*$/;
const SHOWN = 80;

/** The value as one word that is no option. Fails with `invalid`. */
export function plainWord(value: string | number): string {
  // NaN would be a word, too.
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return matching(NUMBER, `${value}`);
  return matching(WORD, `${value}`);
}

/** The name of a rule, to be put between quotation marks. Fails with `invalid`. */
export function plainName(name: string): string {
  return matching(NAME, name);
}

function matching(pattern: RegExp, text: string): string {
  if (pattern.test(text)) return text;
  throw new DomainError(
    'invalid',
    `a firewall state may not say ${JSON.stringify(text.slice(0, SHOWN))}: that is no address, number or name`,
  );
}
