/**
 * Many changes as one: ONF extension 230, atomic and in order.
 *
 *   open · add, add, … · close    the switch has read every change, and has said what it can't read
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
import { BundleError, type BundleFailure, OpenFlowError, SwitchError } from './errors.js';
import { only } from './replies.js';

const FLAGS = OFPBF.ATOMIC | OFPBF.ORDERED;

/** Fails with BundleError, and then nothing has been changed; or with SwitchError, and then nobody knows. */
export async function sendBundle(
  connection: Connection,
  bundle: number,
  mods: readonly (FlowMod | GroupMod)[],
  timeoutMs: number,
): Promise<void> {
  const failures: BundleFailure[] = [];
  const unwatch: (() => void)[] = [];
  const control = (kind: MessageOf<'bundle_control'>['control']): Promise<unknown> =>
    connection.request(
      { type: 'bundle_control', bundle, control: kind, flags: FLAGS },
      only('bundle_control'),
      timeoutMs,
    );
  function* adds(): Iterable<{ message: MessageBody; xid: number }> {
    for (const [index, mod] of mods.entries()) {
      const xid = connection.requests.nextXid();
      unwatch.push(connection.requests.watch(xid, mod.type, (error) => failures.push({ index, mod, error })));
      yield { message: { type: 'bundle_add', bundle, flags: FLAGS, message: mod as BundledMessage }, xid };
    }
  }
  let committing = false;
  try {
    await control('open_request');
    await connection.sendAll(adds());
    await control('close_request');
    if (failures.length > 0) throw failures[0]?.error;
    committing = true;
    await control('commit_request');
  } catch (cause) {
    // Cut off, or no answer to the commit: it may have been done.
    if (connection.closed || (committing && !(cause instanceof OpenFlowError))) throw cause;
    const index = unwatch.length - 1;
    const mod = mods[index];
    if (cause instanceof OpenFlowEncodeError && mod) failures.push({ index, mod, error: cause });
    // After a refused commit the switch has forgotten the bundle by itself.
    const discarded = committing ? undefined : control('discard_request').catch(() => {});
    if (!(cause instanceof SwitchError)) await discarded;
    throw new BundleError(failures, mods.length, { cause });
  } finally {
    for (const end of unwatch) end();
  }
}
