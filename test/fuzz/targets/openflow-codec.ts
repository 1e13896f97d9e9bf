/**
 * OpenFlow messages: whatever comes is refused with an OpenFlowDecodeError, or is a message: plain data of its own,
 * which is written and read again the same.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decode, encode, OpenFlowDecodeError } from '../../../controller-app/openflow/index.js';
import { anyMessage } from '../../fixtures/openflow-arbitraries.js';
import { VECTORS } from '../../fixtures/openflow-vectors.js';
import { assertPlain, byteArraysIn } from '../../fixtures/plain-data.js';
import { type FuzzTarget, refusedOr } from '../target.js';

const HEADER_BYTES = 8;

const target: FuzzTarget = {
  seeds: (seed) => [
    ...VECTORS.map(({ bytes }) => bytes),
    ...fc.sample(anyMessage, { numRuns: 300, seed }).map((message) => encode(message)),
  ],
  run: (input) => {
    if (input.length < HEADER_BYTES) return read(input);
    // Most changes make the length a wrong one: then nothing behind it would be looked at.
    const fitted = Uint8Array.from(input.subarray(0, 0xffff));
    new DataView(fitted.buffer).setUint16(2, fitted.length);
    return `${read(input)} | ${read(fitted)}`;
  },
};
export default target;

function read(input: Uint8Array): string {
  const bytes = Uint8Array.from(input);
  return refusedOr(() => {
    const message = decode(bytes);
    assertPlain(message);
    assert.ok(
      byteArraysIn(message).every(({ buffer }) => buffer !== bytes.buffer),
      'it holds a view of its input',
    );
    const again = encode(message);
    assert.deepEqual(decode(again), message, 'written and read again it is another message');
    assert.deepEqual(encode(decode(again)), again, 'written twice it has other bytes');
    return message.type;
  }, OpenFlowDecodeError);
}
