/**
 * The agent's first step: TCP, TLS if there is an identity, the WebSocket; within a time, and with words for what went wrong.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import type { Clock } from '../runtime/clock.js';
import { messageOf } from '../runtime/message-of.js';
import { handshakeProblem, type Identity } from '../tls/index.js';
import { ChannelError } from './errors.js';
import type { Limits } from './limits.js';
import { webSocketOptions } from './websocket.js';

const HTTPS_PORT = 443;
/** Of why the controller refuses to open a WebSocket, in bytes. */
const MAX_REFUSAL_BYTES = 1024;

export interface OpeningOptions {
  readonly url: URL;
  /** Of the URL, without brackets: what the controller's certificate must be for. */
  readonly host: string;
  readonly identity: Identity | undefined;
  readonly limits: Limits;
  readonly clock: Clock;
  /** The socket is open, and nothing has been read from it. */
  opened(stream: Socket): void;
  /** It will not open: `closed`, or `refused` by the controller, `timeout`. */
  failed(reason: ChannelError): void;
}

/** Either `opened` or `failed` is called, once, and later than this returns. Terminating the socket before it is open fails it. */
export function openWebSocket(options: OpeningOptions): WebSocket {
  const { url, host, identity, limits, clock } = options;
  const socket = new WebSocket(url, {
    ...webSocketOptions(limits),
    ...(identity && { createConnection: () => identity.connect(host, Number(url.port) || HTTPS_PORT) }),
  });
  let stream: Socket | undefined;
  let problem = new ChannelError('closed', unreachable('the controller hung up'));
  let decided = false;
  const decide = (reason: ChannelError): void => {
    if (!decided) problem = reason;
    decided = true;
    socket.terminate();
  };
  const deadline = clock.after(limits.helloMs, () =>
    decide(new ChannelError('timeout', unreachable(`no answer within ${limits.helloMs} ms`))),
  );
  socket.on('error', (error) => {
    const why = (identity && handshakeProblem(error)) ?? (error.message || messageOf(error));
    if (!decided) problem = new ChannelError('closed', unreachable(why));
  });
  // With TLS only: then it is the controller who says it, and not somebody on the way.
  if (identity)
    socket.on('unexpected-response', async (_, response) => {
      const why = (await textOf(response)) || `HTTP ${response.statusCode}`;
      decide(new ChannelError('refused', `the controller refused this agent: ${why}`));
    });
  socket.once('upgrade', (response) => {
    stream = response.socket;
  });
  const onClose = (): void => {
    deadline.close();
    options.failed(problem);
  };
  socket.once('close', onClose);
  socket.once('open', () => {
    if (!stream) {
      socket.terminate();
      return;
    }
    deadline.close();
    socket.off('close', onClose);
    options.opened(stream);
  });
  return socket;

  function unreachable(why: string): string {
    return `${url.protocol}//${url.host} cannot be reached: ${why}`;
  }
}

/** The beginning of an answer that is no WebSocket. */
async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      text += chunk;
      if (text.length >= MAX_REFUSAL_BYTES) break;
    }
  } catch {
    // What came of it will do.
  }
  return text.slice(0, MAX_REFUSAL_BYTES);
}
