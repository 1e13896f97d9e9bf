/**
 * One agent of a name at a time: a second one would take the first one's instances for leftovers and remove them.
 *
 * The lock is an abstract Unix socket that is listened on: the kernel takes it back with the process, however that ends, and nothing
 * is left in a file system. Abstract sockets belong to a network namespace, as do the ends of the instances (unix(7)).
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Closable } from '../shared/runtime/lifetime.js';

export class NameTakenError extends Error {
  override readonly name = 'NameTakenError';
  readonly code = 'name-taken';
}

/** Takes the name until it is closed or the process ends. Fails with a NameTakenError when another process has it. */
export async function lockName(agent: string): Promise<Closable> {
  const socket = `paguro-agent/${agent}`;
  // Nobody has anything to say here: the socket is only there.
  const server = createServer((connection) => connection.destroy());
  try {
    server.listen({ path: `\0${socket}` });
    await once(server, 'listening');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
    throw new NameTakenError(
      `an agent named ${agent} runs already on this machine, and its firewalls were not touched: stop it first ("ss -xlp src @${socket}" shows its process), or give this one another name in its configuration`,
      { cause: error },
    );
  }
  return {
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
