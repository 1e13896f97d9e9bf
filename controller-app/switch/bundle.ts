/**
 * Many changes as one: ONF extension 230, atomic and in order.
 *
 *   open · add, add, … · close    the switch has read every change, and has said what it can't read: for few changes one write and one round trip
 *   commit                        all of it or nothing: what it can't do it says here
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

/** Fails with BundleError, and then nothing has been changed; or with SwitchError, and then nobody knows. */
export async function sendBundle(
  connection: Connection,
  bundle: number,
  mods: readonly (FlowMod | GroupMod)[],
  timeoutMs: number,
): Promise<void> {
  const failures: BundleFailure[] = [];
  const fail = (index: number, error: BundleFailure['error']): void => {
    const mod = mods[index];
    if (mod && failures.length < MAX_NAMED_FAILURES) failures.push({ index, mod, error });
  };
  const control = (kind: MessageOf<'bundle_control'>['control']): Promise<unknown> =>
    connection.request(
      { type: 'bundle_control', bundle, control: kind, flags: FLAGS },
      only('bundle_control'),
      {
        timeoutMs,
      },
    );
  const watch = connection.requests.watch(
    mods.length,
    (place) => mods[place]?.type ?? 'bundle_add',
    (error, place) => fail(place, error),
  );
  let written = 0;
  function* adds(): Iterable<{ message: MessageBody; xid: number }> {
    for (const mod of mods) {
      yield {
        message: { type: 'bundle_add', bundle, flags: FLAGS, message: mod as BundledMessage },
        xid: watch.first + written,
      };
      written++;
    }
  }
  let committing = false;
  try {
    if (mods.length <= FEW) await sendTogether(connection, control, adds());
    else {
      await control('open_request');
      await connection.sendAll(adds());
      await control('close_request');
    }
    if (failures.length > 0) throw failures[0]?.error;
    committing = true;
    await control('commit_request');
  } catch (cause) {
    // Cut off, or no answer to the commit: it may have been done.
    if (connection.closed || (committing && !(cause instanceof OpenFlowError))) throw cause;
    if (cause instanceof OpenFlowEncodeError) fail(written, cause);
    // After a refused commit the switch has forgotten the bundle by itself.
    const discarded = committing ? undefined : control('discard_request').catch(() => {});
    if (!(cause instanceof SwitchError)) await discarded;
    throw new BundleError(failures, mods.length, { cause });
  } finally {
    watch.end();
  }
}

/** Settles when the switch has opened the bundle, read all changes and closed it. */
async function sendTogether(
  connection: Connection,
  control: (kind: MessageOf<'bundle_control'>['control']) => Promise<unknown>,
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
