/**
 * Requests to the kernel and the answers to them, matched by their sequences.
 *
 * Messages go in batches, several batches under way at a time. Only the last message of a batch asks for an answer; the errors of the others come
 * before it. A dump goes alone, because the kernel carries out one a socket.
 */
import { getSystemErrorName } from 'node:util';
import { DomainError } from '../../shared/domain/domain.js';
import { askForAnswer, errorOf, MESSAGE, messagesOf, type NetlinkMessage, setSequence } from './netlink.js';

/** What a datagram holds: less than the socket sends at once, and room is left for as many errors. */
const MAX_BATCH_MESSAGES = 256;
const MAX_UNDER_WAY = 4;
const ANSWER_DEADLINE_MS = 15_000;
const SEQUENCES = 2 ** 32;

/** Is shown what the kernel answers with, but for errors. */
export type Visit = (message: NetlinkMessage) => void;

interface Batch {
  readonly messages: readonly Buffer[];
  /** The sequence of its first message, once it is sent. */
  first: number;
  /** The errnos of its messages that were refused, by index. */
  readonly errors: Map<number, number>;
  readonly visit: Visit;
  readonly settle: (error?: Error) => void;
}

interface Dump {
  readonly request: Buffer;
  sequence: number;
  readonly visit: Visit;
  readonly settle: (error?: Error) => void;
}

export class Requests {
  #next = 1;
  readonly #queue: Batch[] = [];
  readonly #underWay: Batch[] = [];
  readonly #dumps: Dump[] = [];
  #failure: Error | undefined;

  /** `send` takes the messages of one datagram. */
  constructor(private readonly send: (messages: readonly Buffer[]) => void) {}

  /**
   * Settles when the kernel has carried out all: with the errnos of those that it refused, by index. What they ask for is shown to `visit`. Fails with
   * `refused`, and as `visit` does.
   */
  async each(messages: readonly Buffer[], visit: Visit = () => {}): Promise<ReadonlyMap<number, number>> {
    const errors = new Map<number, number>();
    const batches: Promise<void>[] = [];
    for (let start = 0; start < messages.length; start += MAX_BATCH_MESSAGES) {
      const batch = this.#batch(messages.slice(start, start + MAX_BATCH_MESSAGES), visit);
      batches.push(
        batch.then((found) => {
          for (const [index, errno] of found) errors.set(start + index, errno);
        }),
      );
    }
    const failed = (await Promise.allSettled(batches)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return errors;
  }

  /** Sends a request that the kernel answers with many messages, each shown to `visit`. Fails with `refused`, and as `visit` does. */
  dump(request: Buffer, visit: Visit): Promise<void> {
    return this.#settled((settle) => {
      const dump = { request, sequence: -1, visit, settle };
      this.#dumps.push(dump);
      if (this.#dumps.length === 1) this.#sendDump(dump);
      return () => {
        this.#dumps.splice(this.#dumps.indexOf(dump), 1);
        const [next] = this.#dumps;
        if (next && next.sequence < 0) this.#sendDump(next);
      };
    });
  }

  /** A datagram has come from the kernel. Fails with a NetlinkError. */
  received(datagram: Buffer): void {
    for (const message of messagesOf(datagram)) {
      const [dump] = this.#dumps;
      if (dump && message.sequence === dump.sequence) this.#dumped(dump, message);
      else this.#answered(message);
    }
  }

  /** A datagram whose first message has this sequence was not sent. */
  notSent(sequence: number, errno: number): void {
    const error = refused(`the kernel took no request (${nameOf(errno)})`);
    const [dump] = this.#dumps;
    if (dump?.sequence === sequence) dump.settle(error);
    else this.#underWay.find(({ first }) => first === sequence)?.settle(error);
  }

  /** What is under way fails: its answers may have been lost. */
  repliesLost(): void {
    this.#settleAll(refused('answers of the kernel were lost'));
  }

  /** Everything that waits fails, and so does everything later. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#settleAll(error);
  }

  #settleAll(error: Error): void {
    for (const one of [...this.#dumps, ...this.#underWay, ...this.#queue]) one.settle(error);
  }

  #batch(messages: readonly Buffer[], visit: Visit): Promise<ReadonlyMap<number, number>> {
    const errors = new Map<number, number>();
    return this.#settled((settle) => {
      const batch: Batch = { messages, first: -1, errors, visit, settle };
      this.#queue.push(batch);
      this.#sendBatches();
      return () => {
        for (const list of [this.#queue, this.#underWay]) {
          const index = list.indexOf(batch);
          if (index >= 0) list.splice(index, 1);
        }
        this.#sendBatches();
      };
    }).then(() => errors);
  }

  /** A promise that something settles once, or the deadline. `begin` returns what is to be done when it is over. */
  #settled(begin: (settle: (error?: Error) => void) => () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) throw this.#failure;
      let over = (): void => {};
      let isOver = false;
      const settle = (error?: Error): void => {
        if (isOver) return;
        isOver = true;
        clearTimeout(timer);
        over();
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(
        () => settle(refused(`the kernel did not answer within ${ANSWER_DEADLINE_MS} ms`)),
        ANSWER_DEADLINE_MS,
      );
      timer.unref();
      over = begin(settle);
    });
  }

  #sendBatches(): void {
    while (this.#failure === undefined && this.#underWay.length < MAX_UNDER_WAY) {
      const batch = this.#queue.shift();
      if (!batch) return;
      batch.first = this.#sequences(batch.messages.length);
      for (const [index, message] of batch.messages.entries()) setSequence(message, batch.first + index);
      const last = batch.messages.at(-1);
      if (last) askForAnswer(last);
      this.#underWay.push(batch);
      this.send(batch.messages);
    }
  }

  #sendDump(dump: Dump): void {
    if (this.#failure) return;
    dump.sequence = this.#sequences(1);
    setSequence(dump.request, dump.sequence);
    this.send([dump.request]);
  }

  /** The first of so many that follow one another. */
  #sequences(count: number): number {
    if (this.#next + count > SEQUENCES) this.#next = 1;
    const first = this.#next;
    this.#next += count;
    return first;
  }

  #answered(message: NetlinkMessage): void {
    const { sequence } = message;
    const batch = this.#underWay.find(
      ({ first, messages }) => sequence >= first && sequence < first + messages.length,
    );
    if (!batch) return;
    if (message.type !== MESSAGE.error) {
      shown(batch, message);
      return;
    }
    const errno = errorOf(message);
    if (errno !== 0) batch.errors.set(sequence - batch.first, errno);
    if (sequence === batch.first + batch.messages.length - 1) batch.settle();
  }

  #dumped(dump: Dump, message: NetlinkMessage): void {
    if (message.type === MESSAGE.done) {
      dump.settle();
    } else if (message.type === MESSAGE.error) {
      dump.settle(refused(`the kernel does not show the connections (${nameOf(errorOf(message))})`));
    } else {
      shown(dump, message);
    }
  }
}

function shown({ visit, settle }: Batch | Dump, message: NetlinkMessage): void {
  try {
    visit(message);
  } catch (error) {
    settle(error instanceof Error ? error : refused(String(error)));
  }
}

/** `ENOENT` and the like. */
export function nameOf(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `error ${errno}`;
  }
}

function refused(what: string): DomainError {
  return new DomainError('refused', `${what}; try again`);
}
