/**
 * The OpenFlow codec against Open vSwitch's own reading of the same bytes, in both directions. What Open vSwitch sends is decoded and
 * printed in its words, what we encode is printed by it: the two texts must be one, and encoding what was decoded must give the same bytes.
 * The bytes are captured while the test runs; the values are written by hand, with the text that they must have.
 */
import '../lab/enter.js';
import t from 'tap';
import { decode, encode, type Message, type MessageBody } from '../../controller-app/openflow/index.js';
import { alterations, differences } from '../fixtures/openvswitch/alterations.js';
import { cut, ours, plainText, plainTexts, readOurs } from '../fixtures/openvswitch/comparison.js';
import { hold } from '../fixtures/openvswitch/conversation.js';
import { ALL_KINDS, kindsIn } from '../fixtures/openvswitch/kinds.js';
import { COMPLAINT, isPeculiar, isSilent, NOT_SENT } from '../fixtures/openvswitch/limits.js';
import type { Captured } from '../fixtures/openvswitch/relay.js';
import { holdSession } from '../fixtures/openvswitch/session.js';
import { REFUSED_VALUES, VALUES } from '../fixtures/openvswitch/vectors/index.js';
import { startOpenVSwitch } from '../lab/index.js';

t.setTimeout(240_000);

const ovs = await startOpenVSwitch();
t.teardown(() => ovs.close());

/** Without the xid: the same message said twice counts once. */
function distinct(messages: readonly Captured[]): Captured[] {
  const seen = new Map<string, Captured>();
  for (const message of messages) {
    const { bytes } = message;
    const key = `${bytes.toString('hex', 0, 4)}${bytes.toString('hex', 8)}`;
    if (!seen.has(key)) seen.set(key, message);
  }
  return [...seen.values()];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
/** The bytes, and the first line that is not the same in all texts. */
function fault(bytes: Uint8Array, texts: Readonly<Record<string, string | undefined>>): string {
  const lines = Object.values(texts).map((text) => (text ?? 'nothing').split('\n'));
  const at = Math.max(0, lines[0]?.findIndex((line, i) => lines.some((other) => other[i] !== line)) ?? 0);
  return [hex(bytes), ...Object.keys(texts).map((who, i) => `${who}: ${lines[i]?.[at]}`)].join('\n');
}

const withXid = (message: MessageBody): Message => ({ ...message, xid: 1 });
/** Every kind that is in any of these messages. */
const kindsOf = (messages: readonly Message[]): Set<string> =>
  new Set(messages.flatMap((message) => [...kindsIn(message)]));
/** Of a list of faults the first few, and how many there are. */
const some = (faults: readonly string[]): string[] =>
  faults.length > 10 ? [...faults.slice(0, 10), `… ${faults.length} in all`] : [...faults];

const VERSION = 4;
const session = await holdSession();
const captured = distinct([...session.captured, ...(await hold(session.socket))]);

t.test(
  'what Open vSwitch sends is read as Open vSwitch reads it, and encodes to the same bytes',
  async (t) => {
    const decoded = captured.map(({ from, bytes }) => ({ from, bytes, message: decode(bytes) }));
    const changed = decoded.filter(({ bytes, message }) => hex(encode(message)) !== hex(bytes));
    t.strictSame(some(changed.map(({ bytes }) => hex(bytes))), [], 'decoding and encoding changes nothing');
    for (const { bytes, message } of decoded)
      if (message.type === 'error')
        t.equal(hex(bytes).endsWith(hex(message.data)), true, 'what an error repeats stands at its end');

    const parts = decoded.flatMap(({ bytes }) => cut(bytes));
    const texts = await plainTexts(parts);
    const refused = texts.filter((text) => text.includes('***'));
    t.strictSame(some(refused), [], 'Open vSwitch understands itself');
    const faults = parts.flatMap((bytes, i) => {
      const text = readOurs(bytes)?.text;
      return text === texts[i] ? [] : [fault(bytes, { ours: text, 'Open vSwitch': texts[i] })];
    });
    t.strictSame(some(faults), [], 'both texts are one');

    const messages = decoded.map(({ message }) => message);
    const fromSwitch = decoded.filter(({ from }) => from === 'ovs-vswitchd').length;
    t.ok(
      messages.length > 700,
      `${messages.length} distinct messages, ${fromSwitch} of them by ovs-vswitchd`,
    );
    const sent = kindsOf(messages);
    t.strictSame(
      ALL_KINDS.filter((kind) => !sent.has(kind)).sort(),
      [...NOT_SENT].sort(),
      'every kind but those that Open vSwitch does not send',
    );
    t.end();
  },
);

t.test('what we send is read by Open vSwitch as it is meant', async (t) => {
  const encoded = VALUES.map(([, message]) => encode(withXid(message)));
  const texts = await plainTexts(encoded);
  const faults = VALUES.flatMap(([expected, message], i) => {
    const [literal, printed] = [plainText(expected), ours(withXid(message))];
    if (texts[i] === literal && printed === literal) return [];
    const bytes = encoded[i] ?? new Uint8Array(0);
    return [fault(bytes, { expected: literal, ours: printed, 'Open vSwitch': texts[i] })];
  });
  t.strictSame(some(faults), [], 'the text expected, that of Open vSwitch and ours are one');
  const changed = encoded.filter((bytes) => hex(encode(decode(bytes))) !== hex(bytes));
  t.strictSame(some(changed.map(hex)), [], 'decoding and encoding changes nothing');
  t.ok(new Set(encoded.map(hex)).size > 450, `${new Set(encoded.map(hex)).size} distinct messages`);

  const refusals = await plainTexts(REFUSED_VALUES.map(([, message]) => encode(withXid(message))));
  t.strictSame(
    refusals.map((text) => /\*\*\*decode error: (\w+)\*\*\*/.exec(text)?.[1] ?? text),
    REFUSED_VALUES.map(([refusal]) => refusal),
    'what Open vSwitch has no words for it refuses by name',
  );
  const messages = [...VALUES, ...REFUSED_VALUES].map(([, message]) => withXid(message));
  const meant = kindsOf(messages);
  t.strictSame(
    ALL_KINDS.filter((kind) => !meant.has(kind)),
    [],
    'every kind of message, multipart, instruction and action, and every field',
  );
  t.end();
});

t.test('errors have the names that Open vSwitch has for them', async (t) => {
  const data = encode({ type: 'barrier_request', xid: 9 });
  const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  const messages: Message[] = [
    ...range(0, 16).flatMap((errorType) =>
      range(0, 32).map((code): Message => ({ type: 'error', xid: 1, errorType, code, data })),
    ),
    ...[
      { experimenter: 0x2320, codes: range(0, 64) },
      { experimenter: 0x4f4e4600, codes: range(2290, 400) },
    ].flatMap(({ experimenter, codes }) =>
      codes.map((code): Message => ({ type: 'error', xid: 1, errorType: 0xffff, code, experimenter, data })),
    ),
  ];
  const texts = await plainTexts(messages.map(encode));
  const known = messages.flatMap((message, i) =>
    texts[i]?.includes('***') ? [] : [{ expected: texts[i], printed: ours(message) }],
  );
  t.strictSame(
    known.map(({ printed }) => printed),
    known.map(({ expected }) => expected),
  );
  t.ok(known.length > 120, `${known.length} errors that Open vSwitch knows`);
  t.end();
});

t.test('a control: one altered bit is noticed wherever Open vSwitch prints it', async (t) => {
  const originals = [
    // Of tables that are all alike one is enough.
    ...captured
      .filter(({ bytes }) => bytes.readUInt8(0) === VERSION)
      .flatMap(({ bytes }) => cut(bytes).slice(0, 1)),
    ...VALUES.map(([, message]) => Buffer.from(encode(withXid(message)))),
  ];
  const cases = originals.flatMap((original) => {
    const before = readOurs(original);
    return before ? alterations(original).map((bytes) => ({ original, bytes, before })) : [];
  });
  const texts = await plainTexts(cases.map(({ bytes }) => bytes));
  const noticed = new Set<Buffer>();
  const silent = new Set<string>();
  const faults: string[] = [];
  let [same, refused] = [0, 0];
  for (const [i, { original, bytes, before }] of cases.entries()) {
    const text = texts[i] ?? '';
    const after = readOurs(bytes);
    if (after?.text !== before.text) noticed.add(original);
    else
      for (const path of differences(before.message, after.message))
        silent.add(`${before.message.type}: ${path}`);
    // Where both take the altered bytes for a message they must still say the same.
    if (COMPLAINT.test(text)) continue;
    if (!after) refused++;
    else if (isPeculiar(after.message)) continue;
    else if (after.text === text) same++;
    else faults.push(fault(bytes, { ours: after.text, 'Open vSwitch': text }));
  }
  t.strictSame(some(faults), [], 'the altered messages that both understand are still printed alike');
  // Unless nothing but the name is printed of it.
  const unnoticed = cases.filter(
    ({ original, before }) => !noticed.has(original) && !before.text.endsWith(':'),
  );
  t.strictSame(
    some(unnoticed.map(({ original }) => hex(original))),
    [],
    'in every message something is noticed',
  );
  const unexpected = [...silent].filter((place) => !isSilent(place)).sort();
  t.strictSame(unexpected, [], 'nothing goes unnoticed but what Open vSwitch does not print');
  t.ok(
    same > cases.length / 2,
    `${cases.length} alterations, ${same} of them understood and printed alike by both`,
  );
  t.ok(
    refused < cases.length / 100,
    `${refused} refused by us alone: for lengths, duplicates and reserved bits`,
  );
  t.end();
});
