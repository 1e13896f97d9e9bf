/**
 * The controller's side of one connected agent: requests matched to replies, and followed changes. It ends with its link; an agent that
 * comes back is a new session.
 */
import { type Capabilities, DomainError, type InstanceId } from '../domain/domain.js';
import type { Delta } from '../firewall/state.js';
import type { Clock, Timer } from '../runtime/clock.js';
import { ChannelError } from './errors.js';
import { Inbox } from './inbox.js';
import { type Limits, MAX_FOLLOWED, MAX_UNACKNOWLEDGED } from './limits.js';
import type { Link } from './link.js';
import type { AgentMessage, ControllerMessage, Reply, Request } from './messages.js';

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;
export type RequestBody = WithoutId<Request>;

/** Answers that are late are known as such by their ids, the last this many. */
const MAX_LATE = MAX_FOLLOWED;

export interface Answer {
  readonly reply: Reply;
  /** Of the request and of the reply on the wire. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export interface Batch {
  readonly deltas: readonly Delta[];
  /** How long ago the first of them was, when the agent sent them, if it says. */
  readonly ageMs: number | undefined;
  /** On the wire. */
  readonly bytes: number;
}

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
  sentBytes: number;
}

export class AgentSession {
  readonly capabilities: Capabilities;
  readonly #link: Link<ControllerMessage, AgentMessage>;
  readonly #limits: Limits;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  readonly #followed = new Map<number, Inbox<Batch>>();
  #lastId = 0;
  /** What may still be answered although nobody waits for it any more: requests that timed out, and what was followed. How many deltas each may bring. */
  readonly #late = new Map<number, number>();

  constructor(
    link: Link<ControllerMessage, AgentMessage>,
    capabilities: Capabilities,
    limits: Limits,
    clock: Clock,
  ) {
    this.#link = link;
    this.capabilities = capabilities;
    this.#limits = limits;
    this.#clock = clock;
  }

  get open(): boolean {
    return this.#link.open;
  }

  get remoteAddress(): string {
    return this.#link.remoteAddress;
  }

  /**
   * Asks, and waits for the answer. Fails with the DomainError that the agent's domain failed with, or a ChannelError:
   * `bad-message` or `too-large` (not sent), `timeout`, `closed` (the link is gone: whether it was done is not known).
   */
  request(body: RequestBody): Promise<Answer> {
    if (this.#pending.size >= this.#limits.maxInFlight)
      return Promise.reject(
        new DomainError(
          'not-ready',
          `${this.#pending.size} requests wait for the agent already: try again later`,
        ),
      );
    const id = this.#newId();
    const ms = body.type === 'prepare' ? this.#limits.prepareMs : this.#limits.requestMs;
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(ms, () => {
        this.#expectLate(id, 0);
        this.#settle(id)?.reject(
          new ChannelError('timeout', `the agent did not answer "${body.type}" within ${ms} ms`),
        );
      });
      this.#pending.set(id, { resolve, reject, timer, sentBytes: 0 });
      try {
        const sentBytes = this.#link.send({ ...body, id });
        const pending = this.#pending.get(id);
        if (pending) pending.sentBytes = sentBytes;
      } catch (error) {
        this.#settle(id)?.reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /**
   * The changes of an instance after `fromSequence`, until the instance is retired or `signal` aborts. The agent is told to go on when a
   * batch has been dealt with, so that at most MAX_UNACKNOWLEDGED wait here. Fails as `request` does.
   */
  async *follow(instance: InstanceId, fromSequence: number, signal: AbortSignal): AsyncGenerator<Batch> {
    if (signal.aborted) return;
    if (this.#followed.size >= MAX_FOLLOWED)
      throw new DomainError('not-ready', `${this.#followed.size} instances are followed already`);
    const id = this.#newId();
    const inbox = new Inbox<Batch>(MAX_UNACKNOWLEDGED);
    const onAbort = (): void => inbox.end();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#followed.set(id, inbox);
    try {
      this.#link.send({ type: 'follow', id, instance, fromSequence });
      for (;;) {
        const batch = await inbox.take();
        if (!batch || signal.aborted) return;
        yield batch;
        if (this.#link.open && this.#followed.has(id)) this.#link.send({ type: 'ack', id });
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      if (this.#followed.delete(id)) this.#unfollow(id);
    }
  }

  #expectLate(id: number, deltas: number): void {
    this.#late.set(id, deltas);
    const [oldest] = this.#late.keys();
    if (this.#late.size > MAX_LATE && oldest !== undefined) this.#late.delete(oldest);
  }

  /** Who answers what nobody asked could do so without end. */
  #unasked(type: string, id: number): void {
    const deltas = this.#late.get(id);
    if (deltas === undefined || (type === 'delta' && deltas === 0))
      throw new ChannelError('bad-message', `a ${type} came that answers nothing that was asked`);
    if (type === 'delta') this.#late.set(id, deltas - 1);
    else this.#late.delete(id);
  }

  #unfollow(id: number): void {
    this.#expectLate(id, MAX_UNACKNOWLEDGED);
    try {
      this.#link.send({ type: 'unfollow', id });
    } catch {
      // The link is gone, and with it what was followed.
    }
  }

  /** What the agent said. Throws a ChannelError for what an agent may not say now. */
  receive(message: AgentMessage, bytes: number): void {
    switch (message.type) {
      case 'ack':
      case 'ends':
      case 'state':
      case 'health-report':
      case 'digest-report': {
        const pending = this.#settle(message.id);
        if (pending) pending.resolve({ reply: message, sentBytes: pending.sentBytes, receivedBytes: bytes });
        else this.#unasked(message.type, message.id);
        return;
      }
      case 'delta': {
        const inbox = this.#followed.get(message.id);
        if (!inbox) this.#unasked(message.type, message.id);
        else if (!inbox.push({ deltas: message.deltas, ageMs: message.ageMs, bytes }))
          throw new ChannelError('bad-message', 'more changes came than were asked for');
        return;
      }
      case 'end': {
        const inbox = this.#unfollowed(message.id);
        if (inbox) inbox.end();
        else this.#unasked(message.type, message.id);
        return;
      }
      case 'error': {
        // Without an id: what came from here was of no use to it, and it hangs up.
        if (message.id === undefined)
          throw new ChannelError('closed', `the agent could not use a message: ${message.message}`);
        const error = new DomainError(message.code, message.message);
        const waiting = this.#settle(message.id);
        const inbox = this.#unfollowed(message.id);
        if (!waiting && !inbox) this.#unasked(message.type, message.id);
        waiting?.reject(error);
        inbox?.fail(error);
        return;
      }
      default:
        throw new ChannelError('bad-message', `a ${message.type} came out of turn`);
    }
  }

  /** The link is gone: everything that waits fails. */
  ended(reason: ChannelError): void {
    const error = new ChannelError('closed', reason.message, { cause: reason });
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(error);
    for (const inbox of this.#followed.values()) inbox.fail(error);
    this.#followed.clear();
  }

  close(reason: ChannelError): void {
    this.#link.close(reason);
  }

  /** True when the agent gives a sign of life. */
  probe(): Promise<boolean> {
    return this.#link.probe(this.#limits.probeMs);
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    pending?.timer.close();
    this.#pending.delete(id);
    return pending;
  }

  #unfollowed(id: number): Inbox<Batch> | undefined {
    const inbox = this.#followed.get(id);
    this.#followed.delete(id);
    return inbox;
  }

  #newId(): number {
    do this.#lastId = (this.#lastId + 1) % 2 ** 32;
    while ([this.#pending, this.#followed, this.#late].some((ids) => ids.has(this.#lastId)));
    return this.#lastId;
  }
}
