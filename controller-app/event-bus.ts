/**
 * Tells what happens to whoever listens. A listener that does not keep up loses the oldest of what waits for it, never our memory.
 */
import type { ApiEvent } from '../shared/api/schema.js';

/** Events that wait for one listener. */
const MAX_WAITING_EVENTS = 1000;

export class EventBus {
  readonly #listeners = new Set<(event: ApiEvent) => void>();

  publish(event: ApiEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** What happens from this call on, until `signal` aborts. */
  listen(signal: AbortSignal): AsyncIterable<ApiEvent> {
    const waiting: ApiEvent[] = [];
    let wake: (() => void) | undefined;
    const listener = (event: ApiEvent): void => {
      if (waiting.length >= MAX_WAITING_EVENTS) waiting.shift();
      waiting.push(event);
      wake?.();
    };
    const onAbort = (): void => {
      this.#listeners.delete(listener);
      wake?.();
    };
    if (!signal.aborted) {
      this.#listeners.add(listener);
      signal.addEventListener('abort', onAbort, { once: true });
    }
    const listeners = this.#listeners;
    async function* events(): AsyncGenerator<ApiEvent> {
      try {
        while (!signal.aborted) {
          const event = waiting.shift();
          if (event) yield event;
          else {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        }
      } finally {
        listeners.delete(listener);
        signal.removeEventListener('abort', onAbort);
      }
    }
    return events();
  }
}
