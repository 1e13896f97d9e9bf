/**
 * The traffic of a measurement between the terminal and the server, and what became of it: numbered datagrams both ways, and in each family a TCP
 * connection into which the server pushes, and one whose client echoes.
 */
import { fatesFromNow } from '../fates-from-now.js';
import {
  type DatagramOptions,
  type DatagramReport,
  Datagrams,
  type Fate,
  type FlowGap,
  type Host,
  retransmissions,
  startTraffic,
  type Traffic,
} from '../hosts/index.js';

/**
 * Segments that come one by one, in proportion to the datagrams: bursts would fill the switches' input queues, and what is lost there is no
 * handover's.
 */
const PUSH = { perDatagram: 0.1, chunkBytes: 1_400 } as const;
const ECHO = { perDatagram: 0.05, chunkBytes: 512 } as const;

export interface TrafficPorts {
  readonly datagrams: readonly [number, number];
  readonly push: number;
  readonly echo: number;
}

export interface TcpOutcome {
  readonly fates: readonly Fate[];
  /** Received and checked, at both ends. */
  readonly bytes: number;
  /** Segments that either end sent again. */
  readonly retransmits: number;
}

export interface TrafficOutcome {
  readonly datagrams: DatagramReport;
  readonly tcp: TcpOutcome;
  /** The last ones. */
  readonly gaps: readonly FlowGap[];
}

export class MeasuredTraffic {
  private constructor(
    readonly datagrams: Datagrams,
    readonly client: Traffic,
    readonly server: Traffic,
    readonly ports: TrafficPorts,
    readonly connections: number,
  ) {}

  /**
   * Settles when all of it flows. The terminal opens everything, as its policy asks. A tenth of `perSecond` are the segments of a push, a twentieth those
   * of an echo.
   */
  static async start(
    terminal: Host,
    server: Host,
    ports: TrafficPorts,
    { perSecond, starter = [] }: Pick<DatagramOptions, 'perSecond' | 'starter'>,
  ): Promise<MeasuredTraffic> {
    const [client, pusher] = [startTraffic(terminal), startTraffic(server)];
    try {
      await pusher.listen({ tcp: [{ port: ports.push, mode: 'server-only' }] }, rate(PUSH, perSecond));
      await pusher.listen({ tcp: [{ port: ports.echo, mode: 'echo' }] }, rate(ECHO, perSecond));
      const targets = [server.ipv4, server.ipv6].flatMap((address) => [
        { address, port: ports.push, mode: 'server-only' as const },
        { address, port: ports.echo, mode: 'echo' as const },
      ]);
      const opened = await client.connect(targets);
      const failed = opened.find(({ openedAt }) => openedAt === null);
      if (failed) throw new Error(`a TCP connection was not opened: ${failed.error}`);
      const datagrams = await Datagrams.start({
        first: terminal,
        second: server,
        ports: ports.datagrams,
        perSecond,
        starter,
      });
      return new MeasuredTraffic(datagrams, client, pusher, ports, targets.length);
    } catch (error) {
      await Promise.all([client.close(), pusher.close()]);
      throw error;
    }
  }

  /** Gaps since the last time. */
  collect(): Promise<readonly FlowGap[]> {
    return this.datagrams.collect();
  }

  /** Ends the sending of datagrams and says what became of everything. The TCP connections must go on to the end. */
  async finish(): Promise<TrafficOutcome> {
    const gaps = await this.datagrams.stop();
    const fates = await fatesFromNow(this.client, this.server);
    const ports = [this.ports.push, this.ports.echo];
    const alive = fates.filter((fate) => fate === 'survived').length === this.connections;
    const again = await Promise.all(
      [this.client, this.server].map(({ host }) =>
        // What has ended is not counted any more; it is told as what it is.
        alive ? retransmissions(host, ports, this.connections) : 0,
      ),
    );
    const reports = await Promise.all([this.client.report(), this.server.report()]);
    const bytes = reports.flatMap(({ tcp }) => tcp).reduce((sum, { received }) => sum + received, 0);
    return {
      datagrams: this.datagrams.report(),
      tcp: { fates, bytes, retransmits: again.reduce((sum, count) => sum + count, 0) },
      gaps,
    };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    await Promise.all([this.datagrams.close(), this.client.close(), this.server.close()]);
  }
}

function rate(
  { perDatagram, chunkBytes }: typeof PUSH | typeof ECHO,
  perSecond: number,
): { tickMs: number; chunkBytes: number } {
  return { tickMs: Math.round(1_000 / (perSecond * perDatagram)), chunkBytes };
}
