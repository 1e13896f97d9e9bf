/**
 * Policies as people write them: YAML. Whatever is wrong is told with its line, its rule and what to write instead.
 */
import { type Policy, policySchema } from './policy.js';
import { describePath, type Path, parseYaml } from './yaml-text.js';

/** Largest policy file, in bytes. */
export const MAX_POLICY_BYTES = 500_000;

/** Reads a policy. `source` is the file, as the person named it. Fails with a `YamlError`. */
export function parsePolicy(text: string, source: string): Policy {
  return parseYaml(text, policySchema, { source, maxBytes: MAX_POLICY_BYTES, describe: describeRule }).data;
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
