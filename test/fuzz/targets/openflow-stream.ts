/**
 * The stream of a switch: cut into messages, however the pieces fall.
 */
import assert from 'node:assert/strict';
import { Framer, OpenFlowDecodeError } from '../../../controller-app/openflow/index.js';
import { Random } from '../random.js';
import { type FuzzTarget, refusedOr } from '../target.js';

const MAX_MESSAGE_BYTES = 0xffff;

const target: FuzzTarget = {
  seeds: () => [8, 9, 100, 1_000].map((length) => stream(length)),
  run: (input) => {
    const whole = read([Buffer.from(input)]);
    const pieces = read(piecesOf(Buffer.from(input), new Random(input.length + (input[0] ?? 0))));
    assert.equal(pieces, whole, 'in pieces it is another stream');
    return whole;
  },
};
export default target;

/** Three echo requests, the middle one of so many bytes. */
function stream(length: number): Buffer {
  const echo = (bytes: number): Buffer => {
    const message = Buffer.alloc(bytes, 7);
    message.writeUInt32BE(0x0402_0000 + bytes);
    return message;
  };
  return Buffer.concat([echo(8), echo(length), echo(12)]);
}

/** The lengths of the messages up to the end or the refusal. */
function read(chunks: readonly Buffer[]): string {
  const framer = new Framer();
  const lengths: number[] = [];
  const refused = refusedOr(() => {
    for (const chunk of chunks) {
      for (const message of framer.push(chunk)) lengths.push(message.length);
      assert.ok(framer.pending <= MAX_MESSAGE_BYTES, 'more is held than a message has');
    }
    return `${framer.pending} bytes of another`;
  }, OpenFlowDecodeError);
  return refused.startsWith('refused') ? 'refused' : `messages of ${lengths.join(', ')}; ${refused}`;
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
