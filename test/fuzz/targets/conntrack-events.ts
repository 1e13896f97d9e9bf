/**
 * What `conntrack -E` prints, in pieces.
 */
import assert from 'node:assert/strict';
import { LineCutter, MAX_LINE_CHARACTERS } from '../../../edge-agent/conntrack/lines.js';
import { ownAddresses, type ParsedEvent, parseEvent } from '../../../edge-agent/conntrack/parse.js';
import { connectionSchema } from '../../../shared/firewall/connection.js';
import { realisticTable } from '../../fixtures/connection-tables.js';
import { eventLine } from '../../fixtures/conntrack-lines.js';
import { alice } from '../../fixtures/reference-environment.js';
import { conntrackLines } from '../conntrack-words.js';
import { Random } from '../random.js';
import { bytesOf, type FuzzTarget, textOf } from '../target.js';

const own = ownAddresses(alice);
const EVENTS = ['NEW', 'UPDATE', 'DESTROY'] as const;

const target: FuzzTarget = {
  seeds: (seed) => {
    const connections = realisticTable(alice, 40, 10 + (seed % 10));
    return connections.map((connection, index) =>
      bytesOf(`${eventLine(EVENTS[index % 3] ?? 'NEW', connection)}\n${eventLine('UPDATE', connection)}\n`),
    );
  },
  words: conntrackLines,
  run: (input) => {
    const text = textOf(input);
    const whole = eventsOf([text]);
    const pieces = piecesOf(text, new Random(input.length + (input[0] ?? 0)));
    // A long line is seen early or late, as the pieces fall; but it is always seen.
    const cut = eventsOf(pieces);
    assert.deepEqual(cut, whole, 'in pieces it says something else');
    for (const { connection } of whole ?? [])
      assert.deepEqual(connectionSchema.parse(connection), connection);
    return whole
      ? [...new Set(whole.map(({ event, connection }) => `${event} ${connection.protocol}`))].join(', ')
      : 'too long';
  },
};
export default target;

/** Undefined when a line is too long. */
function eventsOf(pieces: readonly string[]): readonly ParsedEvent[] | undefined {
  const cutter = new LineCutter();
  const events: ParsedEvent[] = [];
  for (const piece of pieces) {
    const lines = cutter.push(piece);
    if (!lines) return undefined;
    assert.ok(lines.every(({ length }) => length <= MAX_LINE_CHARACTERS));
    events.push(...lines.flatMap((line) => parseEvent(line, own) ?? []));
  }
  return events;
}

function piecesOf(text: string, random: Random): readonly string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; ) {
    const length = random.oneIn(2) ? 1 : 1 + random.small(300);
    pieces.push(text.slice(at, at + length));
    at += length;
  }
  return pieces;
}
