/**
 * The agent's answers on one link: each request becomes one call of the domain, and nothing is remembered beyond its reply.
 * Calls for one terminal run one after another, also those of an earlier link that are still under way.
 */
import { type Domain, DomainError, type ToldDelta } from '../domain/domain.js';
import type { Delta } from '../firewall/state.js';
import type { Clock } from '../runtime/clock.js';
import type { KeyedQueue } from '../runtime/keyed-queue.js';
import type { Log } from '../runtime/log.js';
import { messageOf } from '../runtime/message-of.js';
import { ChannelError } from './errors.js';
import { type Limits, MAX_BATCH, MAX_ERROR_TEXT, MAX_FOLLOWED, MAX_UNACKNOWLEDGED } from './limits.js';
import type { Link } from './link.js';
import {
  type AgentMessage,
  type ControllerMessage,
  MAX_AGE_MS,
  type Reply,
  type Request,
} from './messages.js';

export interface AgentRequestsOptions {
  readonly domain: Domain;
  readonly link: Link<AgentMessage, ControllerMessage>;
  readonly queue: KeyedQueue;
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Log;
}

interface FollowedInstance {
  readonly abort: AbortController;
  /** How many batches may still be sent, and how to go on when one more may. */
  credit: number;
  wake: () => void;
}

type Follow = Extract<ControllerMessage, { type: 'follow' }>;

export class AgentRequests {
  readonly #options: AgentRequestsOptions;
  readonly #followed = new Map<number, FollowedInstance>();
  #inFlight = 0;
  #closed = false;

  constructor(options: AgentRequestsOptions) {
    this.#options = options;
  }

  /** What the controller said. Throws a ChannelError for what it may not say now. */
  receive(message: ControllerMessage): void {
    switch (message.type) {
      case 'hello-ack':
      case 'refusal':
      case 'ping':
      case 'pong':
        throw new ChannelError('bad-message', `a ${message.type} came out of turn`);
      case 'error':
        return;
      case 'follow':
        void this.#follow(message);
        return;
      case 'unfollow':
        this.#followed.get(message.id)?.abort.abort();
        return;
      case 'ack': {
        const followed = this.#followed.get(message.id);
        if (!followed) return;
        followed.credit = Math.min(followed.credit + 1, MAX_UNACKNOWLEDGED);
        followed.wake();
        return;
      }
      default:
        void this.#answer(message);
    }
  }

  /** The link is gone: nothing more is sent, what has not begun does not begin, followed changes end. */
  close(): void {
    this.#closed = true;
    for (const { abort } of this.#followed.values()) abort.abort();
  }

  async #answer(request: Request): Promise<void> {
    const { domain, queue, limits } = this.#options;
    // What an earlier link asked is asked again over this one; but a domain that hangs must not collect the requests of link after link.
    if (this.#inFlight >= limits.maxInFlight || queue.waiting >= 2 * limits.maxInFlight) {
      this.#fail(request.id, new DomainError('not-ready', 'too many requests at once: try again later'));
      return;
    }
    this.#inFlight++;
    try {
      const { sentAfter } = this.#options.link;
      const work = async (): Promise<Reply | undefined> => {
        if (this.#closed) return undefined;
        if (request.type === 'activate') this.#mustBeFresh(sentAfter);
        return perform(domain, request);
      };
      const terminal = terminalOf(request);
      const reply = await (terminal === undefined ? work() : queue.run(terminal, work));
      if (reply && !this.#closed) this.#options.link.send(reply);
    } catch (error) {
      this.#fail(request.id, error);
    } finally {
      this.#inFlight--;
    }
  }

  /**
   * A lease begins when it is asked for: a request that was under way while this process or the link stood still might let an instance admit that
   * has been replaced since.
   */
  #mustBeFresh(sentAfter: number): void {
    const { clock, limits } = this.#options;
    const mostMs = limits.heartbeatMs * limits.heartbeatMisses;
    const age = clock.monotonic() - sentAfter;
    if (age <= mostMs) return;
    throw new DomainError(
      'not-ready',
      `an activation may have been under way for ${Math.round(age)} ms, more than ${mostMs}: ask again`,
    );
  }

  async #follow({ id, instance, fromSequence }: Follow): Promise<void> {
    const { domain, link, clock } = this.#options;
    if (this.#followed.has(id) || this.#followed.size >= MAX_FOLLOWED) {
      this.#fail(id, new DomainError('not-ready', 'too many instances are followed: try again later'));
      return;
    }
    const followed: FollowedInstance = {
      abort: new AbortController(),
      credit: MAX_UNACKNOWLEDGED,
      wake: () => {},
    };
    this.#followed.set(id, followed);
    const { signal } = followed.abort;
    signal.addEventListener('abort', () => followed.wake(), { once: true });
    try {
      for await (const deltas of domain.changes(instance, fromSequence, signal)) {
        const toldAt = clock.monotonic();
        for (let i = 0; i < deltas.length && !signal.aborted; i += MAX_BATCH) {
          await credited(followed);
          if (signal.aborted) break;
          const part = deltas.slice(i, i + MAX_BATCH);
          link.send({
            type: 'delta',
            id,
            deltas: part.map(bare),
            ...aged(part[0], clock.monotonic() - toldAt),
          });
        }
        if (signal.aborted) break;
      }
      if (!this.#closed) link.send({ type: 'end', id });
    } catch (error) {
      this.#fail(id, error);
    } finally {
      this.#followed.delete(id);
    }
  }

  #fail(id: number, error: unknown): void {
    if (this.#closed) return;
    const known = toDomainError(error);
    if (!(error instanceof DomainError)) this.#options.log.error({ error }, 'a call of the domain failed');
    try {
      this.#options.link.send({
        type: 'error',
        id,
        code: known.code,
        message: known.message.slice(0, MAX_ERROR_TEXT),
      });
    } catch {
      // The link is gone, and the controller knows it.
    }
  }
}

const bare = ({ sequence, change }: ToldDelta): Delta => ({ sequence, change });

/** The age of a change that was told so many ms ago. */
function aged(told: ToldDelta | undefined, sinceMs: number): { readonly ageMs?: number } {
  return told?.ageMs === undefined ? {} : { ageMs: Math.min(Math.max(0, told.ageMs + sinceMs), MAX_AGE_MS) };
}

async function credited(followed: FollowedInstance): Promise<void> {
  while (followed.credit === 0 && !followed.abort.signal.aborted)
    await new Promise<void>((resolve) => {
      followed.wake = resolve;
    });
  followed.credit--;
}

function toDomainError(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  if (error instanceof ChannelError)
    return new DomainError(error.code === 'too-large' ? 'refused' : 'invalid', error.message, {
      cause: error,
    });
  return new DomainError('refused', `the call failed: ${messageOf(error)}`, { cause: error });
}

function terminalOf(request: Request): string | undefined {
  switch (request.type) {
    case 'health':
      return undefined;
    case 'prepare':
      return request.snapshot.terminal.name;
    default:
      return request.instance.terminal;
  }
}

async function perform(domain: Domain, request: Request): Promise<Reply> {
  const { id } = request;
  switch (request.type) {
    case 'prepare':
      return { type: 'ends', id, ends: await domain.prepare(request.snapshot, request.epoch) };
    case 'export':
      return { type: 'state', id, state: await domain.export(request.instance) };
    case 'health':
      return { type: 'health-report', id, health: await domain.health() };
    case 'digest':
      return { type: 'digest-report', id, digest: await domain.digest(request.instance) };
    case 'sync':
      await domain.sync(request.instance, request.snapshot);
      break;
    case 'delta':
      await domain.apply(request.instance, request.deltas);
      break;
    case 'set-policy':
      await domain.setPolicy(request.instance, request.policy);
      break;
    case 'set-terminal':
      await domain.setTerminal(request.instance, request.terminal);
      break;
    case 'activate':
      await domain.activate(request.instance, request.leaseMs);
      break;
    case 'drain':
      await domain.drain(request.instance, request.drainMs);
      break;
    case 'retire':
      await domain.retire(request.instance);
      break;
  }
  return { type: 'ack', id };
}
