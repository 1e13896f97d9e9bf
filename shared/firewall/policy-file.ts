/**
 * Policies as people write them: YAML. Whatever is wrong is told with its line, its rule and what to write instead.
 */
import { MAX_RULES, type Policy, policySchema, TOO_MANY_RULES } from './policy.js';
import { countRules } from './rule-count.js';
import { tooManyOf } from './yaml-issues.js';
import { describePath, type Path, type Problem, parseYaml, YamlError } from './yaml-text.js';

/** Largest policy that is read, in bytes: the most rules with every field full have about 2.5 MB. */
export const MAX_POLICY_BYTES = 4_000_000;
/** As far as a larger text is looked at, to say how many rules it has. */
export const MAX_COUNTED_BYTES = 16_000_000;

/** Reads a policy; of a text larger than `MAX_COUNTED_BYTES` only the beginning need be given. `source` is the file, as the person named it. Fails with a `YamlError`. */
export function parsePolicy(text: string, source: string): Policy {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_POLICY_BYTES) throw new YamlError('too-large', source, [tooLarge(text, bytes)]);
  return parseYaml(text, policySchema, { source, maxBytes: MAX_POLICY_BYTES, describe: describeRule }).data;
}

function tooLarge(text: string, bytes: number): Problem {
  const { rules, lineOfNth } = countRules(text, MAX_RULES + 1);
  if (lineOfNth === undefined) {
    return {
      where: '',
      message: `the file is larger than ${MAX_POLICY_BYTES} bytes: is it the right one?`,
    };
  }
  const thereAre = bytes > MAX_COUNTED_BYTES ? `more than ${rules}` : rules;
  return {
    line: lineOfNth,
    where: `rule ${MAX_RULES + 1}`,
    message: tooManyOf(thereAre, TOO_MANY_RULES),
  };
}

/** `rule 3 "no smtp", remotePorts`: rules are counted from 1, as people do. */
function describeRule(path: Path, data: unknown): string {
  const [first, index, ...rest] = path;
  if (first !== 'rules' || typeof index !== 'number') return describePath(path);
  const name = nameOf(data, index);
  const rule = `rule ${index + 1}${name === undefined ? '' : ` "${name.slice(0, 63)}"`}`;
  return rest.length === 0 ? rule : `${rule}, ${describePath(rest)}`;
}

function nameOf(data: unknown, index: number): string | undefined {
  if (typeof data !== 'object' || data === null || !('rules' in data) || !Array.isArray(data.rules)) {
    return undefined;
  }
  const rule: unknown = data.rules[index];
  if (typeof rule !== 'object' || rule === null || !('name' in rule)) return undefined;
  return typeof rule.name === 'string' ? rule.name : undefined;
}
