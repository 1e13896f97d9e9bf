/**
 * Policies as bodies of the HTTP API.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { checked } from '../../../controller-app/http/errors.js';
import { ApiError } from '../../../shared/api/errors.js';
import { handoverRequestSchema } from '../../../shared/api/schema.js';
import { policySchema } from '../../../shared/firewall/policy.js';
import { policyArbitrary } from '../../fixtures/firewall-arbitraries.js';
import { mutatedValue } from '../mutate-value.js';
import { bytesOf, type FuzzTarget, refusedOr, textOf } from '../target.js';

const MAX_MESSAGE_CHARACTERS = 20_000;

const target: FuzzTarget = {
  seeds: (seed) => [
    bytesOf('{"to":"edge-1","omitConnections":false,"wait":true}'),
    ...fc.sample(policyArbitrary, { numRuns: 20, seed }).map((policy) => bytesOf(JSON.stringify(policy))),
  ],
  words: [
    ...[
      '"name":',
      '"defaults":',
      '"rules":',
      '"direction":',
      '"action":',
      '"remote":',
      '"remotePorts":',
      '"__proto__":',
    ],
    ...[
      'null',
      'true',
      '1e999',
      '-0',
      '[',
      ']',
      '{',
      '}',
      ',',
      '""',
      '"\\u0000"',
      '"\\ud800"',
      '70000',
      '"10.0.0.0/33"',
    ],
  ],
  change: (input, random) => {
    try {
      return bytesOf(JSON.stringify(mutatedValue(JSON.parse(textOf(input)), random)) ?? '');
    } catch {
      return undefined;
    }
  },
  run: (input) => {
    let body: unknown;
    try {
      body = JSON.parse(textOf(input));
    } catch {
      return 'no JSON';
    }
    const outcomes = [policySchema, handoverRequestSchema].map((schema) =>
      refusedOr(() => {
        const value = checked(schema, body);
        assert.deepEqual(
          schema.parse(JSON.parse(JSON.stringify(value))),
          value,
          'checked again it is another',
        );
        return 'taken';
      }, ApiError),
    );
    for (const outcome of outcomes)
      assert.ok(outcome.length < MAX_MESSAGE_CHARACTERS, `a message of ${outcome.length} characters`);
    return outcomes.map((outcome) => outcome.replace(/\n.*/s, '').replace(/^refused: .*?: /, '')).join(' | ');
  },
};
export default target;
