/**
 * Many changes as one: ONF extension 230, atomic and in order.
 *
 *   open · add, add, … · close    the switch has read every change, and has said what it can't read: for few changes one write and one round trip
 *   commit                        all of it or nothing: what it can't do it says here
 *   discard                       instead of a commit: nothing of it
 *
 * Open vSwitch drops a change that it can't read and would commit the others: so nothing is committed before the reply to close has come
 * without an error before it. Changes that it refuses at commit it names by the xid of their add.
 */
import {
  type BundledMessage,
  type FlowMod,
  type GroupMod,
  type MessageBody,
  type MessageOf,
  OFPBF,
  OpenFlowEncodeError,
} from '../openflow/index.js';
import type { Connection } from './connection.js';
import { BundleError, type BundleFailure, MAX_NAMED_FAILURES, OpenFlowError, SwitchError } from './errors.js';
import { only } from './replies.js';

/** So few changes are sent without waiting for the switch to open the bundle. */
const FEW = 256;
const FLAGS = OFPBF.ATOMIC | OFPBF.ORDERED;

type ControlRequest = Extract<MessageOf<'bundle_control'>['control'], `${string}_request`>;

export class Bundle {
  readonly #connection: Connection;
  readonly #number: number;
  readonly #mods: readonly (FlowMod | GroupMod)[];
  readonly #failures: BundleFailure[] = [];
  /** Of the adds. */
  readonly #watch: { readonly first: number; end(): void };

  /** `number`: of no other bundle that the switch has on this connection. */
  constructor(connection: Connection, number: number, mods: readonly (FlowMod | GroupMod)[]) {
    this.#connection = connection;
    this.#number = number;
    this.#mods = mods;
    this.#watch = connection.requests.watch(
      mods.length,
      (place) => mods[place]?.type ?? 'bundle_add',
      (error, place) => this.#fail(place, error),
    );
  }

  /** Its connection is gone, and with it what the switch had of it. */
  get isLost(): boolean {
    return this.#connection.closed;
  }

  /**
   * Settles when the switch has read all changes; it has done none. `timeoutMs` is for each answer. Fails with BundleError, and then the switch has
   * forgotten the bundle; or with SwitchError, when the connection ended.
   */
  async fill(timeoutMs: number): Promise<void> {
    const control = (kind: ControlRequest): Promise<unknown> => this.#control(kind, timeoutMs);
    let written = 0;
    const adds = this.#adds(() => written++);
    try {
      if (this.#mods.length <= FEW) await sendTogether(this.#connection, control, adds);
      else {
        await control('open_request');
        await this.#connection.sendAll(adds);
        await control('close_request');
      }
      if (this.#failures.length > 0) throw this.#failures[0]?.error;
    } catch (cause) {
      if (this.#connection.closed) throw cause;
      if (cause instanceof OpenFlowEncodeError) this.#fail(written, cause);
      const discarded = control('discard_request').catch(() => {});
      if (!(cause instanceof SwitchError)) await discarded;
      this.#watch.end();
      throw new BundleError(this.#failures, this.#mods.length, { cause });
    }
  }

  /** Fails with BundleError, and then nothing has been changed and the switch has forgotten the bundle; or with SwitchError, and then nobody knows. */
  async commit(timeoutMs: number): Promise<void> {
    try {
      await this.#control('commit_request', timeoutMs);
    } catch (cause) {
      // Cut off, or no answer: it may have been done.
      if (this.#connection.closed || !(cause instanceof OpenFlowError)) throw cause;
      throw new BundleError(this.#failures, this.#mods.length, { cause });
    } finally {
      this.#watch.end();
    }
  }

  /** Instead of `commit`. It must not fail: a switch that has forgotten the bundle by itself says so, and a connection that is gone took it along. */
  discard(timeoutMs: number): void {
    this.#watch.end();
    if (!this.#connection.closed) this.#control('discard_request', timeoutMs).catch(() => {});
  }

  #control(kind: ControlRequest, timeoutMs: number): Promise<unknown> {
    const message: MessageBody = {
      type: 'bundle_control',
      bundle: this.#number,
      control: kind,
      flags: FLAGS,
    };
    return this.#connection.request(message, only('bundle_control'), { timeoutMs });
  }

  *#adds(onWritten: () => void): Iterable<{ readonly message: MessageBody; readonly xid: number }> {
    for (const [place, mod] of this.#mods.entries()) {
      yield {
        message: { type: 'bundle_add', bundle: this.#number, flags: FLAGS, message: mod as BundledMessage },
        xid: this.#watch.first + place,
      };
      onWritten();
    }
  }

  #fail(index: number, error: BundleFailure['error']): void {
    const mod = this.#mods[index];
    if (mod && this.#failures.length < MAX_NAMED_FAILURES) this.#failures.push({ index, mod, error });
  }
}

/** Settles when the switch has opened the bundle, read all changes and closed it. */
async function sendTogether(
  connection: Connection,
  control: (kind: ControlRequest) => Promise<unknown>,
  adds: Iterable<{ readonly message: MessageBody; readonly xid: number }>,
): Promise<void> {
  const replies: Promise<unknown>[] = [];
  try {
    connection.together(() => {
      replies.push(control('open_request'));
      for (const { message, xid } of adds) connection.send(message, xid);
      replies.push(control('close_request'));
    });
  } finally {
    // The first that fails is what is told; the others have failed with it.
    for (const reply of replies) reply.catch(() => {});
  }
  for (const reply of replies) await reply;
}
