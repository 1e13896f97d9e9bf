/**
 * Traffic of a host, from the harness's side: starts the traffic program in the host and asks it. What is pure of it (joining the two
 * ends' reports) is in `survival.ts`.
 */
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Host } from './host.js';
import type { JsonLines } from './json-lines.js';
import {
  type CommandOf,
  type ProbeReport,
  reportSchema,
  type TcpMode,
  type TcpReport,
  type TrafficReport,
  tcpReportSchema,
} from './traffic-protocol.js';

/** A chunk every 100 ms each way: 50 connections are 1,000 packets a second with their acknowledgements. */
const TICK_MS = 100;
const CHUNK_BYTES = 128;
const OPEN_TIMEOUT_MS = 10_000;

export interface Rate {
  /** Time between two sends. Default 100. */
  readonly tickMs?: number;
  /** Bytes of one send, for TCP. Default 128. */
  readonly chunkBytes?: number;
}

export interface TcpTarget {
  readonly address: string;
  readonly port: number;
  /** Must be what the server's port does. */
  readonly mode: TcpMode;
  /** The host's own end, where it has several addresses. Ports tell connections apart: each its own. */
  readonly from?: { readonly address: string; readonly port: number };
}

export interface UdpTarget {
  readonly address: string;
  readonly port: number;
}

/** Starts the traffic program in a host. One a host is enough. */
export function startTraffic(host: Host): Traffic {
  const program = fileURLToPath(new URL('traffic-main.js', import.meta.url));
  return new Traffic(host, host.helper('traffic', process.execPath, [program]));
}

export class Traffic {
  readonly host: Host;
  readonly #program: JsonLines;

  constructor(host: Host, program: JsonLines) {
    this.host = host;
    this.#program = program;
  }

  /** Servers on all addresses of the host. TCP ports send as their mode says; UDP ports send back what comes. */
  async listen(
    ports: { readonly tcp?: readonly { port: number; mode: TcpMode }[]; readonly udp?: readonly number[] },
    rate: Rate = {},
  ): Promise<void> {
    const { tcp = [], udp = [] } = ports;
    const command: CommandOf<'listen'> = { do: 'listen', tcp: [...tcp], udp: [...udp], ...filled(rate) };
    await this.#program.request(command, z.looseObject({}));
  }

  /** Opens connections, all at once. Returns their reports, in order, when each is open or has failed. */
  async connect(
    targets: readonly TcpTarget[],
    { timeoutMs = OPEN_TIMEOUT_MS, ...rate }: Rate & { readonly timeoutMs?: number } = {},
  ): Promise<readonly TcpReport[]> {
    const command: CommandOf<'connect'> = {
      do: 'connect',
      targets: [...targets],
      ...filled(rate),
      timeoutMs,
    };
    return (await this.#program.request(command, z.object({ tcp: z.array(tcpReportSchema) }))).tcp;
  }

  /** Starts UDP exchanges, a request every tick each. Returns their ids. */
  async exchange(targets: readonly UdpTarget[], rate: Pick<Rate, 'tickMs'> = {}): Promise<readonly number[]> {
    const command: CommandOf<'exchange'> = {
      do: 'exchange',
      targets: [...targets],
      tickMs: filled(rate).tickMs,
    };
    return (await this.#program.request(command, z.object({ exchanges: z.array(z.number()) }))).exchanges;
  }

  /** Starts a probe to a UDP port that sends back. Returns its id. */
  async probe(target: UdpTarget, rate: { perSecond: number; seconds: number }): Promise<number> {
    const command: CommandOf<'probe'> = { do: 'probe', target, ...rate };
    return (await this.#program.request(command, z.object({ probe: z.number() }))).probe;
  }

  /** Ends a probe and returns its last report, of datagrams sent at or after `since` (monotonic ms). */
  async stopProbe(probe: number, since?: number): Promise<ProbeReport> {
    await this.#program.request({ do: 'stopProbe', probe }, z.looseObject({}));
    const found = (await this.report(since)).probes.find(({ id }) => id === probe);
    if (!found) throw new Error(`there is no probe ${probe} in ${this.host.name}`);
    return found;
  }

  /** Closes connections in order (FIN). */
  async end(connections: readonly number[]): Promise<void> {
    await this.#program.request({ do: 'end', connections }, z.looseObject({}));
  }

  /** Everything now. `since` limits probes to datagrams sent at or after it (monotonic ms). */
  report(since?: number): Promise<TrafficReport> {
    const command = { do: 'report', ...(since === undefined ? {} : { since }) };
    return this.#program.request(command, reportSchema);
  }

  /** Ends the program; its sockets close with it. May be called twice. */
  close(): Promise<void> {
    return this.#program.close();
  }
}

function filled({ tickMs = TICK_MS, chunkBytes = CHUNK_BYTES }: Rate): Required<Rate> {
  return { tickMs, chunkBytes };
}
