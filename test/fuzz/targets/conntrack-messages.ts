/**
 * What the kernel's connection table says through the relay, in pieces: events, dumps, answers.
 */
import assert from 'node:assert/strict';
import { connectionOf, eventOf, ownAddresses } from '../../../edge-agent/conntrack/connection.js';
import { readEntry } from '../../../edge-agent/conntrack/entry.js';
import { type Frame, FrameCutter } from '../../../edge-agent/conntrack/frames.js';
import { errorOf, MESSAGE, messagesOf, NetlinkError } from '../../../edge-agent/conntrack/netlink.js';
import { connectionSchema } from '../../../shared/firewall/connection.js';
import { realisticTable } from '../../fixtures/connection-tables.js';
import {
  answerMessage,
  DUMPED_BY_LINUX,
  dumpMessage,
  EVENT_OF_LINUX,
  eventMessage,
  LOADED_BY_CONNTRACK,
  relayFrame,
} from '../../fixtures/conntrack-messages.js';
import { alice } from '../../fixtures/reference-environment.js';
import { Random } from '../random.js';
import { type FuzzTarget, refusedOr } from '../target.js';

const own = ownAddresses(alice);
const EVENTS = ['new', 'update', 'destroy'] as const;

const target: FuzzTarget = {
  seeds: (seed) => [
    relayFrame('r', Buffer.from(DUMPED_BY_LINUX, 'hex')),
    relayFrame('e', Buffer.from(EVENT_OF_LINUX, 'hex')),
    ...LOADED_BY_CONNTRACK.map(([, hex]) => relayFrame('e', Buffer.from(hex, 'hex'))),
    Buffer.concat([
      relayFrame('h', Buffer.alloc(4, 7)),
      relayFrame('r', answerMessage(1, 17)),
      relayFrame('o'),
      relayFrame('f', Buffer.alloc(8, 1)),
    ]),
    ...realisticTable(alice, 20, 10 + (seed % 10)).map((connection, index) =>
      Buffer.concat([
        relayFrame('e', eventMessage(EVENTS[index % 3] ?? 'new', connection)),
        relayFrame('r', dumpMessage(connection)),
      ]),
    ),
  ],
  run: (input) => {
    const bytes = Buffer.from(input);
    const whole = said([bytes]);
    // Something wrong is seen early or late, as the pieces fall; but it is always seen.
    assert.equal(
      said(piecesOf(bytes, new Random(input.length + (input[0] ?? 0)))),
      whole,
      'in pieces it says something else',
    );
    return whole;
  },
};
export default target;

/** What was said, up to the end or the refusal. */
function said(pieces: readonly Buffer[]): string {
  const cutter = new FrameCutter();
  return refusedOr(() => {
    const kinds = new Set<string>();
    for (const piece of pieces)
      for (const frame of cutter.push(piece)) for (const kind of kindsOf(frame)) kinds.add(kind);
    return [...kinds].sort().join(', ') || 'nothing';
  }, NetlinkError);
}

function kindsOf(frame: Frame): readonly string[] {
  if (frame.kind !== 'event' && frame.kind !== 'reply') return [frame.kind];
  const kinds: string[] = [];
  for (const message of messagesOf(frame.datagram)) {
    if (message.type === MESSAGE.error) kinds.push(errorOf(message) === 0 ? 'done' : 'error');
    const event = eventOf(message, own);
    const entry = readEntry(message);
    const connection = entry && connectionOf(entry, own);
    if (event) kinds.push(event.event);
    if (!connection) continue;
    assert.deepEqual(connectionSchema.parse(connection), connection);
    assert.ok(own.has(connection.local.address));
    kinds.push(`${connection.protocol} ${connection.opener}`);
  }
  return kinds;
}

function piecesOf(bytes: Buffer, random: Random): readonly Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = random.oneIn(2) ? 1 : 1 + random.small(300);
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}
