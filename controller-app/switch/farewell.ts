/**
 * The end of a connection whose peer is told why. A socket that is closed with unread bytes resets the connection, and what it said last may be lost: so
 * it stays, half closed, until the peer has hung up, and what still comes is thrown away. Not for long, and not without bound.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../../shared/runtime/clock.js';

/** A peer that still says more than this has no ear for us. */
const MAX_DISCARDED_BYTES = 2 ** 20;

export function farewell(socket: Socket, lastWords: Uint8Array, lingerMs: number, clock: Clock): void {
  const timer = clock.after(lingerMs, () => socket.destroy());
  let discarded = 0;
  socket.removeAllListeners('data');
  socket.on('data', (chunk: Buffer) => {
    discarded += chunk.length;
    if (discarded > MAX_DISCARDED_BYTES) socket.destroy();
  });
  socket.once('end', () => socket.destroy());
  socket.once('close', () => timer.close());
  socket.resume();
  socket.end(lastWords);
}
