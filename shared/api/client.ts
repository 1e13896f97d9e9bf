/**
 * The typed client of the API: what the CLI and the test harness use. Every answer is checked before it is returned.
 */
import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import type { Policy } from '../firewall/policy.js';
import type { FirewallState } from '../firewall/state.js';
import { type ApiAddress, DEFAULT_API, formatApiAddress, parseApiAddress } from './address.js';
import { ApiError } from './errors.js';
import {
  type ApiEvent,
  EVENTS_PATH,
  errorBodySchema,
  eventSchema,
  type HandoverReport,
  type HandoverRequest,
  type HandoverStarted,
  handoverStartedSchema,
  type PlacementMode,
  ROUTES,
  type Status,
  type TerminalStatus,
} from './schema.js';
import { readEvents } from './sse.js';
import { explain, open, readBody } from './transport.js';

/** How long an answer may take, in ms. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** How long a handover may take, in ms: a container's first start is part of it. */
export const HANDOVER_TIMEOUT_MS = 300_000;

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

/** Every method fails with an `ApiError`: the controller's own, or `unavailable` when there is none. */
export class ApiClient {
  readonly #address: ApiAddress;

  /** `address` as `http://127.0.0.1:7680` or `unix:PATH`. */
  constructor(address: string | ApiAddress = DEFAULT_API) {
    this.#address = typeof address === 'string' ? parseApiAddress(address) : address;
  }

  get address(): string {
    return formatApiAddress(this.#address);
  }

  status(signal?: AbortSignal): Promise<Status> {
    return this.#call(ROUTES.status.answer, { ...ROUTES.status, signal });
  }

  terminals(signal?: AbortSignal): Promise<readonly TerminalStatus[]> {
    return this.#call(ROUTES.terminals.answer, { ...ROUTES.terminals, signal });
  }

  /** The firewall state of the terminal's active instance. */
  state(terminal: string, signal?: AbortSignal): Promise<FirewallState> {
    const { method, path, answer } = ROUTES.state;
    return this.#call(answer, { method, path: pathOf(path, terminal), signal });
  }

  async setPolicy(terminal: string, policy: Policy, signal?: AbortSignal): Promise<void> {
    const { method, path, answer } = ROUTES.setPolicy;
    await this.#call(answer, { method, path: pathOf(path, terminal), body: policy, signal });
  }

  /** Does the terminal's firewall follow it by itself, or stay until it is moved on demand? */
  async setPlacement(terminal: string, placement: PlacementMode, signal?: AbortSignal): Promise<void> {
    const { method, path, answer } = ROUTES.setPlacement;
    await this.#call(answer, { method, path: pathOf(path, terminal), body: { placement }, signal });
  }

  /** A handover that waits before a step goes on; whether one was waiting. */
  async continue(terminal: string, signal?: AbortSignal): Promise<boolean> {
    const { method, path, answer } = ROUTES.continue;
    return (await this.#call(answer, { method, path: pathOf(path, terminal), signal })).continued;
  }

  /** Moves the terminal's firewall and waits for the end, which may be an undone handover: look at `outcome`. */
  handover(
    terminal: string,
    request: Omit<HandoverRequest, 'wait'>,
    signal?: AbortSignal,
  ): Promise<HandoverReport> {
    const { method, path, answer } = ROUTES.handover;
    const body = { ...request, wait: true };
    const timeoutMs = HANDOVER_TIMEOUT_MS;
    return this.#call(answer, { method, path: pathOf(path, terminal), body, signal, timeoutMs });
  }

  /** Like `handover`, but returns as soon as it has begun. */
  startHandover(
    terminal: string,
    request: Omit<HandoverRequest, 'wait'>,
    signal?: AbortSignal,
  ): Promise<HandoverStarted> {
    const { method, path } = ROUTES.handover;
    const body = { ...request, wait: false };
    return this.#call(handoverStartedSchema, { method, path: pathOf(path, terminal), body, signal });
  }

  /** The handovers that have ended, the oldest first. */
  handovers(signal?: AbortSignal): Promise<readonly HandoverReport[]> {
    return this.#call(ROUTES.handovers.answer, { ...ROUTES.handovers, signal });
  }

  /**
   * What happens from now on. When the promise settles, the controller listens for this client: nothing that is begun afterwards is missed.
   * The iterable ends when `signal` aborts, and fails with `unavailable` when the controller goes or the reader was too slow.
   */
  async events(signal: AbortSignal): Promise<AsyncIterable<ApiEvent>> {
    const response = await open(this.#address, {
      method: 'GET',
      path: EVENTS_PATH,
      accept: 'text/event-stream',
      signal,
      timeoutMs: REQUEST_TIMEOUT_MS,
    });
    if (response.statusCode !== 200) await this.#fail(response);
    return this.#read(response, signal);
  }

  async *#read(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<ApiEvent> {
    try {
      for await (const data of readEvents(response)) yield this.#check(eventSchema, data);
    } catch (error) {
      if (signal.aborted) return;
      throw explain(this.#address, error);
    } finally {
      response.destroy();
    }
    if (!signal.aborted) {
      const message = `the controller at ${this.address} ended the stream of events: it was closed, or this program read too slowly`;
      throw new ApiError('unavailable', message);
    }
  }

  async #call<S extends z.ZodType>(schema: S, call: Call): Promise<z.output<S>> {
    const { method, path, body, signal, timeoutMs = REQUEST_TIMEOUT_MS } = call;
    const response = await open(this.#address, { method, path, body, signal, timeoutMs });
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299) await this.#fail(response);
    return this.#check(schema, await readBody(this.#address, response));
  }

  async #fail(response: IncomingMessage): Promise<never> {
    const { code, message } = this.#check(errorBodySchema, await readBody(this.#address, response));
    throw new ApiError(code, message);
  }

  #check<S extends z.ZodType>(schema: S, text: string): z.output<S> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw this.#foreign(cause);
    }
    const result = schema.safeParse(value);
    if (!result.success) throw this.#foreign(result.error);
    return result.data;
  }

  #foreign(cause: unknown): ApiError {
    return new ApiError(
      'unavailable',
      `what answers at ${this.address} is no controller of this version: check the address, or update both`,
      { cause },
    );
  }
}

function pathOf(template: string, terminal: string): string {
  return template.replace(':name', encodeURIComponent(terminal));
}
