/**
 * Stands between two programs that speak TCP, on loopback, and knows nothing of what they say. Their connections can be cut, and stay cut;
 * or stalled: nothing passes any more and neither side is told. `resume` ends either.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

type Pair = readonly [dialling: Socket, dialled: Socket];

export class FaultyLink {
  readonly #pairs = new Set<Pair>();
  /** Came while nothing passes: dialled on when it does again. */
  readonly #waiting = new Set<Socket>();
  #state: 'open' | 'cut' | 'stalled' = 'open';

  private constructor(
    private readonly server: Server,
    private readonly targetPort: number,
    /** What the dialling side is to dial. */
    readonly port: number,
  ) {
    server.on('connection', (socket) => this.#take(socket));
  }

  /** To a port on 127.0.0.1. */
  static async start(targetPort: number): Promise<FaultyLink> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (typeof address !== 'object' || address === null) throw new Error('a TCP server has a port');
    return new FaultyLink(server, targetPort, address.port);
  }

  /** How many connections pass through it. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Both sides see their connections end; new ones end at once. */
  cut(): void {
    this.#state = 'cut';
    this.#destroyAll();
  }

  /** Nothing passes, and no end of a connection is told; new ones are taken, and nothing comes of them. */
  stall(): void {
    this.#state = 'stalled';
    for (const [one, other] of this.#pairs) {
      one.unpipe(other);
      other.unpipe(one);
    }
  }

  /** What was held back goes on its way. */
  resume(): void {
    const stalled = this.#state === 'stalled';
    this.#state = 'open';
    if (stalled) for (const pair of [...this.#pairs]) this.#join(pair);
    for (const socket of this.#waiting) this.#dial(socket);
    this.#waiting.clear();
  }

  async close(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  #take(socket: Socket): void {
    socket.on('error', () => {});
    if (this.#state === 'cut') {
      socket.resetAndDestroy();
    } else if (this.#state === 'stalled') {
      this.#waiting.add(socket);
      socket.once('close', () => this.#waiting.delete(socket));
    } else {
      this.#dial(socket);
    }
  }

  #dial(dialling: Socket): void {
    const dialled = connect({ host: '127.0.0.1', port: this.targetPort });
    const pair: Pair = [dialling, dialled];
    this.#pairs.add(pair);
    dialled.on('error', () => {});
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.once('close', () => {
        // While it is stalled the other side is not to know.
        if (this.#state !== 'stalled') this.#end(pair);
      });
    }
    this.#join(pair);
  }

  #join(pair: Pair): void {
    const [one, other] = pair;
    if (one.destroyed || other.destroyed) {
      this.#end(pair);
      return;
    }
    one.pipe(other);
    other.pipe(one);
  }

  #end(pair: Pair): void {
    this.#pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  }

  #destroyAll(): void {
    for (const pair of [...this.#pairs]) this.#end(pair);
    for (const socket of this.#waiting) socket.destroy();
    this.#waiting.clear();
  }
}
