/**
 * The traffic program: runs in a host's network namespace, one JSON command a line on standard input, one answer a line on standard
 * output (see traffic-protocol.ts). It ends with its input, and by itself after `LIMITS.lifeSeconds`.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { monotonicMs } from './clock.js';
import { Exchange } from './exchange.js';
import { Probe } from './probe.js';
import { TcpStream } from './tcp-stream.js';
import {
  type Command,
  type CommandOf,
  commandSchema,
  LIMITS,
  type TrafficReport,
} from './traffic-protocol.js';

const BACKLOG = 1_024;

const streams: TcpStream[] = [];
const exchanges: Exchange[] = [];
const probes: Probe[] = [];

function room(kind: 'connections' | 'exchanges' | 'probes', have: number, more: number): void {
  if (have + more > LIMITS[kind]) throw new Error(`more than ${LIMITS[kind]} ${kind} in one host`);
}

/** TCP and UDP servers, each for both families. */
async function listen(command: CommandOf<'listen'>): Promise<object> {
  for (const { port, mode } of command.tcp) {
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      if (streams.length >= LIMITS.connections) {
        socket.destroy();
        return;
      }
      const { tickMs, chunkBytes } = command;
      const options = { id: streams.length, mode, side: 'server', tickMs, chunkBytes } as const;
      streams.push(new TcpStream(socket, socket.remoteAddress ?? '::', options));
    });
    server.listen({ port, host: '::', backlog: BACKLOG });
    await once(server, 'listening');
  }
  for (const port of command.udp) {
    const socket = createSocket({ type: 'udp6', ipv6Only: false });
    socket.on('message', (message, peer) => socket.send(message, peer.port, peer.address, () => {}));
    socket.bind(port, '::');
    await once(socket, 'listening');
  }
  return {};
}

/** Opens connections all at once; answers when each is open or has failed. */
async function open(command: CommandOf<'connect'>): Promise<object> {
  room('connections', streams.length, command.targets.length);
  const { tickMs, chunkBytes } = command;
  const made = command.targets.map(({ address, port, mode, from }) => {
    const options = { id: streams.length, mode, side: 'client', tickMs, chunkBytes } as const;
    const own = from && { localAddress: from.address, localPort: from.port };
    const stream = new TcpStream(connect({ host: address, port, ...own }), address, options);
    streams.push(stream);
    return stream;
  });
  const timer = setTimeout(() => {
    for (const stream of made) if (stream.report().openedAt === null) stream.abandon('ETIMEDOUT');
  }, command.timeoutMs);
  await Promise.all(made.map((stream) => stream.opened));
  clearTimeout(timer);
  return { tcp: made.map((stream) => stream.report()) };
}

function exchange({ targets, tickMs }: CommandOf<'exchange'>): object {
  room('exchanges', exchanges.length, targets.length);
  const made = targets.map((target) => {
    const one = new Exchange(exchanges.length, target, tickMs);
    exchanges.push(one);
    return one;
  });
  return { exchanges: made.map((one) => one.id) };
}

function probe({ target, perSecond, seconds }: CommandOf<'probe'>): object {
  room('probes', probes.length, 1);
  const made = new Probe(probes.length, target, perSecond, seconds);
  probes.push(made);
  return { probe: made.id };
}

function report(since?: number): TrafficReport {
  return {
    now: monotonicMs(),
    tcp: streams.map((stream) => stream.report()),
    exchanges: exchanges.map((one) => one.report()),
    probes: probes.map((one) => one.report(since)),
  };
}

async function obey(command: Command): Promise<object> {
  switch (command.do) {
    case 'listen':
      return listen(command);
    case 'connect':
      return open(command);
    case 'exchange':
      return exchange(command);
    case 'probe':
      return probe(command);
    case 'stopProbe':
      await probes[command.probe]?.stop();
      return {};
    case 'end':
      for (const id of command.connections) streams[id]?.end();
      return {};
    case 'report':
      return report(command.since);
  }
}

async function answer(line: string): Promise<void> {
  let id = 0;
  let result: object;
  try {
    const message: unknown = JSON.parse(line);
    id = z.looseObject({ id: z.number() }).parse(message).id;
    result = { ok: true, ...(await obey(commandSchema.parse(message))) };
  } catch (error) {
    result = { ok: false, error: messageOf(error) };
  }
  process.stdout.write(`${JSON.stringify({ id, ...result })}\n`);
}

// Ctrl-C reaches every process of a terminal: the harness decides when traffic ends.
process.on('SIGINT', () => {});
createInterface({ input: process.stdin })
  .on('line', (line) => void answer(line))
  .on('close', () => process.exit(0));
setTimeout(() => process.exit(1), LIMITS.lifeSeconds * 1000).unref();
