/**
 * One owner for everything that has to be closed again: sockets, servers, child processes, files.
 *
 * Closing goes in the reverse order of owning, so that a thing is closed before what it was built on; one failure does not keep the rest
 * open; closing twice is closing once. What comes too late, when the owner is closing already, is closed at once.
 */
import type { Log } from './log.js';
import { messageOf } from './message-of.js';

export interface Closable {
  close(): void | Promise<void>;
}

export class LifetimeError extends AggregateError {
  override readonly name = 'LifetimeError';
  readonly code = 'close-failed';
}

export class Lifetime implements Closable {
  readonly #owned: { readonly name: string; readonly close: () => void | Promise<void> }[] = [];
  readonly #controller = new AbortController();
  #closing: Promise<void> | undefined;

  /** Aborts when closing begins. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Owns a thing and returns it. `name` is for the error, should it not close. */
  own<T extends Closable>(name: string, thing: T): T {
    this.defer(name, () => thing.close());
    return thing;
  }

  /** Calls `close` when the owner closes. If it has begun to, at once. */
  defer(name: string, close: () => void | Promise<void>): void {
    this.#owned.push({ name, close });
    if (this.#closing === undefined) return;
    // The loop in #closeAll sees what is added while it runs; after its end another one is needed.
    this.#closing = this.#closing.finally(() => this.#closeAll());
    // Nobody may be waiting any more; who calls close() again still gets the failure.
    this.#closing.catch(() => {});
  }

  /** Closes everything, the youngest first. Fails with a `LifetimeError` that has every failure, after all were tried. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#controller.abort();
      this.#closing = this.#closeAll();
    }
    return this.#closing;
  }

  async #closeAll(): Promise<void> {
    const errors: Error[] = [];
    for (let thing = this.#owned.pop(); thing !== undefined; thing = this.#owned.pop()) {
      try {
        await thing.close();
      } catch (cause) {
        errors.push(new Error(`${thing.name} did not close: ${messageOf(cause)}`, { cause }));
      }
    }
    if (errors.length > 0) {
      throw new LifetimeError(errors, errors.map((error) => error.message).join('; '));
    }
  }
}

/** How long a program may take to close after the first signal, in ms. */
export const CLOSE_TIMEOUT_MS = 10_000;

/** What a shell sees of a program that a signal ended: 128 + its number. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Waits for SIGINT or SIGTERM and closes the lifetime, so that nothing is left behind. Returns the exit code, which is 0 when closing
 * went well: being stopped is what a server is for. A second signal, or `CLOSE_TIMEOUT_MS`, ends the program at once.
 */
export async function untilStopped(lifetime: Lifetime, log: Log): Promise<number> {
  const signals = ['SIGINT', 'SIGTERM'] as const;
  let impatient: ((signal: 'SIGINT' | 'SIGTERM') => void) | undefined;
  const first = await new Promise<'SIGINT' | 'SIGTERM' | 'closed'>((resolve) => {
    impatient = (signal): void => {
      if (lifetime.signal.aborted) process.exit(EXIT_CODES[signal]);
      resolve(signal);
    };
    for (const signal of signals) process.on(signal, impatient);
    lifetime.signal.addEventListener('abort', () => resolve('closed'), { once: true });
    if (lifetime.signal.aborted) resolve('closed');
  });
  if (first !== 'closed') log.info({ signal: first }, 'closing');
  const timeout = setTimeout(() => {
    log.error('closing took too long: the program ends without having put everything away');
    process.exit(1);
  }, CLOSE_TIMEOUT_MS);
  try {
    await lifetime.close();
    return 0;
  } catch (error) {
    log.error({ err: error }, 'closing failed');
    return 1;
  } finally {
    clearTimeout(timeout);
    for (const signal of signals) if (impatient !== undefined) process.off(signal, impatient);
  }
}
