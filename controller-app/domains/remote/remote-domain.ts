/**
 * A domain whose agent is behind the channel. It exists by its name in the configuration, agent or not: without one its calls fail
 * with `unreachable`. A lost link is survived: calls under way are asked again (they may be, by the Domain interface), followed changes go on from the
 * last sequence seen.
 */
import {
  type AgentSession,
  type Answer,
  ChannelError,
  type ChannelServer,
  DEFAULT_LIMITS,
  type RequestBody,
} from '../../../shared/channel/index.js';
import { MAX_BATCH } from '../../../shared/channel/limits.js';
import {
  type Capabilities,
  type Domain,
  DomainError,
  type Ends,
  type Health,
  type InstanceDigest,
  type InstanceId,
  type ToldDelta,
} from '../../../shared/domain/domain.js';
import type { Policy } from '../../../shared/firewall/policy.js';
import type { Delta, Epoch, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';
import { type Clock, realClock } from '../../../shared/runtime/clock.js';
import { Trust } from './trust.js';

/** How often one call is asked again over a new link before its agent is taken to be unable to answer it. */
const MAX_REPEATS = 3;

/** What went over the wire: the bytes of the one message that carried it. */
export interface Transfer extends InstanceId {
  /** prepare: a snapshot to the agent. apply: deltas to it. export: a state from it. changes: deltas from it. */
  readonly kind: 'prepare' | 'apply' | 'export' | 'changes';
  readonly bytes: number;
}

export interface RemoteDomainOptions {
  readonly name: string;
  readonly server: ChannelServer;
  readonly clock?: Clock;
  /** How long calls under way and followed changes wait for a lost agent to come back, in ms. */
  readonly reconnectMs?: number;
  /** The terminal as the controller's configuration has it: an agent may speak of no other. */
  readonly terminal?: (name: string) => Terminal | undefined;
  readonly onTransfer?: (transfer: Transfer) => void;
  readonly onConnection?: (connected: boolean) => void;
}

export class RemoteDomain implements Domain {
  readonly name: string;
  readonly #options: RemoteDomainOptions;
  readonly #clock: Clock;
  readonly #reconnectMs: number;
  readonly #forget: () => void;
  readonly #waiting = new Set<() => void>();
  readonly #trust: Trust;
  #session: AgentSession | undefined;
  #closed = false;

  /** Throws a ChannelError when the server has a domain of that name already. */
  constructor(options: RemoteDomainOptions) {
    this.name = options.name;
    this.#options = options;
    this.#clock = options.clock ?? realClock;
    this.#trust = new Trust(options);
    this.#reconnectMs = options.reconnectMs ?? DEFAULT_LIMITS.reconnectMs;
    this.#forget = options.server.expect(options.name, {
      connected: (session) => {
        this.#session = session;
        this.#wake();
        options.onConnection?.(true);
      },
      disconnected: (session) => {
        if (this.#session !== session) return;
        this.#session = undefined;
        options.onConnection?.(false);
      },
    });
  }

  get connected(): boolean {
    return this.#session !== undefined;
  }

  /** Stops expecting the agent and hangs up on it; whatever waits for it fails. May be called twice. */
  close(): void {
    this.#closed = true;
    this.#forget();
    this.#wake();
  }

  async capabilities(): Promise<Capabilities> {
    return this.#present().capabilities;
  }

  async prepare(snapshot: Snapshot, epoch: Epoch): Promise<Ends> {
    const id = { terminal: snapshot.terminal.name, epoch };
    this.#trust.prepared(id, snapshot);
    const { reply, sentBytes } = await this.#call({ type: 'prepare', epoch, snapshot });
    this.#transferred('prepare', id, sentBytes);
    if (reply.type !== 'ends') this.#wrongReply(reply.type);
    return this.#trust.ended(id, reply.ends, this.#present().capabilities.serves);
  }

  async apply(id: InstanceId, deltas: readonly Delta[]): Promise<void> {
    const instance = bare(id);
    this.#trust.applied(id, deltas);
    for (let i = 0; i === 0 || i < deltas.length; i += MAX_BATCH) {
      const batch = deltas.slice(i, i + MAX_BATCH);
      const { reply, sentBytes } = await this.#call({ type: 'delta', instance, deltas: batch });
      this.#transferred('apply', instance, sentBytes);
      if (reply.type !== 'ack') this.#wrongReply(reply.type);
    }
  }

  async sync(id: InstanceId, snapshot: Snapshot): Promise<void> {
    const instance = bare(id);
    this.#trust.synced(id, snapshot);
    const { reply, sentBytes } = await this.#call({ type: 'sync', instance, snapshot });
    this.#transferred('prepare', instance, sentBytes);
    if (reply.type !== 'ack') this.#wrongReply(reply.type);
  }

  async digest(id: InstanceId): Promise<InstanceDigest> {
    const { reply } = await this.#call({ type: 'digest', instance: bare(id) });
    return reply.type === 'digest-report' ? reply.digest : this.#wrongReply(reply.type);
  }

  setTerminal(id: InstanceId, terminal: Terminal): Promise<void> {
    this.#trust.setTerminal(id, terminal);
    return this.#acknowledged({ type: 'set-terminal', instance: bare(id), terminal });
  }

  setPolicy(id: InstanceId, policy: Policy): Promise<void> {
    this.#trust.setPolicy(id, policy);
    return this.#acknowledged({ type: 'set-policy', instance: bare(id), policy });
  }

  activate(id: InstanceId, leaseMs: number): Promise<void> {
    return this.#acknowledged({ type: 'activate', instance: bare(id), leaseMs });
  }

  drain(id: InstanceId, drainMs: number): Promise<void> {
    return this.#acknowledged({ type: 'drain', instance: bare(id), drainMs });
  }

  async retire(id: InstanceId): Promise<void> {
    await this.#acknowledged({ type: 'retire', instance: bare(id) });
    this.#trust.retired(id);
  }

  async export(id: InstanceId): Promise<FirewallState> {
    const instance = bare(id);
    const since = this.#trust.seen(id);
    const { reply, receivedBytes } = await this.#call({ type: 'export', instance });
    this.#transferred('export', instance, receivedBytes);
    return reply.type === 'state'
      ? this.#trust.exported(id, reply.state, since)
      : this.#wrongReply(reply.type);
  }

  async health(): Promise<Health> {
    const { reply } = await this.#call({ type: 'health' });
    if (reply.type !== 'health-report') this.#wrongReply(reply.type);
    return this.#trust.reported(reply.health, this.#clock.now());
  }

  async *changes(
    id: InstanceId,
    fromSequence: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly ToldDelta[]> {
    const instance = bare(id);
    let last = fromSequence;
    let session = this.#present();
    for (;;) {
      try {
        for await (const { deltas, ageMs, bytes } of session.follow(instance, last, signal)) {
          this.#transferred('changes', instance, bytes);
          const trusted = this.#trust.changed(id, deltas, last);
          yield ageMs === undefined ? trusted : trusted.map((delta) => ({ ...delta, ageMs }));
          last += deltas.length;
        }
        return;
      } catch (error) {
        if (!isLost(error)) throw error;
        if (signal.aborted) return;
        const next = await this.#reconnected(session, signal);
        if (!next) return;
        session = next;
      }
    }
  }

  async #acknowledged(request: RequestBody): Promise<void> {
    const { reply } = await this.#call(request);
    if (reply.type !== 'ack') this.#wrongReply(reply.type);
  }

  async #call(request: RequestBody): Promise<Answer> {
    let session = this.#present();
    for (let repeats = 0; ; repeats++) {
      try {
        return await session.request(request);
      } catch (error) {
        if (!(error instanceof ChannelError)) throw error;
        if (!isLost(error)) throw this.#translated(error);
        if (repeats === MAX_REPEATS)
          throw new DomainError(
            'unreachable',
            `the agent of ${this.name} hung up ${repeats + 1} times on "${request.type}": look at its log`,
            { cause: error },
          );
        session = (await this.#reconnected(session)) ?? this.#present();
      }
    }
  }

  #translated(error: ChannelError): DomainError {
    switch (error.code) {
      case 'bad-message':
        return new DomainError('invalid', error.message, { cause: error });
      case 'too-large':
        return new DomainError('refused', error.message, { cause: error });
      default:
        return new DomainError('unreachable', `${this.name}: ${error.message}: look at the agent's log`, {
          cause: error,
        });
    }
  }

  #present(): AgentSession {
    if (this.#session) return this.#session;
    throw new DomainError(
      'unreachable',
      this.#closed
        ? `${this.name} is closed`
        : `no agent of ${this.name} is connected: start paguro-agent there, or look at its log`,
    );
  }

  /** The session after `lost`; undefined when `signal` aborts first. Fails with `unreachable` when none comes in time. */
  async #reconnected(lost: AgentSession, signal?: AbortSignal): Promise<AgentSession | undefined> {
    let late = false;
    const timer = this.#clock.after(this.#reconnectMs, () => {
      late = true;
      this.#wake();
    });
    const onAbort = (): void => this.#wake();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for (;;) {
        if (signal?.aborted) return undefined;
        if (this.#session && this.#session !== lost) return this.#session;
        if (late || this.#closed) return this.#present();
        await new Promise<void>((resolve) => this.#waiting.add(resolve));
      }
    } finally {
      timer.close();
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  #transferred(kind: Transfer['kind'], { terminal, epoch }: InstanceId, bytes: number): void {
    this.#options.onTransfer?.({ kind, terminal, epoch, bytes });
  }

  #wrongReply(type: string): never {
    throw new DomainError(
      'unreachable',
      `the agent of ${this.name} answered with "${type}": update the agent`,
    );
  }
}

/** The codes of a ChannelError after which the link is gone, and the agent may come back. */
function isLost(error: unknown): boolean {
  return (
    error instanceof ChannelError &&
    (error.code === 'closed' || error.code === 'slow-peer' || error.code === 'heartbeat')
  );
}

/** Callers may pass more than the two fields; the channel carries just them. */
function bare({ terminal, epoch }: InstanceId): InstanceId {
  return { terminal, epoch };
}
