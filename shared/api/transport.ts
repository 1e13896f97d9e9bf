/**
 * HTTP requests of the client. By node:http and not by fetch, which has no Unix sockets: so there is one way for both.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { type ApiAddress, formatApiAddress } from './address.js';
import { ApiError } from './errors.js';
import { MAX_RESPONSE_BYTES } from './schema.js';

export interface RequestOptions {
  readonly method: string;
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** How long the head of the answer may take, in ms. */
  readonly timeoutMs: number;
}

/** Sends a request; settles with the head of the answer, whatever its status. `unavailable` when nobody answers. */
export function open(address: ApiAddress, options: RequestOptions): Promise<IncomingMessage> {
  const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
  const place =
    address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        ...place,
        agent: false,
        method: options.method,
        path: options.path,
        headers: {
          accept: options.accept ?? 'application/json',
          ...(address.kind === 'unix' ? { host: 'localhost' } : {}),
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': body.length }),
        },
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
      (response) => {
        clearTimeout(timer);
        resolve(response);
      },
    );
    const timer = setTimeout(() => {
      request.destroy(
        new ApiError(
          'unavailable',
          `the controller at ${formatApiAddress(address)} did not answer within ${options.timeoutMs / 1000} s: look at its log`,
        ),
      );
    }, options.timeoutMs);
    request.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(explain(address, error));
    });
    request.end(body);
  });
}

/** How long nothing may come of a body, in ms. */
const STALLED_MS = 30_000;

/** The whole body as text, of at most `MAX_RESPONSE_BYTES`. */
export async function readBody(address: ApiAddress, response: IncomingMessage): Promise<string> {
  response.setTimeout(STALLED_MS, () => response.destroy(new Error('its answer stopped half-way')));
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response) {
      if (!Buffer.isBuffer(chunk)) continue;
      bytes += chunk.length;
      if (bytes > MAX_RESPONSE_BYTES) {
        response.destroy();
        throw new ApiError('too-large', `the answer is larger than ${MAX_RESPONSE_BYTES} bytes`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw explain(address, error);
  }
  return Buffer.concat(chunks).toString();
}

/** What a failed connection means to a person. An abort stays what it is. */
export function explain(address: ApiAddress, error: unknown): Error {
  if (error instanceof ApiError) return error;
  if (!(error instanceof Error)) return new Error(String(error));
  if (error.name === 'AbortError') return error;
  const code = 'code' in error ? error.code : undefined;
  const where = formatApiAddress(address);
  if (code === 'ECONNREFUSED' || code === 'ENOENT') {
    const message = `no controller answers at ${where}: start one with "paguro controller --config FILE", or name its address with --api (or PAGURO_API)`;
    return new ApiError('unavailable', message, { cause: error });
  }
  if (code === 'EACCES') {
    const message = `you may not use ${where}: it belongs to the user who runs the controller`;
    return new ApiError('forbidden', message, { cause: error });
  }
  const message = `the connection to the controller at ${where} broke (${error.message}): look whether it still runs`;
  return new ApiError('unavailable', message, { cause: error });
}
