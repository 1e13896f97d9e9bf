/**
 * Matches as keys. This is done for every rule whenever rules change, so it does not take the long way over a canonical match unless it must.
 */
import { Writer } from '../wire/index.js';
import { canonicalMatch } from './canonical.js';
import { fieldNamed, type Match, type NamedField } from './fields.js';
import { clearAbove, coverage } from './mask-bytes.js';
import { isMasked, oxms, writeUnknown } from './oxm.js';

const w = new Writer();

/** Before the fields without a name. */
const UNKNOWN = '\uffff';

/** Fields that are spelled as others: registers as parts of longer ones, a tag as its two halves. */
const OTHERWISE = /^(x{1,2}reg\d|vlan_tci|in_port_nxm|ip_tos|packet_type)$/;

/**
 * Equal for matches that mean the same, whatever order or spelling their fields have. For comparing, not for people. Throws an
 * OpenFlowEncodeError for a match that could not be sent.
 */
export function matchKey(match: Match): string {
  w.reset();
  oxms.write(w, match);
  const names = Object.keys(match);
  const { unknown = [], ...named } = names.some((name) => OTHERWISE.test(name))
    ? canonicalMatch(match)
    : match;
  const parts: string[] = [];
  for (const [name, given] of Object.entries(named)) {
    const field = fieldNamed(name);
    const part = field && given !== undefined ? keyOf(field, given) : undefined;
    if (part !== undefined) parts.push(part);
  }
  parts.sort();
  const others = unknown.map((field) => {
    w.reset();
    writeUnknown(w, field);
    return written();
  });
  return [...parts, UNKNOWN, ...others.sort()].join('');
}

/** Which field, whether with a mask that says something, how many bytes, those; nothing at all for a mask that says nothing. */
function keyOf({ kind, canonical }: NamedField, given: unknown): string | undefined {
  const order = fieldNamed(canonical)?.order ?? 0;
  w.reset();
  kind.write(w, isMasked(given) ? given.value : given);
  const size = w.length;
  let masked = isMasked(given);
  if (isMasked(given)) {
    kind.write(w, given.mask);
    const covered = coverage(w.bytes, size, size, kind);
    // An option of a tunnel of which no bit matters must be there all the same.
    if (covered === 'none' && !kind.varies) return undefined;
    masked = covered !== 'all';
    if (!masked) w.length = size;
    else clearAbove(w.bytes, size, kind);
  }
  return String.fromCharCode(2 * order + (masked ? 1 : 0), w.length) + written();
}

function written(): string {
  return String.fromCharCode(...w.bytes.subarray(0, w.length));
}
