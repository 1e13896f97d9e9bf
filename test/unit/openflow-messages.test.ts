/**
 * Made-up OpenFlow messages of every type, and made-up bytes: what comes out of the codec goes in again the same.
 */
import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import {
  decode,
  encode,
  type Message,
  type MessageType,
  OpenFlowDecodeError,
} from '../../controller-app/openflow/index.js';
import { anyMessage, bodies, messagesOf } from '../fixtures/openflow-arbitraries.js';
import { replies, requests } from '../fixtures/openflow-arbitraries-multipart.js';
import { assertPlain, byteArraysIn } from '../fixtures/plain-data.js';

t.setTimeout(120_000);

const RUNS = 100;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** There and back, twice. */
function roundTrip(message: Message): void {
  const bytes = encode(message);
  const input = Uint8Array.from(bytes);
  const back = decode(input);
  assertPlain(back);
  for (const held of byteArraysIn(back))
    if (held.buffer === input.buffer) throw new Error('a view of its input');
  input.fill(0xaa);
  deepStrictEqual(back, message);
  deepStrictEqual(hex(encode(back)), hex(bytes));
}

for (const type of Object.keys(bodies) as MessageType[])
  t.test(`any ${type} survives the way to bytes and back`, async () => {
    fc.assert(fc.property(messagesOf(type), roundTrip), { numRuns: RUNS });
  });

for (const [direction, kinds] of [
  ['multipart_request', requests],
  ['multipart_reply', replies],
] as const)
  for (const [kind, bodiesOfKind] of Object.entries(kinds))
    t.test(`any ${direction} of ${kind} survives the way to bytes and back`, async () => {
      fc.assert(
        fc.property(bodiesOfKind as fc.Arbitrary<never>, (body) =>
          roundTrip({ type: direction, xid: 1, body }),
        ),
        { numRuns: RUNS },
      );
    });

/** Refused with the codec's own error, or read, and then what was read is written and read the same. */
function refusedOrStable(bytes: Uint8Array): boolean {
  let message: Message;
  try {
    message = decode(bytes);
  } catch (error) {
    if (error instanceof OpenFlowDecodeError) return false;
    throw error;
  }
  const again = encode(message);
  const second = decode(again);
  deepStrictEqual(second, message);
  deepStrictEqual(hex(encode(second)), hex(again));
  return true;
}

/** The announced length is the true one: otherwise nothing beyond it would be looked at. */
function withLength(bytes: Uint8Array): Uint8Array {
  if (bytes.length >= 4) new DataView(bytes.buffer, bytes.byteOffset).setUint16(2, bytes.length);
  return bytes;
}

t.test(
  'any bytes are refused with an OpenFlowDecodeError or read to the end; nothing else happens',
  async (t) => {
    const header = fc.tuple(fc.constant(4), fc.nat(31), fc.constant(0), fc.constant(0), fc.constant(0));
    const bytes = fc
      .tuple(
        fc.oneof({ weight: 4, arbitrary: header }, { weight: 1, arbitrary: fc.constant([]) }),
        fc.uint8Array({ maxLength: 120 }),
      )
      .map(([start, rest]) => withLength(Uint8Array.from([...start, ...rest])));
    fc.assert(
      fc.property(bytes, (all) => void refusedOrStable(all)),
      { numRuns: 10_000 },
    );
    t.pass();
  },
);

t.test(
  'messages with bytes changed, cut off or put in are refused or read; nothing else happens',
  async (t) => {
    let read = 0;
    let refused = 0;
    const change = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), at: fc.nat(), value: fc.nat(255) }),
      fc.record({ kind: fc.constant('add' as const), at: fc.nat(), value: fc.constantFrom(-1, 1, 8, 128) }),
      fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), value: fc.integer({ min: 1, max: 16 }) }),
      fc.record({
        kind: fc.constant('insert' as const),
        at: fc.nat(),
        value: fc.integer({ min: 1, max: 16 }),
      }),
    );
    fc.assert(
      fc.property(anyMessage, fc.array(change, { minLength: 1, maxLength: 4 }), (message, changes) => {
        let bytes: number[] = [...encode(message)];
        for (const { kind, at: anywhere, value } of changes) {
          const at = 4 + (anywhere % Math.max(1, bytes.length - 4));
          if (kind === 'set') bytes[at] = value;
          else if (kind === 'add') bytes[at] = ((bytes[at] ?? 0) + value) & 0xff;
          else if (kind === 'cut') bytes.splice(at, value);
          else
            bytes = [...bytes.slice(0, at), ...new Array<number>(value).fill(at & 0xff), ...bytes.slice(at)];
        }
        if (refusedOrStable(withLength(Uint8Array.from(bytes)))) read++;
        else refused++;
      }),
      { numRuns: 10_000 },
    );
    t.ok(read > 1_000 && refused > 1_000, `${read} read, ${refused} refused: both were tried`);
  },
);

t.test('every beginning of a message is refused or read', async (t) => {
  for (const type of Object.keys(bodies) as MessageType[])
    for (const message of fc.sample(messagesOf(type), { numRuns: 5, seed: 5 })) {
      const whole = encode(message);
      for (let length = 0; length < whole.length; length++)
        refusedOrStable(withLength(whole.slice(0, length)));
    }
  t.pass();
});
