/**
 * A UDP exchange: request and reply with one server, again and again, from one port: one flow.
 */
import { createSocket, type Socket } from 'node:dgram';
import { familyOf } from '../../../shared/firewall/terminal.js';
import { monotonicMs } from './clock.js';
import type { ExchangeReport } from './traffic-protocol.js';

const MAGIC = 0x5047_5851;
const PAYLOAD_BYTES = 32;

export class Exchange {
  readonly #id: number;
  readonly #address: string;
  readonly #socket: Socket;
  #ticks: NodeJS.Timeout | undefined;
  #sent = 0;
  #answered = 0;
  #doubled = 0;
  #garbled = 0;
  #lastAnsweredAt: number | null = null;
  #error: string | null = null;
  /** Numbers of requests without an answer yet; the oldest are forgotten. */
  readonly #open = new Set<number>();

  constructor(id: number, target: { address: string; port: number }, tickMs: number) {
    this.#id = id;
    this.#address = target.address;
    this.#socket = createSocket(familyOf(target.address) === 'ipv4' ? 'udp4' : 'udp6');
    this.#socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error ??= error.code ?? error.message;
    });
    this.#socket.on('message', (message) => this.#take(message));
    this.#socket.connect(target.port, target.address, () => {
      this.#send();
      this.#ticks = setInterval(() => this.#send(), tickMs);
    });
  }

  get id(): number {
    return this.#id;
  }

  end(): void {
    clearInterval(this.#ticks);
  }

  report(): ExchangeReport {
    return {
      ...{ id: this.#id, family: familyOf(this.#address), sent: this.#sent, answered: this.#answered },
      ...{ doubled: this.#doubled, garbled: this.#garbled },
      ...{ lastAnsweredAt: this.#lastAnsweredAt, error: this.#error },
    };
  }

  #send(): void {
    const payload = Buffer.alloc(PAYLOAD_BYTES);
    payload.writeUInt32BE(MAGIC, 0);
    payload.writeUInt32BE(this.#id, 4);
    payload.writeUInt32BE(this.#sent, 8);
    this.#open.add(this.#sent++);
    const [oldest] = this.#open;
    if (this.#open.size > 1_000 && oldest !== undefined) this.#open.delete(oldest);
    this.#socket.send(payload, (error: NodeJS.ErrnoException | null) => {
      if (error) this.#error ??= error.code ?? error.message;
    });
  }

  #take(message: Buffer): void {
    const right =
      message.length === PAYLOAD_BYTES &&
      message.readUInt32BE(0) === MAGIC &&
      message.readUInt32BE(4) === this.#id &&
      message.readUInt32BE(8) < this.#sent;
    if (!right) {
      this.#garbled++;
      return;
    }
    if (this.#open.delete(message.readUInt32BE(8))) this.#answered++;
    else this.#doubled++;
    this.#lastAnsweredAt = monotonicMs();
  }
}
