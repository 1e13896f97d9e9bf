/**
 * Server-sent events to clients: so many at a time, and none holds more than the kernel's buffers and the service's queue.
 */
import type { ServerResponse } from 'node:http';
import { ApiError } from '../../shared/api/errors.js';
import { formatEvent, HEARTBEAT } from '../../shared/api/sse.js';
import type { Log } from '../../shared/runtime/log.js';
import type { ControllerService } from './service.js';

/** How many clients may listen to events at a time. */
export const MAX_STREAMS = 32;
/** How often a silent stream says that it is there, in ms. */
const HEARTBEAT_MS = 15_000;
/** How long a client may leave its buffers full before it loses the stream, in ms. */
const STALLED_MS = 30_000;

export class EventStreams {
  readonly #service: ControllerService;
  readonly #log: Log;
  readonly #open = new Set<AbortController>();
  #closed = false;

  constructor(service: ControllerService, log: Log) {
    this.#service = service;
    this.#log = log;
  }

  /** Fails with `unavailable` when there is no place for one more. */
  admit(): void {
    if (this.#closed || this.#open.size >= MAX_STREAMS) {
      throw new ApiError('unavailable', `${MAX_STREAMS} clients listen already: end one of them`);
    }
  }

  /** Writes events until the client goes, is too slow, or this is closed. The head goes out when the service listens for this client. */
  serve(response: ServerResponse): void {
    const stop = new AbortController();
    this.#open.add(stop);
    response.on('close', () => stop.abort());
    response.on('error', () => stop.abort());
    this.#pump(response, stop)
      .catch((error: unknown) => this.#log.error({ err: error }, 'event stream failed'))
      .finally(() => {
        this.#open.delete(stop);
        stop.abort();
        response.end();
      });
  }

  close(): void {
    this.#closed = true;
    for (const stop of this.#open) stop.abort();
  }

  async #pump(response: ServerResponse, stop: AbortController): Promise<void> {
    const { signal } = stop;
    const events = this.#service.events(signal)[Symbol.asyncIterator]();
    let next = events.next();
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(HEARTBEAT);
    const heartbeat = setInterval(() => {
      if (!response.writableNeedDrain) response.write(HEARTBEAT);
    }, HEARTBEAT_MS);
    try {
      for (;;) {
        const result = await next;
        if (result.done || signal.aborted) return;
        next = events.next();
        if (!response.write(formatEvent(JSON.stringify(result.value)))) await drained(response, signal);
      }
    } finally {
      clearInterval(heartbeat);
      // Only an aborted source settles the `next` that is under way, and only then does `return` come back.
      stop.abort();
      next.catch(() => {});
      await events.return?.();
    }
  }
}

/** Waits until the client has read; gives it up after `STALLED_MS`. */
function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      response.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(() => response.destroy(), STALLED_MS);
    response.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}
