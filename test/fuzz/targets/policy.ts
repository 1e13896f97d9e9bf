/**
 * Policy files.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { policySchema } from '../../../shared/firewall/policy.js';
import { parsePolicy } from '../../../shared/firewall/policy-file.js';
import { countRules } from '../../../shared/firewall/rule-count.js';
import { readDocument } from '../../../shared/firewall/yaml-document.js';
import { YamlError } from '../../../shared/firewall/yaml-text.js';
import { policyArbitrary } from '../../fixtures/firewall-arbitraries.js';
import { sourceFile } from '../../lab/project.js';
import { mutatedValue } from '../mutate-value.js';
import { bytesOf, type FuzzTarget, textOf } from '../target.js';

const MAX_MESSAGE_CHARACTERS = 20_000;

const target: FuzzTarget = {
  seeds: (seed) => [
    readFileSync(sourceFile('scripts', 'examples', 'policy-phone.yaml')),
    ...fc
      .sample(policyArbitrary, { numRuns: 10, seed })
      .flatMap((policy) => [
        bytesOf(stringify(policy)),
        bytesOf(stringify(policy, { collectionStyle: 'flow' })),
        bytesOf(JSON.stringify(policy)),
      ]),
  ],
  words: [
    ...[
      'name:',
      'defaults:',
      'rules:',
      'direction:',
      'action:',
      'family:',
      'protocol:',
      'remote:',
      'remotePorts:',
    ],
    ...['localPorts:', 'icmpType:', 'inbound', 'outbound', 'accept', 'drop', 'reject', 'tcp', 'udp', 'icmp'],
    ...[
      '10.0.0.0/8',
      'fd00::/8',
      '5000-5999',
      '---',
      '...',
      '%YAML 1.1',
      '&a ',
      '*a',
      '!!str ',
      '!!set ',
      '<<: ',
      '? ',
    ],
    ...[
      '- ',
      ': ',
      '{',
      '}',
      '[',
      ']',
      ', ',
      '|\n',
      '>-\n',
      '"',
      "'",
      '#',
      '\n',
      '\t',
      '\r\n',
      '\0',
      '\ufeff',
      '\u202e',
    ],
  ],
  change: (input, random) => {
    const read = readDocument(textOf(input));
    if (read.kind === 'flawed') return undefined;
    try {
      const value: unknown = mutatedValue(read.document.toJS({ maxAliasCount: 10 }), random);
      return bytesOf(stringify(value, { collectionStyle: random.oneIn(2) ? 'any' : 'flow' }));
    } catch {
      // Aliases that repeat too much, or a value that YAML cannot say.
      return undefined;
    }
  },
  run: (input) => {
    const text = textOf(input);
    try {
      const policy = parsePolicy(text, 'p.yaml');
      assert.deepEqual(
        policySchema.parse(JSON.parse(JSON.stringify(policy))),
        policy,
        'checked again it is another',
      );
      const { rules } = countRules(text, 1);
      // Keys may be written in ways that only the parser understands: then none are counted.
      assert.ok(
        rules === policy.rules.length || rules === 0,
        `${policy.rules.length} rules, ${rules} were counted`,
      );
      return `a policy of ${policy.rules.length} rules`;
    } catch (error) {
      if (!(error instanceof YamlError)) throw error;
      return checked(error, text.split('\n').length);
    }
  },
};
export default target;

/** The refusal, when it is one that a person can read. */
function checked({ message, problems }: YamlError, lines: number): string {
  assert.ok(message.length < MAX_MESSAGE_CHARACTERS, `a message of ${message.length} characters`);
  for (const { line } of problems)
    assert.ok(line === undefined || (line >= 1 && line <= lines + 1), `line ${line} of ${lines}`);
  const [first] = problems;
  assert.ok(first, 'no reason is told');
  // The library quotes the text: its beginning says what it is about.
  const library = /^not valid YAML: (\S+ \S+)/.exec(first.message)?.[1];
  return `refused: ${(library ?? first.message).replace(/[!&]\S*/g, '!')}`;
}
