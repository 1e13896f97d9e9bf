/**
 * The HTTP API: routes to the `ControllerService`, on a loopback address and on a Unix socket.
 */
import { type FastifyInstance, fastify } from 'fastify';
import { ApiError } from '../../shared/api/errors.js';
import { EVENTS_PATH, MAX_REQUEST_BYTES, ROUTES } from '../../shared/api/schema.js';
import { terminalNameSchema } from '../../shared/firewall/terminal.js';
import { Lifetime } from '../../shared/runtime/lifetime.js';
import type { Log } from '../../shared/runtime/log.js';
import { isLoopback } from '../../shared/runtime/loopback.js';
import { checked, httpStatusOf, toApiError } from './errors.js';
import { EventStreams } from './event-streams.js';
import { checkHeaders } from './guard.js';
import { MAX_CONNECTIONS, REQUEST_TIMEOUT_MS } from './limits.js';
import type { ControllerService } from './service.js';
import { listenOnSocket } from './unix-socket.js';

export interface HttpOptions {
  /** A loopback address; any other is refused. */
  readonly host: string;
  /** 0: the system chooses one. */
  readonly port: number;
  /** Path of a Unix socket on which it listens, too. */
  readonly socket?: string;
}

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  /** Ends open streams and removes the socket. */
  close(): Promise<void>;
}

/** Starts the API. Fails when an address is not loopback or taken, and then listens nowhere. */
export async function startHttp(
  service: ControllerService,
  options: HttpOptions,
  log: Log,
): Promise<HttpServer> {
  if (!isLoopback(options.host)) {
    throw new ApiError(
      'invalid',
      `the API does not listen on ${options.host}, because it has no log-in: write a loopback address such as 127.0.0.1 in http`,
    );
  }
  const lifetime = new Lifetime();
  const streams = new EventStreams(service, log);
  try {
    const tcp = lifetime.own('http', createApi(service, streams, log, 'tcp'));
    await tcp.listen({ host: options.host, port: options.port }).catch((cause: unknown) => {
      const taken = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
      if (!taken) throw cause;
      const message = `${options.host}:${options.port} is taken: another controller may be running; end it, or write another port in http`;
      throw new ApiError('unavailable', message, { cause });
    });
    const address = tcp.server.address();
    const port = typeof address === 'object' && address !== null ? address.port : options.port;
    if (options.socket !== undefined) {
      const unix = lifetime.own('http socket', createApi(service, streams, log, 'unix'));
      await unix.ready();
      lifetime.own(
        'socket',
        await listenOnSocket((request, response) => unix.routing(request, response), options.socket),
      );
    }
    // The first to be closed: an open stream would keep the servers from closing.
    lifetime.own('event streams', streams);
    return { host: options.host, port, close: () => lifetime.close() };
  } catch (error) {
    await lifetime.close();
    throw error;
  }
}

/** The routes, not listening yet. On a Unix socket there are no browsers, and its mode says who may ask. */
function createApi(
  service: ControllerService,
  streams: EventStreams,
  log: Log,
  kind: 'tcp' | 'unix',
): FastifyInstance {
  const app = fastify({
    bodyLimit: MAX_REQUEST_BYTES,
    // Of paths that are not decodable or have too long a name in them: no handler sees those.
    frameworkErrors: (_error, _request, reply) => {
      const told = new ApiError('invalid', 'the path is garbled, or the name in it too long');
      const body = JSON.stringify({ code: told.code, message: told.message });
      reply.hijack();
      reply.raw.writeHead(httpStatusOf(told), { 'content-type': 'application/json' }).end(body);
    },
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 64 },
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  // A form or a script of a foreign page can send text/plain unasked, but not JSON.
  app.removeContentTypeParser('text/plain');
  app.setErrorHandler((error, request, reply) => {
    const told = toApiError(error);
    if (told.code === 'internal')
      log.error({ err: error, method: request.method, url: request.url }, 'request failed');
    return reply.code(httpStatusOf(told)).send({ code: told.code, message: told.message });
  });
  app.setNotFoundHandler((request) => {
    const known = [
      ...Object.values(ROUTES).map(({ method, path }) => `${method} ${path}`),
      `GET ${EVENTS_PATH}`,
    ];
    throw new ApiError(
      'unknown-path',
      `there is no ${request.method} ${request.url}; there are ${known.join(', ')}`,
    );
  });
  if (kind === 'tcp') app.addHook('onRequest', async (request) => checkHeaders(request.headers));

  app.get(ROUTES.status.path, () => service.status());
  app.get(ROUTES.terminals.path, () => service.terminals());
  app.get(ROUTES.handovers.path, async () => service.handovers());
  app.get(ROUTES.state.path, (request) => service.state(terminalOf(request.params)));
  app.put(ROUTES.setPolicy.path, async (request) => {
    const policy = checked(ROUTES.setPolicy.body, request.body);
    await service.setPolicy(terminalOf(request.params), policy);
    return { policy: policy.name };
  });
  app.put(ROUTES.setPlacement.path, async (request) => {
    const { placement } = checked(ROUTES.setPlacement.body, request.body);
    await service.setPlacement(terminalOf(request.params), placement);
    return { placement };
  });
  app.post(ROUTES.handover.path, async (request, reply) => {
    const { wait, ...wanted } = checked(ROUTES.handover.body, request.body);
    const started = await service.handover(terminalOf(request.params), wanted);
    return wait ? await started.report : reply.code(202).send({ id: started.id });
  });
  app.post(ROUTES.continue.path, async (request) => ({
    continued: service.continue(terminalOf(request.params)),
  }));
  app.get(EVENTS_PATH, (_request, reply) => {
    streams.admit();
    reply.hijack();
    streams.serve(reply.raw);
  });
  return app;
}

function terminalOf(params: unknown): string {
  const name = typeof params === 'object' && params !== null && 'name' in params ? params.name : undefined;
  const result = terminalNameSchema.safeParse(name);
  if (result.success) return result.data;
  throw new ApiError('unknown-terminal', `there is no terminal ${String(name).slice(0, 64)}`);
}
