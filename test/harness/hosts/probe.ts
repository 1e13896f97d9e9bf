/**
 * A probe: numbered datagrams at a steady rate, each answered by the other side. It tells the longest time without an answer, and what
 * was lost, doubled or reordered. The book-keeping is a class of its own, without sockets.
 */
import { createSocket, type Socket } from 'node:dgram';
import { familyOf } from '../../../shared/firewall/terminal.js';
import { realClock, sleep } from '../../../shared/runtime/clock.js';
import { monotonicMs } from './clock.js';
import type { ProbeReport } from './traffic-protocol.js';

/** A datagram that was sent less long ago than this is not called lost yet. */
const UNDERWAY_MS = 500;
const MAGIC = 0x5047_5052;
/** Magic, probe, number, padding: the size of a small voice packet. */
const PAYLOAD_BYTES = 64;

export interface ProbeBook {
  readonly sent: number;
  readonly answered: number;
  readonly lost: number;
  readonly doubled: number;
  readonly reordered: number;
  readonly gapMs: number;
  readonly gapAt: number | null;
}

/** Times of datagrams and answers, by number. */
export class ProbeLog {
  readonly #sentAt: Float64Array;
  readonly #answers: { number: number; at: number }[] = [];
  readonly #answered: Uint8Array;
  #sent = 0;

  constructor(capacity: number) {
    this.#sentAt = new Float64Array(capacity);
    this.#answered = new Uint8Array(capacity);
  }

  get sent(): number {
    return this.#sent;
  }

  get full(): boolean {
    return this.#sent >= this.#sentAt.length;
  }

  get complete(): boolean {
    return this.#answered.subarray(0, this.#sent).every((count) => count > 0);
  }

  /** The number of the datagram that is sent now. */
  send(at: number): number {
    this.#sentAt[this.#sent] = at;
    return this.#sent++;
  }

  /** Answers with a number that was never sent, and more than one repetition of each, are not kept. */
  answer(number: number, at: number): void {
    const count = this.#answered[number];
    if (number >= this.#sent || count === undefined || count > 1) return;
    this.#answered[number] = count + 1;
    this.#answers.push({ number, at });
  }

  /** What happened to the datagrams that were sent at or after `since`. */
  book(now: number, since = 0): ProbeBook {
    const first = this.#firstSince(since);
    let [lost, doubled, reordered, answered, gapMs, highest] = [0, 0, 0, 0, 0, -1];
    let gapAt: number | null = null;
    let previous: number | undefined;
    for (let number = first; number < this.#sent; number++) {
      const count = this.#answered[number] ?? 0;
      if (count > 0) answered++;
      else if ((this.#sentAt[number] ?? 0) < now - UNDERWAY_MS) lost++;
      if (count > 1) doubled++;
    }
    for (const { number, at } of this.#answers) {
      if (number < first) continue;
      if (previous !== undefined && at - previous > gapMs) [gapMs, gapAt] = [at - previous, previous];
      previous = at;
      if (number < highest) reordered++;
      highest = Math.max(highest, number);
    }
    // Silence that lasts is a gap as well: without it a probe that died would look well.
    const lastSent = this.#sentAt[this.#sent - 1];
    const waiting = previous ?? this.#sentAt[first];
    if (lastSent !== undefined && waiting !== undefined && lastSent - waiting > gapMs) {
      [gapMs, gapAt] = [lastSent - waiting, waiting];
    }
    return { sent: this.#sent - first, answered, lost, doubled, reordered, gapMs, gapAt };
  }

  #firstSince(since: number): number {
    let number = 0;
    while (number < this.#sent && (this.#sentAt[number] ?? 0) < since) number++;
    return number;
  }
}

export class Probe {
  readonly #id: number;
  readonly #address: string;
  readonly #log: ProbeLog;
  readonly #socket: Socket;
  #ticks: NodeJS.Timeout | undefined;
  /** What came later than this is not waited for. */
  #stoppedAt: number | undefined;

  constructor(id: number, target: { address: string; port: number }, perSecond: number, seconds: number) {
    this.#id = id;
    this.#address = target.address;
    this.#log = new ProbeLog(Math.ceil(perSecond * seconds));
    this.#socket = createSocket(familyOf(target.address) === 'ipv4' ? 'udp4' : 'udp6');
    this.#socket.on('error', () => {});
    this.#socket.on('message', (message) => {
      if (message.length < 12 || message.readUInt32BE(0) !== MAGIC || message.readUInt32BE(4) !== id) return;
      this.#log.answer(message.readUInt32BE(8), monotonicMs());
    });
    this.#socket.connect(target.port, target.address, () => this.#start(perSecond));
  }

  get id(): number {
    return this.#id;
  }

  /** No more datagrams; waits for the answers under way, half a second at most. */
  async stop(): Promise<void> {
    clearInterval(this.#ticks);
    const deadline = monotonicMs() + UNDERWAY_MS;
    while (!this.#log.complete && monotonicMs() < deadline) {
      await sleep(realClock, 5);
    }
    this.#stoppedAt ??= monotonicMs();
  }

  report(since?: number): ProbeReport {
    const book = this.#log.book(this.#stoppedAt ?? monotonicMs(), since);
    return { id: this.#id, family: familyOf(this.#address), ...book };
  }

  #start(perSecond: number): void {
    const began = monotonicMs();
    this.#ticks = setInterval(() => {
      // Timers come late: as many datagrams go out as are due, one by one.
      const due = Math.floor(((monotonicMs() - began) * perSecond) / 1000) + 1;
      while (this.#log.sent < due && !this.#log.full) this.#send();
      if (this.#log.full) void this.stop();
    }, 1);
  }

  #send(): void {
    const payload = Buffer.alloc(PAYLOAD_BYTES);
    payload.writeUInt32BE(MAGIC, 0);
    payload.writeUInt32BE(this.#id, 4);
    payload.writeUInt32BE(this.#log.send(monotonicMs()), 8);
    // A refusal (ICMP) comes as an error of some later send: the datagram counts as lost.
    this.#socket.send(payload, () => {});
  }
}
