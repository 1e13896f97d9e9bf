/**
 * A server on a Unix socket that only its owner may use; a socket that a dead process left behind is removed.
 */
import { lstat, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { ApiError } from '../../shared/api/errors.js';
import type { Closable } from '../../shared/runtime/lifetime.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS } from './limits.js';

/** Longest path of a Unix socket in bytes (sun_path of unix(7), without the closing zero). */
const MAX_PATH_BYTES = 107;

/** Listens; the server that is returned removes the socket when it closes. Fails when the path is in use. */
export async function listenOnSocket(
  listener: (request: IncomingMessage, response: ServerResponse) => void,
  path: string,
): Promise<Closable> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new ApiError('invalid', `${path} is too long for a Unix socket: at most ${MAX_PATH_BYTES} bytes`);
  }
  await removeStale(path);
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, listener);
  server.maxConnections = MAX_CONNECTIONS;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.once('listening', resolve);
      // By the umask, and not by chmod afterwards, so that there is no moment in which others may connect. Node binds in this call.
      const umask = process.umask(0o177);
      try {
        server.listen({ path });
      } finally {
        process.umask(umask);
      }
    });
  } catch (cause) {
    const why = messageOf(cause);
    throw new ApiError(
      'unavailable',
      `the API can't listen on ${path}: ${why}; write another path in socket`,
      {
        cause,
      },
    );
  }
  return {
    close: () =>
      new Promise<void>((resolve) => {
        // Node removes the socket's file, too.
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new ApiError(
      'invalid',
      `${path} is there and no socket: write another path in socket, or remove it`,
    );
  }
  if (await answers(path)) {
    throw new ApiError(
      'unavailable',
      `a program listens on ${path}: end it, or write another path in socket`,
    );
  }
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
